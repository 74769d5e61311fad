package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// Activation is a function fused behind a linear layer.
type Activation int

const (
	None Activation = iota
	ReLU
	GELU // PyTorch's tanh approximation
)

type linear struct {
	x, y      *Var
	w, b      *Param
	act       Activation
	p         float32
	drop      kernel.Drop
	site      uint32
	perSample int       // rows of a sample
	pre       []float32 // before GELU

	fwd, dx, dw product
	actBack     rowTask    // GELU
	actBias     columnTask // ReLU, dropout and the bias' gradient
	db          columnTask
	group       together
	accB        bool
}

// Linear returns act(x·wᵀ + b): x [.., I], w [O, I], b [O] or nil → [.., O].
func (t *Tape) Linear(x *Var, w, b *Param, act Activation) *Var {
	return t.linear(x, w, b, act, 0)
}

// LinearDrop returns dropout(relu(x·wᵀ + b)), as Dropout of a Linear would, in
// less memory: what is 0 in the result needs no gradient, for one reason or the
// other.
func (t *Tape) LinearDrop(x *Var, w, b *Param, dropout float32) *Var {
	need(dropout >= 0 && dropout < 1, "LinearDrop", "0 ≤ dropout < 1", dropout)
	return t.linear(x, w, b, ReLU, dropout)
}

func (t *Tape) linear(x *Var, w, b *Param, act Activation, dropout float32) *Var {
	need(len(w.Shape) == 2 && w.Shape[1] == x.Cols(), "Linear", sprint("w [O, ", x.Cols(), "]"), w.Name, w.Shape)
	need(b == nil || len(b.Shape) == 1 && b.Shape[0] == w.Shape[0], "Linear", sprint("b [", w.Shape[0], "]"), paramShape(b))
	shape := append(append([]int{}, x.Shape[:len(x.Shape)-1]...), w.Shape[0])
	l := &linear{x: x, w: w, b: b, act: act, p: dropout, y: t.newVar(shape, true)}
	if dropout > 0 {
		l.drop, l.site = kernel.NewDrop(dropout), t.nextDrop()
	}
	t.record(l, l.y, []*Var{x}, w, b)
	return l.y
}

func (l *linear) kind() string { return "linear" }

func (l *linear) flops() (forward, backward int64) {
	f := 2 * int64(l.x.Rows()) * int64(l.x.Cols()) * int64(l.y.Cols())
	if l.x.root().grad {
		return f, 2 * f
	}
	return f, f
}

func (l *linear) needs() []*Var {
	if l.act == ReLU {
		return []*Var{l.x, l.y}
	}
	return []*Var{l.x}
}

func (l *linear) reserve(*Tape) []reserved {
	if l.act == GELU {
		return []reserved{{dst: &l.pre, n: l.y.Size()}}
	}
	return nil
}

func (l *linear) bind(t *Tape) {
	n, in, out := l.x.Rows(), l.x.Cols(), l.y.Cols()
	l.perSample = n / l.x.Shape[0]
	x, y, dy := l.x.Data, l.y.Data, l.y.Grad
	l.fwd.g = kernel.Gemm{M: n, N: out, K: in, A: x, ARow: in, ACol: 1, B: l.w.Value, BRow: 1, BCol: in, C: y, CRow: out, ReLU: l.act == ReLU}
	if l.act == GELU {
		l.fwd.g.C = l.pre
		l.fwd.g.Then = func(m0, m1, n0, n1 int) {
			for r := m0; r < m1; r++ {
				kernel.GELU(y[r*out+n0:r*out+n1], l.pre[r*out+n0:r*out+n1])
			}
		}
	}
	if l.p > 0 {
		l.fwd.g.Then = func(m0, m1, n0, n1 int) {
			for r := m0; r < m1 && t.train; r++ {
				part := y[r*out+n0 : r*out+n1]
				l.drop.Apply(part, part, t.stream(l.site, r/l.perSample), uint32(r%l.perSample*out+n0))
			}
		}
	}
	if l.b != nil {
		l.fwd.g.Bias = l.b.Value
	}
	l.dx.g = kernel.Gemm{M: n, N: in, K: out, A: dy, ARow: out, ACol: 1, B: l.w.Value, BRow: in, BCol: 1, C: l.x.Grad, CRow: in}
	l.dw.g = kernel.Gemm{M: out, N: in, K: n, A: dy, ARow: 1, ACol: out, B: x, BRow: in, BCol: 1, CRow: in}
	scale := func() float32 {
		if l.p > 0 && t.train {
			return l.drop.Scale
		}
		return 1
	}
	l.actBack = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		if l.act == GELU {
			kernel.GELUBackward(dy[lo*out:hi*out], l.pre[lo*out:hi*out])
		} else {
			kernel.ReLUBackward(dy[lo*out:hi*out], y[lo*out:hi*out], scale())
		}
	}}
	l.actBias = columnTask{n: out, f: func(lo, hi int, _ *kernel.Workspace) {
		if !l.accB {
			clear(l.b.Grad[lo:hi])
		}
		kernel.ReLURows(l.b.Grad[lo:hi], dy[lo:], y[lo:], n, out, scale())
	}}
	l.db = columnTask{n: out, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(l.b.Grad, dy, n, out, lo, hi, l.accB) }}
}

func (l *linear) forward(t *Tape) { l.fwd.run(t.rt) }

func (l *linear) backward(t *Tape) {
	if !l.y.root().written {
		return
	}
	if l.b != nil {
		l.accB = l.b.accumulate()
	}
	// nothing reads dy after this, so it is changed in place
	bias := l.b != nil
	switch {
	case l.act == ReLU && bias:
		l.actBias.run(t.rt)
		bias = false
	case l.act != None:
		l.actBack.run(t.rt)
	}
	l.dw.g.C, l.dw.g.Acc = l.w.Grad, l.w.accumulate()
	if l.x.root().grad {
		l.dx.g.Acc = l.x.accumulate()
	}
	switch { // none of these waits for another
	case l.x.root().grad && bias:
		l.group.run(t.rt, &l.db, &l.dx, &l.dw)
	case l.x.root().grad:
		l.group.run(t.rt, &l.dx, &l.dw)
	case bias:
		l.group.run(t.rt, &l.db, &l.dw)
	default:
		l.dw.run(t.rt)
	}
}
