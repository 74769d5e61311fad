package measure

import (
	"fmt"
	"time"

	"github.com/vlaring/vlaring/internal/kernel"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Orientation is one of the three products of training a linear layer.
type Orientation string

// The products of a layer with input X [R, I], weights W [O, I] and output Y [R, O].
const (
	Forward Orientation = "Y=X·Wᵀ"
	DX      Orientation = "dX=dY·W"
	DW      Orientation = "dW=dYᵀ·X"
)

// Orientations lists them.
func Orientations() []Orientation { return []Orientation{Forward, DX, DW} }

// Product is a linear layer of a model, or a square.
type Product struct {
	Name          string
	Rows, In, Out int // tokens of a batch, width in, width out
}

// Shape is a product C [M, N] = A [M, K]·B [K, N].
type Shape struct{ M, N, K int }

// Shape is what an orientation makes of p.
func (p Product) Shape(o Orientation) Shape {
	switch o {
	case DX:
		return Shape{p.Rows, p.In, p.Out}
	case DW:
		return Shape{p.Out, p.In, p.Rows}
	}
	return Shape{p.Rows, p.Out, p.In}
}

// models are the widths and token counts that Products knows.
var models = map[string]struct{ d, ff, patches, patch, text int }{
	"default": {512, 2048, 196, 768, 8},
	"small":   {128, 512, 16, 768, 8},
}

// Products lists the linear layers of the default or the small VLA model for
// batches of batch samples; nil for another name.
func Products(model string, batch int) []Product {
	m, ok := models[model]
	if !ok {
		return nil
	}
	l := []Product{{model + " patches", batch * m.patches, m.patch, m.d}}
	for _, part := range []struct {
		name   string
		tokens int
	}{{"vision", m.patches + 1}, {"text", m.text}, {"fusion", m.text + 1}} {
		r := batch * part.tokens
		l = append(l, Product{model + " " + part.name + " qkv", r, m.d, 3 * m.d}, Product{model + " " + part.name + " out", r, m.d, m.d},
			Product{model + " " + part.name + " ff1", r, m.d, m.ff}, Product{model + " " + part.name + " ff2", r, m.ff, m.d})
	}
	return append(l, Product{model + " head", batch, m.d, 256})
}

// GemmTime is how fast one product was.
type GemmTime struct {
	Time
	Rate  float64 // median, operations a second; a multiply-add is two
	Peak  float64 // median of the peaks measured beside the runs
	Share float64 // median of each run's share of the peak beside it

	ShareBest float64
	ShareCPU  float64 // median share by CPU time, on one thread; else 0
}

// Operands is what a product reads.
type Operands int

const (
	Float32 Operands = iota // a product of float32
	Rounded                 // float32, rounded for a product of bfloat16
	BF16                    // bfloat16, for a product of them that is rounded to bfloat16 itself
)

// smallest is the work that the clock can tell, in operations.
const smallest = 1e8

// Gemm times one product on all threads. Products of bfloat16 are held against
// the peak of tiles where the CPU has them.
func (b *Bench) Gemm(s Shape, o Orientation, of Operands, budget time.Duration) GemmTime {
	if s.M < 1 || s.N < 1 || s.K < 1 {
		panic(&tensor.ShapeError{Op: "measure.Gemm", Want: "M, N, K ≥ 1", Got: fmt.Sprint(s)})
	}
	g := &kernel.Gemm{M: s.M, N: s.N, K: s.K, ARow: s.K, ACol: 1, BRow: s.N, BCol: 1, CRow: s.N}
	mem := b.slabs(s.M*s.K, s.K*s.N, s.M*s.N)
	g.A, g.B, g.C = mem[0], mem[1], mem[2]
	switch o {
	case Forward:
		g.BRow, g.BCol = 1, s.K
	case DW:
		g.ARow, g.ACol = 1, s.M
	}
	g.BF16 = of != Float32
	peakOf, _ := PeakOf(g.BF16)
	if of == BF16 {
		g.AWords, g.BWords = make([]uint16, len(g.A)), make([]uint16, len(g.B))
		kernel.NarrowBF16(g.AWords, g.A)
		kernel.NarrowBF16(g.BWords, g.B)
		words := make([]uint16, len(g.C))
		g.Out = func(m0, m1, n0, n1 int, c []float32, row int, _ *kernel.Workspace) {
			kernel.RoundRows(words[m0*s.N+n0:], s.N, c, row, m1-m0, n1-n0)
		}
		g.A, g.B, g.C = nil, nil, nil
	}
	flops := 2 * float64(s.M) * float64(s.N) * float64(s.K)
	inner := max(1, int(b.smallest/flops))
	flops *= float64(inner)
	var r GemmTime
	var peaks, shares, cpus []float64
	before := peakOf(b.rt, 3)
	r.Time = times(budget, func() {
		for range inner {
			b.rt.MatMul(g)
		}
	}, func(wall, cpu float64) {
		after := peakOf(b.rt, 3)
		peak := max(before, after)
		before = after
		peaks, shares = append(peaks, peak), append(shares, flops/wall/peak)
		if cpu > 0 {
			cpus = append(cpus, flops/cpu/peak)
		}
	})
	r.Rate, r.Peak, r.Share = flops/r.Median, Median(peaks), Median(shares)
	r.ShareBest = shares[len(shares)-1] // sorted
	if b.rt.Threads() == 1 {
		r.ShareCPU = Median(cpus)
	}
	return r
}
