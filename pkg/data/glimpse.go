package data

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Glimpse is a sample to look at.
type Glimpse struct {
	Index   int    // in Train
	ID      int    // in the whole data set, as data.skip takes it; in its set, of a mixture
	Set     string // of a mixture, by name
	Episode int64  // as the data numbers it
	Frame   int    // of the episode, from 0
}

// Glimpses are up to n samples of the training split, each of another episode, evenly
// spread over the data: the first is the first frame of its episode, and each of the
// others lies further on in its own. Of a mixture each set has some.
func (d *Set) Glimpses(n int) (out []Glimpse) {
	sets := max(1, len(d.meta.Sets))
	frames := make([][][2]int, sets) // by set: of each episode the first sample and how many, in the training split
	last := -1
	for i := range d.train.n {
		id := d.train.id(i)
		set := 0
		if d.parts != nil {
			set, _ = d.partOf(id)
		}
		if e := d.about.episode(id); e != last || len(frames[set]) == 0 {
			frames[set], last = append(frames[set], [2]int{i, 0}), e
		}
		frames[set][len(frames[set])-1][1]++
	}
	for set, of := range frames {
		each := min(max(1, n/sets), len(of))
		for k := range each {
			e := of[k*len(of)/each]
			out = append(out, d.glimpse(e[0]+k*e[1]/each, set))
		}
	}
	return out
}

// glimpse is sample i of the training split, which is of that set.
func (d *Set) glimpse(i, set int) Glimpse {
	own := d
	g := Glimpse{Index: i, ID: d.train.id(i)}
	if d.parts != nil {
		own, g.Set = d.parts[set], d.meta.Sets[set].Name
		_, g.ID = d.partOf(g.ID)
	}
	frame := 0
	for id := g.ID - 1; id >= 0 && own.about.episode(id) == own.about.episode(g.ID); id-- {
		frame++
	}
	g.Episode, g.Frame = own.about.named(g.ID, frame)
	return g
}

// named is where sample id lies as the data numbers it: in words of its own, or as the
// frame-th of the episode that it is in.
func (a about) named(id, frame int) (int64, int) {
	episode := int64(a.episode(id))
	if a.place == nil {
		return episode, frame
	}
	f := a.place(id)
	if f.Episode != nil {
		episode = *f.Episode
	}
	if f.Frame != nil {
		frame = *f.Frame
	}
	return episode, frame
}

// Frame is frame of episode, as the data numbers them, of the training split or, where
// it is heldOut, the other. A mixture has none.
func (d *Set) Frame(episode int64, frame int) (s Sample, heldOut bool, err error) {
	if d.parts != nil {
		return s, false, errors.New("a mixture has several episodes of a number: name one of its sets")
	}
	low, high, frames := int64(math.MaxInt64), int64(math.MinInt64), 0
	for id, last, place := 0, -1, 0; id < d.about.n; id, place = id+1, place+1 {
		if e := d.about.episode(id); e != last {
			last, place = e, 0
		}
		e, f := d.about.named(id, place)
		low, high = min(low, e), max(high, e)
		if e != episode {
			continue
		}
		if f == frame {
			s, err = d.train.get(id)
			return s, slices.Contains(d.about.heldOut, d.about.episode(id)), err
		}
		frames++
	}
	if frames == 0 {
		return s, false, fmt.Errorf("the data has no episode %d: they go from %d to %d", episode, low, high)
	}
	return s, false, fmt.Errorf("episode %d has no frame %d: it has %d, from 0", episode, frame, frames)
}
