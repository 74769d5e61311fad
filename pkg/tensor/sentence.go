package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// leastLength is the length that Unit divides by at least, PyTorch's for
// torch.nn.functional.normalize.
const leastLength = 1e-12

type unit struct {
	x, y      *Var
	length    []float32
	fwd, back rowTask
	acc       bool
}

// Unit returns each row of x [.., D] divided by its length, or by 1e-12 where it is
// shorter.
func (t *Tape) Unit(x *Var) *Var {
	o := &unit{x: x, y: t.newVar(x.Shape, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *unit) needs() []*Var         { return []*Var{o.y} }
func (o *unit) kind() string          { return "addnorm" }
func (o *unit) flops() (int64, int64) { return 0, 0 }
func (o *unit) reserve(*Tape) []reserved {
	return []reserved{{dst: &o.length, n: o.x.Rows()}}
}

func (o *unit) bind(*Tape) {
	n, d := o.x.Rows(), o.x.Cols()
	o.fwd = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			o.length[r] = kernel.UnitRow(o.y.Data[r*d:(r+1)*d], o.x.Data[r*d:(r+1)*d], leastLength)
		}
	}}
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		g := ws.Floats(d)
		for r := lo; r < hi; r++ {
			kernel.UnitRowBackward(g, o.y.Grad[r*d:(r+1)*d], o.y.Data[r*d:(r+1)*d], o.length[r], leastLength)
			give(o.x.Grad[r*d:(r+1)*d], g, o.acc)
		}
	}}
}

func (o *unit) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *unit) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.back.run(t.rt)
}

type lastToken struct {
	x, y      *Var
	visible   *Bytes
	fwd, back rowTask
	acc       bool
}

// LastToken returns the last visible token of each sample: x [B, T, D], visible
// [B, T] or nil for all → [B, D]. A sample without any gives zeros.
func (t *Tape) LastToken(x *Var, visible *Bytes) *Var {
	need(len(x.Shape) == 3, "LastToken", "[B, T, D]", x.Shape)
	need(visible == nil || len(visible.Data) == x.Shape[0]*x.Shape[1], "LastToken", sprint("flags ", x.Shape[:2]), flagShape(visible))
	o := &lastToken{x: x, visible: visible, y: t.newVar([]int{x.Shape[0], x.Shape[2]}, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

// of is the place of a sample's last visible token; -1: it has none.
func (o *lastToken) of(s int) int {
	n := o.x.Shape[1]
	i := n - 1
	for o.visible != nil && i >= 0 && o.visible.Data[s*n+i] == 0 {
		i--
	}
	return i
}

func (o *lastToken) needs() []*Var         { return nil }
func (o *lastToken) kind() string          { return "tokens" }
func (o *lastToken) flops() (int64, int64) { return 0, 0 }

func (o *lastToken) bind(*Tape) {
	b, n, d := o.x.Shape[0], o.x.Shape[1], o.x.Shape[2]
	o.fwd = rowTask{n: b, f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			y := o.y.Data[s*d : (s+1)*d]
			if i := o.of(s); i >= 0 {
				copy(y, o.x.Data[(s*n+i)*d:(s*n+i+1)*d])
			} else {
				clear(y)
			}
		}
	}}
	o.back = rowTask{n: b, f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			if !o.acc {
				clear(o.x.Grad[s*n*d : (s+1)*n*d])
			}
			if i := o.of(s); i >= 0 {
				give(o.x.Grad[(s*n+i)*d:(s*n+i+1)*d], o.y.Grad[s*d:(s+1)*d], o.acc)
			}
		}
	}}
}

func (o *lastToken) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *lastToken) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.back.run(t.rt)
}
