package tensor

import (
	"sync/atomic"

	"github.com/vlaring/vlaring/internal/kernel"
)

// LowRank is an adapter of a linear layer's weight w [O, I]: what it adds to the
// layer's result has the rank r (LoRA).
//
//	x ──────────── w [O, I] ─────────── + ── act ── y
//	└─ dropout ── A [r, I] ── B [O, r] ─ ·Scale
type LowRank struct {
	A, B    *Param // [r, I], [O, r]
	Scale   float32
	Dropout float32 // of what A sees

	used atomic.Bool // a tape has recorded it
}

// Used says whether any tape has recorded the adapter: one of a parameter that is
// no linear layer's weight never is.
func (l *LowRank) Used() bool { return l.used.Load() }

// Adapters are the parameters that adapt others.
func (s *Params) Adapters() map[*Param]bool {
	of := map[*Param]bool{}
	for _, p := range s.list {
		if p.Low != nil {
			of[p.Low.A], of[p.Low.B] = true, true
		}
	}
	return of
}

// adapted is linear of a weight with an adapter. Each of its parts is an operation
// of its own, in this order; what is added is fused: base + Scale·low.
func (t *Tape) adapted(x *Var, w, b *Param, from, to int, act Activation, dropout float32) *Var {
	a := w.Low
	a.used.Store(true)
	base := t.plain(x, w, b, from, to, None, 0)
	low := t.plain(t.Dropout(x, a.Dropout), a.A, nil, 0, rowsOf(a.A), None, 0) // [.., r]
	low = t.plain(low, a.B, nil, from, to, None, 0)
	return t.Dropout(t.activate(t.AddScaled(base, low, a.Scale), act), dropout)
}

// activation is a function of each element.
type activation struct {
	x, y *Var
	act  Activation
	fwd  rowTask
	back rowTask
	accX bool
}

// activate returns act(x).
func (t *Tape) activate(x *Var, act Activation) *Var {
	if act == None {
		return x
	}
	o := &activation{x: x, act: act, y: t.newVar(x.Shape, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *activation) kind() string          { return "linear" }
func (o *activation) needs() []*Var         { return []*Var{o.x} }
func (o *activation) flops() (int64, int64) { return 0, 0 }

func (o *activation) bind(*Tape) {
	d := o.x.Cols()
	o.fwd = rowTask{n: o.x.Rows(), f: func(lo, hi int, _ *kernel.Workspace) {
		y, x := o.y.Data[lo*d:hi*d], o.x.Data[lo*d:hi*d]
		switch o.act {
		case ReLU:
			for i, v := range x {
				if y[i] = v; v < 0 { // as kernel.Gemm's: NaN stays
					y[i] = 0
				}
			}
		default:
			o.act.apply(y, x)
		}
	}}
	o.back = rowTask{n: o.x.Rows(), f: func(lo, hi int, _ *kernel.Workspace) {
		dy, x := o.y.Grad[lo*d:hi*d], o.x.Data[lo*d:hi*d] // nothing reads dy after this, so it is changed in place
		switch o.act {
		case ReLU:
			kernel.ReLUBackward(dy, x, 1)
		default:
			o.act.back(dy, x)
		}
		give(o.x.Grad[lo*d:hi*d], dy, o.accX)
	}}
}

func (o *activation) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *activation) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.accX = o.x.accumulate()
	o.back.run(t.rt)
}
