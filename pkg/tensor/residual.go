package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type residual struct {
	x, y, z    *Var
	scale      *Param // nil: 1
	fwd, back  rowTask
	cols       columnTask
	accX, accY bool
	accS       bool
}

// Residual returns x + scale⊙y: the two of one shape [.., D], scale of D elements
// (LayerScale), or nil for x + y.
func (t *Tape) Residual(x, y *Var, scale *Param) *Var {
	need(x.Size() == y.Size() && x.Cols() == y.Cols(), "Residual", sprint("two of ", x.Shape), y.Shape)
	need(scale == nil || scale.Size() == x.Cols(), "Residual", sprint("a scale [", x.Cols(), "]"), paramShape(scale))
	o := &residual{x: x, y: y, scale: scale}
	o.z = t.newVar(x.Shape, scale != nil || x.root().grad || y.root().grad)
	t.record(o, o.z, []*Var{x, y}, scale)
	return o.z
}

func (o *residual) needs() []*Var {
	if o.scale != nil {
		return []*Var{o.y}
	}
	return nil
}
func (o *residual) kind() string          { return "residual" }
func (o *residual) flops() (int64, int64) { return 0, 0 }

func (o *residual) bind(*Tape) {
	n, d := o.x.Rows(), o.x.Cols()
	o.fwd = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		if o.scale == nil {
			kernel.Add(o.z.Data[lo*d:hi*d], o.x.Data[lo*d:hi*d], o.y.Data[lo*d:hi*d])
			return
		}
		for r := lo; r < hi; r++ {
			z := o.z.Data[r*d : (r+1)*d]
			kernel.Multiply(z, o.y.Data[r*d:(r+1)*d], o.scale.Value)
			kernel.Accumulate(z, o.x.Data[r*d:(r+1)*d])
		}
	}}
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		if o.x.root().grad {
			give(o.x.Grad[lo*d:hi*d], o.z.Grad[lo*d:hi*d], o.accX)
		}
		if !o.y.root().grad {
			return
		}
		if o.scale == nil {
			give(o.y.Grad[lo*d:hi*d], o.z.Grad[lo*d:hi*d], o.accY)
			return
		}
		g := ws.Floats(d)
		for r := lo; r < hi; r++ {
			kernel.Multiply(g, o.z.Grad[r*d:(r+1)*d], o.scale.Value)
			give(o.y.Grad[r*d:(r+1)*d], g, o.accY)
		}
	}}
	o.cols = columnTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) {
		if !o.accS {
			clear(o.scale.Grad[lo:hi])
		}
		for r := range n {
			kernel.AddProducts(o.scale.Grad[lo:hi], o.z.Grad[r*d+lo:r*d+hi], o.y.Data[r*d+lo:r*d+hi])
		}
	}}
}

func (o *residual) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *residual) backward(t *Tape) {
	if !o.z.root().written {
		return
	}
	if o.scale != nil {
		o.accS = o.scale.accumulate()
		o.cols.run(t.rt)
	}
	if o.x.root().grad {
		o.accX = o.x.accumulate()
	}
	if o.y.root().grad {
		o.accY = o.y.accumulate() // where x is y, it adds to what x was given
	}
	o.back.run(t.rt)
}

type tokensOf struct {
	x, y     *Var
	from     int
	fwd, bck rowTask
	acc      bool
}

// Tokens returns tokens [from, to) of each sample: [B, T, D] → [B, to-from, D].
func (t *Tape) Tokens(x *Var, from, to int) *Var {
	need(len(x.Shape) == 3 && from >= 0 && from < to && to <= x.Shape[1], "Tokens", "some of the tokens of [B, T, D]", from, to, x.Shape)
	o := &tokensOf{x: x, from: from, y: t.newVar([]int{x.Shape[0], to - from, x.Shape[2]}, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *tokensOf) needs() []*Var         { return nil }
func (o *tokensOf) kind() string          { return "tokens" }
func (o *tokensOf) flops() (int64, int64) { return 0, 0 }

func (o *tokensOf) bind(*Tape) {
	all, n, at := o.x.Shape[1]*o.x.Shape[2], o.y.Shape[1]*o.y.Shape[2], o.from*o.x.Shape[2]
	o.fwd = rowTask{n: o.x.Shape[0], f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			copy(o.y.Data[s*n:(s+1)*n], o.x.Data[s*all+at:])
		}
	}}
	o.bck = rowTask{n: o.x.Shape[0], f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			dx := o.x.Grad[s*all : (s+1)*all]
			if !o.acc {
				clear(dx[:at])
				clear(dx[at+n:])
			}
			give(dx[at:at+n], o.y.Grad[s*n:(s+1)*n], o.acc)
		}
	}}
}

func (o *tokensOf) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *tokensOf) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.bck.run(t.rt)
}
