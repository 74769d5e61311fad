package tensor

import (
	"fmt"
	"math"
)

// The operations of the model zoo: convolution, pooling, LSTM, sums of losses
// and distillation, on the tape and in the twin.

func (g *tapeGraph) conv(x node, w, b leaf, o Conv) node {
	return node{v: g.t.Conv2D(x.v, w.p, b.p, o)}
}
func (g *tapeGraph) maxPool(x node, size, stride int) node {
	return node{v: g.t.MaxPool2D(x.v, size, stride)}
}
func (g *tapeGraph) spatialSoftmax(x node) node { return node{v: g.t.SpatialSoftmax(x.v)} }
func (g *tapeGraph) addPositions(x node, pos leaf) node {
	return node{v: g.t.AddPositions(x.v, pos.p)}
}
func (g *tapeGraph) lstm(x node, wih, whh, bih, bhh leaf) node {
	return node{v: g.t.LSTM(x.v, wih.p, whh.p, bih.p, bhh.p)}
}
func (g *tapeGraph) weightedSum(l []loss, w []float64) loss {
	var parts []*Loss
	for _, p := range l {
		parts = append(parts, p.l)
	}
	return loss{l: g.t.WeightedSum(parts, w)}
}
func (g *tapeGraph) softTargets(x, teacher node, labels ids, temperature float64) loss {
	return loss{l: g.t.SoftTargets(x.v, teacher.v, labels.i, temperature)}
}

func (g *twinGraph) conv(x node, w, b leaf, o Conv) node {
	s := x.f.shape
	n, h, wd, c := s[0], s[1], s[2], s[3]
	at := func(i, y, x, ch int) int { return ((i*h+y)*wd+x)*c + ch }
	if o.ChannelsFirst {
		n, c, h, wd = s[0], s[1], s[2], s[3]
		at = func(i, y, x, ch int) int { return ((i*c+ch)*h+y)*wd + x }
	}
	d, kh, kw := w.f.shape[0], w.f.shape[2], w.f.shape[3]
	oh, ow := (h+2*o.Pad-kh)/o.Stride+1, (wd+2*o.Pad-kw)/o.Stride+1
	y := newArray(n, oh, ow, d)
	for i := range n {
		for oy := range oh {
			for ox := range ow {
				for k := range d {
					sum := b.f.d[k]
					for ch := range c {
						for u := range kh {
							for v := range kw {
								iy, ix := oy*o.Stride+u-o.Pad, ox*o.Stride+v-o.Pad
								if iy >= 0 && iy < h && ix >= 0 && ix < wd {
									sum += x.f.d[at(i, iy, ix, ch)] * w.f.d[((k*c+ch)*kh+u)*kw+v]
								}
							}
						}
					}
					if o.Act == ReLU {
						sum = math.Max(sum, 0)
					}
					y.d[((i*oh+oy)*ow+ox)*d+k] = sum
				}
			}
		}
	}
	return node{f: y}
}

func (g *twinGraph) maxPool(x node, size, stride int) node {
	n, h, w, c := x.f.shape[0], x.f.shape[1], x.f.shape[2], x.f.shape[3]
	oh, ow := (h-size)/stride+1, (w-size)/stride+1
	y := newArray(n, oh, ow, c)
	for i := range y.d {
		k, ox, oy, s := i%c, i/c%ow, i/c/ow%oh, i/c/ow/oh
		best := math.Inf(-1)
		for u := range size {
			for v := range size {
				best = math.Max(best, x.f.d[((s*h+oy*stride+u)*w+ox*stride+v)*c+k])
			}
		}
		y.d[i] = best
	}
	return node{f: y}
}

func (g *twinGraph) spatialSoftmax(x node) node {
	n, h, w, c := x.f.shape[0], x.f.shape[1], x.f.shape[2], x.f.shape[3]
	y := newArray(n, 2, c)
	coordinate := func(i, n int) float64 {
		if n == 1 {
			return 0
		}
		return 2*float64(i)/float64(n-1) - 1
	}
	for s := range n {
		for k := range c {
			sum := 0.0
			for i := range h * w {
				e := math.Exp(x.f.d[(s*h*w+i)*c+k])
				sum += e
				y.row(2 * s)[k] += e * coordinate(i%w, w)
				y.row(2*s + 1)[k] += e * coordinate(i/w, h)
			}
			y.row(2 * s)[k] /= sum
			y.row(2*s + 1)[k] /= sum
		}
	}
	return node{f: y}
}

func (g *twinGraph) addPositions(x node, pos leaf) node {
	y := newArray(x.f.shape...)
	for i, v := range x.f.d {
		y.d[i] = v + pos.f.d[i%len(pos.f.d)]
	}
	return node{f: y}
}

func (g *twinGraph) lstm(x node, wih, whh, bih, bhh leaf) node {
	b, n, in, h := x.f.shape[0], x.f.shape[1], x.f.shape[2], whh.f.shape[1]
	y := newArray(b, n, h)
	sig := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	for s := range b {
		hid, cell := make([]float64, h), make([]float64, h)
		for t := range n {
			gate := make([]float64, 4*h)
			for k := range gate {
				gate[k] = bih.f.d[k] + bhh.f.d[k]
				for i := range in {
					gate[k] += x.f.row(s*n + t)[i] * wih.f.d[k*in+i]
				}
				for i, v := range hid {
					gate[k] += v * whh.f.d[k*h+i]
				}
			}
			for k := range h {
				cell[k] = sig(gate[h+k])*cell[k] + sig(gate[k])*math.Tanh(gate[2*h+k])
			}
			for k := range h {
				hid[k] = sig(gate[3*h+k]) * math.Tanh(cell[k])
			}
			copy(y.row(s*n+t), hid)
		}
	}
	return node{f: y}
}

func (g *twinGraph) weightedSum(l []loss, w []float64) loss {
	sum := 0.0
	for i, p := range l {
		sum += w[i] * p.f
	}
	return loss{f: sum}
}

func (g *twinGraph) softTargets(x, teacher node, labels ids, temperature float64) loss {
	soft := func(row []float64) []float64 {
		p, sum := make([]float64, len(row)), 0.0
		for i, v := range row {
			p[i] = math.Exp(v / temperature)
			sum += p[i]
		}
		for i := range p {
			p[i] /= sum
		}
		return p
	}
	s := 0.0
	for r := range x.f.rows() {
		if labels.f != nil && labels.f[r] < 0 {
			continue
		}
		q := soft(x.f.row(r))
		for i, p := range soft(teacher.f.row(r)) {
			s += p * (math.Log(p) - math.Log(q[i]))
		}
	}
	return loss{f: temperature * temperature * s / float64(x.f.rows())}
}

// zooOps are the zoo's lines of the table of operations.
func zooOps() (list []opCase) {
	add := func(name string, out func(g graph, s dims) node) { list = append(list, opCase{name: name, out: out}) }
	for _, c := range []struct {
		h, w, k   int
		o         Conv
		rectangle bool
	}{{h: 5, w: 7, k: 3, o: Conv{Stride: 1, Pad: 1}}, {h: 6, w: 5, k: 3, o: Conv{Stride: 2, Pad: 1, Act: ReLU}}, {h: 4, w: 4, k: 1, o: Conv{Stride: 1}},
		{h: 7, w: 9, k: 2, o: Conv{Stride: 3, Pad: 2, ChannelsFirst: true}}, {h: 6, w: 6, k: 3, o: Conv{Stride: 2, Act: ReLU, ChannelsFirst: true}},
		{h: 5, w: 6, k: 2, o: Conv{Stride: 1}, rectangle: true}} {
		add(fmt.Sprintf("conv/%d×%d,k=%d,stride=%d,pad=%d,act=%d,first=%v,rectangle=%v", c.h, c.w, c.k, c.o.Stride, c.o.Pad, c.o.Act, c.o.ChannelsFirst, c.rectangle), func(g graph, s dims) node {
			in, kw := 1+s.h, c.k
			if c.rectangle {
				kw++
			}
			shape := []int{s.b, c.h, c.w, in}
			if c.o.ChannelsFirst {
				shape = []int{s.b, in, c.h, c.w}
			}
			y := g.conv(g.input("img", shape...), g.param("w", s.d, in, c.k, kw), g.param("b", s.d), c.o)
			return g.reshape(y, s.b, y.shape()[1]*y.shape()[2], s.d)
		})
	}
	for _, c := range [][4]int{{4, 6, 2, 2}, {5, 5, 3, 2}, {3, 4, 2, 1}} {
		add(fmt.Sprintf("maxpool/%v", c), func(g graph, s dims) node {
			y := g.maxPool(g.input("img", s.b, c[0], c[1], s.d), c[2], c[3])
			return g.reshape(y, s.b, y.shape()[1]*y.shape()[2], s.d)
		})
	}
	add("spatialsoftmax", func(g graph, s dims) node { return g.spatialSoftmax(g.input("img", s.b, 3, s.n, s.d)) })
	add("addpositions", func(g graph, s dims) node { return g.addPositions(tokens(g, s), g.param("pos", 1, s.n, s.d)) })
	add("lstm", func(g graph, s dims) node {
		h := s.d/2 + 1
		return g.lstm(tokens(g, s), g.param("wih", 4*h, s.d), g.param("whh", 4*h, h), g.param("bih", 4*h), g.param("bhh", 4*h))
	})
	for _, temperature := range []float64{1, 2.5} {
		list = append(list, opCase{name: fmt.Sprintf("softtargets/%v", temperature), loss: func(g graph, s dims) (node, loss) {
			x := g.input("logits", s.b, s.n, s.d)
			return x, g.softTargets(x, g.fixed("teacher", s.b, s.n, s.d), ids{}, temperature)
		}})
	}
	return append(list, opCase{name: "weightedsum", loss: func(g graph, s dims) (node, loss) {
		x := g.input("logits", s.b, s.n, s.d)
		y := g.linear(x, g.param("w", s.d, s.d), leaf{}, None)
		labels := g.labels("labels", s.d, s.b, s.n)
		return y, g.weightedSum([]loss{g.crossEntropy(y, labels), g.crossEntropy(x, labels), g.softTargets(y, g.fixed("teacher", s.b, s.n, s.d), labels, 2)},
			[]float64{0.25, 3, 0.5})
	}}, opCase{name: "weightedsum/elements", loss: func(g graph, s dims) (node, loss) {
		x := g.input("x", s.b, s.n, s.d)
		y := g.linear(x, g.param("w", s.d+1, s.d), leaf{}, None)
		return y, g.weightedSum([]loss{g.mse(y, g.fixed("taught", s.b, s.n, s.d+1)), g.mse(x, g.fixed("want", s.b, s.n, s.d))}, []float64{0.5, 3})
	}})
}
