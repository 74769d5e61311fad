package tensor

import (
	"math"

	"github.com/vlaring/vlaring/internal/kernel"
)

type attention struct {
	q, k, v, y     operand
	b, n, heads, d int // n keys, d width of a head
	queries        int // the first so many of q's tokens ask
	bf16           bool
	block, unit    int // queries worked on at a time, about, and a multiple of what
	slots          int // the first neighbour's slot is a multiple of it
	mask           Mask
	anchors        []int     // keys that everyone sees, kept apart
	scale          float32   // of the scores; 0: 1/√d
	relative       *relative // bias of the scores; nil: none
	drop           kernel.Drop
	p              float32
	site           uint32
	max, sum       []float32 // of each softmax row: [B, H, queries]
	weights        []float32 // [B, H, queries, n], if kept
	keep           bool
	fwd, back      rowTask
	accQ, accKV    bool
	t              *Tape
	gemms          []kernel.Gemm // [B·H] the product that a head is at; here, so that a replay allocates nothing
}

// operand is where an attention has its queries, keys, values or result: columns
// of v [B, tokens, _] from the first on, head by head.
type operand struct {
	v      *Var
	tokens int // of a sample
	first  int
}

// queryBlock is about how many queries are worked on at a time: their scores
// over all keys stay in L2. Bits do not depend on it: a softmax has its whole
// row, and the gradients of keys and values are chains over the queries that go
// on from block to block.
const queryBlock = 96

// With products of bfloat16 a block is so many queries: their products are quick,
// and what is packed for them is packed again for each block. Blocks are cut in
// units of the steps that a product sums at a time, so that the chains over the
// queries do not depend on them either.
const (
	wideBlock = 256
	wideUnit  = 32
)

// Attention of fewer multiply-adds than this, queries × keys × the width of a
// head, has products of float32 on a tape of bfloat16 too: to round and lay its
// operands out takes longer than to multiply them. It depends on the shapes of the
// whole attention alone, not on how many of its queries are asked for.
const roundedAttention = 1 << 16

// Attention returns multi-head self-attention of qkv [B, T, 3D], the packed
// queries, keys and values of all heads: softmax(q·kᵀ/√(D/heads))·v, [B, T, D].
// Dropout applies to the weights. There is no T×T matrix: a block of queries at
// a time has its weights, and backward computes them anew.
//
// A row of a block has the keys that everyone sees, gathered, and then a run of
// neighbours; slots that are no key of this query's hold -Inf, and weigh 0.
//
//	slot   0 … anchors   … base               base+keys-from
//	key    anchors[i]    –    from … anchors hidden … keys
//
// base and from are multiples of 16, so that which of a row sum's lanes a key
// falls into does not depend on its block, and from is one of 32 with products of
// bfloat16, which sum so many keys at a time; without anchors it is the lane that
// a full row has it in, and a windowed attention has the bits of a full one
// under the same mask.
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
	need(mask.Window >= 0 && mask.Stride >= 0 && mask.Global >= 0 && (mask.Window > 0 || mask.Stride+mask.Global == 0), "Attention",
		"a window of at least 1 beside a stride or global tokens", mask.Window, mask.Stride, mask.Global)
	a := &attention{q: operand{qkv, n, 0}, k: operand{qkv, n, w}, v: operand{qkv, n, 2 * w}, b: b, n: n, queries: queries, heads: heads, d: w / heads, mask: mask, p: dropout}
	return t.attend(a)
}

// CrossAttention is Attention of tokens that look at others: queries q [B, L, D],
// and kv [B, T, 2D], the packed keys and values of what they look at → [B, L, D].
// keys [B, T] says which of that is visible; nil: all.
func (t *Tape) CrossAttention(q, kv *Var, heads int, keys *Bytes, dropout float32) *Var {
	need(len(q.Shape) == 3 && heads > 0 && q.Shape[2]%heads == 0, "CrossAttention", sprint("q [B, L, D] with D a multiple of ", heads), q.Shape)
	b, l, w := q.Shape[0], q.Shape[1], q.Shape[2]
	need(len(kv.Shape) == 3 && kv.Shape[0] == b && kv.Shape[2] == 2*w, "CrossAttention", sprint("kv [", b, " T ", 2*w, "]"), kv.Shape)
	n := kv.Shape[1]
	need(keys == nil || len(keys.Shape) == 2 && keys.Shape[0] == b && keys.Shape[1] == n, "CrossAttention", sprint("a key mask [", b, " ", n, "]"), flagShape(keys))
	need(dropout >= 0 && dropout < 1, "CrossAttention", "0 ≤ dropout < 1", dropout)
	return t.attend(&attention{q: operand{q, l, 0}, k: operand{kv, n, 0}, v: operand{kv, n, w}, b: b, n: n, queries: l, heads: heads, d: w / heads, mask: Mask{Keys: keys}, p: dropout})
}

// attend records a, whose shapes and masks have been checked.
func (t *Tape) attend(a *attention) *Var {
	y := t.newVar([]int{a.b, a.queries, a.heads * a.d}, a.relative != nil || a.q.v.root().grad || a.k.v.root().grad)
	a.y, a.block, a.unit, a.slots, a.t = operand{y, a.queries, 0}, queryBlock, kernel.TileRows, lanes, t
	if a.bf16 = t.bf16 && a.q.tokens*a.n*a.d >= roundedAttention; a.bf16 {
		a.block, a.unit, a.slots = wideBlock, wideUnit, wideUnit
	}
	a.anchors = a.mask.anchors(a.n)
	if a.scale == 0 {
		a.scale = float32(1 / math.Sqrt(float64(a.d)))
	}
	if a.p > 0 {
		a.drop, a.site = kernel.NewDrop(a.p), t.nextDrop()
	}
	var table *Param
	if a.relative != nil {
		table = a.relative.table
	}
	t.record(a, y, a.needs(), table)
	return y
}

// KeepWeights makes Forward keep the attention weights of an Attention's
// result. Before Seal.
func (t *Tape) KeepWeights(out *Var) {
	a := t.attentionOf(out, "KeepWeights")
	need(a.queries == a.q.tokens, "KeepWeights", sprint(a.q.tokens, " queries"), a.queries)
	a.keep = true
}

// AttentionWeights returns the weights of the last Forward, [B, H, T, T], or
// [B, H, L, T] of a CrossAttention, before dropout: row i of a head says how much
// query i looks at each key.
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

func (a *attention) roundsResult() bool     { return true }
func (a *attention) readsRounded(*Var) bool { return a.bf16 }

func (a *attention) kind() string { return "attention" }
func (a *attention) needs() []*Var {
	if a.q.v == a.k.v {
		return []*Var{a.q.v}
	}
	return []*Var{a.q.v, a.k.v}
}

func (a *attention) flops() (forward, backward int64) {
	seen := 0
	for q := range a.queries {
		seen += a.mask.end(q, a.n) - a.mask.begin(q) + len(a.anchors)
	}
	if a.mask.Window == 0 { // what is hidden without a window is computed all the same, or not by much
		seen = a.queries * a.n
	}
	f := 4 * int64(a.b*a.heads*seen) * int64(a.d)
	return f, f / 2 * 5
}

func (a *attention) reserve(*Tape) []reserved {
	rows := a.b * a.heads * a.queries
	r := []reserved{{dst: &a.max, n: rows}, {dst: &a.sum, n: rows}}
	if a.relative != nil {
		r = append(r, reserved{dst: &a.relative.partial, n: a.b * a.heads * a.relative.table.Shape[0], back: true})
	}
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

func (a *attention) drops() bool { return a.p > 0 && a.t.train }

// transposed is the floats that Transpose of n rows of d needs, and its ld.
func transposed(n, d int) (floats, ld int) {
	ld = (n + 15) &^ 15
	return d * ld, ld
}

// transpose makes the rows of keys or values in x ready to be multiplied with,
// transposed; a product of bfloat16 lays them out itself.
func (a *attention) transpose(buf *carver, x headView, ws *kernel.Workspace) (r headRows) {
	if a.bf16 {
		return a.sideBySide(buf, x)
	}
	size, ld := transposed(a.n, a.d)
	r.x, r.key, r.dim = buf.take(size), 1, ld
	kernel.Transpose(r.x, ld, x.x, x.stride, a.n, a.d, ws)
	if len(a.anchors) > 0 {
		size, lda := transposed(len(a.anchors), a.d)
		r.anchor, r.keyA, r.dimA = buf.take(size), 1, lda
		for j := range a.d {
			for i, k := range a.anchors {
				r.anchor[j*lda+i] = x.x[k*x.stride+j]
			}
		}
	}
	return r
}

// sideBySide makes the rows of keys or values in x lie side by side, where that helps.
func (a *attention) sideBySide(buf *carver, x headView) (r headRows) {
	r.x, r.words, r.key, r.dim = x.x, x.words, x.stride, 1
	if !a.bf16 {
		r.x, r.key = x.dense(buf.take(a.n*a.d), a.n, a.d), a.d
	}
	if len(a.anchors) > 0 {
		r.anchor, r.keyA, r.dimA = a.collect(buf.take(len(a.anchors)*a.d), x), a.d, 1
	}
	return r
}

// collect copies the anchors' rows of x to dst.
func (a *attention) collect(dst []float32, x headView) []float32 {
	for i, k := range a.anchors {
		if row := x.row(k); row.words != nil {
			kernel.WidenBF16(dst[i*a.d:(i+1)*a.d], row.words[:a.d])
		} else {
			copy(dst[i*a.d:(i+1)*a.d], row.x)
		}
	}
	return dst
}

// sizes returns the floats of a transpose and of rows side by side.
func (a *attention) sizes() (turned, beside int) {
	size, _ := transposed(a.n, a.d)
	sizeA, _ := transposed(len(a.anchors), a.d)
	return align(size) + align(sizeA), align(a.n*a.d) + align(len(a.anchors)*a.d)
}

func (a *attention) head(i int, ws *kernel.Workspace) {
	n, room := a.n, a.room()
	rows := min(a.queries, a.block+a.unit)
	turned, beside := a.sizes()
	rounded := 0
	if a.y.v.rounded {
		rounded = a.queries * a.d
	}
	buf := carver{ws.Floats(turned + beside + 2*align(rows*room) + align(rounded))}
	q, y := a.data(a.q, i), a.data(a.y, i)
	k, v := a.transpose(&buf, a.data(a.k, i), ws), a.sideBySide(&buf, a.data(a.v, i))
	s, p := buf.take(rows*room), buf.take(rows*room)
	out := y
	if a.y.v.rounded {
		out = headView{x: buf.take(rounded), stride: a.d}
	}
	a.blocks(i, func(b queries) {
		b.scores(s, room, q, k, ws)
		for r := 0; r < b.hi-b.lo; {
			first, at, end := r, i*a.queries+b.lo+r, b.end(b.lo+r)
			for r < b.hi-b.lo && b.end(b.lo+r) == end {
				r++
			}
			kernel.SoftmaxRowsTo(p[first*room:], s[first*room:], r-first, end, room, a.scale, a.max[at:], a.sum[at:])
			for ; first < r; first++ {
				row := p[first*room : first*room+b.width()]
				clear(row[end:])
				if a.keep {
					b.spread(a.weights[at*n:(at+1)*n], row)
				}
				at++
			}
		}
		if a.drops() {
			b.dropWeights(p, p, nil, room)
		}
		b.weigh(out, p, room, v, false, ws)
		if a.y.v.rounded {
			kernel.RoundRows(y.words[b.lo*y.stride:], y.stride, out.x[b.lo*a.d:], a.d, b.hi-b.lo, a.d)
		}
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
	n, d, room := a.n, a.d, a.room()
	rows := min(a.queries, a.block+a.unit)
	turned, beside := a.sizes()
	buf := carver{ws.Floats(2*turned + beside + 2*align(a.queries*d) + 3*align(rows*room) + 2*align(len(a.anchors)*d))}
	kv, vv := a.data(a.k, i), a.data(a.v, i)
	kt, vt, k := a.transpose(&buf, kv, ws), a.transpose(&buf, vv, ws), a.sideBySide(&buf, kv)
	q, do := a.data(a.q, i), a.view(a.y, a.y.v.Grad, i)
	if !a.bf16 {
		q = headView{x: q.dense(buf.take(a.queries*d), a.queries, d), stride: d}
		do = headView{x: do.dense(buf.take(a.queries*d), a.queries, d), stride: d}
	}
	p, s, dp := buf.take(rows*room), buf.take(rows*room), buf.take(rows*room)
	toQ, toKV := a.q.v.root().grad, a.k.v.root().grad
	visible, _ := a.keys(i / a.heads)
	once := !a.accKV && a.queries <= a.block && visible == n && !a.mask.Causal && a.mask.Window == 0 // one block reaches all keys
	var dq, dk, dv headView
	var dka, dva []float32
	if toQ {
		dq = a.view(a.q, a.q.v.Grad, i)
		for r := a.queries; r < a.q.tokens && !a.accQ; r++ { // what no block reaches
			clear(dq.x[r*dq.stride : r*dq.stride+d])
		}
	}
	if toKV {
		dk, dv = a.view(a.k, a.k.v.Grad, i), a.view(a.v, a.v.v.Grad, i)
		for r := 0; r < n && !a.accKV && !once; r++ { // the same, and what the chains begin at
			clear(dk.x[r*dk.stride : r*dk.stride+d])
			clear(dv.x[r*dv.stride : r*dv.stride+d])
		}
		dka, dva = a.collect(buf.take(len(a.anchors)*d), dk), a.collect(buf.take(len(a.anchors)*d), dv)
	}
	a.blocks(i, func(b queries) {
		m := b.hi - b.lo
		b.scores(s, room, q, kt, ws)
		b.times(dp, room, do, vt, ws)
		for r := range m {
			at, end := i*a.queries+b.lo+r, b.end(b.lo+r)
			row := p[r*room : r*room+b.width()]
			kernel.SoftmaxAgainTo(row[:end], s[r*room:r*room+end], a.scale, a.max[at], a.sum[at])
			clear(row[end:])
			clear(dp[r*room+b.anchors : r*room+b.base])
		}
		w := p
		if a.drops() {
			w = s // the scores are not needed any more
			b.dropWeights(w, p, dp, room)
		}
		if toKV {
			b.gather(dv, dva, w, room, do, !once, ws)
		}
		for r := range m {
			end := b.end(b.lo + r)
			kernel.SoftmaxBackTo(s[r*room:r*room+end], p[r*room:r*room+end], dp[r*room:r*room+end], a.scale)
			clear(s[r*room+end : r*room+b.width()])
		}
		if a.relative != nil {
			a.relative.gather(b, s, room)
		}
		if toQ {
			b.weigh(dq, s, room, k, a.accQ, ws)
		}
		if toKV {
			b.gather(dk, dka, s, room, q, !once, ws)
		}
	})
	for i, k := range a.anchors { // their neighbours' slots were hidden, so the chains are all here
		copy(dk.x[k*dk.stride:k*dk.stride+d], dka[i*d:])
		copy(dv.x[k*dv.stride:k*dv.stride+d], dva[i*d:])
	}
}

func (a *attention) forward(t *Tape) { a.fwd.run(t.rt) }

func (a *attention) backward(t *Tape) {
	q, kv := a.q.v.root(), a.k.v.root()
	if !a.y.v.root().written || !q.grad && !kv.grad && a.relative == nil {
		return
	}
	if q.grad {
		a.accQ = q.accumulate()
	}
	a.accKV = a.accQ
	if q != kv && kv.grad {
		a.accKV = kv.accumulate()
	}
	a.back.run(t.rt)
	if r := a.relative; r != nil {
		r.acc = r.table.accumulate()
		r.fold(a.b, a.heads)
	}
}
