package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
)

func newBenchGemm() *cobra.Command {
	var f bench.GemmOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "gemm",
		Short: "Time matrix products: squares, and the models' own in the three orientations of training",
		Long: `Time matrix products against the FMA peak, measured before and after every run:
squares of --sizes, and the linear layers of --model for batches of --batch
samples, each as Y = X·Wᵀ, dX = dY·W and dW = dYᵀ·X.

With --precision bf16 squares read and write bfloat16, and layers have float32
that is rounded and laid out in the time; the peak is that of the CPU's tiles
(AMX) where it has them.

OF PEAK is the median of the runs' shares; BEST the best of them; BY CPU TIME the
median that counts what this process was given of the processor: on a quiet
machine the three agree.`,
		Example: "  coordinator bench gemm\n  coordinator bench gemm --model small --batch 32\n  coordinator bench gemm --model none --sizes 1024,2048 --threads 2 --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := bench.Gemm(c.Context(), f)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			printMachine(c.OutOrStdout(), &r.Machine)
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
	fl.StringVar(&f.Precision, "precision", "float32", "float32 or bf16")
	fl.StringVar(&f.Model, "model", "default", "whose layers: default, small or none")
	fl.IntVar(&f.Batch, "batch", 0, "samples of a batch (default 8, of the small model 32)")
	fl.IntSliceVar(&f.Sizes, "sizes", []int{512, 1024, 2048}, "squares")
	benchFlags(c, &f.Options, &asJSON, 300*1e6, "each product")
	return c
}
