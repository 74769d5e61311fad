package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tensor/measure"
)

// gemmBench is one product C [M, N] = A [M, K]·B [K, N].
type gemmBench struct {
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

type gemmReport struct {
	benchMachine
	Rows []gemmBench `json:"rows"`
}

func newBenchGemm() *cobra.Command {
	var f benchFlags
	var model string
	var sizes []int
	var batch int
	c := &cobra.Command{
		Use:   "gemm",
		Short: "Time matrix products: squares, and the models' own in the three orientations of training",
		Long: `Time matrix products in float32 against the FMA peak, measured before and after
every run: squares of --sizes, and the linear layers of --model for batches of
--batch samples, each as Y = X·Wᵀ, dX = dY·W and dW = dYᵀ·X.

OF PEAK is the median of the runs' shares; BEST the best of them; BY CPU TIME the
median that counts what this process was given of the processor: on a quiet
machine the three agree.`,
		Example: "  coordinator bench gemm\n  coordinator bench gemm --model small --batch 32\n  coordinator bench gemm --model none --sizes 1024,2048 --threads 2 --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if err := within("batch", batch, 0, 1<<12); err != nil {
				return err
			}
			for _, n := range sizes {
				if err := within("sizes", n, 1, 1<<14); err != nil {
					return err
				}
			}
			var products []measure.Product
			for _, n := range sizes {
				products = append(products, measure.Product{Name: "square", Rows: n, In: n, Out: n})
			}
			if model != "none" {
				if batch == 0 {
					batch = benchModels[model].batch
				}
				l := measure.Products(model, batch)
				if l == nil {
					return usagef("--model %q: want default, small or none", model)
				}
				products = append(products, l...)
			}
			rt := tensor.NewRuntime(f.threads)
			defer rt.Close()
			b := measure.New(rt)
			r := gemmReport{benchMachine: newBenchMachine(f.threads)}
			for _, p := range products {
				for _, o := range measure.Orientations() {
					if err := c.Context().Err(); err != nil {
						return err
					}
					s := p.Shape(o)
					g := b.Gemm(s, o, f.budget)
					r.Rows = append(r.Rows, gemmBench{Name: p.Name, Product: string(o), M: s.M, N: s.N, K: s.K, Runs: g.Runs, Rate: g.Rate / 1e9, Peak: g.Peak / 1e9,
						Share: g.Share, ShareBest: g.ShareBest, ShareCPU: g.ShareCPU})
					r.Peak = max(r.Peak, g.Peak/1e9)
				}
			}
			r.Bandwidth = b.Bandwidth(f.slab) / 1e9
			if f.asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			r.print(c.OutOrStdout())
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintf(w, "\nLAYER\tPRODUCT\tM×N×K\tGFLOP/s\tPEAK\tOF PEAK\tBEST\tBY CPU TIME\n")
			for _, g := range r.Rows {
				cpu := "-"
				if g.ShareCPU > 0 {
					cpu = percent(g.ShareCPU)
				}
				fmt.Fprintf(w, "%s\t%s\t%d×%d×%d\t%.1f\t%.1f\t%s\t%s\t%s\n", g.Name, g.Product, g.M, g.N, g.K, g.Rate, g.Peak, percent(g.Share), percent(g.ShareBest), cpu)
			}
			return w.Flush()
		},
	}
	fl := c.Flags()
	fl.StringVar(&model, "model", "default", "whose layers: default, small or none")
	fl.IntVar(&batch, "batch", 0, "samples of a batch (default 8, of the small model 32)")
	fl.IntSliceVar(&sizes, "sizes", []int{512, 1024, 2048}, "squares")
	f.register(c, 300*1e6, "each product")
	return c
}

func percent(x float64) string { return fmt.Sprintf("%.1f%%", 100*x) }
