package tensor

import (
	"github.com/vlaring/vlaring/internal/kernel"
	"github.com/vlaring/vlaring/internal/philox"
)

// normChunk is about how many elements of rows are worked on at a time.
const normChunk = 4096

// rowsAtOnce is how many rows the kernels of norms do at a time where they can: chunks have a multiple of it.
const rowsAtOnce = 4

// normEps is PyTorch's default for LayerNorm.
const normEps = 1e-5

type addNorm struct {
	x, y, out   *Var
	gamma, beta *Param
	p, eps      float32
	drop        kernel.Drop
	site        uint32
	perSample   int // rows of a sample; all of them without dropout

	xhat, rstd       []float32
	fwd, back        rowTask
	cols             columnTask
	group            together
	accX, accY       bool
	accGamma, accBet bool
	t                *Tape
}

// AddNorm returns LayerNorm(x + dropout(y)) with scale gamma and shift beta,
// [D] each; biased variance, epsilon 1e-5. x, y and the result are [B, .., D];
// y may be nil.
func (t *Tape) AddNorm(x, y *Var, gamma, beta *Param, dropout float32) *Var {
	return t.AddNormEps(x, y, gamma, beta, normEps, dropout)
}

// AddNormEps is AddNorm with another epsilon.
func (t *Tape) AddNormEps(x, y *Var, gamma, beta *Param, eps, dropout float32) *Var {
	d := x.Cols()
	need(y == nil || y.Size() == x.Size() && y.Cols() == d, "AddNorm", sprint("two of ", x.Shape), varShape(y))
	need(gamma.Size() == d && beta.Size() == d, "AddNorm", sprint("gamma and beta [", d, "]"), gamma.Shape, beta.Shape)
	need(dropout >= 0 && dropout < 1, "AddNorm", "0 ≤ dropout < 1", dropout)
	a := &addNorm{x: x, y: y, gamma: gamma, beta: beta, p: dropout, eps: eps, out: t.newVar(x.Shape, true), t: t}
	if y != nil && dropout > 0 {
		a.drop, a.site = kernel.NewDrop(dropout), t.nextDrop()
	}
	t.record(a, a.out, []*Var{x, y}, gamma, beta)
	return a.out
}

func (a *addNorm) kind() string          { return "addnorm" }
func (a *addNorm) needs() []*Var         { return nil }
func (a *addNorm) flops() (int64, int64) { return 0, 0 }
func (a *addNorm) reserve(t *Tape) []reserved {
	return []reserved{{dst: &a.xhat, n: a.x.Size(), back: true}, {dst: &a.rstd, n: a.x.Rows()}}
}
func (a *addNorm) roundsResult() bool { return true }

func (a *addNorm) bind(*Tape) {
	rows, d := a.x.Rows(), a.x.Cols()
	a.perSample = rows / a.x.Shape[0]
	// Rows are done some at a time: they stay in L1 from the residual to the normalisation. With dropout they are of one sample:
	// their random numbers are drawn in one go.
	chunk := max(1, normChunk/d/rowsAtOnce) * rowsAtOnce
	if a.p == 0 {
		a.perSample = rows
	}
	each := func(lo, hi int, f func(lo, hi int)) {
		for lo < hi {
			end := min(hi, lo+chunk, (lo/a.perSample+1)*a.perSample)
			f(lo, end)
			lo = end
		}
	}
	drop := func(lo int) (philox.Stream, uint32) {
		return a.t.stream(a.site, lo/a.perSample), uint32(lo % a.perSample * d)
	}
	a.fwd = rowTask{n: rows, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(2 * chunk * d)
		each(lo, hi, func(lo, hi int) {
			n := (hi - lo) * d
			xhat, x, out := buf[:n], a.x.Data[lo*d:hi*d], buf[chunk*d:chunk*d+n]
			later := a.xhat != nil && a.t.late() // memory is written when the rows are done, from one end to the other
			if a.out.words == nil && !later {
				out = a.out.Data[lo*d : hi*d]
			}
			if a.xhat != nil && !later {
				xhat = a.xhat[lo*d : hi*d]
			}
			z := xhat
			switch {
			case a.y == nil:
				z = x
			case a.p > 0 && a.t.train:
				s, first := drop(lo)
				a.drop.Add(z, x, a.y.Data[lo*d:hi*d], s, first)
			default:
				kernel.Add(z, x, a.y.Data[lo*d:hi*d])
			}
			kernel.Norm(out, xhat, z, a.gamma.Value, a.beta.Value, a.rstd[lo:hi], a.eps)
			if later {
				a.t.store(a.xhat[lo*d:], d, xhat, d, hi-lo, d)
			}
			switch {
			case a.out.words != nil:
				kernel.RoundBF16(a.out.words[lo*d:hi*d], out)
			case later:
				copy(a.out.Data[lo*d:hi*d], out)
			}
		})
	}}
	// sums adds rows from r0 to r1, or begins with them, to columns from lo to hi of the gradients of gamma and beta.
	sums := func(r0, r1, lo, hi int) {
		if r0 == 0 && !a.accGamma {
			clear(a.gamma.Grad[lo:hi])
		}
		if r0 == 0 && !a.accBet {
			clear(a.beta.Grad[lo:hi])
		}
		at := r0*d + lo
		kernel.NormRows(a.gamma.Grad[lo:hi], a.beta.Grad[lo:hi], a.out.Grad[at:], a.xhat[at:], r1-r0, d)
	}
	a.cols = columnTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) { sums(0, rows, lo, hi) }}
	a.back = rowTask{n: rows, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(2 * chunk * d)
		toX, toY := a.x.root().grad, a.y != nil && a.y.root().grad
		each(lo, hi, func(lo, hi int) {
			if a.t.rt.threads == 1 { // it has all rows, in order, and all columns: no row is read from memory twice
				sums(lo, hi, 0, d)
			}
			n := (hi - lo) * d
			dz := buf[:n]
			if toX && !a.accX {
				dz = a.x.Grad[lo*d : hi*d]
			}
			kernel.NormBackward(dz, a.out.Grad[lo*d:hi*d], a.xhat[lo*d:hi*d], a.gamma.Value, a.rstd[lo:hi])
			if toX && a.accX {
				kernel.Accumulate(a.x.Grad[lo*d:hi*d], dz)
			}
			if !toY {
				return
			}
			dy := a.y.Grad[lo*d : hi*d]
			if a.p > 0 && a.t.train {
				s, first := drop(lo)
				if !a.accY {
					a.drop.Apply(dy, dz, s, first)
					return
				}
				a.drop.Apply(buf[n:2*n], dz, s, first)
				dz = buf[n : 2*n]
			}
			give(dy, dz, a.accY)
		})
	}}
}

// give writes src to dst, or adds it.
func give(dst, src []float32, accumulate bool) {
	if accumulate {
		kernel.Accumulate(dst, src)
	} else {
		copy(dst, src)
	}
}

func (a *addNorm) forward(t *Tape) { a.fwd.run(t.rt) }

func (a *addNorm) backward(t *Tape) {
	if !a.out.root().written {
		return
	}
	a.accGamma, a.accBet = a.gamma.accumulate(), a.beta.accumulate()
	if a.x.root().grad {
		a.accX = a.x.accumulate()
	}
	if a.y != nil && a.y.root().grad {
		a.accY = a.y.accumulate() // where x is y, it adds to what x was given
	}
	if t.rt.threads == 1 {
		a.back.run(t.rt)
		return
	}
	a.group.run(t.rt, &a.cols, &a.back)
}

type dropout struct {
	x, y   *Var
	drop   kernel.Drop
	site   uint32
	fwd    rowTask
	back   rowTask
	accX   bool
	sample int
}

// Dropout returns x [B, ..] with each element zeroed with probability p and
// the others divided by 1-p, when training; x itself otherwise.
func (t *Tape) Dropout(x *Var, p float32) *Var {
	need(p >= 0 && p < 1, "Dropout", "0 ≤ p < 1", p)
	if p == 0 {
		return x
	}
	o := &dropout{x: x, drop: kernel.NewDrop(p), site: t.nextDrop(), y: t.newVar(x.Shape, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *dropout) kind() string          { return "dropout" }
func (o *dropout) needs() []*Var         { return nil }
func (o *dropout) flops() (int64, int64) { return 0, 0 }

func (o *dropout) bind(t *Tape) {
	b := o.x.Shape[0]
	o.sample = o.x.Size() / b
	// split within samples, on whole Philox blocks, so that one sample keeps all threads busy
	per := (o.sample + dropChunk - 1) / dropChunk
	part := func(i int) (s, lo, hi int) {
		s, c := i/per, i%per
		return s, s*o.sample + c*dropChunk, min(s*o.sample+(c+1)*dropChunk, (s+1)*o.sample)
	}
	o.fwd = rowTask{n: b * per, f: func(from, to int, _ *kernel.Workspace) {
		for i := from; i < to; i++ {
			s, lo, hi := part(i)
			o.drop.Apply(o.y.Data[lo:hi], o.x.Data[lo:hi], t.stream(o.site, s), uint32(lo-s*o.sample))
		}
	}}
	o.back = rowTask{n: b * per, f: func(from, to int, ws *kernel.Workspace) {
		for i := from; i < to; i++ {
			s, lo, hi := part(i)
			g := o.y.Grad[lo:hi]
			if t.train {
				o.drop.Apply(g, g, t.stream(o.site, s), uint32(lo-s*o.sample))
			}
			give(o.x.Grad[lo:hi], g, o.accX)
		}
	}}
}

// dropChunk is the elements of one task of a dropout.
const dropChunk = 4096

func (o *dropout) forward(t *Tape) {
	if !t.train {
		copy(o.y.Data, o.x.Data)
		return
	}
	o.fwd.run(t.rt)
}

func (o *dropout) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.accX = o.x.accumulate()
	o.back.run(t.rt)
}
