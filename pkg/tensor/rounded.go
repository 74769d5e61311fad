package tensor

import (
	"slices"
	"unsafe"

	"github.com/vlaring/vlaring/internal/kernel"
)

// On a tape with products of bfloat16, an activation that products alone read is
// kept as bfloat16: in half the memory, and written and read in half the time.
// Products round what they read anyway, so no bit depends on it.

// roundsResult is an operation that can write its result rounded.
type roundsResult interface{ roundsResult() bool }

// readsRounded is an operation that reads v in products alone, but for what its
// own backward does.
type readsRounded interface{ readsRounded(v *Var) bool }

// roundVars chooses the activations that are kept as bfloat16.
func (t *Tape) roundVars() {
	if !t.bf16 || t.wide {
		return
	}
	for _, v := range t.vars {
		if v.base != nil || v.made < 0 || v.first < 0 || v.result || v.keep {
			continue
		}
		p, ok := t.ops[v.made].(roundsResult)
		v.rounded = ok && p.roundsResult()
		for i, in := range t.ins {
			if !v.rounded || !slices.Contains(in, v) {
				continue
			}
			r, ok := t.ops[i].(readsRounded)
			v.rounded = ok && r.readsRounded(v)
		}
	}
}

// The gradient of such an activation is kept as bfloat16 too where a linear layer
// alone reads what the layer before it makes: what that one does with its gradient
// before its own products, its activation's part and its bias' sum, it does to
// tiles of the product that makes it, while they are in the cache.

// wholeColumns is how many columns a thread needs, at least, of a product whose
// tiles have all rows, because a bias sums them in their order: each thread lays
// all rows out for itself.
const wholeColumns = 8 * kernel.TileCols

// roundGrads chooses the gradients that are kept as bfloat16. The two layers are
// neighbours, so that what a bias is given from elsewhere keeps its place in the sum.
func (t *Tape) roundGrads() {
	for i := 1; i < len(t.ops); i++ {
		m, ok := t.ops[i-1].(*linear)
		r, also := t.ops[i].(*linear)
		if !ok || !also {
			continue
		}
		v := m.y
		if !v.rounded || !v.grad || v.keep || r.x.root() != v || v.first != i || r.x.Cols() != v.Cols() || m.sums() && m.b == r.b {
			continue
		}
		if t.segmentOf(i-1) != t.segmentOf(i) { // what the one is to know is not computed anew yet
			continue
		}
		if m.sums() && v.Cols() < t.columns*t.rt.threads {
			continue
		}
		v.gradRounded, r.into = true, m
	}
}

// sums says whether l's backward sums the gradient of a bias.
func (l *linear) sums() bool { return l.b != nil && !l.b.Frozen }

// begin is what l's backward does before its gradient is received.
func (l *linear) begin() {
	if l.sums() {
		l.accB = l.begun(l.b)
	}
}

// kept is what dropout has multiplied the result by that it kept.
func (l *linear) kept(t *Tape) float32 {
	if l.p > 0 && t.train {
		return l.drop.Scale
	}
	return 1
}

// receive takes tiles of the gradient of y from the product that makes them:
// the activation's part, dropout's and the bias' sum, and rounds.
func (l *linear) receive(t *Tape) func(m0, m1, n0, n1 int, c []float32, row int, ws *kernel.Workspace) {
	out := l.y.Cols()
	return func(m0, m1, n0, n1 int, c []float32, row int, ws *kernel.Workspace) {
		var db []float32
		if l.sums() {
			db = l.b.Grad[l.first+n0 : l.first+n1]
			if m0 == 0 && !l.accB {
				clear(db)
			}
		}
		wide, scale := ws.Floats(n1-n0), l.kept(t)
		for r := m0; r < m1; r++ {
			part, at := c[(r-m0)*row:(r-m0)*row+n1-n0], r*out
			if ahead := at + kernel.FetchRows*out; r+kernel.FetchRows < m1 && l.act.ofInput() {
				kernel.FetchFloats(l.pre[ahead+n0 : ahead+n1])
			} else if r+kernel.FetchRows < m1 && l.act == ReLU {
				kernel.FetchWords(l.y.words[ahead+n0 : ahead+n1])
			}
			switch {
			case l.act.ofInput():
				l.act.back(part, l.pre[at+n0:at+n1])
			case l.act == ReLU:
				kernel.WidenBF16(wide, l.y.words[at+n0:at+n1])
				kernel.ReLUBackward(part, wide, scale)
			}
		}
		kernel.AddRows(db, c, m1-m0, row)
		kernel.RoundRows(l.dyWords[m0*out+n0:], out, c, row, m1-m0, n1-n0)
	}
}

// wordsOf is the memory of x as bfloat16.
func wordsOf(x []float32) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(x))), 2*len(x))
}
