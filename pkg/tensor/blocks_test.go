package tensor

import (
	"fmt"
	"math"
)

// The operations of pretrained blocks, on the tape and in the twin.

type blockGraph interface {
	addNormEps(x, y node, gamma, beta leaf, eps float32) node
	rmsNorm(x node, gamma leaf, eps float32) node
	residual(x, y node, scale leaf) node
	tokensOf(x node, from, to int) node
	gated(x node, act Activation) node
	spread(x node, heads, groups int, angles []float32) node
	relative(qkv node, heads int, keys flags, table leaf, bucket []int) node
}

func (g *tapeGraph) addNormEps(x, y node, gamma, beta leaf, eps float32) node {
	return node{v: g.t.AddNormEps(x.v, y.v, gamma.p, beta.p, eps, 0)}
}
func (g *tapeGraph) rmsNorm(x node, gamma leaf, eps float32) node {
	return node{v: g.t.RMSNorm(x.v, gamma.p, eps)}
}
func (g *tapeGraph) residual(x, y node, scale leaf) node {
	return node{v: g.t.Residual(x.v, y.v, scale.p)}
}
func (g *tapeGraph) tokensOf(x node, from, to int) node { return node{v: g.t.Tokens(x.v, from, to)} }
func (g *tapeGraph) gated(x node, act Activation) node  { return node{v: g.t.Gated(x.v, act)} }
func (g *tapeGraph) spread(x node, heads, groups int, angles []float32) node {
	return node{v: g.t.Spread(x.v, heads, groups, angles)}
}
func (g *tapeGraph) relative(qkv node, heads int, keys flags, table leaf, bucket []int) node {
	return node{v: g.t.RelativeAttention(qkv.v, heads, Mask{Keys: keys.b}, table.p, bucket)}
}

func (g *twinGraph) addNormEps(x, y node, gamma, beta leaf, eps float32) node {
	out := newArray(x.f.shape...)
	for r := range x.f.rows() {
		mean, variance, n := 0.0, 0.0, float64(x.f.cols())
		z := append([]float64{}, x.f.row(r)...)
		for i := range z {
			if y.f != nil {
				z[i] += y.f.row(r)[i]
			}
			mean += z[i] / n
		}
		for _, v := range z {
			variance += (v - mean) * (v - mean) / n
		}
		for i, v := range z {
			out.row(r)[i] = (v-mean)/math.Sqrt(variance+float64(eps))*gamma.f.d[i] + beta.f.d[i]
		}
	}
	return node{f: out}
}

func (g *twinGraph) rmsNorm(x node, gamma leaf, eps float32) node {
	out := newArray(x.f.shape...)
	for r := range x.f.rows() {
		sum := 0.0
		for _, v := range x.f.row(r) {
			sum += v * v
		}
		for i, v := range x.f.row(r) {
			out.row(r)[i] = v / math.Sqrt(sum/float64(x.f.cols())+float64(eps)) * gamma.f.d[i]
		}
	}
	return node{f: out}
}

func (g *twinGraph) residual(x, y node, scale leaf) node {
	out := newArray(x.f.shape...)
	for i, v := range x.f.d {
		s := 1.0
		if scale.f != nil {
			s = scale.f.d[i%x.f.cols()]
		}
		out.d[i] = v + s*y.f.d[i]
	}
	return node{f: out}
}

func (g *twinGraph) tokensOf(x node, from, to int) node {
	b, n, d := x.f.shape[0], x.f.shape[1], x.f.shape[2]
	out := newArray(b, to-from, d)
	for s := range b {
		copy(out.d[s*(to-from)*d:], x.f.d[(s*n+from)*d:(s*n+to)*d])
	}
	return node{f: out}
}

// activate is an activation by the book.
func activate(act Activation, x float64) float64 {
	switch act {
	case ReLU:
		return math.Max(x, 0)
	case GELU:
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case SiLU:
		return x / (1 + math.Exp(-x))
	case ErfGELU:
		return x / 2 * (1 + math.Erf(x/math.Sqrt2))
	case QuickGELU:
		return x / (1 + math.Exp(-1.702*x))
	}
	return x
}

func (g *twinGraph) gated(x node, act Activation) node {
	f := x.f.cols() / 2
	out := newArray(append(append([]int{}, x.f.shape[:len(x.f.shape)-1]...), f)...)
	for r := range out.rows() {
		for i := range f {
			out.row(r)[i] = activate(act, x.f.row(r)[i]) * x.f.row(r)[f+i]
		}
	}
	return node{f: out}
}

func (g *twinGraph) spread(x node, heads, groups int, angles []float32) node {
	b, t := x.f.shape[0], x.f.shape[1]
	d := x.f.shape[2] / (heads + 2*groups)
	out := newArray(b, t, 3*heads*d)
	for r := range b * t {
		for p := range 3 {
			for h := range heads {
				from := []int{h, heads + h/(heads/groups), heads + groups + h/(heads/groups)}[p] * d
				src, dst := x.f.row(r)[from:from+d], out.row(r)[(p*heads+h)*d:]
				for i := range d {
					dst[i] = src[i]
					if p == 2 || angles == nil {
						continue
					}
					k := i % (d / 2)
					c, s := float64(angles[r%t*d+k]), float64(angles[r%t*d+d/2+k])
					if i < d/2 {
						dst[i] = src[i]*c - src[i+d/2]*s
					} else {
						dst[i] = src[i]*c + src[i-d/2]*s
					}
				}
			}
		}
	}
	return node{f: out}
}

func (g *twinGraph) relative(qkv node, heads int, keys flags, table leaf, bucket []int) node {
	b, n, w := qkv.f.shape[0], qkv.f.shape[1], qkv.f.shape[2]/3
	d, y := w/heads, newArray(b, n, w)
	at := func(s, i, part, h int) []float64 { return qkv.f.row(s*n + i)[part*w+h*d : part*w+(h+1)*d] }
	for s := range b {
		for h := range heads {
			for q := range n {
				e, sum := make([]float64, n), 0.0
				for k := range n {
					if keys.f != nil && keys.f[s*n+k] == 0 {
						continue
					}
					dot := table.f.row(bucket[k-q+n-1])[h]
					for j, v := range at(s, q, 0, h) {
						dot += v * at(s, k, 1, h)[j]
					}
					e[k] = math.Exp(dot)
					sum += e[k]
				}
				for k := range n {
					if e[k] == 0 {
						continue
					}
					for j, v := range at(s, k, 2, h) {
						y.row(s*n + q)[h*d+j] += e[k] / sum * v
					}
				}
			}
		}
	}
	return node{f: y}
}

// blockOps are their lines of the table of operations.
func blockOps() (list []opCase) {
	add := func(name string, out func(g graph, s dims) node) { list = append(list, opCase{name: name, out: out}) }
	for name, act := range map[string]Activation{"gelu": GELU, "silu": SiLU, "erf": ErfGELU, "quick": QuickGELU} {
		add("gated/"+name, func(g graph, s dims) node { return g.gated(g.input("x", s.b, s.n, 2*s.d), act) })
		if act == ErfGELU || act == QuickGELU {
			add("linear/"+name, func(g graph, s dims) node {
				return g.linear(tokens(g, s), g.param("w", s.d+3, s.d), g.param("b", s.d+3), act)
			})
		}
	}
	for _, eps := range []float32{1e-12, 0.1} {
		add(fmt.Sprintf("norm/eps=%v", eps), func(g graph, s dims) node {
			return g.addNormEps(tokens(g, s), g.input("y", s.b, s.n, s.d), g.param("gamma", s.d), g.param("beta", s.d), eps)
		})
		add(fmt.Sprintf("rmsnorm/eps=%v", eps), func(g graph, s dims) node { return g.rmsNorm(tokens(g, s), g.param("gamma", s.d), eps) })
	}
	add("residual", func(g graph, s dims) node {
		return g.residual(tokens(g, s), g.input("y", s.b, s.n, s.d), leaf{})
	})
	add("residual/scale", func(g graph, s dims) node {
		return g.residual(tokens(g, s), g.input("y", s.b, s.n, s.d), g.param("scale", s.d))
	})
	add("residual/same", func(g graph, s dims) node {
		return g.residual(tokens(g, s), tokens(g, s), g.param("scale", s.d))
	})
	add("tokens", func(g graph, s dims) node { return g.tokensOf(tokens(g, s), s.n/2, s.n) })
	for _, groups := range []int{1, 2} {
		for _, turned := range []bool{false, true} {
			add(fmt.Sprintf("spread/groups=%d,rotary=%v", groups, turned), func(g graph, s dims) node {
				const d = 6
				var angles []float32
				if turned {
					angles = draw("angles", s.n*d)
				}
				return g.attention(g.spread(g.input("x", s.b, s.n, (4+2*groups)*d), 4, groups, angles), 4, mask{causal: turned}, 0)
			})
		}
	}
	for _, keys := range []bool{false, true} {
		add(fmt.Sprintf("relative/keys=%v", keys), func(g graph, s dims) node {
			see := flags{}
			if keys {
				see = g.bytes("keys", seeSome(s), s.b, s.n)
			}
			bucket := make([]int, 2*s.n-1)
			for i := range bucket {
				bucket[i] = min(max(i-(s.n-1), s.n-1-i), 3)
			}
			return g.relative(g.input("qkv", s.b, s.n, 3*s.d), s.h, see, g.param("table", 4, s.h), bucket)
		})
	}
	return list
}
