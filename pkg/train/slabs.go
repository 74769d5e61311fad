package train

import (
	"slices"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// slabs is the memory of a step's gradients: flat gradients with their tails.
//
// What is kept is the fold of a group of micro-batches (batch.group; a group of
// one unless the job says otherwise). It is kept until the step is committed, so
// that a generation which breaks costs what the lost rank had, and no more. The
// first rank need not keep its groups apart: the job's fold begins with them, so
// it folds each onto those before at once. Neither need any rank where the fold
// is not the job's but the ranks' (cluster.reduce fast).
//
//	rank 0, or fast   │ run: groups lo … , folded │           one slab, and one for the micro-batch in progress
//	another rank      │ group lo │ group lo+1 │ … │ hi-1 │    a slab each; with groups of several one more for the micro-batch
//
// While a micro-gradient is folded onto a slab that is kept, that slab is of no
// use: torn says so, in case the fold does not come to its end.
type slabs struct {
	floats int
	more   func() ([]float32, error) // gives memory; nil: this process's own
	free   [][]float32
	fast   bool
	lo, hi int               // groups of this rank
	held   map[int][]float32 // by group; that of run.Lo has all of run
	run    allreduce.Range   // groups that are folded into one slab; empty: none
	part   part
	torn   bool
	groups []int       // memory of list
	listed [][]float32 // what it has given
}

// part is the group of which some micro-batches are computed.
type part struct {
	group, done int
	slab        []float32 // nil: none
}

// take returns a slab with whatever is in it.
func (s *slabs) take() ([]float32, error) {
	if n := len(s.free); n > 0 {
		g := s.free[n-1]
		s.free = s.free[:n-1]
		return g, nil
	}
	if s.more != nil {
		return s.more()
	}
	return tensor.Floats(s.floats), nil
}

func (s *slabs) give(g []float32) { s.free = append(s.free, g) }

// forget gives back all that is held, of a step that is over or not to be.
func (s *slabs) forget() {
	for k, g := range s.held {
		s.give(g)
		delete(s.held, k)
	}
	if s.part.slab != nil {
		s.give(s.part.slab)
	}
	s.run, s.part, s.torn = allreduce.Range{}, part{}, false
}

// fit drops what is of no use to the rank of groups [lo, hi): what is torn, and
// a run with groups of another rank.
func (s *slabs) fit(lo, hi int) {
	s.lo, s.hi = lo, hi
	if s.torn {
		s.forget()
	}
	if r := s.run; r.Lo < r.Hi && (r.Lo < lo || r.Hi > hi) {
		s.give(s.held[r.Lo])
		delete(s.held, r.Lo)
		s.run = allreduce.Range{}
	}
	s.join()
}

// has says whether a group is computed.
func (s *slabs) has(k int) bool { return k >= s.run.Lo && k < s.run.Hi || s.held[k] != nil }

// extends says whether a group is to be folded onto the run.
func (s *slabs) extends(k int) bool { return k == s.run.Hi && s.run.Lo < s.run.Hi && k < s.hi }

// join begins a run where there may be one, and folds the groups that follow
// onto it, while no reduction reads them.
func (s *slabs) join() {
	if s.run.Lo == s.run.Hi && s.held[s.lo] != nil && (s.lo == 0 || s.fast) {
		s.run = allreduce.Range{Lo: s.lo, Hi: s.lo + 1}
	}
	for k := s.run.Hi; s.extends(k) && s.held[k] != nil; k++ {
		s.torn = true
		tensor.Fold(s.held[s.run.Lo], s.held[k])
		s.torn = false
		s.give(s.held[k])
		delete(s.held, k)
		s.run.Hi++
	}
}

// begin returns the group's part: as far as it had come, or a new one.
func (s *slabs) begin(k int) (*part, error) {
	if s.part.slab != nil && s.part.group == k {
		return &s.part, nil
	}
	if s.part.slab != nil { // of a group that is another rank's now
		s.give(s.part.slab)
	}
	g, err := s.take()
	s.part = part{group: k, slab: g}
	return &s.part, err
}

// list is this rank's part of the fold, in order. g, if there is one, is where
// group k will be once it is computed.
func (s *slabs) list(k int, g []float32) [][]float32 {
	l := s.listed[:0] // the reduction before this one is over
	groups := s.groups[:0]
	for h := range s.held {
		if h >= s.lo && h < s.hi {
			groups = append(groups, h)
		}
	}
	if g != nil && s.held[k] == nil {
		groups = append(groups, k)
	}
	slices.Sort(groups)
	s.groups = groups
	for _, h := range groups {
		if s.held[h] != nil {
			l = append(l, s.held[h])
		} else {
			l = append(l, g)
		}
	}
	s.listed = l
	return l
}

// any is one of the slabs that are held, or another: memory that may be
// overwritten once the step's sum is there.
func (s *slabs) any() ([]float32, error) {
	for _, g := range s.held {
		return g, nil
	}
	g, err := s.take()
	if err == nil {
		s.give(g)
	}
	return g, err
}

// moveTo has slabs come from more from now on: what is held is copied there.
func (s *slabs) moveTo(more func() ([]float32, error)) error {
	move := func(g *[]float32) error {
		n, err := more()
		if err == nil {
			copy(n, *g)
			*g = n
		}
		return err
	}
	for k, g := range s.held {
		if err := move(&g); err != nil {
			return err
		}
		s.held[k] = g
	}
	if s.part.slab != nil {
		if err := move(&s.part.slab); err != nil {
			return err
		}
	}
	s.free, s.more = nil, more
	return nil
}
