package tensor

import (
	"slices"
	"sync"
)

// Param is one named parameter. Value and Grad are views of its Params' slabs.
type Param struct {
	Name   string
	Shape  []int
	Offset int       // of the first element in the slab
	Value  []float32 // bound by Seal
	Grad   []float32 // bound by BindGrads
	Frozen bool      // is not trained: set it before a tape records, see freeze. Its gradient is its owner's to keep zero
	Low    *LowRank  // adapts it, where it is a linear layer's weight; nil: nothing does

	tiles   []*weightTiles // see Tape.Settled
	left    int            // uses whose gradient this Backward has not written yet
	written bool           // Grad holds a part of this Backward's gradient
}

// Size is the number of elements.
func (p *Param) Size() int { return size(p.Shape) }

// accumulate says whether Grad already holds a part of the gradient, and notes
// that it does from now on.
func (p *Param) accumulate() bool {
	w := p.written
	p.written = true
	return w
}

// slabAlign is the alignment of each parameter in the slab, in floats: one cache line.
const slabAlign = 16

// Params is a model's parameters in one flat slab. They are added in the order
// in which forward uses them and laid out in reverse, so that backward
// completes the slab of gradients from its beginning:
//
//	added   embedding, block 0, …, head
//	slab    │ head │ … │ block 0 │ embedding │     each on a cache line; gaps stay zero
type Params struct {
	list   []*Param
	byName map[string]*Param
	values []float32
	memory *region // that values live in
	n      int

	mu      sync.Mutex // guards lists of tiles
	byOrder []*Param   // by name
	largest []int      // their places in byOrder, the largest first: threads end together
	sums    []float64  // scratch of GradNorm, one a parameter
}

// NewParams returns an empty set.
func NewParams() *Params { return &Params{byName: map[string]*Param{}} }

// Add registers a parameter. A name may be used once, and only before Seal.
func (s *Params) Add(name string, shape ...int) *Param {
	need(s.values == nil, "Params.Add", "no Seal before it", name)
	need(s.byName[name] == nil, "Params.Add", "a new name", name)
	need(len(shape) > 0 && slices.Min(shape) > 0, "Params.Add", "a shape of positive sizes", name, shape)
	p := &Param{Name: name, Shape: slices.Clone(shape)}
	s.list = append(s.list, p)
	s.byName[name] = p
	return p
}

// Seal lays the parameters out and allocates their values, zero at first.
func (s *Params) Seal() {
	need(s.values == nil, "Params.Seal", "one call", "another")
	for i := len(s.list) - 1; i >= 0; i-- {
		p := s.list[i]
		p.Offset = s.n
		s.n += (p.Size() + slabAlign - 1) / slabAlign * slabAlign
	}
	s.values, s.memory = floats(s.n)
	for _, p := range s.list {
		p.Value = s.values[p.Offset : p.Offset+p.Size() : p.Offset+p.Size()]
	}
}

// Close gives the values' memory back: neither they nor tapes that use them may
// be touched any more. Closing again does nothing.
func (s *Params) Close() {
	if s.memory == nil {
		return
	}
	s.values = []float32{} // not nil: it stays sealed
	for _, p := range s.list {
		p.Value, p.tiles = nil, nil
	}
	s.memory.release()
	s.memory = nil
}

// List returns the parameters in the order in which they were added.
func (s *Params) List() []*Param { return s.list }

// ByName returns a parameter, or nil.
func (s *Params) ByName(name string) *Param { return s.byName[name] }

// Len is the length of a slab, gaps included.
func (s *Params) Len() int { return s.n }

// Count is the number of parameters' elements, without gaps.
func (s *Params) Count() (n int) {
	for _, p := range s.list {
		n += p.Size()
	}
	return n
}

// Values returns the slab of values.
func (s *Params) Values() []float32 { return s.values }

// BindGrads makes slab, of length Len, the place that Backward writes to. Gaps
// are the owner's to keep zero.
func (s *Params) BindGrads(slab []float32) {
	if len(slab) != s.n { // need would allocate its message each time
		panic(&ShapeError{Op: "BindGrads", Want: sprint("a slab of ", s.n), Got: sprint(len(slab))})
	}
	for _, p := range s.list {
		p.Grad = slab[p.Offset : p.Offset+p.Size() : p.Offset+p.Size()]
	}
}
