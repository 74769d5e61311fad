package tensor

import (
	"math"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/kernel"
)

// AdamW are an optimizer's hyper-parameters, named as in PyTorch.
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	L2                                 bool // plain Adam: the decay goes into the gradient
}

// flatTask runs f, a kernel of a vector and a number, on parts of two slabs.
type flatTask struct {
	dst, src []float32
	s        float32
	f        func(dst, src []float32, s float32)
	tiles    int
}

func (p *flatTask) Tile(i int, _ *kernel.Workspace) {
	if lo, hi := cut(i, p.tiles, len(p.dst), slabAlign); lo < hi {
		p.f(p.dst[lo:hi], p.src[lo:hi], p.s)
	}
}

// slabTiles is in how many tiles a slab of n elements is worked on. A kernel
// cannot be interrupted: over a whole slab it would hold up the garbage
// collector, and that everything else in the process, for as long as it takes.
func (r *Runtime) slabTiles(n int) int { return max(r.threads, (n+1<<17-1)/(1<<17)) }

func (r *Runtime) runFlat(dst, src []float32, s float32, f func(dst, src []float32, s float32)) {
	tiles := r.slabTiles(len(dst))
	r.flat = flatTask{dst, src, s, f, tiles}
	r.Run(&r.flat, tiles)
	r.flat = flatTask{}
}

// eachTask is a function of a number.
type eachTask func(i int)

func (f eachTask) Tile(i int, _ *kernel.Workspace) { f(i) }

// Each calls f for 0 to n-1, in any order and at the same time: f may call no method of r.
func (r *Runtime) Each(n int, f func(i int)) { r.Run(eachTask(f), n) }

// lerpTask is Lerp on parts of slabs.
type lerpTask struct {
	dst, x, y []float32
	s         float32
	tiles     int
}

func (p *lerpTask) Tile(i int, _ *kernel.Workspace) {
	if lo, hi := cut(i, p.tiles, len(p.dst), slabAlign); lo < hi {
		kernel.Lerp(p.dst[lo:hi], p.x[lo:hi], p.y[lo:hi], p.s)
	}
}

// Average moves avg, the average of what w has been, on: decay·avg + (1-decay)·w,
// computed from the end that is nearer, as torch.lerp does. So where avg is w it
// stays w, whatever decay is rounded to, and a decay of 0 gives w.
func (r *Runtime) Average(avg, w []float32, decay float64) {
	if len(avg) != len(w) {
		panic(&ShapeError{Op: "Average", Want: sprint("two slabs of ", len(avg)), Got: sprint(len(w))})
	}
	at, tiles := r.begin(), r.slabTiles(len(avg))
	if rest := float32(1 - decay); rest < 0.5 {
		r.lerp = lerpTask{avg, avg, w, rest, tiles}
	} else {
		r.lerp = lerpTask{avg, w, avg, float32(decay), tiles}
	}
	r.Run(&r.lerp, tiles)
	r.lerp = lerpTask{}
	end(at, &r.spent.Update)
}

// adamTask is an optimizer step on parts of the slabs.
type adamTask struct {
	p, g, m, v []float32
	args       kernel.AdamArgs
	tiles      int
}

func (a *adamTask) Tile(i int, _ *kernel.Workspace) {
	if lo, hi := cut(i, a.tiles, len(a.p), slabAlign); lo < hi {
		kernel.Adam(a.p[lo:hi], a.g[lo:hi], a.m[lo:hi], a.v[lo:hi], &a.args)
	}
}

// AdamWStep updates weights p and moments m and v, slabs of one length, from
// the gradient g times gradScale. step counts from 1. It is torch.optim.AdamW
// (Loshchilov and Hutter, 2019), or Adam with L2.
func (r *Runtime) AdamWStep(p, g, m, v []float32, step uint64, h AdamW, gradScale float32) {
	if len(g) != len(p) || len(m) != len(p) || len(v) != len(p) { // need would allocate its message each time
		panic(&ShapeError{Op: "AdamWStep", Want: sprint("four slabs of ", len(p)), Got: sprint(len(g), len(m), len(v))})
	}
	b1, b2 := 1-power(h.Beta1, step), 1-power(h.Beta2, step)
	a := kernel.AdamArgs{GradScale: gradScale, Decay: float32(1 - float64(h.LR*h.WeightDecay)), Beta1: float32(h.Beta1), Beta2: float32(h.Beta2),
		Rest1: float32(1 - h.Beta1), Rest2: float32(1 - h.Beta2), StepSize: float32(h.LR / b1), RootBias2: float32(math.Sqrt(b2)), Eps: float32(h.Eps)}
	if h.L2 {
		a.Decay, a.L2 = 1, float32(h.WeightDecay)
	}
	at, tiles := r.begin(), r.slabTiles(len(p))
	r.adam = adamTask{p, g, m, v, a, tiles}
	r.Run(&r.adam, tiles)
	r.adam = adamTask{}
	end(at, &r.spent.Update)
}

// power returns b^n by squaring, each product rounded by itself: the library's
// may differ between CPUs.
func power(b float64, n uint64) float64 {
	p := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			p = float64(p * b)
		}
		b = float64(b * b)
	}
	return p
}

// GradNorm returns the global norm of a gradient slab in float64: tensors in
// the order of their names, elements in sixteen lanes. Frozen parameters have no
// gradient, whatever the slab has in their place.
func (r *Runtime) GradNorm(ps *Params, g []float32) float64 {
	at, list := r.begin(), ps.sorted()
	sums := ps.sums
	r.norm = normTask{list, ps.largest, g, sums}
	r.Run(&r.norm, len(list))
	r.norm = normTask{}
	total := 0.0
	for _, s := range sums {
		total += s
	}
	end(at, &r.spent.Norm)
	return math.Sqrt(total)
}

type normTask struct {
	list []*Param
	by   []int // the order in which they are begun
	g    []float32
	sums []float64
}

func (n *normTask) Tile(i int, _ *kernel.Workspace) {
	i = n.by[i]
	p := n.list[i]
	if n.sums[i] = 0; !p.Frozen {
		n.sums[i] = kernel.SumSquares(n.g[p.Offset : p.Offset+p.Size()])
	}
}

// sorted returns the parameters by name; the order is made once.
func (s *Params) sorted() []*Param {
	if s.byOrder == nil {
		s.byOrder = slices.Clone(s.list)
		slices.SortFunc(s.byOrder, func(a, b *Param) int { return strings.Compare(a.Name, b.Name) })
		s.sums = make([]float64, len(s.list))
		for i := range s.byOrder {
			s.largest = append(s.largest, i)
		}
		slices.SortStableFunc(s.largest, func(a, b int) int { return s.byOrder[b].Size() - s.byOrder[a].Size() })
	}
	return s.byOrder
}

// FirstNonFinite returns the name of the first tensor, by name, with a NaN or
// an infinity in a gradient slab, of those that are not frozen; empty if there is
// none.
func (r *Runtime) FirstNonFinite(ps *Params, g []float32) string {
	for _, p := range ps.sorted() {
		if !p.Frozen && !kernel.Finite(g[p.Offset:p.Offset+p.Size()]) {
			return p.Name
		}
	}
	return ""
}

// Scale multiplies x by s.
func (r *Runtime) Scale(x []float32, s float32) {
	r.runFlat(x, x, s, kernel.Scale)
}

// Div writes dst = src/s. They may be the same.
func (r *Runtime) Div(dst, src []float32, s float32) {
	if len(dst) != len(src) {
		panic(&ShapeError{Op: "Div", Want: sprint("two slabs of ", len(dst)), Got: sprint(len(src))})
	}
	if s == 1 && len(dst) > 0 && &dst[0] == &src[0] {
		return
	}
	at := r.begin()
	r.runFlat(dst, src, s, kernel.Divide)
	end(at, &r.spent.Norm)
}

// Fold adds src to dst, element by element.
func (r *Runtime) Fold(dst, src []float32) {
	if len(dst) != len(src) {
		panic(&ShapeError{Op: "Fold", Want: sprint("two slabs of ", len(dst)), Got: sprint(len(src))})
	}
	at := r.begin()
	r.runFlat(dst, src, 0, accumulate)
	end(at, &r.spent.Fold)
}

func accumulate(dst, src []float32, _ float32) { kernel.Accumulate(dst, src) }

// Fold is Runtime.Fold on the caller's thread alone.
func Fold(dst, src []float32) { kernel.Accumulate(dst, src) }

// Add writes dst = x + y, on the caller's thread alone.
func Add(dst, x, y []float32) { kernel.Add(dst, x, y) }
