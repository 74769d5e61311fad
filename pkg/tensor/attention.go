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
	mask           Mask
	scale          float32
	drop           kernel.Drop
	p              float32
	site           uint32
	max, sum       []float32 // of each softmax row: [B, H, T]
	weights        []float32 // [B, H, T, T], if kept
	keep           bool
	fwd, back      rowTask
	acc            bool
	t              *Tape
	gemms          []attentionGemms // by tile
}

// attentionGemms are the products of one (sample, head), kept so that a replay
// allocates nothing.
type attentionGemms struct{ scores, out, dv, dp, dq, dk kernel.Gemm }

// Attention returns multi-head self-attention of qkv [B, T, 3D], the packed
// queries, keys and values of all heads: softmax(q·kᵀ/√(D/heads))·v, [B, T, D].
// Dropout applies to the weights. No T×T matrix outlives a (sample, head);
// backward computes the weights anew.
func (t *Tape) Attention(qkv *Var, heads int, mask Mask, dropout float32) *Var {
	need(len(qkv.Shape) == 3 && heads > 0 && qkv.Shape[2]%(3*heads) == 0, "Attention", sprint("[B, T, 3D] with D a multiple of ", heads), qkv.Shape)
	need(dropout >= 0 && dropout < 1, "Attention", "0 ≤ dropout < 1", dropout)
	b, n, w := qkv.Shape[0], qkv.Shape[1], qkv.Shape[2]/3
	if k := mask.Keys; k != nil {
		need(len(k.Shape) == 2 && k.Shape[0] == b && k.Shape[1] == n, "Attention", sprint("a key mask [", b, " ", n, "]"), k.Shape)
	}
	need(mask.Positions == nil || len(mask.Positions) == n*n, "Attention", sprint("a position mask of ", n*n), len(mask.Positions))
	a := &attention{qkv: qkv, b: b, n: n, heads: heads, d: w / heads, mask: mask, p: dropout, out: t.newVar([]int{b, n, w}, qkv.root().grad), t: t}
	a.scale = float32(1 / math.Sqrt(float64(a.d)))
	if dropout > 0 {
		a.drop, a.site = kernel.NewDrop(dropout), t.nextDrop()
	}
	t.record(a, a.out, []*Var{qkv})
	return a.out
}

// KeepWeights makes Forward keep the attention weights of an Attention's
// result. Before Seal.
func (t *Tape) KeepWeights(out *Var) { t.attentionOf(out, "KeepWeights").keep = true }

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
	f := 4 * int64(a.b*a.heads*a.n) * int64(a.n*a.d)
	return f, f / 2 * 5
}

func (a *attention) reserve(*Tape) []reserved {
	rows := a.b * a.heads * a.n
	r := []reserved{{dst: &a.max, n: rows}, {dst: &a.sum, n: rows}}
	if a.keep {
		r = append(r, reserved{dst: &a.weights, n: rows * a.n, kept: true})
	}
	return r
}

func (a *attention) bind(t *Tape) {
	n, d, w := a.n, a.d, a.heads*a.d
	a.gemms = make([]attentionGemms, a.b*a.heads)
	for i := range a.gemms {
		s, h := i/a.heads, i%a.heads
		at := func(x []float32, width, part int) []float32 {
			if x == nil {
				return nil
			}
			return x[s*n*width+part*w+h*d:]
		}
		q, k, v, o := at(a.qkv.Data, 3*w, 0), at(a.qkv.Data, 3*w, 1), at(a.qkv.Data, 3*w, 2), at(a.out.Data, w, 0)
		dq, dk, dv, do := at(a.qkv.Grad, 3*w, 0), at(a.qkv.Grad, 3*w, 1), at(a.qkv.Grad, 3*w, 2), at(a.out.Grad, w, 0)
		a.gemms[i] = attentionGemms{
			scores: kernel.Gemm{M: n, N: n, K: d, A: q, ARow: 3 * w, ACol: 1, B: k, BRow: 1, BCol: 3 * w, CRow: n},
			out:    kernel.Gemm{M: n, N: d, K: n, ARow: n, ACol: 1, B: v, BRow: 3 * w, BCol: 1, C: o, CRow: w},
			dv:     kernel.Gemm{M: n, N: d, K: n, ARow: 1, ACol: n, B: do, BRow: w, BCol: 1, C: dv, CRow: 3 * w},
			dp:     kernel.Gemm{M: n, N: n, K: d, A: do, ARow: w, ACol: 1, B: v, BRow: 1, BCol: 3 * w, CRow: n},
			dq:     kernel.Gemm{M: n, N: d, K: n, ARow: n, ACol: 1, B: k, BRow: 3 * w, BCol: 1, C: dq, CRow: 3 * w},
			dk:     kernel.Gemm{M: n, N: d, K: n, ARow: 1, ACol: n, B: q, BRow: 3 * w, BCol: 1, C: dk, CRow: 3 * w},
		}
	}
	a.fwd = rowTask{n: a.b * a.heads, f: func(lo, hi int, ws *kernel.Workspace) {
		for i := lo; i < hi; i++ {
			a.head(i, ws)
		}
	}}
	a.back = rowTask{n: a.b * a.heads, f: func(lo, hi int, ws *kernel.Workspace) {
		for i := lo; i < hi; i++ {
			a.headBackward(i, ws)
		}
	}}
}

// scores fills s with the scaled and masked scores of one (sample, head).
func (a *attention) scores(i int, s []float32, ws *kernel.Workspace) {
	n := a.n
	g := &a.gemms[i].scores
	g.C = s
	g.Run(0, n, 0, n, ws)
	hidden := float32(math.Inf(-1))
	for q := range n {
		row := s[q*n : (q+1)*n]
		if a.mask.Causal {
			for k := q + 1; k < n; k++ {
				row[k] = hidden
			}
		}
		if m := a.mask.Positions; m != nil {
			for k, v := range m[q*n : (q+1)*n] {
				if v == 0 {
					row[k] = hidden
				}
			}
		}
		if m := a.mask.Keys; m != nil {
			b := i / a.heads
			for k, v := range m.Data[b*n : (b+1)*n] {
				if v == 0 {
					row[k] = hidden
				}
			}
		}
	}
}

func (a *attention) head(i int, ws *kernel.Workspace) {
	n := a.n
	s := ws.Floats(n * n)
	a.scores(i, s, ws)
	for q := range n {
		a.max[i*n+q], a.sum[i*n+q] = kernel.SoftmaxRow(s[q*n:(q+1)*n], a.scale)
	}
	if a.keep {
		copy(a.weights[i*n*n:], s)
	}
	a.dropWeights(i, s, s)
	g := &a.gemms[i].out
	g.A = s
	g.Run(0, n, 0, a.d, ws)
}

// dropWeights applies the dropout of one (sample, head) to a T×T matrix.
func (a *attention) dropWeights(i int, dst, src []float32) {
	switch {
	case a.p > 0 && a.t.train:
		a.drop.Apply(dst, src, a.t.stream(a.site, i/a.heads), uint32(i%a.heads*a.n*a.n))
	case &dst[0] != &src[0]:
		copy(dst, src)
	}
}

func (a *attention) headBackward(i int, ws *kernel.Workspace) {
	n := a.n
	buf := ws.Floats(3 * n * n)
	p, dropped, dp := buf[:n*n], buf[n*n:2*n*n], buf[2*n*n:]
	a.scores(i, p, ws)
	for q := range n {
		kernel.SoftmaxAgain(p[q*n:(q+1)*n], a.scale, a.max[i*n+q], a.sum[i*n+q])
	}
	a.dropWeights(i, dropped, p)
	g := &a.gemms[i]
	g.dv.A, g.dv.Acc = dropped, a.acc
	g.dv.Run(0, n, 0, a.d, ws)
	g.dp.C = dp
	g.dp.Run(0, n, 0, n, ws)
	a.dropWeights(i, dp, dp)
	for q := range n {
		kernel.SoftmaxBack(p[q*n:(q+1)*n], dp[q*n:(q+1)*n], a.scale)
	}
	g.dq.A, g.dq.Acc = dp, a.acc
	g.dq.Run(0, n, 0, a.d, ws)
	g.dk.A, g.dk.Acc = dp, a.acc
	g.dk.Run(0, n, 0, a.d, ws)
}

func (a *attention) forward(t *Tape) { a.fwd.run(t.rt) }

func (a *attention) backward(t *Tape) {
	if !a.out.root().written || !a.qkv.root().grad {
		return
	}
	a.acc = a.qkv.accumulate()
	a.back.run(t.rt)
}
