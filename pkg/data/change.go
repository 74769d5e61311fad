package data

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Change says how the data that a run goes on with differs from the data that
// it was trained on so far.
type Change struct {
	Step     uint64   `json:"step"` // committed steps when it was accepted
	From     string   `json:"from"` // fingerprints
	To       string   `json:"to"`
	Before   int      `json:"before"`             // samples, both splits
	Now      int      `json:"now"`                // the same, without those left out
	Differ   int      `json:"differ,omitempty"`   // at their place, with another content
	Added    int      `json:"added,omitempty"`    //
	Removed  int      `json:"removed,omitempty"`  // from the data
	LeftOut  int      `json:"left_out,omitempty"` // by data.skip
	Moved    bool     `json:"moved,omitempty"`    // those that stayed stand in another order
	Places   []string `json:"places,omitempty"`   // the first of them, in words
	Epoch    bool     `json:"new_epoch"`          // a new epoch begins at Step
	Wordings string   `json:"wordings,omitempty"` // how the file of data.wordings differs, in words
	Unknown  bool     `json:"unknown,omitempty"`  // the run has no index of its data: only the fingerprints and counts are known

	kept []int32 // sample now → sample before, or -1
}

// maxChangePlaces bounds the places of a Change, and maxChanges the changes that a Meta keeps.
const (
	maxChangePlaces = 10
	maxChanges      = 100
)

// compareIndexes finds out which samples of now stood in was, under the same or
// another number.
//
//	equal checksums        the same sample; of several equal ones the first that is free
//	no equal, but after    the sample follows the same one as before: it stands at the
//	the same one           same place with another content
//
// Where the held-out split is a set of its own, each set is compared with what
// it was.
func compareIndexes(was, now *Index, apart bool) *Change {
	c := &Change{From: was.Fingerprint, To: now.Fingerprint, Before: len(was.Entries), kept: make([]int32, len(now.Entries))}
	type sums struct {
		picture, rest uint32
		held          bool
	}
	free := map[sums][]int32{}
	taken := make([]bool, len(was.Entries))
	key := func(e Entry) sums { return sums{e.Picture, e.Rest, apart && e.Side == InHeldout} }
	start := 0 // what is equal from the beginning needs no map
	for start < min(len(was.Entries), len(now.Entries)) && key(was.Entries[start]) == key(now.Entries[start]) {
		c.kept[start], taken[start] = int32(start), true
		start++
	}
	for i := start; i < len(was.Entries); i++ {
		k := key(was.Entries[i])
		free[k] = append(free[k], int32(i))
	}
	for j := start; j < len(now.Entries); j++ {
		c.kept[j] = -1
		if l := free[key(now.Entries[j])]; len(l) > 0 {
			c.kept[j], taken[l[0]] = l[0], true
			free[key(now.Entries[j])] = l[1:]
		}
	}
	say := func(e Entry, what string) {
		if len(c.Places) < maxChangePlaces {
			c.Places = append(c.Places, e.Place+": "+what)
		}
	}
	last, before := int32(-1), int32(-1)
	for j, e := range now.Entries {
		i := c.kept[j]
		same := i >= 0
		if !same && int(before)+1 < len(was.Entries) && !taken[before+1] && !(apart && (e.Side == InHeldout) != (was.Entries[before+1].Side == InHeldout)) {
			i = before + 1
			c.kept[j], taken[i] = i, true
		}
		switch {
		case e.Side == Skipped && (i < 0 || was.Entries[i].Side != Skipped):
			c.LeftOut++
			say(e, "left out by data.skip")
		case e.Side == Skipped || same && was.Entries[i].Side != Skipped:
		case same:
			c.Added++
			say(e, "left out no longer")
		case i < 0:
			c.Added++
			say(e, "added")
		default:
			c.Differ++
			say(e, differs(was.Entries[i], e))
		}
		if e.Side != Skipped {
			c.Now++
		}
		if i >= 0 {
			c.Moved = c.Moved || i < last
			last, before = max(last, i), i
		}
	}
	for i, t := range taken {
		if !t {
			c.Removed++
			say(was.Entries[i], "removed")
		}
	}
	return c
}

func differs(was, now Entry) string {
	switch {
	case was.Rest == now.Rest:
		return "another picture"
	case was.Picture == now.Picture:
		return "another instruction, action or episode"
	}
	return "another picture, and another instruction, action or episode"
}

// heldNow carries the held-out split over: no sample that was trained on is
// held out, and none that was held out is trained on unless its episode has
// some that were. Episodes without a sample of before are trained on.
func (c *Change) heldNow(was *Index, episodes int, episode func(i int) int) []int {
	trained, held := make([]bool, episodes), make([]bool, episodes)
	for j, i := range c.kept {
		if i < 0 {
			continue
		}
		switch was.Entries[i].Side {
		case InTrain:
			trained[episode(j)] = true
		case InHeldout:
			held[episode(j)] = true
		}
	}
	out := []int{}
	for e := range held {
		if held[e] && !trained[e] {
			out = append(out, e)
		}
	}
	return out
}

// sameOrder reports whether sample k of the training split is what it was, for
// all k, whatever its content is now.
func (c *Change) sameOrder(was, now *Index) bool {
	var a, b []int32
	for i, e := range was.Entries {
		if e.Side == InTrain {
			a = append(a, int32(i))
		}
	}
	for j, e := range now.Entries {
		if e.Side == InTrain {
			b = append(b, c.kept[j])
		}
	}
	return slices.Equal(a, b)
}

// Text is the change for people: a line, and the places in lines of their own.
func (c *Change) Text() string {
	switch {
	case c.Unknown && c.Wordings != "": // all else that could differ is in the fingerprint too
		return fmt.Sprintf("%s; the run has no index of its data, so whether its samples differ too is not known", c.Wordings)
	case c.Unknown:
		return fmt.Sprintf("its fingerprint differs (%s, it was %s); the run has no index of its data, so which samples differ is not known", c.To, c.From)
	}
	if c.Wordings != "" && c.Differ+c.Added+c.Removed+c.LeftOut == 0 && !c.Moved {
		return "its samples are as they were, but " + c.Wordings
	}
	s := ""
	part := func(n int, what string) {
		if n == 0 {
			return
		}
		if s == "" {
			s = counted(n, "sample") + " " + what
			return
		}
		s += fmt.Sprintf(", %d %s", n, what)
	}
	if c.Differ > 0 {
		s = fmt.Sprintf("%d of %d samples differ", c.Differ, c.Before)
		if c.Differ == 1 {
			s = fmt.Sprintf("1 of %d samples differs", c.Before)
		}
	}
	part(c.Added, "added")
	part(c.Removed, "removed")
	part(c.LeftOut, "left out")
	if c.Moved {
		s += "; the others stand in another order"
	}
	if s == "" {
		s = "all samples are as they were, but something else in the files differs"
	}
	if c.Wordings != "" {
		s += "; " + c.Wordings
	}
	for _, p := range c.Places {
		s += "\n  " + p
	}
	if n := c.Differ + c.Added + c.Removed + c.LeftOut - len(c.Places); n > 0 {
		s += fmt.Sprintf("\n  and %d more", n)
	}
	return s
}

// settle finds out how d differs from the data of the given Meta, and keeps
// its held-out split.
func (o *Opening) settle(d *Set) error {
	g := o.given
	defer func() {
		if d.change != nil {
			d.change.Wordings = rewordedSince(g, &d.meta)
		}
	}()
	was := o.watch.Former
	if was == nil || was.Fingerprint != g.Fingerprint || d.about.path == "" {
		d.change = &Change{From: g.Fingerprint, To: d.meta.Fingerprint, Before: g.Train + g.Heldout, Now: d.meta.Train + d.meta.Heldout, Unknown: true}
		if d.meta.Train != g.Train || d.meta.Heldout != g.Heldout {
			return fmt.Errorf("%w: %d samples to train on and %d held out, they were %d and %d; the run has no index of its data, so which of them it was trained on is not known: bring the data back, or start another run",
				ErrOtherData, d.meta.Train, d.meta.Heldout, g.Train, g.Heldout)
		}
		return nil
	}
	now, err := d.Index(o.Context)
	if errors.Is(err, ErrNoIndex) {
		return fmt.Errorf("%w: fingerprint %s, the checkpoint's is %s", ErrOtherData, d.meta.Fingerprint, g.Fingerprint)
	}
	if err != nil {
		return err
	}
	c := compareIndexes(was, now, d.about.apart)
	held := d.about.heldOut
	if !d.about.apart {
		held = c.heldNow(was, d.about.episodes, d.about.episode)
	}
	if d.meta.Held = nil; !slices.Equal(held, d.about.heldOut) {
		if err := d.resplit(held, o.skip); err != nil {
			return err
		}
		d.meta.Held = append([]int{}, held...)
		if now, err = d.Index(o.Context); err != nil {
			return err
		}
	}
	c.Epoch = !c.sameOrder(was, now)
	d.change = c
	return nil
}

// Start is where the order of a run began anew, since its data had changed.
type Start struct {
	Step  uint64 `json:"step"`  // the first step (from 0) of the new order
	Epoch uint64 `json:"epoch"` // number of the epoch that begins there
}

// Accept returns the description of the data to go on with from step on: that
// of the changed data, with the change on record. Where the training split's
// samples are not the ones that they were, a new epoch begins at step, so that
// from there on each comes once an epoch. global is the samples of a step.
func Accept(was, now Meta, c Change, step uint64, global int) Meta {
	c.Step = step
	now.Changes = append(slices.Clone(was.Changes), c)
	now.Changes = now.Changes[max(0, len(now.Changes)-maxChanges):]
	now.Start = was.Start
	if c.Epoch {
		now.Start = &Start{Step: step, Epoch: was.Order(0, global, 1, true).begun(step * uint64(global))}
	}
	return now
}

// checkChange refuses what no Accept has made.
func (m *Meta) checkChange() error {
	if s := m.Start; s != nil && (s.Step > math.MaxInt64 || s.Epoch > math.MaxInt64) {
		return fmt.Errorf("the order begins at step %d with epoch %d", s.Step, s.Epoch)
	}
	for i, e := range m.Held {
		if e < 0 || i > 0 && e <= m.Held[i-1] {
			return fmt.Errorf("held-out episode %d after %v; they ascend from 0", e, m.Held[:i])
		}
	}
	return nil
}
