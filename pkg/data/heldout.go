package data

import (
	"fmt"
	"strings"
)

// emptyEpisodes are the episodes without samples: those held out, and the
// others, each by what the data calls it.
func emptyEpisodes(t *table, held []int) (heldout, other []int64) {
	has, isHeld := make([]bool, t.eps), make([]bool, t.eps)
	for _, e := range t.episode {
		has[e] = true
	}
	for _, e := range held {
		isHeld[e] = true
	}
	for e := range t.eps {
		n := int64(e)
		if t.numbers != nil {
			n = t.numbers[e]
		}
		switch {
		case has[e]:
		case isHeld[e]:
			heldout = append(heldout, n)
		default:
			other = append(other, n)
		}
	}
	return heldout, other
}

// checkEmpty refuses to begin with a held-out split that is not what was asked
// for since its episodes have no steps, and tells of other empty episodes. A
// checkpoint that was trained so is still read.
func (o *Opening) checkEmpty(t *table, held []int, heldSamples int) error {
	none, other := emptyEpisodes(t, held)
	if len(none) > 0 {
		h := o.Holdout
		what, advice := fmt.Sprintf("held-out %s no steps", episodesHave(none)), "hold out others with data.holdout.episodes"
		if h.Fraction > 0 {
			advice = fmt.Sprintf("data.holdout.fraction %v chose it by seed %d; name others with data.holdout.episodes, or raise the fraction", h.Fraction, o.Seed)
		}
		if o.given == nil && !o.lenient() && (h.Fraction == 0 || heldSamples == 0) {
			return fmt.Errorf("%s: %s", what, advice)
		}
		o.find("empty_heldout", "", advice, "%s", what)
	}
	if len(other) > 0 && !o.lenient() { // a lenient opening leaves damaged records out, and tells of each
		o.find("empty_episodes", "", "", "%s no steps", episodesHave(other))
	}
	return nil
}

// episodesHave begins a clause about a few episodes.
func episodesHave(numbers []int64) string {
	if len(numbers) == 1 {
		return fmt.Sprintf("episode %d has", numbers[0])
	}
	const most = 8
	var names []string
	for _, n := range numbers[:min(len(numbers), most)] {
		names = append(names, fmt.Sprint(n))
	}
	if len(numbers) > most {
		names = append(names, fmt.Sprintf("and %d more", len(numbers)-most))
	}
	return "episodes " + strings.Join(names, ", ") + " have"
}

// Joined is the samples of several sources, one after the other.
func Joined(parts ...Source) Source { return joined(parts) }

type joined []Source

func (j joined) Len() (n int) {
	for _, s := range j {
		n += s.Len()
	}
	return n
}

func (j joined) Sample(i int) (Sample, error) {
	at := i
	for _, s := range j {
		if n := s.Len(); at < n {
			return s.Sample(at)
		} else {
			at -= n
		}
	}
	return Sample{}, fmt.Errorf("sample %d is outside [0, %d)", i, j.Len())
}
