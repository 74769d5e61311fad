package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type prepend struct {
	x, y           *Var
	cls, pos       *Param
	b, n, d        int
	fwd, back      rowTask
	cols           columnTask
	accX           bool
	accCls, accPos bool
}

// PrependToken puts the token cls before those of x and adds positions:
// x [B, N, D], cls of D elements, pos of (N+1)·D → [B, N+1, D].
func (t *Tape) PrependToken(x *Var, cls, pos *Param) *Var {
	need(len(x.Shape) == 3, "PrependToken", "x [B, N, D]", x.Shape)
	o := &prepend{x: x, cls: cls, pos: pos, b: x.Shape[0], n: x.Shape[1], d: x.Shape[2]}
	need(cls.Size() == o.d && pos.Size() == (o.n+1)*o.d, "PrependToken", sprint("a token of ", o.d, " and ", o.n+1, " positions"), cls.Shape, pos.Shape)
	o.y = t.newVar([]int{o.b, o.n + 1, o.d}, true)
	t.record(o, o.y, []*Var{x}, cls, pos)
	return o.y
}

func (o *prepend) needs() []*Var         { return nil }
func (o *prepend) kind() string          { return "tokens" }
func (o *prepend) flops() (int64, int64) { return 0, 0 }

func (o *prepend) bind(*Tape) {
	n, d := o.n, o.d
	o.fwd = rowTask{n: o.b * (n + 1), f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			s, i := r/(n+1), r%(n+1)
			src := o.cls.Value
			if i > 0 {
				src = o.x.Data[(s*n+i-1)*d : (s*n+i)*d]
			}
			kernel.Add(o.y.Data[r*d:(r+1)*d], src, o.pos.Value[i*d:(i+1)*d])
		}
	}}
	o.back = rowTask{n: o.b, f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			give(o.x.Grad[s*n*d:(s+1)*n*d], o.y.Grad[(s*(n+1)+1)*d:(s+1)*(n+1)*d], o.accX)
		}
	}}
	o.cols = columnTask{n: (n + 1) * d, f: func(lo, hi int, _ *kernel.Workspace) {
		columnSums(o.pos.Grad, o.y.Grad, o.b, (n+1)*d, lo, hi, o.accPos)
		if lo < d {
			hi := min(hi, d)
			if !o.accCls {
				clear(o.cls.Grad[lo:hi])
			}
			for s := range o.b {
				kernel.Accumulate(o.cls.Grad[lo:hi], o.y.Grad[s*(n+1)*d+lo:s*(n+1)*d+hi])
			}
		}
	}}
}

func (o *prepend) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *prepend) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	if o.x.root().grad {
		o.accX = o.x.accumulate()
		o.back.run(t.rt)
	}
	o.accCls, o.accPos = o.cls.accumulate(), o.pos.accumulate()
	o.cols.run(t.rt)
}

type addRow struct {
	x, y  *Var
	table *Param
	row   int
	fwd   rowTask
	back  rowTask
	cols  columnTask
	accX  bool
	accT  bool
}

// AddRow adds row number row of table [R, D] to every row of x [.., D].
func (t *Tape) AddRow(x *Var, table *Param, row int) *Var {
	need(len(table.Shape) == 2 && table.Shape[1] == x.Cols() && row >= 0 && row < table.Shape[0], "AddRow", sprint("a row of a table [R, ", x.Cols(), "]"), row, table.Shape)
	o := &addRow{x: x, table: table, row: row, y: t.newVar(x.Shape, true)}
	t.record(o, o.y, []*Var{x}, table)
	return o.y
}

func (o *addRow) needs() []*Var         { return nil }
func (o *addRow) kind() string          { return "tokens" }
func (o *addRow) flops() (int64, int64) { return 0, 0 }

func (o *addRow) bind(*Tape) {
	n, d := o.x.Rows(), o.x.Cols()
	o.fwd = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			kernel.Add(o.y.Data[r*d:(r+1)*d], o.x.Data[r*d:(r+1)*d], o.table.Value[o.row*d:(o.row+1)*d])
		}
	}}
	o.back = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) { give(o.x.Grad[lo*d:hi*d], o.y.Grad[lo*d:hi*d], o.accX) }}
	o.cols = columnTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) {
		if !o.accT {
			for r := range o.table.Shape[0] {
				clear(o.table.Grad[r*d+lo : r*d+hi])
			}
		}
		columnSums(o.table.Grad[o.row*d:(o.row+1)*d], o.y.Grad, n, d, lo, hi, true)
	}}
}

func (o *addRow) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *addRow) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	if o.x.root().grad {
		o.accX = o.x.accumulate()
		o.back.run(t.rt)
	}
	o.accT = o.table.accumulate()
	o.cols.run(t.rt)
}

type concat struct {
	a, b, y   *Var
	fwd, back rowTask
	accA      bool
	accB      bool
}

// ConcatTokens joins [B, Ta, D] and [B, Tb, D] to [B, Ta+Tb, D].
func (t *Tape) ConcatTokens(a, b *Var) *Var {
	need(len(a.Shape) == 3 && len(b.Shape) == 3 && a.Shape[0] == b.Shape[0] && a.Shape[2] == b.Shape[2], "ConcatTokens", "[B, Ta, D] and [B, Tb, D]", a.Shape, b.Shape)
	o := &concat{a: a, b: b, y: t.newVar([]int{a.Shape[0], a.Shape[1] + b.Shape[1], a.Shape[2]}, a.root().grad || b.root().grad)}
	t.record(o, o.y, []*Var{a, b})
	return o.y
}

func (o *concat) needs() []*Var         { return nil }
func (o *concat) kind() string          { return "tokens" }
func (o *concat) flops() (int64, int64) { return 0, 0 }

func (o *concat) bind(*Tape) {
	na, nb := o.a.Shape[1]*o.a.Shape[2], o.b.Shape[1]*o.b.Shape[2]
	o.fwd = rowTask{n: o.a.Shape[0], f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			copy(o.y.Data[s*(na+nb):], o.a.Data[s*na:(s+1)*na])
			copy(o.y.Data[s*(na+nb)+na:], o.b.Data[s*nb:(s+1)*nb])
		}
	}}
	o.back = rowTask{n: o.a.Shape[0], f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			g := o.y.Grad[s*(na+nb) : (s+1)*(na+nb)]
			if o.a.root().grad {
				give(o.a.Grad[s*na:(s+1)*na], g[:na], o.accA)
			}
			if o.b.root().grad {
				give(o.b.Grad[s*nb:(s+1)*nb], g[na:], o.accB)
			}
		}
	}}
}

func (o *concat) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *concat) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	if o.a.root().grad {
		o.accA = o.a.accumulate()
	}
	if o.b.root().grad {
		o.accB = o.b.accumulate()
	}
	o.back.run(t.rt)
}

type meanPool struct {
	x, y    *Var
	visible *Bytes
	fwd     rowTask
	back    rowTask
	acc     bool
}

// MeanPool returns the mean of the visible tokens of each sample: x [B, T, D],
// visible [B, T] or nil for all → [B, D]. A sample without any gives zeros.
func (t *Tape) MeanPool(x *Var, visible *Bytes) *Var {
	need(len(x.Shape) == 3, "MeanPool", "[B, T, D]", x.Shape)
	need(visible == nil || len(visible.Data) == x.Shape[0]*x.Shape[1], "MeanPool", sprint("flags ", x.Shape[:2]), flagShape(visible))
	o := &meanPool{x: x, visible: visible, y: t.newVar([]int{x.Shape[0], x.Shape[2]}, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *meanPool) sees(s, i int) bool {
	return o.visible == nil || o.visible.Data[s*o.x.Shape[1]+i] != 0
}

func (o *meanPool) count(s int) (n int) {
	for i := range o.x.Shape[1] {
		if o.sees(s, i) {
			n++
		}
	}
	return n
}

func (o *meanPool) needs() []*Var         { return nil }
func (o *meanPool) kind() string          { return "tokens" }
func (o *meanPool) flops() (int64, int64) { return 0, 0 }

func (o *meanPool) bind(*Tape) {
	b, n, d := o.x.Shape[0], o.x.Shape[1], o.x.Shape[2]
	o.fwd = rowTask{n: b, f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			y := o.y.Data[s*d : (s+1)*d]
			clear(y)
			for i := range n {
				if o.sees(s, i) {
					kernel.Accumulate(y, o.x.Data[(s*n+i)*d:(s*n+i+1)*d])
				}
			}
			if c := o.count(s); c > 0 {
				kernel.Divide(y, y, float32(c))
			}
		}
	}}
	o.back = rowTask{n: b, f: func(lo, hi int, ws *kernel.Workspace) {
		g := ws.Floats(d)
		for s := lo; s < hi; s++ {
			if c := o.count(s); c > 0 {
				kernel.Divide(g, o.y.Grad[s*d:(s+1)*d], float32(c))
			}
			for i := range n {
				dx := o.x.Grad[(s*n+i)*d : (s*n+i+1)*d]
				if o.sees(s, i) {
					give(dx, g, o.acc)
				} else if !o.acc {
					clear(dx)
				}
			}
		}
	}}
}

func (o *meanPool) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *meanPool) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.back.run(t.rt)
}

type selectToken struct {
	x, y *Var
	i    int
}

// SelectToken returns token i of each sample: [B, T, D] → [B, D].
func (t *Tape) SelectToken(x *Var, i int) *Var {
	need(len(x.Shape) == 3 && i >= 0 && i < x.Shape[1], "SelectToken", "a token of [B, T, D]", i, x.Shape)
	o := &selectToken{x: x, i: i, y: t.newVar([]int{x.Shape[0], x.Shape[2]}, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *selectToken) needs() []*Var         { return nil }
func (o *selectToken) kind() string          { return "tokens" }
func (o *selectToken) flops() (int64, int64) { return 0, 0 }

func (o *selectToken) forward(*Tape) {
	n, d := o.x.Shape[1], o.x.Shape[2]
	for s := range o.x.Shape[0] {
		copy(o.y.Data[s*d:(s+1)*d], o.x.Data[(s*n+o.i)*d:])
	}
}

func (o *selectToken) backward(*Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	acc := o.x.accumulate()
	if !acc {
		clear(o.x.Grad)
	}
	n, d := o.x.Shape[1], o.x.Shape[2]
	for s := range o.x.Shape[0] {
		give(o.x.Grad[(s*n+o.i)*d:(s*n+o.i+1)*d], o.y.Grad[s*d:(s+1)*d], acc)
	}
}
