package tensor

import (
	"math"
	"slices"

	"github.com/vlaring/vlaring/internal/kernel"
)

// headView is one (sample, head) of a matrix of tokens: rows stride apart, in
// floats or in bfloat16.
type headView struct {
	x      []float32
	words  []uint16
	stride int
}

// view returns (sample, head) i of an operand in x, its gradient.
func (a *attention) view(o operand, x []float32, i int) headView {
	return headView{x: x, stride: o.v.Cols()}.from(a.first(o, i))
}

// data returns (sample, head) i of an operand.
func (a *attention) data(o operand, i int) headView {
	return headView{o.v.Data, o.v.words, o.v.Cols()}.from(a.first(o, i))
}

// first is where (sample, head) i of an operand begins.
func (a *attention) first(o operand, i int) int {
	return i/a.heads*o.tokens*o.v.Cols() + o.first + i%a.heads*a.d
}

// from is the view from element i on.
func (v headView) from(i int) headView {
	if v.words != nil {
		v.words = v.words[i:]
	} else {
		v.x = v.x[i:]
	}
	return v
}

// row is the view from row r on.
func (v headView) row(r int) headView { return v.from(r * v.stride) }

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

// lanes is what row sums are cut into: see kernel.Sum.
const lanes = 16

func upToLanes(n int) int { return (n + lanes - 1) &^ (lanes - 1) }

// room is how many slots a row needs at most. Rows begin cache lines, but those whose
// dropout is drawn in one go, which have no gaps between them.
func (a *attention) room() int {
	if a.mask.Window == 0 {
		if a.p > 0 {
			return a.n
		}
		return upToLanes(a.n)
	}
	run := a.block + a.unit + 2*a.mask.Window + 1 + a.slots
	if a.mask.Global > 0 {
		run = a.n
	}
	return upToLanes(len(a.anchors)) + min(a.n, run)
}

// queries is a block of queries of one (sample, head).
type queries struct {
	a       *attention
	i       int // (sample, head)
	lo, hi  int // queries
	anchors int // that any of them may see: the first so many
	base    int // slot of key from
	from    int // neighbours that any of them may see: keys [from, keys)
	keys    int
	all     int // visible keys of the sample, up to the last
	holes   bool
}

// width is the slots of a row.
func (b queries) width() int { return b.base + b.keys - b.from }

// end is the slot after the last that query q may see.
func (b queries) end(q int) int { return b.base + b.a.mask.end(q, b.all) - b.from }

// blocks calls f for the blocks of queries of head i, in order.
func (a *attention) blocks(i int, f func(b queries)) {
	b := queries{a: a, i: i}
	b.all, b.holes = a.keys(i / a.heads)
	count := (a.queries + a.block - 1) / a.block
	for k := range count {
		b.lo, b.hi = cut(k, count, a.queries, a.unit)
		if b.lo >= b.hi {
			continue
		}
		b.keys = max(a.mask.end(b.lo, b.all), a.mask.end(b.hi-1, b.all)) // the first sees more where it is global
		b.from = min(a.mask.begin(b.lo), b.keys) &^ (a.slots - 1)
		last := b.all
		if a.mask.Causal {
			last = min(last, b.hi)
		}
		b.anchors, _ = slices.BinarySearch(a.anchors, last)
		b.base = upToLanes(b.anchors)
		f(b)
	}
}

// run does a product in the place that is kept for it.
func (b queries) run(g kernel.Gemm, ws *kernel.Workspace) {
	p := &b.a.gemms[b.i]
	*p = g
	p.BF16 = b.a.bf16
	p.Run(0, g.M, 0, g.N, ws)
}

// headRows is what the products of a head read, made once for all its blocks:
// keys or values, and the anchors of them. Element j of key i is x[i·key + j·dim].
type headRows struct {
	x, anchor  []float32
	words      []uint16 // instead of x
	key, dim   int
	keyA, dimA int
}

// keys is x from key i on, whichever there is.
func (r headRows) keys(i int) ([]float32, []uint16) {
	if r.words != nil {
		return nil, r.words[i*r.key:]
	}
	return r.x[i*r.key:], nil
}

// times computes a's rows (of the block's queries) times the keys or values in
// r to s, rows of room slots.
func (b queries) times(s []float32, room int, q headView, r headRows, ws *kernel.Workspace) {
	m, d := b.hi-b.lo, b.a.d
	q = q.row(b.lo)
	if b.anchors > 0 {
		b.run(kernel.Gemm{M: m, N: b.anchors, K: d, A: q.x, AWords: q.words, ARow: q.stride, ACol: 1, B: r.anchor, BRow: r.dimA, BCol: r.keyA, C: s, CRow: room}, ws)
	}
	x, words := r.keys(b.from)
	b.run(kernel.Gemm{M: m, N: b.keys - b.from, K: d, A: q.x, AWords: q.words, ARow: q.stride, ACol: 1, B: x, BWords: words, BRow: r.dim, BCol: r.key, C: s[b.base:], CRow: room}, ws)
}

// weigh computes the rows of s times the keys or values in r to the block's rows
// of c.
func (b queries) weigh(c headView, s []float32, room int, r headRows, acc bool, ws *kernel.Workspace) {
	m, d := b.hi-b.lo, b.a.d
	if b.anchors > 0 {
		b.run(kernel.Gemm{M: m, N: d, K: b.anchors, A: s, ARow: room, ACol: 1, B: r.anchor, BRow: r.keyA, BCol: r.dimA, C: c.x[b.lo*c.stride:], CRow: c.stride, Acc: acc}, ws)
		acc = true
	}
	x, words := r.keys(b.from)
	b.run(kernel.Gemm{M: m, N: d, K: b.keys - b.from, A: s[b.base:], ARow: room, ACol: 1, B: x, BWords: words, BRow: r.key, BCol: r.dim, C: c.x[b.lo*c.stride:], CRow: c.stride, Acc: acc}, ws)
}

// gather adds the transposed rows of s times the block's rows of x [_, d] to
// the gradient of keys or values, c, and of the anchors apart; without acc it is
// the first to write c.
func (b queries) gather(c headView, anchor, s []float32, room int, x headView, acc bool, ws *kernel.Workspace) {
	m, d := b.hi-b.lo, b.a.d
	x = x.row(b.lo)
	if b.anchors > 0 {
		b.run(kernel.Gemm{M: b.anchors, N: d, K: m, A: s, ARow: 1, ACol: room, B: x.x, BWords: x.words, BRow: x.stride, BCol: 1, C: anchor, CRow: d, Acc: true}, ws)
	}
	if b.keys > b.from {
		b.run(kernel.Gemm{M: b.keys - b.from, N: d, K: m, A: s[b.base:], ARow: 1, ACol: room, B: x.x, BWords: x.words, BRow: x.stride, BCol: 1, C: c.x[b.from*c.stride:], CRow: c.stride, Acc: acc}, ws)
	}
}

// scores computes the products of queries and keys to s and hides what the
// masks hide before a row's end.
func (b queries) scores(s []float32, room int, q headView, k headRows, ws *kernel.Workspace) {
	n, m := b.a.n, &b.a.mask
	b.times(s, room, q, k, ws)
	if b.a.relative != nil {
		b.a.relative.bias(b, s, room)
	}
	if b.holes {
		sample := b.i / b.a.heads
		b.hide(s, room, m.Keys.Data[sample*n:(sample+1)*n], 0)
	}
	if m.Positions != nil {
		b.hide(s, room, m.Positions[b.lo*n:], n)
	}
	if m.Window > 0 {
		b.hideOutside(s, room)
	}
}

var hidden = float32(math.Inf(-1))

// hide puts -Inf where see, whose rows lie stride apart, is 0.
func (b queries) hide(s []float32, room int, see []uint8, stride int) {
	for r := range b.hi - b.lo {
		row, see := s[r*room:], see[r*stride:]
		for i, k := range b.a.anchors[:b.anchors] {
			if see[k] == 0 {
				row[i] = hidden
			}
		}
		row = row[b.base:]
		for k, v := range see[b.from:b.keys] {
			if v == 0 {
				row[k] = hidden
			}
		}
	}
}

// hideOutside puts -Inf where no key is, where a neighbour is an anchor and has
// its slot there, and before the window.
func (b queries) hideOutside(s []float32, room int) {
	a := b.a
	first, _ := slices.BinarySearch(a.anchors, b.from)
	last, _ := slices.BinarySearch(a.anchors, b.keys)
	for r := range b.hi - b.lo {
		q, row := b.lo+r, s[r*room:]
		for i := b.anchors; i < b.base; i++ {
			row[i] = hidden
		}
		if a.mask.Causal {
			for i := b.anchors - 1; i >= 0 && a.anchors[i] > q; i-- {
				row[i] = hidden
			}
		}
		row = row[b.base:]
		for _, k := range a.anchors[first:last] {
			row[k-b.from] = hidden
		}
		for i := range min(a.mask.begin(q), b.keys) - b.from {
			row[i] = hidden
		}
	}
}

// dropWeights applies the dropout to rows of weights, and to those of also in
// place where there are any; element (head, q, k) of a sample's stream, of all of
// its tokens' queries, belongs to weight (q, k).
func (b queries) dropWeights(dst, src, also []float32, room int) {
	a := b.a
	n := a.n
	s, first := a.t.stream(a.site, b.i/a.heads), uint32(b.i%a.heads*a.q.tokens*n+b.lo*n)
	if b.width() == n && room == n && b.base == 0 {
		rows := (b.hi - b.lo) * n
		if also == nil {
			a.drop.Apply(dst[:rows], src[:rows], s, first)
		} else {
			a.drop.ApplyTwo(dst[:rows], src[:rows], also[:rows], s, first)
		}
		return
	}
	if also != nil {
		b.dropWeights(also, also, nil, room)
	}
	for r := range b.hi - b.lo {
		to, from, at := dst[r*room:], src[r*room:], first+uint32(r*n)
		for i, k := range a.anchors[:b.anchors] {
			a.drop.Apply(to[i:i+1], from[i:i+1], s, at+uint32(k))
		}
		clear(to[b.anchors:b.base])
		a.drop.Apply(to[b.base:b.width()], from[b.base:b.width()], s, at+uint32(b.from))
	}
}

// spread writes a row of weights to their keys' places.
func (b queries) spread(dst, row []float32) {
	clear(dst)
	copy(dst[b.from:], row[b.base:])
	for i, k := range b.a.anchors[:b.anchors] {
		dst[k] = row[i]
	}
}
