package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type repeat struct {
	p    *Param
	y    *Var
	cols columnTask
	acc  bool
}

// Repeat gives each of b samples the tokens p, [L, D] → [b, L, D].
func (t *Tape) Repeat(p *Param, b int) *Var {
	need(len(p.Shape) == 2 && b > 0, "Repeat", "tokens [L, D] and a sample or more", p.Shape, b)
	o := &repeat{p: p, y: t.newVar([]int{b, p.Shape[0], p.Shape[1]}, true)}
	t.record(o, o.y, nil, p)
	return o.y
}

func (o *repeat) needs() []*Var         { return nil }
func (o *repeat) kind() string          { return "tokens" }
func (o *repeat) flops() (int64, int64) { return 0, 0 }

func (o *repeat) bind(*Tape) {
	n := o.p.Size()
	o.cols = columnTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		columnSums(o.p.Grad, o.y.Grad, o.y.Shape[0], n, lo, hi, o.acc)
	}}
}

func (o *repeat) forward(*Tape) {
	for s, n := 0, o.p.Size(); s < o.y.Shape[0]; s++ {
		copy(o.y.Data[s*n:], o.p.Value)
	}
}

func (o *repeat) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	o.acc = o.p.accumulate()
	o.cols.run(t.rt)
}

type appendRow struct {
	x, row, y  *Var
	fwd, back  rowTask
	accX, accR bool
}

// AppendRow puts each sample's row behind each of its tokens: x [B, L, D], row
// [B, E] → [B, L, D+E].
func (t *Tape) AppendRow(x, row *Var) *Var {
	need(len(x.Shape) == 3 && len(row.Shape) == 2 && row.Shape[0] == x.Shape[0], "AppendRow", "x [B, L, D] and a row [B, E]", x.Shape, row.Shape)
	o := &appendRow{x: x, row: row, y: t.newVar([]int{x.Shape[0], x.Shape[1], x.Shape[2] + row.Shape[1]}, x.root().grad || row.root().grad)}
	t.record(o, o.y, []*Var{x, row})
	return o.y
}

func (o *appendRow) needs() []*Var         { return nil }
func (o *appendRow) kind() string          { return "tokens" }
func (o *appendRow) flops() (int64, int64) { return 0, 0 }

func (o *appendRow) bind(*Tape) {
	b, l, d, e := o.x.Shape[0], o.x.Shape[1], o.x.Shape[2], o.row.Shape[1]
	o.fwd = rowTask{n: b * l, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			copy(o.y.Data[r*(d+e):], o.x.Data[r*d:(r+1)*d])
			copy(o.y.Data[r*(d+e)+d:], o.row.Data[r/l*e:(r/l+1)*e])
		}
	}}
	o.back = rowTask{n: b, f: func(lo, hi int, _ *kernel.Workspace) { // a sample is one thread's: its row is a sum over its tokens
		for s := lo; s < hi; s++ {
			if o.row.root().grad && !o.accR {
				clear(o.row.Grad[s*e : (s+1)*e])
			}
			for r := s * l; r < (s+1)*l; r++ {
				g := o.y.Grad[r*(d+e) : (r+1)*(d+e)]
				if o.x.root().grad {
					give(o.x.Grad[r*d:(r+1)*d], g[:d], o.accX)
				}
				if o.row.root().grad {
					kernel.Accumulate(o.row.Grad[s*e:(s+1)*e], g[d:])
				}
			}
		}
	}}
}

func (o *appendRow) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *appendRow) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	if o.x.root().grad {
		o.accX = o.x.accumulate()
	}
	if o.row.root().grad {
		o.accR = o.row.accumulate()
	}
	o.back.run(t.rt)
}

type addScaled struct {
	x, y, z    *Var
	s          float32
	fwd, back  rowTask
	accX, accY bool
}

// AddScaled returns x + s·y, each element fused: two of one shape.
func (t *Tape) AddScaled(x, y *Var, s float32) *Var {
	need(x.Size() == y.Size() && x.Cols() == y.Cols(), "AddScaled", sprint("two of ", x.Shape), y.Shape)
	o := &addScaled{x: x, y: y, s: s, z: t.newVar(x.Shape, x.root().grad || y.root().grad)}
	t.record(o, o.z, []*Var{x, y})
	return o.z
}

func (o *addScaled) needs() []*Var         { return nil }
func (o *addScaled) kind() string          { return "tokens" }
func (o *addScaled) flops() (int64, int64) { return 0, 0 }

func (o *addScaled) bind(*Tape) {
	d := o.x.Cols()
	o.fwd = rowTask{n: o.x.Rows(), f: func(lo, hi int, _ *kernel.Workspace) {
		z := o.z.Data[lo*d : hi*d]
		copy(z, o.x.Data[lo*d:hi*d])
		kernel.AddScaled(z, o.y.Data[lo*d:hi*d], o.s)
	}}
	o.back = rowTask{n: o.x.Rows(), f: func(lo, hi int, _ *kernel.Workspace) {
		dz := o.z.Grad[lo*d : hi*d]
		if o.x.root().grad {
			give(o.x.Grad[lo*d:hi*d], dz, o.accX)
		}
		if o.y.root().grad {
			dy := o.y.Grad[lo*d : hi*d]
			if !o.accY {
				clear(dy)
			}
			kernel.AddScaled(dy, dz, o.s)
		}
	}}
}

func (o *addScaled) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *addScaled) backward(t *Tape) {
	if !o.z.root().written {
		return
	}
	if o.x.root().grad {
		o.accX = o.x.accumulate()
	}
	if o.y.root().grad {
		o.accY = o.y.accumulate() // where x is y, it adds to what x was given
	}
	o.back.run(t.rt)
}
