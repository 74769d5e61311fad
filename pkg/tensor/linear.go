package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type linear struct {
	x, y      *Var
	w, b      *Param
	first     int // row of w, and element of b, that y's columns begin at
	act       Activation
	p         float32
	drop      kernel.Drop
	site      uint32
	perSample int       // rows of a sample
	pre       []float32 // before an activation that wants its input

	fwd, dx, dw product
	actBack     rowTask    // an activation
	actBias     columnTask // ReLU, dropout and the bias' gradient
	db          columnTask
	group       together
	accB        bool
	tiles       *weightTiles // of w's rows, laid out once; nil: each time

	addend  *Var     // is added to the result, which is the sum's then: see joinResiduals
	into    *linear  // what made x, where the gradient of x goes there rounded
	dyWords []uint16 // the gradient of y, where it comes so
}

// Linear returns act(x·wᵀ + b): x [.., I], w [O, I], b [O] or nil → [.., O].
func (t *Tape) Linear(x *Var, w, b *Param, act Activation) *Var {
	return t.linear(x, w, b, 0, rowsOf(w), act, 0)
}

// LinearRows is Linear with rows [from, to) of w and elements [from, to) of b
// alone: a part of a packed projection → [.., to-from].
func (t *Tape) LinearRows(x *Var, w, b *Param, from, to int) *Var {
	need(0 <= from && from < to && to <= rowsOf(w), "LinearRows", sprint("rows within ", w.Shape), from, to)
	return t.linear(x, w, b, from, to, None, 0)
}

func rowsOf(w *Param) int { return w.Shape[0] }

// LinearDrop returns dropout(relu(x·wᵀ + b)), as Dropout of a Linear would, in
// less memory: what is 0 in the result needs no gradient, for one reason or the
// other.
func (t *Tape) LinearDrop(x *Var, w, b *Param, dropout float32) *Var {
	need(dropout >= 0 && dropout < 1, "LinearDrop", "0 ≤ dropout < 1", dropout)
	return t.linear(x, w, b, 0, rowsOf(w), ReLU, dropout)
}

func (t *Tape) linear(x *Var, w, b *Param, from, to int, act Activation, dropout float32) *Var {
	if w.Low != nil {
		return t.adapted(x, w, b, from, to, act, dropout)
	}
	return t.plain(x, w, b, from, to, act, dropout)
}

// plain is linear without an adapter.
func (t *Tape) plain(x *Var, w, b *Param, from, to int, act Activation, dropout float32) *Var {
	need(len(w.Shape) == 2 && w.Shape[1] == x.Cols(), "Linear", sprint("w [O, ", x.Cols(), "]"), w.Name, w.Shape)
	need(b == nil || len(b.Shape) == 1 && b.Shape[0] == w.Shape[0], "Linear", sprint("b [", w.Shape[0], "]"), paramShape(b))
	shape := append(append([]int{}, x.Shape[:len(x.Shape)-1]...), to-from)
	l := &linear{x: x, w: w, b: b, first: from, act: act, p: dropout, y: t.newVar(shape, true)}
	if dropout > 0 {
		l.drop, l.site = kernel.NewDrop(dropout), t.nextDrop()
	}
	t.record(l, l.y, []*Var{x}, w, b)
	return l.y
}

func (l *linear) kind() string { return "linear" }

func (l *linear) roundsResult() bool     { return true }
func (l *linear) readsRounded(*Var) bool { return true }

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

func (l *linear) reserve(t *Tape) []reserved {
	if l.act.ofInput() && !t.forward {
		return []reserved{{dst: &l.pre, n: l.y.Size()}}
	}
	return nil
}

func (l *linear) bind(t *Tape) {
	n, in, out := l.x.Rows(), l.x.Cols(), l.y.Cols()
	l.perSample = n / l.x.Shape[0]
	x, y, dy, w := l.x.Data, l.y.Data, l.y.Grad, l.w.Value[l.first*in:]
	l.fwd.g = kernel.Gemm{M: n, N: out, K: in, A: x, AWords: l.x.words, ARow: in, ACol: 1, B: w, BRow: 1, BCol: in, C: y, CRow: out, ReLU: l.act == ReLU, BF16: t.bf16}
	if words := l.y.words; words != nil {
		l.fwd.g.Out = func(m0, m1, n0, n1 int, c []float32, row int, _ *kernel.Workspace) {
			if l.pre != nil {
				t.store(l.pre[m0*out+n0:], out, c, row, m1-m0, n1-n0)
			}
			each := row // at a time
			if l.act.ofInput() && row == n1-n0 {
				each *= m1 - m0
			}
			for at := 0; at < (m1-m0)*row && l.act.ofInput(); at += each {
				part := c[at : at+each-row+n1-n0]
				l.act.apply(part, part)
			}
			for r := m0; r < m1 && l.p > 0 && t.train; r++ {
				part := c[(r-m0)*row : (r-m0)*row+n1-n0]
				l.drop.Apply(part, part, t.stream(l.site, r/l.perSample), uint32(r%l.perSample*out+n0))
			}
			kernel.RoundRows(words[m0*out+n0:], out, c, row, m1-m0, n1-n0)
		}
	} else if l.act.ofInput() {
		pre := y // nobody asks for its derivative
		if l.pre != nil {
			pre = l.pre
		}
		l.fwd.g.C = pre
		l.fwd.g.Then = func(m0, m1, n0, n1 int) {
			for r := m0; r < m1; r++ {
				l.act.apply(y[r*out+n0:r*out+n1], pre[r*out+n0:r*out+n1])
			}
		}
	} else if l.addend != nil && t.bf16 {
		l.fwd.g.Out = func(m0, m1, n0, n1 int, c []float32, row int, _ *kernel.Workspace) {
			for r := m0; r < m1; r++ {
				if ahead := r + kernel.FetchRows; ahead < m1 {
					kernel.FetchFloats(l.addend.Data[ahead*out+n0 : ahead*out+n1])
					kernel.FetchFloats(y[ahead*out+n0 : ahead*out+n1])
				}
				kernel.Add(y[r*out+n0:r*out+n1], l.addend.Data[r*out+n0:r*out+n1], c[(r-m0)*row:])
			}
		}
	} else if l.addend != nil {
		l.fwd.g.Then = func(m0, m1, n0, n1 int) {
			for r := m0; r < m1; r++ {
				part := y[r*out+n0 : r*out+n1]
				kernel.Add(part, l.addend.Data[r*out+n0:r*out+n1], part)
			}
		}
	} else if l.p > 0 {
		l.fwd.g.Then = func(m0, m1, n0, n1 int) {
			for r := m0; r < m1 && t.train; r++ {
				part := y[r*out+n0 : r*out+n1]
				l.drop.Apply(part, part, t.stream(l.site, r/l.perSample), uint32(r%l.perSample*out+n0))
			}
		}
	}
	if l.b != nil {
		l.fwd.g.Bias = l.b.Value[l.first:]
	}
	if t.settled && t.bf16 {
		l.tiles = t.ps.tilesOf(l.w, l.first, out)
	}
	l.dx.g = kernel.Gemm{M: n, N: in, K: out, A: dy, AWords: l.dyWords, ARow: out, ACol: 1, B: w, BRow: in, BCol: 1, C: l.x.Grad, CRow: in, BF16: t.bf16}
	l.dw.g = kernel.Gemm{M: out, N: in, K: n, A: dy, AWords: l.dyWords, ARow: 1, ACol: out, B: x, BWords: l.x.words, BRow: in, BCol: 1, CRow: in, BF16: t.bf16}
	l.dw.g.Stream = 4*t.ps.Len() > t.past
	if m := l.into; m != nil {
		l.dx.g.Out, l.dx.whole = m.receive(t), m.sums()
	}
	scale := func() float32 { return l.kept(t) }
	l.actBack = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		switch {
		case l.act.ofInput():
			l.act.back(dy[lo*out:hi*out], l.pre[lo*out:hi*out])
		case l.y.words == nil:
			kernel.ReLUBackward(dy[lo*out:hi*out], y[lo*out:hi*out], scale())
		default:
			wide := ws.Floats(out)
			for r := lo; r < hi; r++ {
				kernel.WidenBF16(wide, l.y.words[r*out:(r+1)*out])
				kernel.ReLUBackward(dy[r*out:(r+1)*out], wide, scale())
			}
		}
	}}
	l.actBias = columnTask{n: out, f: func(lo, hi int, ws *kernel.Workspace) {
		db := l.b.Grad[l.first:]
		if !l.accB {
			clear(db[lo:hi])
		}
		if l.y.words == nil {
			kernel.ReLURows(db[lo:hi], dy[lo:], y[lo:], n, out, scale())
			return
		}
		wide := ws.Floats(hi - lo)
		for r := range n {
			kernel.WidenBF16(wide, l.y.words[r*out+lo:r*out+hi])
			kernel.ReLURows(db[lo:hi], dy[r*out+lo:], wide, 1, out, scale())
		}
	}}
	l.db = columnTask{n: out, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(l.b.Grad[l.first:], dy, n, out, lo, hi, l.accB) }}
}

func (l *linear) forward(t *Tape) {
	if l.tiles != nil {
		l.fwd.g.BTiles = l.tiles.of(t.rt, &l.fwd.g)
	}
	l.fwd.run(t.rt)
}

func (l *linear) backward(t *Tape) {
	if !l.y.root().written {
		return
	}
	if l.into != nil {
		l.into.begin()
	}
	// nothing reads dy after this, so it is changed in place
	bias := l.sums() && l.dyWords == nil
	if bias {
		l.accB = l.begun(l.b)
	}
	switch {
	case l.dyWords != nil: // it has been received
	case l.act == ReLU && bias:
		l.actBias.run(t.rt)
		bias = false
	case l.act != None:
		l.actBack.run(t.rt)
	}
	if !l.w.Frozen {
		acc := l.begun(l.w)
		l.dw.g.C, l.dw.g.Acc = l.w.Grad[l.first*l.x.Cols():], acc
	}
	if l.x.root().grad {
		l.dx.g.Acc = l.x.accumulate()
	}
	switch { // none of these waits for another
	case l.w.Frozen: // nobody wants its gradient
		if bias {
			l.db.run(t.rt)
		}
		if l.x.root().grad {
			l.dx.run(t.rt)
		}
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

// begun is p.accumulate, where of the rows some may be others' to write: then
// the first to come begins all of them.
func (l *linear) begun(p *Param) bool {
	if l.y.Cols() == rowsOf(p) || p.written {
		return p.accumulate()
	}
	clear(p.Grad)
	p.written = true
	return true
}
