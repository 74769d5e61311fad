package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type spread struct {
	x, y          *Var
	heads, groups int
	d             int       // of a head
	angles        []float32 // [≥T, d]: d/2 cosines, then d/2 sines; nil: nothing is turned
	fwd, back     rowTask
	acc           bool
}

// Spread makes the packed queries, keys and values that Attention takes of those of
// fewer heads of keys and values: x [B, T, (heads + 2·groups)·d] → [B, T, 3·heads·d].
// Each of the groups serves heads/groups queries, one after the other.
//
// With angles, a row of d/2 cosines and d/2 sines for each token, queries and keys
// are turned by their positions (RoPE): elements i and i+d/2 of a head are a pair.
//
//	(a, b) → (a·cos - b·sin, b·cos + a·sin)
func (t *Tape) Spread(x *Var, heads, groups int, angles []float32) *Var {
	need(len(x.Shape) == 3 && groups > 0 && heads%groups == 0 && x.Shape[2]%(heads+2*groups) == 0, "Spread", sprint("[B, T, D] with D a multiple of ", heads+2*groups), x.Shape)
	d := x.Shape[2] / (heads + 2*groups)
	need(angles == nil || d%2 == 0 && len(angles) >= x.Shape[1]*d, "Spread", sprint("angles for ", x.Shape[1], " tokens"), len(angles))
	o := &spread{x: x, heads: heads, groups: groups, d: d, angles: angles, y: t.newVar([]int{x.Shape[0], x.Shape[1], 3 * heads * d}, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *spread) needs() []*Var         { return nil }
func (o *spread) kind() string          { return "attention" }
func (o *spread) flops() (int64, int64) { return 0, 0 }

// turn writes src turned by row's angles to dst, or back again.
func (o *spread) turn(dst, src []float32, row int, back bool) {
	if o.angles == nil {
		copy(dst, src)
		return
	}
	h := o.d / 2
	cos, sin := o.angles[row*o.d:row*o.d+h], o.angles[row*o.d+h:(row+1)*o.d]
	for i, c := range cos {
		s, a, b := sin[i], src[i], src[i+h]
		if back {
			s = -s
		}
		dst[i], dst[i+h] = float32(a*c)-float32(b*s), float32(b*c)+float32(a*s)
	}
}

func (o *spread) bind(*Tape) {
	rows, t, d, w := o.x.Rows(), o.x.Shape[1], o.d, o.x.Cols()
	// source is where head h of part p (queries, keys, values) begins in a row of x
	source := func(p, h int) int {
		switch p {
		case 0:
			return h * d
		case 1:
			return (o.heads + h/(o.heads/o.groups)) * d
		}
		return (o.heads + o.groups + h/(o.heads/o.groups)) * d
	}
	o.fwd = rowTask{n: rows, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			x, y := o.x.Data[r*w:(r+1)*w], o.y.Data[r*3*o.heads*d:]
			for p := range 3 {
				for h := range o.heads {
					from, to := x[source(p, h):][:d], y[(p*o.heads+h)*d:][:d]
					if p == 2 {
						copy(to, from)
					} else {
						o.turn(to, from, r%t, false)
					}
				}
			}
		}
	}}
	o.back = rowTask{n: rows, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(d)
		for r := lo; r < hi; r++ {
			dx, dy := o.x.Grad[r*w:(r+1)*w], o.y.Grad[r*3*o.heads*d:]
			if !o.acc {
				clear(dx)
			}
			for p := range 3 {
				for h := range o.heads {
					g := dy[(p*o.heads+h)*d:][:d]
					if p < 2 {
						o.turn(buf, g, r%t, true)
						g = buf
					}
					kernel.Accumulate(dx[source(p, h):][:d], g)
				}
			}
		}
	}}
}

func (o *spread) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *spread) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.back.run(t.rt)
}
