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

func (o *rmsNorm) bind(*Tape) {
	n, d := o.x.Rows(), o.x.Cols()
	o.fwd = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		row := ws.Floats(d)
		for r := lo; r < hi; r++ {
			if o.y.words == nil {
				row = o.y.Data[r*d : (r+1)*d]
			}
			o.rstd[r] = kernel.RMSRow(row, o.x.Data[r*d:(r+1)*d], o.gamma.Value, o.eps)
			if o.y.words != nil {
				kernel.RoundBF16(o.y.words[r*d:(r+1)*d], row)
			}
		}
	}}
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(2 * d)
		for r := lo; r < hi; r++ {
			kernel.RMSRowBackward(buf[:d], o.y.Grad[r*d:(r+1)*d], o.x.Data[r*d:(r+1)*d], o.gamma.Value, o.rstd[r], buf[d:])
			give(o.x.Grad[r*d:(r+1)*d], buf[:d], o.accX)
		}
	}}
	o.cols = columnTask{n: d, f: func(lo, hi int, ws *kernel.Workspace) {
		if !o.accG {
			clear(o.gamma.Grad[lo:hi])
		}
		h := ws.Floats(hi - lo)
		for r := range n {
			kernel.Scale(h, o.x.Data[r*d+lo:r*d+hi], o.rstd[r])
			kernel.AddProducts(o.gamma.Grad[lo:hi], o.y.Grad[r*d+lo:r*d+hi], h)
		}
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
	o.group.run(t.rt, &o.cols, &o.back)
}
