package tensor

import (
	"math"

	"github.com/vlaring/vlaring/internal/philox"
)

// array is a value of the twin.
type array struct {
	shape []int
	d     []float64
}

func newArray(shape ...int) *array {
	return &array{shape: append([]int{}, shape...), d: make([]float64, size(shape))}
}

func (a *array) cols() int { return a.shape[len(a.shape)-1] }
func (a *array) rows() int { return len(a.d) / a.cols() }
func (a *array) row(r int) []float64 {
	return a.d[r*a.cols() : (r+1)*a.cols()]
}

// twinGraph computes at once, in float64, by the textbook: no fusing, no
// blocking, no memory plan. Leaves live in values, where the numeric gradient
// changes them.
type twinGraph struct {
	values map[string]*array
	sites  uint32 // dropouts met
}

func (g *twinGraph) leaf(name string, shape []int) *array {
	if g.values[name] == nil {
		a := newArray(shape...)
		for i, x := range draw(name, len(a.d)) {
			a.d[i] = float64(x)
		}
		g.values[name] = a
	}
	return g.values[name]
}

func (g *twinGraph) input(name string, shape ...int) node { return node{f: g.leaf(name, shape)} }
func (g *twinGraph) fixed(name string, shape ...int) node { return node{f: g.leaf(name, shape)} }
func (g *twinGraph) param(name string, shape ...int) leaf { return leaf{f: g.leaf(name, shape)} }
func (g *twinGraph) labels(name string, limit int, shape ...int) ids {
	n := g.ints(name, limit+1, shape...)
	for i := range n.f {
		n.f[i]--
	}
	return n
}

func (g *twinGraph) ints(name string, limit int, shape ...int) ids {
	return ids{f: drawInts(name, limit, size(shape))}
}
func (g *twinGraph) bytes(_ string, see func(int) bool, shape ...int) flags {
	return flags{f: seen(see, size(shape)), shape: shape}
}

// dropAt is the factor of one element under dropout.
func dropAt(p float32, site uint32, sample, element int) float64 {
	s := philox.Stream{Seed: testSeed, Purpose: philox.Dropout, Site: site, Step: testStep, Sample: sampleID(sample)}
	if float64(s.Uint32(uint32(element)))/(1<<32) < float64(p) {
		return 0
	}
	return 1 / (1 - float64(p))
}

// dropped applies a dropout of all of x [B, ..].
func (g *twinGraph) dropped(x *array, p float32) *array {
	if p == 0 {
		return x
	}
	y, per := newArray(x.shape...), len(x.d)/x.shape[0]
	for i := range x.d {
		y.d[i] = x.d[i] * dropAt(p, g.sites, i/per, i%per)
	}
	g.sites++
	return y
}

func (g *twinGraph) dropout(x node, p float32) node { return node{f: g.dropped(x.f, p)} }

func (g *twinGraph) linear(x node, w, b leaf, act Activation) node {
	shape := append([]int{}, x.f.shape...)
	shape[len(shape)-1] = w.f.shape[0]
	y := newArray(shape...)
	for r := range x.f.rows() {
		for o := range w.f.shape[0] {
			s := 0.0
			if b.f != nil {
				s = b.f.d[o]
			}
			for i, v := range x.f.row(r) {
				s += v * w.f.d[o*x.f.cols()+i]
			}
			y.row(r)[o] = activate(act, s)
		}
	}
	return node{f: y}
}

// outside says that k is out of q's sight in sparse attention.
func outside(m Mask, q, k int) bool {
	near := q-k <= m.Window && k-q <= m.Window
	everyones := k < m.Global || m.Stride > 0 && k%m.Stride == 0
	return m.Window > 0 && !near && !everyones && q >= m.Global
}

func (g *twinGraph) attention(qkv node, heads int, m mask, p float32) node {
	b, n, w := qkv.f.shape[0], qkv.f.shape[1], qkv.f.shape[2]/3
	d := w / heads
	y := newArray(b, n, w)
	at := func(s, i, part, h int) []float64 { return qkv.f.row(s*n + i)[part*w+h*d : part*w+(h+1)*d] }
	for s := range b {
		for h := range heads {
			for q := range n {
				e, sum := make([]float64, n), 0.0
				for k := range n {
					if m.causal && k > q || m.positions != nil && m.positions[q*n+k] == 0 || m.keys.f != nil && m.keys.f[s*n+k] == 0 || outside(m.sparse, q, k) {
						continue
					}
					dot := 0.0
					for j, v := range at(s, q, 0, h) {
						dot += v * at(s, k, 1, h)[j]
					}
					e[k] = math.Exp(dot / math.Sqrt(float64(d)))
					sum += e[k]
				}
				for k := range n {
					if e[k] == 0 {
						continue
					}
					f := e[k] / sum
					if p > 0 {
						f *= dropAt(p, g.sites, s, (h*n+q)*n+k)
					}
					for j, v := range at(s, k, 2, h) {
						y.row(s*n + q)[h*d+j] += f * v
					}
				}
			}
		}
	}
	if p > 0 {
		g.sites++
	}
	return node{f: y}
}

func (g *twinGraph) addNorm(x, y node, gamma, beta leaf, p float32) node {
	z, out := newArray(x.f.shape...), newArray(x.f.shape...)
	copy(z.d, x.f.d)
	if y.f != nil {
		for i, v := range g.dropped(y.f, p).d {
			z.d[i] += v
		}
	}
	for r := range z.rows() {
		mean, variance, n := 0.0, 0.0, float64(z.cols())
		for _, v := range z.row(r) {
			mean += v / n
		}
		for _, v := range z.row(r) {
			variance += (v - mean) * (v - mean) / n
		}
		for i, v := range z.row(r) {
			out.row(r)[i] = (v-mean)/math.Sqrt(variance+1e-5)*gamma.f.d[i] + beta.f.d[i]
		}
	}
	return node{f: out}
}

func (g *twinGraph) embedding(i ids, table leaf, scale float32, pos []float32) node {
	d := table.f.shape[1]
	n := len(i.f)
	y := newArray(n, d)
	for r, id := range i.f {
		for c, v := range table.f.row(int(id)) {
			y.row(r)[c] = v * float64(scale)
			if pos != nil {
				y.row(r)[c] += float64(pos[(r*d+c)%len(pos)])
			}
		}
	}
	return node{f: y}
}

func (g *twinGraph) patchEmbed(img node, w, b leaf) node {
	s, c, h, wd, p, d := img.f.shape[0], img.f.shape[1], img.f.shape[2], img.f.shape[3], w.f.shape[2], w.f.shape[0]
	y := newArray(s, (h/p)*(wd/p), d)
	at := 0
	for i := range s {
		for py := 0; py < h; py += p {
			for px := 0; px < wd; px += p {
				for o := range d {
					sum := b.f.d[o]
					for ch := range c {
						for u := range p {
							for v := range p {
								sum += img.f.d[((i*c+ch)*h+py+u)*wd+px+v] * w.f.d[((o*c+ch)*p+u)*p+v]
							}
						}
					}
					y.d[at] = sum
					at++
				}
			}
		}
	}
	return node{f: y}
}

func (g *twinGraph) prepend(x node, cls, pos leaf) node {
	b, n, d := x.f.shape[0], x.f.shape[1], x.f.shape[2]
	y := newArray(b, n+1, d)
	for s := range b {
		for i := range n + 1 {
			src := cls.f.d
			if i > 0 {
				src = x.f.row(s*n + i - 1)
			}
			for c := range d {
				y.row(s*(n+1) + i)[c] = src[c] + pos.f.d[i*d+c]
			}
		}
	}
	return node{f: y}
}

func (g *twinGraph) addRow(x node, table leaf, row int) node {
	y := newArray(x.f.shape...)
	for i, v := range x.f.d {
		y.d[i] = v + table.f.row(row)[i%x.f.cols()]
	}
	return node{f: y}
}

func (g *twinGraph) concat(a, b node) node {
	s, na, nb := a.f.shape[0], a.f.shape[1], b.f.shape[1]
	y := newArray(s, na+nb, a.f.shape[2])
	for i := range s {
		for j := range na + nb {
			if j < na {
				copy(y.row(i*(na+nb)+j), a.f.row(i*na+j))
			} else {
				copy(y.row(i*(na+nb)+j), b.f.row(i*nb+j-na))
			}
		}
	}
	return node{f: y}
}

func (g *twinGraph) concatBytes(a, b flags) flags {
	s, na, nb := a.shape[0], a.shape[1], b.shape[1]
	f := flags{shape: []int{s, na + nb}}
	for i := range s {
		f.f = append(append(f.f, a.f[i*na:(i+1)*na]...), b.f[i*nb:(i+1)*nb]...)
	}
	return f
}

func (g *twinGraph) meanPool(x node, see flags) node {
	b, n, d := x.f.shape[0], x.f.shape[1], x.f.shape[2]
	y := newArray(b, d)
	for s := range b {
		count := 0.0
		for i := range n {
			if see.f == nil || see.f[s*n+i] != 0 {
				count++
				for c, v := range x.f.row(s*n + i) {
					y.row(s)[c] += v
				}
			}
		}
		for c := range d {
			y.row(s)[c] /= math.Max(count, 1)
		}
	}
	return node{f: y}
}

func (g *twinGraph) lastToken(x node, see flags) node {
	b, n, d := x.f.shape[0], x.f.shape[1], x.f.shape[2]
	y := newArray(b, d)
	for s := range b {
		for i := range n {
			if see.f == nil || see.f[s*n+i] != 0 {
				copy(y.row(s), x.f.row(s*n+i))
			}
		}
	}
	return node{f: y}
}

func (g *twinGraph) unit(x node) node {
	y := newArray(x.f.shape...)
	for r := range x.f.rows() {
		sum := 0.0
		for _, v := range x.f.row(r) {
			sum += v * v
		}
		for i, v := range x.f.row(r) {
			y.row(r)[i] = v / math.Max(math.Sqrt(sum), leastLength)
		}
	}
	return node{f: y}
}

func (g *twinGraph) selectToken(x node, i int) node {
	y := newArray(x.f.shape[0], x.f.shape[2])
	for s := range x.f.shape[0] {
		copy(y.row(s), x.f.row(s*x.f.shape[1]+i))
	}
	return node{f: y}
}

func (g *twinGraph) reshape(x node, shape ...int) node {
	return node{f: &array{shape: shape, d: x.f.d}}
}

func (g *twinGraph) mse(x, target node) loss {
	s := 0.0
	for i, v := range x.f.d {
		s += (v - target.f.d[i]) * (v - target.f.d[i])
	}
	return loss{f: s / float64(len(x.f.d))}
}

// crossEntropy is Sum/Nominal, which Backward is the gradient of.
func (g *twinGraph) crossEntropy(x node, labels ids) loss {
	s := 0.0
	for r, y := range labels.f {
		if y < 0 {
			continue
		}
		sum := 0.0
		for _, v := range x.f.row(r) {
			sum += math.Exp(v)
		}
		s += math.Log(sum) - x.f.row(r)[y]
	}
	return loss{f: s / float64(len(labels.f))}
}
