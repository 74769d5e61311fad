package bench

import (
	"context"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// square names the products that are no layer's.
const square = "square"

// GemmRow is one product C [M, N] = A [M, K]·B [K, N].
type GemmRow struct {
	Name      string  `json:"name"`
	Product   string  `json:"product"`
	M         int     `json:"m"`
	N         int     `json:"n"`
	K         int     `json:"k"`
	Runs      int     `json:"runs"`
	Rate      float64 `json:"gflops"` // median
	Peak      float64 `json:"peak_gflops"`
	Share     float64 `json:"share_of_peak"` // median of the runs' shares of the peak beside each
	ShareBest float64 `json:"share_of_peak_best"`
	ShareCPU  float64 `json:"share_of_peak_by_cpu_time,omitempty"` // one thread
}

type GemmReport struct {
	Machine
	Precision string    `json:"precision"`
	Rows      []GemmRow `json:"rows"`
}

// GemmOptions choose the products that Gemm times.
type GemmOptions struct {
	Options
	Model string // whose linear layers: default, small, or none
	Batch int    // samples; 0: as bench step takes them
	Sizes []int  // of squares

	Precision string // float32 or bf16
}

// Gemm times matrix products beside the peak of fused multiply-adds, or of tiles
// where the CPU has them for bfloat16. What it refuses of its options is a usage.Error.
func Gemm(ctx context.Context, f GemmOptions) (*GemmReport, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	if err := usage.Within("batch", f.Batch, 0, 1<<12); err != nil {
		return nil, err
	}
	for _, n := range f.Sizes {
		if err := usage.Within("sizes", n, 1, 1<<14); err != nil {
			return nil, err
		}
	}
	if f.Precision != "float32" && f.Precision != "bf16" {
		return nil, usage.Errorf("--precision %q: want float32 or bf16", f.Precision)
	}
	var products []measure.Product
	for _, n := range f.Sizes {
		products = append(products, measure.Product{Name: square, Rows: n, In: n, Out: n})
	}
	if f.Model != "none" {
		if f.Batch == 0 {
			f.Batch = benchModels[f.Model].batch
		}
		l := measure.Products(f.Model, f.Batch)
		if l == nil {
			return nil, usage.Errorf("--model %q: want default, small or none", f.Model)
		}
		products = append(products, l...)
	}
	rt := tensor.NewRuntime(f.Threads)
	defer rt.Close()
	b := measure.New(rt)
	r := GemmReport{Machine: newMachine(f.Threads), Precision: f.Precision}
	_, r.Tiles = measure.PeakOf(f.Precision == "bf16")
	for _, p := range products {
		for _, o := range measure.Orientations() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			s := p.Shape(o)
			of := measure.Float32
			if f.Precision == "bf16" {
				if of = measure.Rounded; p.Name == square {
					of = measure.BF16
				}
			}
			g := b.Gemm(s, o, of, f.Budget)
			r.Rows = append(r.Rows, GemmRow{Name: p.Name, Product: string(o), M: s.M, N: s.N, K: s.K, Runs: g.Runs, Rate: g.Rate / 1e9, Peak: g.Peak / 1e9,
				Share: g.Share, ShareBest: g.ShareBest, ShareCPU: g.ShareCPU})
			r.Peak = max(r.Peak, g.Peak/1e9)
		}
	}
	r.Bandwidth = b.Bandwidth(f.Slab) / 1e9
	return &r, nil
}
