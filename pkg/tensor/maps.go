package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// Operations on feature maps, [B, H, W, C], and on the tokens [B, H·W, C] that
// they are by another name.

type maxPool struct {
	x, y      *Var
	size      int
	stride    int
	best      []int32 // [B·OH·OW·C] where in its sample each output came from
	fwd, back rowTask
	acc       bool
}

// MaxPool2D returns the largest value of each window of size × size, a channel
// at a time, the first of equals: x [B, H, W, C] → [B, OH, OW, C] with
// OH = (H-size)/stride + 1.
func (t *Tape) MaxPool2D(x *Var, size, stride int) *Var {
	need(len(x.Shape) == 4 && size >= 1 && stride >= 1 && x.Shape[1] >= size && x.Shape[2] >= size, "MaxPool2D", sprint("[B, H, W, C] no smaller than the window of ", size), x.Shape)
	o := &maxPool{x: x, size: size, stride: stride}
	o.y = t.newVar([]int{x.Shape[0], (x.Shape[1]-size)/stride + 1, (x.Shape[2]-size)/stride + 1, x.Shape[3]}, x.root().grad)
	t.record(o, o.y, []*Var{x})
	return o.y
}

func (o *maxPool) needs() []*Var         { return nil }
func (o *maxPool) kind() string          { return "maps" }
func (o *maxPool) flops() (int64, int64) { return 0, 0 }

func (o *maxPool) bind(*Tape) {
	h, w, c, oh, ow := o.x.Shape[1], o.x.Shape[2], o.x.Shape[3], o.y.Shape[1], o.y.Shape[2]
	o.best = make([]int32, o.y.Size())
	o.fwd = rowTask{n: o.x.Shape[0] * oh, f: func(lo, hi int, _ *kernel.Workspace) {
		for r := lo; r < hi; r++ {
			img := o.x.Data[r/oh*h*w*c : (r/oh+1)*h*w*c]
			for ox := range ow {
				at := (r*ow + ox) * c
				for ch := range c {
					first := (r%oh*o.stride*w+ox*o.stride)*c + ch
					best, where := img[first], first
					for p := range o.size * o.size {
						i := first + (p/o.size*w+p%o.size)*c
						if v := img[i]; v > best || v != v {
							best, where = v, i
						}
					}
					o.y.Data[at+ch], o.best[at+ch] = best, int32(where)
				}
			}
		}
	}}
	o.back = rowTask{n: o.x.Shape[0], f: func(lo, hi int, _ *kernel.Workspace) { // windows may overlap: a sample is one thread's
		for s := lo; s < hi; s++ {
			dx := o.x.Grad[s*h*w*c : (s+1)*h*w*c]
			if !o.acc {
				clear(dx)
			}
			for i := s * oh * ow * c; i < (s+1)*oh*ow*c; i++ {
				dx[o.best[i]] += o.y.Grad[i]
			}
		}
	}}
}

func (o *maxPool) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *maxPool) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.back.run(t.rt)
}

type spatialSoftmax struct {
	x, y      *Var
	p         []float32 // [B, H·W, C] weights of each channel
	fwd, back rowTask
	acc       bool
}

// SpatialSoftmax returns where each channel is active: the mean position under
// a softmax over the places of its map (Levine et al., "End-to-End Training of
// Deep Visuomotor Policies", 2016): x [B, H, W, C] → [B, 2, C], first the
// horizontal and then the vertical position, -1 at the first column or row and
// 1 at the last.
func (t *Tape) SpatialSoftmax(x *Var) *Var {
	need(len(x.Shape) == 4, "SpatialSoftmax", "[B, H, W, C]", x.Shape)
	o := &spatialSoftmax{x: x, y: t.newVar([]int{x.Shape[0], 2, x.Shape[3]}, x.root().grad)}
	t.record(o, o.y, []*Var{x})
	return o.y
}

// place is position i of n on [-1, 1].
func place(i, n int) float32 {
	if n == 1 {
		return 0
	}
	return float32(2*i)/float32(n-1) - 1
}

func (o *spatialSoftmax) needs() []*Var         { return []*Var{o.y} }
func (o *spatialSoftmax) kind() string          { return "maps" }
func (o *spatialSoftmax) flops() (int64, int64) { return 0, 0 }
func (o *spatialSoftmax) reserve(*Tape) []reserved {
	return []reserved{{dst: &o.p, n: o.x.Size()}}
}

func (o *spatialSoftmax) bind(*Tape) {
	h, w, c := o.x.Shape[1], o.x.Shape[2], o.x.Shape[3]
	n := h * w
	row := func(s []float32, i int) []float32 { return s[i*c : (i+1)*c] }
	o.fwd = rowTask{n: o.x.Shape[0], f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(2 * c)
		most, sum := buf[:c], buf[c:]
		for s := lo; s < hi; s++ {
			x, p, y := o.x.Data[s*n*c:(s+1)*n*c], o.p[s*n*c:(s+1)*n*c], o.y.Data[2*s*c:2*(s+1)*c]
			copy(most, row(x, 0))
			for i := 1; i < n; i++ {
				for k, v := range row(x, i) {
					if v > most[k] || v != v {
						most[k] = v
					}
				}
			}
			clear(sum)
			clear(y)
			for i := range n {
				e := row(p, i)
				for k, v := range row(x, i) {
					e[k] = v - most[k]
				}
				kernel.ExpSlice(e, e)
				kernel.Accumulate(sum, e)
			}
			for i := range n {
				px, py := place(i%w, w), place(i/w, h)
				for k, v := range row(p, i) {
					v /= sum[k]
					p[i*c+k] = v
					y[k] += float32(v * px)
					y[c+k] += float32(v * py)
				}
			}
		}
	}}
	o.back = rowTask{n: o.x.Shape[0], f: func(lo, hi int, ws *kernel.Workspace) {
		g := ws.Floats(c)
		for s := lo; s < hi; s++ {
			y, dy := o.y.Data[2*s*c:2*(s+1)*c], o.y.Grad[2*s*c:2*(s+1)*c]
			for i := range n {
				px, py := place(i%w, w), place(i/w, h)
				at := (s*n + i) * c
				for k, v := range o.p[at : at+c] { // dx = p·((px - ȳx)·dyx + (py - ȳy)·dyy)
					g[k] = float32(v * (float32((px-y[k])*dy[k]) + float32((py-y[c+k])*dy[c+k])))
				}
				give(o.x.Grad[at:at+c], g, o.acc)
			}
		}
	}}
}

func (o *spatialSoftmax) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *spatialSoftmax) backward(t *Tape) {
	if !o.y.root().written || !o.x.root().grad {
		return
	}
	o.acc = o.x.accumulate()
	o.back.run(t.rt)
}

type addPositions struct {
	x, y *Var
	pos  *Param
	fwd  rowTask
	back rowTask
	cols columnTask
	accX bool
	accP bool
}

// AddPositions adds the first T·D elements of pos to every sample of x [B, T, D].
func (t *Tape) AddPositions(x *Var, pos *Param) *Var {
	need(len(x.Shape) == 3 && pos.Size() >= x.Shape[1]*x.Shape[2], "AddPositions", "x [B, T, D] and T·D positions", x.Shape, pos.Shape)
	o := &addPositions{x: x, pos: pos, y: t.newVar(x.Shape, true)}
	t.record(o, o.y, []*Var{x}, pos)
	return o.y
}

func (o *addPositions) needs() []*Var         { return nil }
func (o *addPositions) kind() string          { return "tokens" }
func (o *addPositions) flops() (int64, int64) { return 0, 0 }

func (o *addPositions) bind(*Tape) {
	b, n := o.x.Shape[0], o.x.Shape[1]*o.x.Shape[2]
	o.fwd = rowTask{n: b, f: func(lo, hi int, _ *kernel.Workspace) {
		for s := lo; s < hi; s++ {
			kernel.Add(o.y.Data[s*n:(s+1)*n], o.x.Data[s*n:(s+1)*n], o.pos.Value[:n])
		}
	}}
	o.back = rowTask{n: b, f: func(lo, hi int, _ *kernel.Workspace) { give(o.x.Grad[lo*n:hi*n], o.y.Grad[lo*n:hi*n], o.accX) }}
	o.cols = columnTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(o.pos.Grad, o.y.Grad, b, n, lo, hi, o.accP) }}
}

func (o *addPositions) forward(t *Tape) { o.fwd.run(t.rt) }

func (o *addPositions) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	if o.x.root().grad {
		o.accX = o.x.accumulate()
		o.back.run(t.rt)
	}
	if o.accP = o.pos.accumulate(); !o.accP {
		clear(o.pos.Grad[o.x.Shape[1]*o.x.Shape[2]:])
	}
	o.cols.run(t.rt)
}
