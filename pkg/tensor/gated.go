package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type gated struct {
	x, y      *Var
	act       Activation
	fwd, back rowTask
	acc       bool
}

// Gated returns act(g)⊙u of x [.., 2F], whose first F columns are the gate g and
// whose others are u → [.., F].
func (t *Tape) Gated(x *Var, act Activation) *Var {
	need(x.Cols()%2 == 0 && act.ofInput(), "Gated", "an even number of columns, and GELU, SiLU or another activation of its input", x.Shape, int(act))
	shape := append(append([]int{}, x.Shape[:len(x.Shape)-1]...), x.Cols()/2)
	o := &gated{x: x, act: act, y: t.newVar(shape, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *gated) needs() []*Var         { return []*Var{o.x} }
func (o *gated) kind() string          { return "gated" }
func (o *gated) flops() (int64, int64) { return 0, 0 }

func (o *gated) bind(*Tape) {
	n, f := o.y.Rows(), o.y.Cols()
	parts := func(x []float32, r int) (gate, up []float32) {
		return x[2*r*f : (2*r+1)*f], x[(2*r+1)*f : (2*r+2)*f]
	}
	o.fwd = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			g, u := parts(o.x.Data, r)
			y := o.y.Data[r*f : (r+1)*f]
			o.act.apply(y, g)
			kernel.Multiply(y, y, u)
		}
	}}
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(f)
		for r := lo; r < hi; r++ {
			g, u := parts(o.x.Data, r)
			dg, du := parts(o.x.Grad, r)
			dy := o.y.Grad[r*f : (r+1)*f]
			o.act.apply(buf, g)
			kernel.Multiply(buf, buf, dy)
			give(du, buf, o.acc)
			kernel.Multiply(buf, dy, u)
			o.act.back(buf, g)
			give(dg, buf, o.acc)
		}
	}}
}

func (o *gated) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *gated) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.back.run(t.rt)
}
