package tensor

import (
	"fmt"
	"math"
	"testing"
)

// adamTwin is torch.optim.AdamW (or Adam, with L2) by the book, in float64, for one element.
type adamTwin struct{ p, m, v float64 }

func (a *adamTwin) step(g float64, t int, h AdamW) {
	if h.L2 {
		g += h.WeightDecay * a.p
	} else {
		a.p -= h.LR * h.WeightDecay * a.p
	}
	a.m = h.Beta1*a.m + (1-h.Beta1)*g
	a.v = h.Beta2*a.v + (1-h.Beta2)*g*g
	mh := a.m / (1 - math.Pow(h.Beta1, float64(t)))
	vh := a.v / (1 - math.Pow(h.Beta2, float64(t)))
	a.p -= h.LR * mh / (math.Sqrt(vh) + h.Eps)
}

func TestAdamW(t *testing.T) {
	rt := NewRuntime(3)
	defer rt.Close()
	for _, h := range []AdamW{
		{LR: 1e-2, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8},
		{LR: 1e-2, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.1},
		{LR: 3e-3, Beta1: 0.8, Beta2: 0.95, Eps: 1e-4, WeightDecay: 0.1, L2: true},
		{LR: 1e-2, Beta1: 0, Beta2: 0.5, Eps: 1e-8, WeightDecay: 0.01},
	} {
		for _, n := range []int{1, 15, 16, 17, 333} {
			const clip = 0.375
			p, m, v := draw("p", n), make([]float32, n), make([]float32, n)
			twins := make([]adamTwin, n)
			for i := range twins {
				twins[i].p = float64(p[i])
			}
			for step := 1; step <= 40; step++ {
				g := draw(fmt.Sprint("g", step), n)
				g[n/2] = 0 // nothing to learn here: only the decay moves it
				rt.AdamWStep(p, g, m, v, uint64(step), h, clip)
				for i := range twins {
					twins[i].step(float64(g[i])*clip, step, h)
				}
			}
			for i, w := range twins {
				// 40 steps of a few roundings each; a step moves a weight by about LR
				for what, d := range map[string]float64{"weight": float64(p[i]) - w.p, "m": float64(m[i]) - w.m, "v": float64(v[i]) - w.v} {
					if !(math.Abs(d) <= 4e-6) {
						t.Errorf("%+v, element %d of %d: %s is off by %g", h, i, n, what, d)
					}
				}
			}
		}
	}
}

// PyTorch's first step moves every weight by the learning rate against the sign of its gradient, whatever its size.
func TestAdamWFirstStep(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	p := []float32{1, 1, 1, 1}
	rt.AdamWStep(p, []float32{5, -5, 1e-3, 0}, make([]float32, 4), make([]float32, 4), 1, AdamW{LR: 0.5, Beta1: 0.9, Beta2: 0.999}, 1)
	for i, want := range []float32{0.5, 1.5, 0.5} {
		if math.Abs(float64(p[i]-want)) > 1e-6 {
			t.Errorf("weight %d is %v, want %v", i, p[i], want)
		}
	}
	if p[3] == p[3] {
		t.Errorf("0/0 with eps 0 is %v: torch gives NaN", p[3])
	}
}

func TestPower(t *testing.T) {
	for _, b := range []float64{0, 0.5, 0.9, 0.999, 1} {
		for _, n := range []uint64{0, 1, 2, 3, 10, 1000, 123456} {
			want := math.Pow(b, float64(n))
			if got := power(b, n); math.Abs(got-want) > 1e-11*want {
				t.Errorf("power(%v, %d) = %v, want %v", b, n, got, want)
			}
		}
	}
}

// manyParams are sizes on and around cache lines, names out of order.
func manyParams() *Params {
	ps := NewParams()
	for i, n := range []int{1, 16, 3, 40, 17, 1000, 31, 5} {
		ps.Add(fmt.Sprintf("p%d", (i*5)%8), n)
	}
	ps.Seal()
	return ps
}

func TestGradNorm(t *testing.T) {
	ps := manyParams()
	g := draw("g", ps.Len())
	want := 0.0
	for _, p := range ps.List() {
		for _, x := range g[p.Offset : p.Offset+p.Size()] {
			want += float64(x) * float64(x)
		}
	}
	want = math.Sqrt(want)
	var bits uint64
	for i, threads := range []int{1, 2, 3, 5} {
		rt := NewRuntime(threads)
		for _, level := range CPULevels() {
			withLevel(t, level, func() {
				got := rt.GradNorm(ps, g)
				if math.Abs(got-want) > 1e-12*want { // gaps, which hold numbers here, must not count
					t.Errorf("%d threads, %s: %v, want %v", threads, level, got, want)
				}
				if i == 0 && level == CPULevels()[0] {
					bits = math.Float64bits(got)
				} else if math.Float64bits(got) != bits {
					t.Errorf("%d threads, %s: %x, one thread of plain Go says %x", threads, level, math.Float64bits(got), bits)
				}
			})
		}
		rt.Close()
	}
}

// A square of a large float32 overflows float32, and must not overflow here.
func TestGradNormLarge(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	ps := NewParams()
	ps.Add("w", 2)
	ps.Seal()
	if got := rt.GradNorm(ps, append([]float32{3e30, 4e30}, make([]float32, 14)...)); math.Abs(got-5e30) > 1e24 {
		t.Errorf("norm %v, want 5e30", got)
	}
}

func TestFirstNonFinite(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	ps := manyParams()
	g := draw("g", ps.Len())
	if got := rt.FirstNonFinite(ps, g); got != "" {
		t.Errorf("finite gradients: %q", got)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for i := 7; i >= 0; i-- { // p7 first, then p6 too, …: the first by name is named
			p := ps.ByName(fmt.Sprintf("p%d", i))
			g[p.Offset+p.Size()-1] = float32(bad)
			if got := rt.FirstNonFinite(ps, g); got != p.Name {
				t.Errorf("%v in %s and after: %q", bad, p.Name, got)
			}
		}
		copy(g, draw("g", ps.Len()))
	}
	p := ps.ByName("p3")
	if p.Size()%16 != 0 {
		g[p.Offset+p.Size()] = float32(math.NaN()) // a gap is nobody's
	}
	if got := rt.FirstNonFinite(ps, g); got != "" {
		t.Errorf("a NaN in a gap: %q", got)
	}
}

// Optimizer and slab passes give the same bits for every number of threads and level.
func TestSlabBits(t *testing.T) {
	const n = 2003
	h := AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.1}
	var want [][]float32
	for _, level := range CPULevels() {
		withLevel(t, level, func() {
			for _, threads := range []int{1, 2, 3, 5} {
				rt := NewRuntime(threads)
				defer rt.Close()
				for _, l2 := range []bool{false, true} {
					h.L2 = l2
					p, m, v := draw("p", n), make([]float32, n), make([]float32, n)
					for step := uint64(1); step <= 3; step++ {
						g := draw(fmt.Sprint("g", step), n)
						g[0], g[17] = 0, 1e-30 // its square is nothing
						rt.AdamWStep(p, g, m, v, step, h, 0.7)
					}
					s, d := draw("s", n), draw("d", n)
					rt.Scale(s, 1.7)
					rt.Div(d, d, 3)
					Fold(s, d)
					got := [][]float32{p, m, v, s, d}
					at := 0
					if l2 {
						at = 5
					}
					if len(want) < 10 {
						want = append(want, got...)
					}
					for i := range got {
						if d := differ(want[at+i], got[i]); d != "" {
							t.Errorf("%s, %d threads, L2 %v: slab %d differs%s", level, threads, l2, i, d)
						}
					}
				}
			}
		})
	}
}
