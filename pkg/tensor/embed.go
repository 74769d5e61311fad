package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type embedding struct {
	ids   *Ints
	table *Param
	scale float32
	pos   []float32
	y     *Var
	fwd   rowTask
	back  columnTask
	acc   bool
}

// Embedding returns table[ids]·scale + pos: ids [B, T], table [V, D], pos the
// first T rows of a constant [≥T, D] or nil → [B, T, D]. Ids outside the table
// panic: whoever fills them checks them.
func (t *Tape) Embedding(ids *Ints, table *Param, scale float32, pos []float32) *Var {
	need(len(ids.Shape) == 2 && len(table.Shape) == 2, "Embedding", "ids [B, T] and a table [V, D]", ids.Shape, table.Shape)
	d := table.Shape[1]
	need(pos == nil || len(pos) >= ids.Shape[1]*d, "Embedding", sprint("positions for ", ids.Shape[1], " tokens"), len(pos)/d)
	e := &embedding{ids: ids, table: table, scale: scale, pos: pos, y: t.newVar([]int{ids.Shape[0], ids.Shape[1], d}, true)}
	t.record(e, e.y, nil, table)
	return e.y
}

func (e *embedding) needs() []*Var         { return nil }
func (e *embedding) kind() string          { return "embedding" }
func (e *embedding) flops() (int64, int64) { return 0, 0 }

func (e *embedding) bind(*Tape) {
	n, d := len(e.ids.Data), e.table.Shape[1]
	e.fwd = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			id := int(e.ids.Data[r])
			y, row := e.y.Data[r*d:(r+1)*d], e.table.Value[id*d:(id+1)*d]
			if e.pos == nil {
				kernel.Scale(y, row, e.scale)
				continue
			}
			at := r % e.ids.Shape[1] * d
			copy(y, e.pos[at:at+d])
			kernel.AddScaled(y, row, e.scale)
		}
	}}
	e.back = columnTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) {
		if !e.acc && hi-lo == d {
			clear(e.table.Grad)
		} else if !e.acc {
			for v := range e.table.Shape[0] {
				clear(e.table.Grad[v*d+lo : v*d+hi])
			}
		}
		for r, id := range e.ids.Data {
			kernel.AddScaled(e.table.Grad[int(id)*d+lo:int(id)*d+hi], e.y.Grad[r*d+lo:r*d+hi], e.scale)
		}
	}}
}

func (e *embedding) forward(t *Tape) { e.fwd.run(t.rt) }

func (e *embedding) backward(t *Tape) {
	if !e.y.root().written {
		return
	}
	e.acc = e.table.accumulate()
	e.back.run(t.rt)
}

type patchEmbed struct {
	img, y      *Var
	w, b        *Param
	c, h, wd, p int
	cols        []float32 // [B·N, C·P·P]
	dcols       []float32
	gather      rowTask
	scatter     rowTask
	fwd, dw, dx product
	db          columnTask
	group       together
	accB, accX  bool
}

// PatchEmbed is a convolution whose kernel and stride are the patch size P:
// img [B, C, H, W], w [D, C, P, P], b [D] or nil → [B, (H/P)·(W/P), D], patches row by row.
func (t *Tape) PatchEmbed(img *Var, w, b *Param) *Var {
	need(len(img.Shape) == 4 && len(w.Shape) == 4 && w.Shape[1] == img.Shape[1] && w.Shape[2] == w.Shape[3] &&
		img.Shape[2]%w.Shape[2] == 0 && img.Shape[3]%w.Shape[3] == 0 && (b == nil || b.Size() == w.Shape[0]),
		"PatchEmbed", "img [B, C, H, W], w [D, C, P, P], b [D], with P dividing H and W", img.Shape, w.Shape, paramShape(b))
	o := &patchEmbed{img: img, w: w, b: b, c: img.Shape[1], h: img.Shape[2], wd: img.Shape[3], p: w.Shape[2]}
	o.y = t.newVar([]int{img.Shape[0], o.h / o.p * (o.wd / o.p), w.Shape[0]}, true)
	t.record(o, o.y, []*Var{img}, w, b)
	return o.y
}

func (o *patchEmbed) needs() []*Var { return nil }
func (o *patchEmbed) kind() string  { return "patches" }

func (o *patchEmbed) flops() (forward, backward int64) {
	f := 2 * int64(o.y.Size()) * int64(o.c*o.p*o.p)
	if o.dcols != nil {
		return f, 2 * f
	}
	return f, f
}

func (o *patchEmbed) reserve(*Tape) []reserved {
	n := o.y.Rows() * o.c * o.p * o.p
	r := []reserved{{dst: &o.cols, n: n}}
	if o.img.root().grad {
		r = append(r, reserved{dst: &o.dcols, n: n})
	}
	return r
}

func (o *patchEmbed) bind(t *Tape) {
	rows, d, k := o.y.Rows(), o.w.Shape[0], o.c*o.p*o.p
	// each calls f for every run of P pixels of patch row r: its place in the image and in the row
	each := func(r int, f func(img, col int)) {
		across := o.wd / o.p
		s, n := r/o.y.Shape[1], r%o.y.Shape[1]
		for c := range o.c {
			for y := range o.p {
				f(((s*o.c+c)*o.h+n/across*o.p+y)*o.wd+n%across*o.p, r*k+(c*o.p+y)*o.p)
			}
		}
	}
	o.gather = rowTask{n: rows, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			each(r, func(img, col int) { copy(o.cols[col:col+o.p], o.img.Data[img:img+o.p]) })
		}
	}}
	o.scatter = rowTask{n: rows, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			each(r, func(img, col int) { give(o.img.Grad[img:img+o.p], o.dcols[col:col+o.p], o.accX) })
		}
	}}
	o.fwd.g = kernel.Gemm{M: rows, N: d, K: k, A: o.cols, ARow: k, ACol: 1, B: o.w.Value, BRow: 1, BCol: k, C: o.y.Data, CRow: d, BF16: t.bf16}
	if o.b != nil {
		o.fwd.g.Bias = o.b.Value
	}
	o.dw.g = kernel.Gemm{M: d, N: k, K: rows, A: o.y.Grad, ARow: 1, ACol: d, B: o.cols, BRow: k, BCol: 1, CRow: k, BF16: t.bf16}
	o.dx.g = kernel.Gemm{M: rows, N: k, K: d, A: o.y.Grad, ARow: d, ACol: 1, B: o.w.Value, BRow: k, BCol: 1, C: o.dcols, CRow: k, BF16: t.bf16}
	o.db = columnTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(o.b.Grad, o.y.Grad, rows, d, lo, hi, o.accB) }}
}

func (o *patchEmbed) forward(t *Tape) {
	o.gather.run(t.rt)
	o.fwd.run(t.rt)
}

func (o *patchEmbed) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	if o.dcols != nil {
		o.accX = o.img.accumulate()
		o.dx.run(t.rt)
		o.scatter.run(t.rt)
	}
	o.dw.g.C, o.dw.g.Acc = o.w.Grad, o.w.accumulate()
	if o.b == nil {
		o.dw.run(t.rt)
		return
	}
	o.accB = o.b.accumulate()
	o.group.run(t.rt, &o.db, &o.dw)
}
