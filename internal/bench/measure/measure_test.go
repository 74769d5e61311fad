package measure

import (
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Whatever is measured is there and is a rate; no test asks how large.
func TestMeasures(t *testing.T) {
	for _, threads := range []int{1, 2} {
		rt := tensor.NewRuntime(threads)
		defer rt.Close()
		b := New(rt)
		b.smallest = 1e5 // how precise times are is not asked
		if p := Peak(rt, 1); !(p > 0) {
			t.Errorf("%d threads: peak %v", threads, p)
		}
		if w := b.Bandwidth(1 << 12); !(w > 0) {
			t.Errorf("%d threads: bandwidth %v", threads, w)
		}
		for _, o := range Orientations() {
			for _, of := range []Operands{Rounded, BF16} {
				if g := b.Gemm(Product{"p", 5, 33, 17}.Shape(o), o, of, 0); !(g.Rate > 0 && g.Peak > 0) {
					t.Errorf("%d threads, %s, operands %d: %+v", threads, o, of, g)
				}
			}
			g := b.Gemm(Product{"p", 5, 33, 17}.Shape(o), o, Float32, 0)
			if !(g.Rate > 0 && g.Peak > 0 && g.Share > 0 && g.ShareBest >= g.Share && g.Best > 0 && g.Median >= g.Best) || g.Runs < 3 {
				t.Errorf("%d threads, %s: %+v", threads, o, g)
			}
			if (g.ShareCPU > 0) != (threads == 1) {
				t.Errorf("%d threads, %s: share by CPU time %v", threads, o, g.ShareCPU)
			}
		}
		if threads == 1 {
			continue
		}
		kernels := 0
		b.Kernels(100, 0.002, 0, func(k KernelTime) {
			kernels++
			if !(k.Median > 0 && k.Bytes > 0) || k.Name == "" || len(k.Shape) == 0 {
				t.Errorf("%d threads: %+v", threads, k)
			}
		})
		passes := map[string]int{}
		b.Ops(0.01, 0, func(o OpTime) {
			passes[o.Pass]++
			if !(o.Time > 0) || (o.FLOPs > 0) == (o.Bytes > 0) || !strings.HasPrefix(o.Shape, "[") {
				t.Errorf("%d threads: %+v", threads, o)
			}
		})
		if kernels < 20 || passes["forward"] != len(opCases())+1 || passes["backward"] != passes["forward"] {
			t.Errorf("%d threads: %d kernels, passes %v", threads, kernels, passes)
		}
	}
}

// The three products of a layer are the ones of docs/numerics.md, by count.
func TestProducts(t *testing.T) {
	for _, c := range []struct {
		model string
		batch int
		want  Product
	}{{"default", 8, Product{"default vision qkv", 1576, 512, 1536}}, {"small", 32, Product{"small vision ff2", 544, 512, 128}}, {"default", 8, Product{"default fusion ff1", 72, 512, 2048}}} {
		found := false
		for _, p := range Products(c.model, c.batch) {
			found = found || p == c.want
		}
		if !found {
			t.Errorf("no %+v", c.want)
		}
	}
	if Products("huge", 1) != nil {
		t.Error("products of no model")
	}
	p := Product{"", 2, 3, 5}
	for o, want := range map[Orientation]Shape{Forward: {2, 5, 3}, DX: {2, 3, 5}, DW: {5, 3, 2}} {
		if got := p.Shape(o); got != want {
			t.Errorf("%s: %v, want %v", o, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 2, 1}, 2}} {
		if got := Median(c.x); got != c.want {
			t.Errorf("median of %v is %v", c.x, got)
		}
	}
}
