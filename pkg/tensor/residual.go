package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type residual struct {
	x, y, z    *Var
	scale      *Param // nil: 1
	fwd, back  rowTask
	cols       columnTask
	accX, accY bool
	accS       bool
	summed     bool // the layer that made y has written z
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
		if x := o.x.root(); x.grad && x.gradOf != o.z {
			give(o.x.Grad[lo*d:hi*d], o.z.Grad[lo*d:hi*d], o.accX)
		}
		if y := o.y.root(); !y.grad || y.gradOf == o.z {
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

// joinResiduals saves the passes over memory of sums x + y that are not scaled. Where
// a linear layer makes y, right before and for nobody else, it adds x to tiles of its
// result while they are in the cache, and y is never stored. The gradients of x and y
// are both that of the sum: they share its memory where the layer has read y's before
// anybody adds to x's.
//
// It comes last of what plans memory: it takes activations as they are kept.
func (t *Tape) joinResiduals() {
	for i, o := range t.ops {
		r, ok := o.(*residual)
		if !ok || r.scale != nil || r.x.root() == r.y.root() || t.apart {
			continue
		}
		x, y := r.x.root(), r.y.root()
		var m *linear // whose backward comes right after
		if i > 0 {
			m, _ = t.ops[i-1].(*linear)
		}
		if m != nil && (m.y != y || y.first != i || m.act != None || m.x.root() == x) {
			m = nil
		}
		if m != nil && !y.result && t.segmentOf(i-1) == t.segmentOf(i) {
			m.addend, r.summed, r.z.made, y.dataOf = r.x, true, i-1, r.z
		}
		if !r.z.grad || r.z.first < 0 {
			continue
		}
		if m != nil && y.grad {
			y.gradOf = r.z
		}
		if x.grad && x.first == i {
			x.gradOf = r.z
		}
	}
}

func (o *residual) forward(t *Tape) {
	if !o.summed {
		o.fwd.run(t.rt)
	}
}

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
	if o.x.root().gradOf != o.z || o.y.root().gradOf != o.z {
		o.back.run(t.rt)
	}
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
