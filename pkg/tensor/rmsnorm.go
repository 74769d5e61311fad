package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type rmsNorm struct {
	x, y       *Var
	gamma      *Param
	eps        float32
	rstd       []float32
	fwd, back  rowTask
	cols       columnTask
	group      together
	accX, accG bool
}

// RMSNorm returns x/√(mean x² + eps)⊙gamma over each row of x [.., D]: no mean is
// taken out, and there is no shift.
func (t *Tape) RMSNorm(x *Var, gamma *Param, eps float32) *Var {
	need(gamma.Size() == x.Cols(), "RMSNorm", sprint("gamma [", x.Cols(), "]"), gamma.Shape)
	o := &rmsNorm{x: x, gamma: gamma, eps: eps, y: t.newVar(x.Shape, true)}
	t.record(o, o.y, []*Var{x}, gamma)
	return o.y
}

func (o *rmsNorm) needs() []*Var         { return []*Var{o.x} }
func (o *rmsNorm) kind() string          { return "addnorm" }
func (o *rmsNorm) flops() (int64, int64) { return 0, 0 }
func (o *rmsNorm) reserve(*Tape) []reserved {
	return []reserved{{dst: &o.rstd, n: o.x.Rows()}}
}
func (o *rmsNorm) roundsResult() bool { return true }

func (o *rmsNorm) bind(t *Tape) {
	n, d := o.x.Rows(), o.x.Cols()
	chunk := max(1, normChunk/d/rowsAtOnce) * rowsAtOnce
	each := func(lo, hi int, f func(lo, hi int)) {
		for ; lo < hi; lo += chunk {
			f(lo, min(hi, lo+chunk))
		}
	}
	o.fwd = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(chunk * d)
		each(lo, hi, func(lo, hi int) {
			y := buf[:(hi-lo)*d]
			if o.y.words == nil {
				y = o.y.Data[lo*d : hi*d]
			}
			kernel.RMS(y, o.x.Data[lo*d:hi*d], o.gamma.Value, o.rstd[lo:hi], o.eps)
			if o.y.words != nil {
				kernel.RoundBF16(o.y.words[lo*d:hi*d], y)
			}
		})
	}}
	// sums adds rows from r0 to r1, or begins with them, to columns from lo to hi of gamma's gradient; h is scratch.
	sums := func(r0, r1, lo, hi int, h []float32) {
		if r0 == 0 && !o.accG {
			clear(o.gamma.Grad[lo:hi])
		}
		for at := r0 * d; at < r1*d; at += d {
			kernel.Scale(h, o.x.Data[at+lo:at+hi], o.rstd[at/d])
			kernel.AddProducts(o.gamma.Grad[lo:hi], o.y.Grad[at+lo:at+hi], h)
		}
	}
	o.cols = columnTask{n: d, f: func(lo, hi int, ws *kernel.Workspace) { sums(0, n, lo, hi, ws.Floats(hi-lo)) }}
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats((chunk + 1) * d)
		each(lo, hi, func(lo, hi int) {
			if t.rt.threads == 1 { // as in addNorm: no row is read from memory twice
				sums(lo, hi, 0, d, buf[:d])
			}
			dx := o.x.Grad[lo*d : hi*d]
			to := dx
			if o.accX {
				to = buf[d : (hi-lo+1)*d]
			}
			kernel.RMSBackward(to, o.y.Grad[lo*d:hi*d], o.x.Data[lo*d:hi*d], o.gamma.Value, o.rstd[lo:hi], buf[:d])
			if o.accX {
				kernel.Accumulate(dx, to)
			}
		})
	}}
}

func (o *rmsNorm) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *rmsNorm) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	o.accG = o.gamma.accumulate()
	if !o.x.root().grad {
		o.cols.run(t.rt)
		return
	}
	o.accX = o.x.accumulate()
	if t.rt.threads == 1 {
		o.back.run(t.rt)
		return
	}
	o.group.run(t.rt, &o.cols, &o.back)
}
