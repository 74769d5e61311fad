package data

import (
	"fmt"
	"math"
	"slices"

	"github.com/vlaring/vlaring/internal/plain"
)

// What is odd about the actions' scales, told when the data is opened.
//
//	columns ──> measureColumns ──> column ─┐
//	                               Stats ──┴─> scaleVerdicts ──> verdict ──> Finding

// Thresholds of what is told; none of them decides how anything is scaled.
const (
	spikeAt     = 20   // a normalised value this far out is told: its square is 400 samples' worth of loss
	squeezedBy  = 0.01 // and so is a scale of which the middle 80 % of the values take up no more
	farAt       = 100  // half-widths of that middle; what lies beyond is far
	coarseSteps = 256  // float32 steps of its values' size that a scale should have
	largeAt     = 1000 // unscaled values beyond this, and
	tinyAt      = 1e-3 // all below this, are told
)

// column is what the verdicts need to know of a dimension beside its Stats.
// Places are indices of rows, the first of those with the value.
type column struct {
	minAt, maxAt         int
	q10, q90             float64
	far                  int // training rows farther than farAt half-widths from the middle of q10 to q90
	heldMin, heldMax     float64
	heldMinAt, heldMaxAt int
	held                 int // rows held out
}

// measureColumns looks at both splits.
func measureColumns(dim int, train, held Rows) []column {
	out := make([]column, dim)
	col := make([]float32, train.N)
	for d := range out {
		c := &out[d]
		var lo, hi float64
		for i := range col {
			col[i] = train.At(i)[d]
			v := float64(col[i])
			if i == 0 || v < lo {
				lo, c.minAt = v, i
			}
			if i == 0 || v > hi {
				hi, c.maxAt = v, i
			}
		}
		slices.Sort(col)
		c.q10, c.q90 = quantile(col, 10), quantile(col, 90)
		mid, half := (c.q10+c.q90)/2, (c.q90-c.q10)/2
		for _, v := range col {
			if math.Abs(float64(v)-mid) > farAt*half {
				c.far++
			}
		}
		c.held = held.N
		for i := range held.N {
			v := float64(held.At(i)[d])
			if i == 0 || v < c.heldMin {
				c.heldMin, c.heldMinAt = v, i
			}
			if i == 0 || v > c.heldMax {
				c.heldMax, c.heldMaxAt = v, i
			}
		}
	}
	return out
}

// verdict is one thing that is odd about a dimension's scale.
type verdict struct {
	kind    string // constant, noise, moves_when_held_out, rare, spike, squeezed, coarse, large, tiny
	dim     int
	value   float64 // the value that shows it, in the dimension's unit
	becomes float64 // and normalised
	held    bool    // at is a row of the held-out split, not of the training split
	at      int
	share   float64 // squeezed: the part of the scale that the middle 80 % of the values take up
}

// scaleVerdicts are all of them, by dimension.
func scaleVerdicts(s *Stats, cols []column) (out []verdict) {
	for d, c := range cols {
		moved := steps((s.Max[d]-s.Min[d])/2, s.Min[d], s.Max[d]) > noiseSteps
		if !s.Scale(d).Learned() || s.asIs(d) && !moved {
			out = append(out, stillVerdicts(s, d, c)...)
		} else {
			out = append(out, movingVerdicts(s, d, c)...)
		}
	}
	return out
}

// stillVerdicts are those of a dimension without a scale, or that needs none.
func stillVerdicts(s *Stats, d int, c column) []verdict {
	lo, hi, scale := s.Min[d], s.Max[d], s.Scale(d)
	v := verdict{kind: scale.Variation.String(), dim: d, value: scale.Offset, at: c.minAt}
	if s.asIs(d) {
		v.kind, v.value, v.becomes = Noise.String(), s.Mean[d], s.Mean[d]
		if lo == hi {
			v.kind = Constant.String()
		}
	}
	if scale.Variation == Rare { // shown by the value that is rare
		v.value, v.at = farther(scale.Offset, lo, c.minAt, hi, c.maxAt)
		return []verdict{v} // and that may well be there when held out
	}
	out := []verdict{v}
	if heldLo, heldHi := min(lo, c.heldMin), max(hi, c.heldMax); c.held > 0 && steps((heldHi-heldLo)/2, heldLo, heldHi) > noiseSteps {
		v := verdict{kind: "moves_when_held_out", dim: d, held: true}
		v.value, v.at = farther(s.Mean[d], c.heldMin, c.heldMinAt, c.heldMax, c.heldMaxAt)
		out = append(out, v)
	}
	return out
}

// movingVerdicts are those of a dimension that is learned.
func movingVerdicts(s *Stats, d int, c column) (out []verdict) {
	lo, hi, scale := s.Min[d], s.Max[d], s.Scale(d)
	size := max(math.Abs(lo), math.Abs(hi))
	v, h := verdict{kind: "spike", dim: d}, verdict{kind: "spike", dim: d, held: true}
	v.value, v.at = farther(scale.Offset, lo, c.minAt, hi, c.maxAt)
	h.value, h.at = farther(scale.Offset, c.heldMin, c.heldMinAt, c.heldMax, c.heldMaxAt)
	v.becomes, h.becomes = (v.value-scale.Offset)/scale.By, (h.value-scale.Offset)/scale.By
	by := scale.By
	if s.asIs(d) {
		by = (hi - lo) / 2
	}
	scaled := !s.asIs(d) && s.Clip == 0 // what lies far out is far out in the loss
	v.share = (c.q90 - c.q10) / (2 * by)
	spread := steps((c.q90-c.q10)/2, c.q10, c.q90) > noiseSteps // else it is a rare event
	switch {
	case scaled && math.Abs(v.becomes) >= spikeAt:
		out = append(out, v)
	case spread && v.share <= squeezedBy && c.far > 0 && c.far <= max(1, s.Count/100):
		v.kind = "squeezed"
		out = append(out, v)
	case s.asIs(d) && size > largeAt:
		v.kind = "large"
		out = append(out, v)
	case s.asIs(d) && size < tinyAt:
		v.kind = "tiny"
		out = append(out, v)
	case steps(by, lo, hi) < coarseSteps:
		v.kind = "coarse"
		out = append(out, v)
	}
	if c.held > 0 && scaled && math.Abs(h.becomes) >= max(spikeAt, 2*math.Abs(v.becomes)) {
		out = append(out, h)
	}
	return out
}

// farther is the one of two values that is farther from a middle, and its place.
func farther(from, lo float64, loAt int, hi float64, hiAt int) (float64, int) {
	if from-lo > hi-from {
		return lo, loAt
	}
	return hi, hiAt
}

// findScales notes them as findings. Dimensions that are one value each, as
// those that pad an action are, share one.
func (o *Opening) findScales(s *Stats, train, held Rows) {
	if train.N == 0 { // which is refused elsewhere
		return
	}
	verdicts := scaleVerdicts(s, measureColumns(s.Dim(), train, held))
	var same []verdict
	for _, v := range verdicts {
		if v.kind == Constant.String() {
			same = append(same, v)
			continue
		}
		place := train.Place
		if v.held {
			place = held.Place
		}
		what, advice := v.words(s, place(v.at))
		o.find("action_"+v.kind, s.Names[v.dim], advice, "%s", what)
	}
	if len(same) > 0 {
		var names, values []string
		for _, v := range same {
			names, values = append(names, s.Names[v.dim]), append(values, number(v.value))
		}
		in := fmt.Sprintf("the same in all %d training samples", s.Count)
		if s.Count == 1 {
			in = "there is one training sample"
		}
		what := fmt.Sprintf("%s (%s): not learned, the answer is always that", in, few(values))
		if s.Mode == None {
			what = fmt.Sprintf("%s (%s): learned as any other, since data.normalize is none", in, few(values))
		} else if len(s.Mask) > 0 {
			what = fmt.Sprintf("%s (%s): not learned, the answer is always that, unless the mask has it", in, few(values))
		}
		o.find("action_constant", few(names), "", "%s", what)
	}
	learned := 0
	for d := range s.Dim() {
		if s.Scale(d).Learned() {
			learned++
		}
	}
	if learned == 0 {
		o.find("no_action_varies", "", "train on samples whose actions differ, or use data.normalize: none", "no dimension of the action has a scale: there is nothing to learn")
	}
}

// words are the verdict for people, who read the dimension's name before it.
func (v verdict) words(s *Stats, place string) (what, advice string) {
	d := v.dim
	lo, hi, unit := number(s.Min[d]), number(s.Max[d]), s.Units[d]
	if unit != "" {
		unit = " " + unit
	}
	why, instead := "data.normalize is none", "use data.normalize: mean_std, min_max or quantile"
	if len(s.Mask) > 0 {
		why, instead = "the mask has it", "take it out of the mask"
	}
	which := "largest"
	if v.value == s.Min[d] {
		which = "smallest"
	}
	extreme := fmt.Sprintf("the %s value, %s%s at %s,", which, number(v.value), unit, place)
	switch v.kind {
	case "noise":
		if s.asIs(d) {
			return fmt.Sprintf("varies from %v to %v only, which is how float32 rounds there", s.Min[d], s.Max[d]), "leave the dimension out, or expect no more than its mean"
		}
		return fmt.Sprintf("varies from %v to %v only, which is how float32 rounds there: not learned, the answer is always %s", s.Min[d], s.Max[d], number(v.value)), ""
	case "moves_when_held_out":
		return fmt.Sprintf("%s in training, but %s%s at %s, which is held out: its error there stays", number(s.Mean[d]), number(v.value), unit, place), "hold out other episodes with data.holdout.episodes if it is to be learned"
	case "rare":
		below, above := s.quantiles(d)
		same := fmt.Sprintf("both %s", number(below))
		if below != above {
			same = fmt.Sprintf("%v and %v, closer than rounding", below, above)
		}
		percents := "1 % and 99 %"
		if s.Mode == Quantile10 {
			percents = "10 % and 90 %"
		}
		return fmt.Sprintf("varies from %s to %s%s (%s at %s), but its %s quantiles are %s: under %s it would not be learned, the answer is always %s", lo, hi, unit, number(v.value), place, percents, same, s.Mode, number(s.Scale(d).Offset)),
			"use data.normalize: mean_std or min_max"
	case "spike":
		if v.held {
			return fmt.Sprintf("the held-out value %s%s at %s becomes %s after normalisation (%s), far beyond all of training: errors will be of it alone", number(v.value), unit, place, number(v.becomes), s.Mode),
				"see whether it is meant, and correct or remove the sample if not"
		}
		return fmt.Sprintf("%s becomes %s after normalisation (%s)", extreme, number(v.becomes), s.Mode),
			"see whether it is meant, and correct or remove the sample if not"
	case "squeezed":
		return fmt.Sprintf("%s sets the scale: %s, while the middle 80 %% of the values share %.2g of it (%s)", extreme, "it becomes "+number(v.becomes), v.share, s.Mode),
			"see whether it is meant, and correct or remove the sample if not"
	case "large":
		return fmt.Sprintf("%s is learned as it is, since %s: it outweighs all smaller dimensions", extreme, why), instead
	case "tiny":
		return fmt.Sprintf("varies from %s to %s%s and is learned as it is, since %s: it hardly counts in the loss", lo, hi, unit, why), instead
	default: // coarse
		return fmt.Sprintf("varies from %v to %v%s only: float32 has some %.0f steps there, and rounding is a part of what is learned", s.Min[d], s.Max[d], unit, steps(s.Max[d]-s.Min[d], s.Min[d], s.Max[d])),
			"subtract what is constant before storing it as float32"
	}
}

// number is a value as people would write it.
func number(x float64) string { return fmt.Sprintf("%.6g", x) }

// few lists at most eight words.
func few(words []string) string { return plain.Few(words, 8) }
