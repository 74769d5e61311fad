package tensor

import (
	"math"

	"github.com/vlaring/vlaring/pkg/tensor/internal/kernel"
)

// Mask says which keys a query may see; True, or 1, is visible. Its parts are
// combined: a key is visible where all of them say so. A query that sees
// nothing gets zeros.
type Mask struct {
	Causal    bool    // keys up to the query's own position
	Keys      *Bytes  // [B, T], per sample; nil: all
	Positions []uint8 // [T·T], query by key, for all samples; nil: all
}

type attention struct {
	qkv, out       *Var
	b, n, heads, d int // n tokens, d width of a head
	queries        int // the first so many tokens ask; n: all
	block          int // queries worked on at a time, about
	mask           Mask
	scale          float32
	drop           kernel.Drop
	p              float32
	site           uint32
	max, sum       []float32 // of each softmax row: [B, H, queries]
	weights        []float32 // [B, H, T, T], if kept
	keep           bool
	fwd, back      rowTask
	acc            bool
	t              *Tape
	gemms          []kernel.Gemm // [B·H] the product that a head is at; here, so that a replay allocates nothing
}

// queryBlock is about how many queries are worked on at a time: their scores
// over all keys stay in L2. Bits do not depend on it: a softmax has its whole
// row, and the gradients of keys and values are chains over the queries that go
// on from block to block.
const queryBlock = 96

// Attention returns multi-head self-attention of qkv [B, T, 3D], the packed
// queries, keys and values of all heads: softmax(q·kᵀ/√(D/heads))·v, [B, T, D].
// Dropout applies to the weights. There is no T×T matrix: a block of queries at
// a time has its weights, and backward computes them anew.
func (t *Tape) Attention(qkv *Var, heads int, mask Mask, dropout float32) *Var {
	need(len(qkv.Shape) == 3, "Attention", "[B, T, 3D]", qkv.Shape)
	return t.AttentionOfFirst(qkv, heads, qkv.Shape[1], mask, dropout)
}

// AttentionOfFirst is Attention whose first queries tokens alone look at the
// others: [B, queries, D], the same bits as the first rows of Attention.
func (t *Tape) AttentionOfFirst(qkv *Var, heads, queries int, mask Mask, dropout float32) *Var {
	need(len(qkv.Shape) == 3 && heads > 0 && qkv.Shape[2]%(3*heads) == 0, "Attention", sprint("[B, T, 3D] with D a multiple of ", heads), qkv.Shape)
	need(dropout >= 0 && dropout < 1, "Attention", "0 ≤ dropout < 1", dropout)
	b, n, w := qkv.Shape[0], qkv.Shape[1], qkv.Shape[2]/3
	if k := mask.Keys; k != nil {
		need(len(k.Shape) == 2 && k.Shape[0] == b && k.Shape[1] == n, "Attention", sprint("a key mask [", b, " ", n, "]"), k.Shape)
	}
	need(mask.Positions == nil || len(mask.Positions) == n*n, "Attention", sprint("a position mask of ", n*n), len(mask.Positions))
	need(queries > 0 && queries <= n, "Attention", sprint("1 to ", n, " queries"), queries)
	a := &attention{qkv: qkv, b: b, n: n, queries: queries, block: queryBlock, heads: heads, d: w / heads, mask: mask, p: dropout, out: t.newVar([]int{b, queries, w}, qkv.root().grad), t: t}
	a.scale = float32(1 / math.Sqrt(float64(a.d)))
	if dropout > 0 {
		a.drop, a.site = kernel.NewDrop(dropout), t.nextDrop()
	}
	t.record(a, a.out, []*Var{qkv})
	return a.out
}

// KeepWeights makes Forward keep the attention weights of an Attention's
// result. Before Seal.
func (t *Tape) KeepWeights(out *Var) {
	a := t.attentionOf(out, "KeepWeights")
	need(a.queries == a.n, "KeepWeights", sprint(a.n, " queries"), a.queries)
	a.keep = true
}

// AttentionWeights returns the weights of the last Forward, [B, H, T, T],
// before dropout: row i of a head says how much query i looks at each key.
func (t *Tape) AttentionWeights(out *Var) []float32 {
	a := t.attentionOf(out, "AttentionWeights")
	need(a.keep, "AttentionWeights", "KeepWeights before Seal", "none")
	return a.weights
}

func (t *Tape) attentionOf(out *Var, op string) *attention {
	if i := out.root().made; i >= 0 && i < len(t.ops) {
		if a, ok := t.ops[i].(*attention); ok {
			return a
		}
	}
	panic(&ShapeError{Op: op, Want: "the result of Attention", Got: sprint(out.Shape)})
}

func (a *attention) kind() string  { return "attention" }
func (a *attention) needs() []*Var { return []*Var{a.qkv} }

func (a *attention) flops() (forward, backward int64) {
	f := 4 * int64(a.b*a.heads*a.queries) * int64(a.n*a.d)
	return f, f / 2 * 5
}

func (a *attention) reserve(*Tape) []reserved {
	rows := a.b * a.heads * a.queries
	r := []reserved{{dst: &a.max, n: rows}, {dst: &a.sum, n: rows}}
	if a.keep {
		r = append(r, reserved{dst: &a.weights, n: rows * a.n, kept: true})
	}
	return r
}

func (a *attention) bind(*Tape) {
	each := func(f func(i int, ws *kernel.Workspace)) rowTask {
		return rowTask{n: a.b * a.heads, f: func(lo, hi int, ws *kernel.Workspace) {
			for i := lo; i < hi; i++ {
				f(i, ws)
			}
		}}
	}
	a.gemms = make([]kernel.Gemm, a.b*a.heads)
	a.fwd, a.back = each(a.head), each(a.headBackward)
}

// headView is one (sample, head) of a matrix of tokens: rows stride apart.
type headView struct {
	x      []float32
	stride int
}

// view returns part (q 0, k 1, v 2) of head i in qkv or its gradient.
func (a *attention) view(x []float32, i, part int) headView {
	w := a.heads * a.d
	return headView{x[i/a.heads*a.n*3*w+part*w+i%a.heads*a.d:], 3 * w}
}

// outView returns head i of the result or its gradient.
func (a *attention) outView(x []float32, i int) headView {
	w := a.heads * a.d
	return headView{x[i/a.heads*a.queries*w+i%a.heads*a.d:], w}
}

// dense copies rows of a head side by side, so that they do not share a few
// sets of the cache.
func (v headView) dense(dst []float32, rows, d int) []float32 {
	for r := range rows {
		copy(dst[r*d:(r+1)*d], v.x[r*v.stride:r*v.stride+d])
	}
	return dst[:rows*d]
}

// keys returns how many keys of a sample there are up to the last visible one,
// and whether one before it is hidden.
func (a *attention) keys(sample int) (n int, holes bool) {
	if a.mask.Keys == nil {
		return a.n, false
	}
	see := a.mask.Keys.Data[sample*a.n : (sample+1)*a.n]
	n = a.n
	for n > 0 && see[n-1] == 0 {
		n--
	}
	for _, s := range see[:n] {
		if s == 0 {
			return n, true
		}
	}
	return n, false
}

// queries is a block of queries of one (sample, head).
type queries struct {
	a      *attention
	i      int // (sample, head)
	lo, hi int // queries
	keys   int // that any of them may see: the first so many
	all    int // visible keys of the sample, up to the last
	holes  bool
}

// end is how many keys query q may see at most.
func (b queries) end(q int) int {
	if b.a.mask.Causal {
		return min(b.all, q+1)
	}
	return b.all
}

// blocks calls f for the blocks of queries of head i, in order.
func (a *attention) blocks(i int, f func(b queries)) {
	b := queries{a: a, i: i}
	b.all, b.holes = a.keys(i / a.heads)
	count := (a.queries + a.block - 1) / a.block
	for k := range count {
		b.lo, b.hi = cut(k, count, a.queries, kernel.TileRows)
		b.keys = b.end(b.hi - 1)
		if b.lo < b.hi {
			f(b)
		}
	}
}

// scores computes the products of queries and keys to s, rows of a.n, and
// hides what the masks hide before a row's end. kt is the keys transposed.
func (b queries) scores(s []float32, q headView, kt []float32, ld int, ws *kernel.Workspace) {
	n := b.a.n
	g := &b.a.gemms[b.i]
	*g = kernel.Gemm{M: b.hi - b.lo, N: b.keys, K: b.a.d, A: q.x[b.lo*q.stride:], ARow: q.stride, ACol: 1, B: kt, BRow: ld, BCol: 1, C: s, CRow: n}
	g.Run(0, g.M, 0, g.N, ws)
	if b.holes {
		sample := b.i / b.a.heads
		b.hide(s, b.a.mask.Keys.Data[sample*n:(sample+1)*n], 0)
	}
	if m := b.a.mask.Positions; m != nil {
		b.hide(s, m[b.lo*n:], n)
	}
}

// hide puts -Inf where see, whose rows lie stride apart, is 0.
func (b queries) hide(s []float32, see []uint8, stride int) {
	hidden := float32(math.Inf(-1))
	for r := range b.hi - b.lo {
		row := s[r*b.a.n:]
		for k, v := range see[r*stride : r*stride+b.keys] {
			if v == 0 {
				row[k] = hidden
			}
		}
	}
}

// dropWeights applies the dropout to rows of weights; element (head, q, k) of a
// sample's stream belongs to weight (q, k).
func (b queries) dropWeights(dst, src []float32) {
	a := b.a
	n := a.n
	s, first := a.t.stream(a.site, b.i/a.heads), uint32(b.i%a.heads*n*n+b.lo*n)
	if b.keys == n {
		rows := (b.hi - b.lo) * n
		a.drop.Apply(dst[:rows], src[:rows], s, first)
		return
	}
	for r := range b.hi - b.lo {
		a.drop.Apply(dst[r*n:r*n+b.keys], src[r*n:r*n+b.keys], s, first+uint32(r*n))
	}
}

func (a *attention) drops() bool { return a.p > 0 && a.t.train }

// transposed is the floats that Transpose of n rows of d needs, and its ld.
func transposed(n, d int) (floats, ld int) {
	ld = (n + 15) &^ 15
	return d * ld, ld
}

func (a *attention) head(i int, ws *kernel.Workspace) {
	n, d := a.n, a.d
	size, ld := transposed(n, d)
	rows := min(a.queries, a.block+kernel.TileRows)
	buf := carver{ws.Floats(align(size) + align(n*d) + align(rows*n))}
	kt, v, s := buf.take(size), buf.take(n*d), buf.take(rows*n)
	q, k, out := a.view(a.qkv.Data, i, 0), a.view(a.qkv.Data, i, 1), a.outView(a.out.Data, i)
	kernel.Transpose(kt, ld, k.x, k.stride, n, d, ws)
	v = a.view(a.qkv.Data, i, 2).dense(v, n, d)
	a.blocks(i, func(b queries) {
		b.scores(s, q, kt, ld, ws)
		for r := range b.hi - b.lo {
			at, end := i*a.queries+b.lo+r, b.end(b.lo+r)
			row := s[r*n : r*n+b.keys]
			a.max[at], a.sum[at] = kernel.SoftmaxRow(row[:end], a.scale)
			clear(row[end:])
			if a.keep {
				w := a.weights[at*n : (at+1)*n]
				copy(w, row)
				clear(w[len(row):])
			}
		}
		if a.drops() {
			b.dropWeights(s, s)
		}
		g := &b.a.gemms[b.i]
		*g = kernel.Gemm{M: b.hi - b.lo, N: d, K: b.keys, A: s, ARow: n, ACol: 1, B: v, BRow: d, BCol: 1, C: out.x[b.lo*out.stride:], CRow: out.stride}
		g.Run(0, g.M, 0, d, ws)
	})
}

// carver cuts pieces, each on a cache line, off a buffer.
type carver struct{ left []float32 }

func (c *carver) take(n int) []float32 {
	x := c.left[:n]
	c.left = c.left[align(n):]
	return x
}

func (a *attention) headBackward(i int, ws *kernel.Workspace) {
	n, d := a.n, a.d
	size, ld := transposed(n, d)
	rows := min(a.queries, a.block+kernel.TileRows)
	buf := carver{ws.Floats(2*align(size) + align(n*d) + 2*align(a.queries*d) + 3*align(rows*n))}
	kt, vt, k := buf.take(size), buf.take(size), buf.take(n*d)
	q, do := buf.take(a.queries*d), buf.take(a.queries*d)
	p, dropped, dp := buf.take(rows*n), buf.take(rows*n), buf.take(rows*n)
	kv, vv := a.view(a.qkv.Data, i, 1), a.view(a.qkv.Data, i, 2)
	kernel.Transpose(kt, ld, kv.x, kv.stride, n, d, ws)
	kernel.Transpose(vt, ld, vv.x, vv.stride, n, d, ws)
	k = kv.dense(k, n, d)
	q = a.view(a.qkv.Data, i, 0).dense(q, a.queries, d)
	do = a.outView(a.out.Grad, i).dense(do, a.queries, d)
	dq, dk, dv := a.view(a.qkv.Grad, i, 0), a.view(a.qkv.Grad, i, 1), a.view(a.qkv.Grad, i, 2)
	if !a.acc { // what no block reaches, and what the chains begin at
		for r := range n {
			clear(dk.x[r*dk.stride : r*dk.stride+d])
			clear(dv.x[r*dv.stride : r*dv.stride+d])
			if r >= a.queries {
				clear(dq.x[r*dq.stride : r*dq.stride+d])
			}
		}
	}
	a.blocks(i, func(b queries) {
		m := b.hi - b.lo
		b.scores(p, headView{q, d}, kt, ld, ws)
		g := &b.a.gemms[b.i]
		*g = kernel.Gemm{M: m, N: b.keys, K: d, A: do[b.lo*d:], ARow: d, ACol: 1, B: vt, BRow: ld, BCol: 1, C: dp, CRow: n}
		g.Run(0, m, 0, b.keys, ws)
		for r := range m {
			at, end := i*a.queries+b.lo+r, b.end(b.lo+r)
			row := p[r*n : r*n+b.keys]
			kernel.SoftmaxAgain(row[:end], a.scale, a.max[at], a.sum[at])
			clear(row[end:])
		}
		w := p
		if a.drops() {
			w = dropped
			b.dropWeights(w, p)
			b.dropWeights(dp, dp)
		}
		*g = kernel.Gemm{M: b.keys, N: d, K: m, A: w, ARow: 1, ACol: n, B: do[b.lo*d:], BRow: d, BCol: 1, C: dv.x, CRow: dv.stride, Acc: true}
		g.Run(0, b.keys, 0, d, ws)
		for r := range m {
			end := b.end(b.lo + r)
			kernel.SoftmaxBack(p[r*n:r*n+end], dp[r*n:r*n+end], a.scale)
			clear(dp[r*n+end : r*n+b.keys])
		}
		*g = kernel.Gemm{M: m, N: d, K: b.keys, A: dp, ARow: n, ACol: 1, B: k, BRow: d, BCol: 1, C: dq.x[b.lo*dq.stride:], CRow: dq.stride, Acc: a.acc}
		g.Run(0, m, 0, d, ws)
		*g = kernel.Gemm{M: b.keys, N: d, K: m, A: dp, ARow: 1, ACol: n, B: q[b.lo*d:], BRow: d, BCol: 1, C: dk.x, CRow: dk.stride, Acc: true}
		g.Run(0, b.keys, 0, d, ws)
	})
}

func (a *attention) forward(t *Tape) { a.fwd.run(t.rt) }

func (a *attention) backward(t *Tape) {
	if !a.out.root().written || !a.qkv.root().grad {
		return
	}
	a.acc = a.qkv.accumulate()
	a.back.run(t.rt)
}
