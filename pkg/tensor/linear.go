package tensor

import "github.com/vlaring/vlaring/pkg/tensor/internal/kernel"

// Activation is a function fused behind a linear layer.
type Activation int

const (
	None Activation = iota
	ReLU
	GELU // PyTorch's tanh approximation
)

type linear struct {
	x, y *Var
	w, b *Param
	act  Activation
	pre  []float32 // before GELU

	fwd, dx, dw product
	actBack     rowTask
	actFwd      rowTask
	db          columnTask
	dbAcc       bool
}

// Linear returns act(x·wᵀ + b): x [.., I], w [O, I], b [O] or nil → [.., O].
func (t *Tape) Linear(x *Var, w, b *Param, act Activation) *Var {
	need(len(w.Shape) == 2 && w.Shape[1] == x.Cols(), "Linear", sprint("w [O, ", x.Cols(), "]"), w.Name, w.Shape)
	need(b == nil || len(b.Shape) == 1 && b.Shape[0] == w.Shape[0], "Linear", sprint("b [", w.Shape[0], "]"), paramShape(b))
	shape := append(append([]int{}, x.Shape[:len(x.Shape)-1]...), w.Shape[0])
	l := &linear{x: x, w: w, b: b, act: act, y: t.newVar(shape, true)}
	t.record(l, l.y, []*Var{x}, w, b)
	return l.y
}

func (l *linear) bind(t *Tape) {
	n, in, out := l.x.Rows(), l.x.Cols(), l.y.Cols()
	x, y := l.x.Data, l.y.Data
	if l.act == GELU {
		var r *region
		l.pre, r = floats(len(y))
		t.memory = append(t.memory, r)
	}
	l.fwd.g = kernel.Gemm{M: n, N: out, K: in, A: x, ARow: in, ACol: 1, B: l.w.Value, BRow: 1, BCol: in, C: y, CRow: out, ReLU: l.act == ReLU}
	if l.act == GELU {
		l.fwd.g.C = l.pre
	}
	if l.b != nil {
		l.fwd.g.Bias = l.b.Value
	}
	dy := l.y.Grad
	l.dx.g = kernel.Gemm{M: n, N: in, K: out, A: dy, ARow: out, ACol: 1, B: l.w.Value, BRow: in, BCol: 1, C: l.x.Grad, CRow: in}
	l.dw.g = kernel.Gemm{M: out, N: in, K: n, A: dy, ARow: 1, ACol: out, B: x, BRow: in, BCol: 1, CRow: in}
	l.actFwd = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) { kernel.GELU(y[lo*out:hi*out], l.pre[lo*out:hi*out]) }}
	l.actBack = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		if l.act == ReLU {
			kernel.ReLUBackward(dy[lo*out:hi*out], y[lo*out:hi*out], 1)
		} else {
			kernel.GELUBackward(dy[lo*out:hi*out], l.pre[lo*out:hi*out])
		}
	}}
	l.db = columnTask{n: out, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(l.b.Grad, dy, n, out, lo, hi, l.dbAcc) }}
}

func (l *linear) forward(t *Tape) {
	l.fwd.run(t.rt)
	if l.act == GELU {
		l.actFwd.run(t.rt)
	}
}

func (l *linear) backward(t *Tape) {
	if !l.y.root().written {
		return
	}
	if l.act != None { // nothing reads dy after this, so it is changed in place
		l.actBack.run(t.rt)
	}
	if l.x.root().grad {
		l.dx.g.Acc = l.x.accumulate()
		l.dx.run(t.rt)
	}
	l.dw.g.C, l.dw.g.Acc = l.w.Grad, l.w.accumulate()
	l.dw.run(t.rt)
	if l.b != nil {
		l.dbAcc = l.b.accumulate()
		l.db.run(t.rt)
	}
}
