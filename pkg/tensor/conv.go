package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// Conv says how Conv2D moves over its input.
type Conv struct {
	Stride        int        // of both axes, at least 1
	Pad           int        // zeros around the input
	Act           Activation // None or ReLU
	ChannelsFirst bool       // the input is [B, C, H, W], as pictures are; otherwise [B, H, W, C]
}

// conv2D is a convolution as one matrix product: every window becomes a row.
//
//	cols [B·OH·OW, KH·KW·C] · w' [KH·KW·C, O] → y [B·OH·OW, O]
//
// Channels are last in everything that the tape holds, so that windows are
// gathered in runs of C. The parameter keeps PyTorch's [O, C, KH, KW]; w' is
// its rearrangement, made anew each time. A sum's order is ky, kx, c.
type conv2D struct {
	x, y          *Var
	w, b          *Param
	o             Conv
	n, c, h, wd   int // input
	kh, kw        int
	oh, ow        int
	cols, dcols   []float32 // [B·OH·OW, KH·KW·C]
	wp, dwp       []float32 // [O, KH, KW, C]
	arrange       rowTask
	restore       rowTask
	gather        rowTask
	scatter       rowTask
	act           rowTask
	fwd, dw, dx   product
	db            columnTask
	accX, accW    bool
	accB          bool
	sy, sx, sc    int // strides of the input's axes, in elements
	perSampleSize int
}

// Conv2D is a convolution with w [O, C, KH, KW] and b [O]: x [B, H, W, C], or
// [B, C, H, W] with ChannelsFirst, → [B, OH, OW, O] with OH = (H+2·Pad-KH)/Stride + 1.
func (t *Tape) Conv2D(x *Var, w, b *Param, o Conv) *Var {
	need(len(x.Shape) == 4 && len(w.Shape) == 4 && b.Size() == w.Shape[0], "Conv2D", "x of four dimensions, w [O, C, KH, KW], b [O]", x.Shape, w.Shape, b.Shape)
	need(o.Stride >= 1 && o.Pad >= 0 && (o.Act == None || o.Act == ReLU), "Conv2D", "a stride of at least 1, a padding of at least 0, no activation but ReLU", o)
	c := &conv2D{x: x, w: w, b: b, o: o, n: x.Shape[0], kh: w.Shape[2], kw: w.Shape[3]}
	if o.ChannelsFirst {
		c.c, c.h, c.wd = x.Shape[1], x.Shape[2], x.Shape[3]
		c.sc, c.sy, c.sx = c.h*c.wd, c.wd, 1
	} else {
		c.h, c.wd, c.c = x.Shape[1], x.Shape[2], x.Shape[3]
		c.sc, c.sy, c.sx = 1, c.wd*c.c, c.c
	}
	need(c.c == w.Shape[1] && c.h+2*o.Pad >= c.kh && c.wd+2*o.Pad >= c.kw, "Conv2D", sprint("w [O, ", c.c, ", KH, KW], no larger than the padded input"), x.Shape, w.Shape)
	c.oh, c.ow = (c.h+2*o.Pad-c.kh)/o.Stride+1, (c.wd+2*o.Pad-c.kw)/o.Stride+1
	c.perSampleSize = c.c * c.h * c.wd
	c.y = t.newVar([]int{c.n, c.oh, c.ow, w.Shape[0]}, true)
	t.record(c, c.y, []*Var{x}, w, b)
	return c.y
}

func (o *conv2D) kind() string { return "conv" }

func (o *conv2D) flops() (forward, backward int64) {
	f := 2 * int64(o.y.Size()) * int64(o.c*o.kh*o.kw)
	if o.x.root().grad {
		return f, 2 * f
	}
	return f, f
}

// needs: the input itself stands in cols.
func (o *conv2D) needs() []*Var { return []*Var{o.y} }

func (o *conv2D) reserve(*Tape) []reserved {
	rows, d, k := o.y.Rows(), o.w.Shape[0], o.c*o.kh*o.kw
	r := []reserved{{dst: &o.cols, n: rows * k}, {dst: &o.wp, n: d * k}, {dst: &o.dwp, n: d * k, kept: true, back: true}}
	if o.x.root().grad {
		r = append(r, reserved{dst: &o.dcols, n: rows * k, kept: true, back: true})
	}
	return r
}

func (o *conv2D) bind(t *Tape) {
	rows, d, k := o.y.Rows(), o.w.Shape[0], o.c*o.kh*o.kw
	win := o.kh * o.kw
	o.arrange = rowTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) {
		for i := lo; i < hi; i++ {
			for c := range o.c {
				for p := range win {
					o.wp[i*k+p*o.c+c] = o.w.Value[i*k+c*win+p]
				}
			}
		}
	}}
	o.restore = rowTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) {
		for i := lo; i < hi; i++ {
			for c := range o.c {
				for p := range win {
					g := o.dwp[i*k+p*o.c+c]
					if o.accW {
						g = o.w.Grad[i*k+c*win+p] + g
					}
					o.w.Grad[i*k+c*win+p] = g
				}
			}
		}
	}}
	o.gather = rowTask{n: o.n * o.oh, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			img := o.x.Data[r/o.oh*o.perSampleSize : (r/o.oh+1)*o.perSampleSize]
			for ox := range o.ow {
				row := o.cols[(r*o.ow+ox)*k : (r*o.ow+ox+1)*k]
				for p := range win {
					iy, ix := r%o.oh*o.o.Stride+p/o.kw-o.o.Pad, ox*o.o.Stride+p%o.kw-o.o.Pad
					dst := row[p*o.c : (p+1)*o.c]
					switch {
					case iy < 0 || iy >= o.h || ix < 0 || ix >= o.wd:
						clear(dst)
					case o.sc == 1:
						copy(dst, img[iy*o.sy+ix*o.sx:])
					default:
						for c := range dst {
							dst[c] = img[c*o.sc+iy*o.sy+ix*o.sx]
						}
					}
				}
			}
		}
	}}
	// A pixel takes its gradient from every window that saw it, in the order of the window's places.
	o.scatter = rowTask{n: o.n * o.h, f: func(lo, hi int, ws *kernel.Workspace) {
		sum := ws.Floats(o.c)
		for r := lo; r < hi; r++ {
			s, iy := r/o.h, r%o.h
			img := o.x.Grad[s*o.perSampleSize : (s+1)*o.perSampleSize]
			for ix := range o.wd {
				clear(sum)
				for p := range win {
					ty, tx := iy+o.o.Pad-p/o.kw, ix+o.o.Pad-p%o.kw
					if ty < 0 || tx < 0 || ty%o.o.Stride != 0 || tx%o.o.Stride != 0 || ty/o.o.Stride >= o.oh || tx/o.o.Stride >= o.ow {
						continue
					}
					at := ((s*o.oh+ty/o.o.Stride)*o.ow+tx/o.o.Stride)*k + p*o.c
					kernel.Accumulate(sum, o.dcols[at:at+o.c])
				}
				at := iy*o.sy + ix*o.sx
				if o.sc == 1 {
					give(img[at:at+o.c], sum, o.accX)
					continue
				}
				for c, g := range sum {
					if o.accX {
						g = img[c*o.sc+at] + g
					}
					img[c*o.sc+at] = g
				}
			}
		}
	}}
	o.act = rowTask{n: rows, f: func(lo, hi int, _ *kernel.Workspace) {
		kernel.ReLUBackward(o.y.Grad[lo*d:hi*d], o.y.Data[lo*d:hi*d], 1)
	}}
	o.fwd.g = kernel.Gemm{M: rows, N: d, K: k, A: o.cols, ARow: k, ACol: 1, B: o.wp, BRow: 1, BCol: k, C: o.y.Data, CRow: d, Bias: o.b.Value, ReLU: o.o.Act == ReLU, BF16: t.bf16}
	o.dw.g = kernel.Gemm{M: d, N: k, K: rows, A: o.y.Grad, ARow: 1, ACol: d, B: o.cols, BRow: k, BCol: 1, C: o.dwp, CRow: k, BF16: t.bf16}
	o.dx.g = kernel.Gemm{M: rows, N: k, K: d, A: o.y.Grad, ARow: d, ACol: 1, B: o.wp, BRow: k, BCol: 1, C: o.dcols, CRow: k, BF16: t.bf16}
	o.db = columnTask{n: d, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(o.b.Grad, o.y.Grad, rows, d, lo, hi, o.accB) }}
}

func (o *conv2D) forward(t *Tape) {
	o.arrange.run(t.rt)
	o.gather.run(t.rt)
	o.fwd.run(t.rt)
}

func (o *conv2D) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	if o.o.Act == ReLU { // nothing reads dy after this, so it is changed in place
		o.act.run(t.rt)
	}
	if o.dcols != nil {
		o.accX = o.x.accumulate()
		o.dx.run(t.rt)
		o.scatter.run(t.rt)
	}
	o.dw.run(t.rt)
	o.accW, o.accB = o.w.accumulate(), o.b.accumulate()
	o.restore.run(t.rt)
	o.db.run(t.rt)
}
