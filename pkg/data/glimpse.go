package data

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
	e := own.about.episode(g.ID)
	g.Episode = int64(e)
	for id := g.ID - 1; id >= 0 && own.about.episode(id) == e; id-- {
		g.Frame++
	}
	if own.about.place == nil {
		return g
	}
	f := own.about.place(g.ID)
	if f.Episode != nil {
		g.Episode = *f.Episode
	}
	if f.Frame != nil {
		g.Frame = *f.Frame
	}
	return g
}
