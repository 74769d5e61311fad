package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
	"github.com/vlaring/vlaring/internal/machine"
)

func newBenchAttention() *cobra.Command {
	var f bench.AttentionOptions
	var asJSON bool
	var out string
	c := &cobra.Command{
		Use:   "attention",
		Short: "Time full, local and strided attention against the number of tokens",
		Long: `Time forward and backward of one attention over one sequence, full, local (keys
up to --window places away) and strided (those and every --stride-th key), against
the number of tokens. Full attention grows with T², local with T·window, strided
with T·(window + T/stride). Times are the best of several: what else runs on the
machine only adds.`,
		Example: "  coordinator bench attention\n  coordinator bench attention --tokens 1024,4096,16384 --window 128 --stride 256 --out attention.png",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := bench.Attention(c.Context(), f)
			if err != nil {
				return err
			}
			if out != "" {
				if err := r.Draw(out); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintf(w, "TOKENS\tKIND\tVISIBLE KEYS\tFORWARD MS\tBACKWARD MS\tOVER FULL\t\n")
			for _, b := range r.Rows {
				fmt.Fprintf(w, "%d\t%s\t%.0f\t%.2f\t%.2f\t%.2f×\t\n", b.Tokens, b.Kind, b.Visible, b.Forward, b.Backward, b.Speedup)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "\n%d wide, %d heads, window %d, stride %d; %s, %d thread(s)\n", r.DModel, r.Heads, r.Window, r.Stride, r.CPU, r.Threads)
			for _, kind := range bench.AttentionKinds() {
				if g, ok := r.Growth[kind]; ok {
					fmt.Fprintf(c.OutOrStdout(), "%-7s grows with T^%.2f between the last two lengths\n", kind, g)
				}
			}
			return nil
		},
	}
	fl := c.Flags()
	fl.IntSliceVar(&f.Tokens, "tokens", []int{256, 512, 1024, 2048, 4096}, "lengths of the sequence")
	fl.IntVar(&f.DModel, "d-model", 256, "width")
	fl.IntVar(&f.Heads, "heads", 4, "heads")
	fl.IntVar(&f.Window, "window", 64, "keys at most so many places away")
	fl.IntVar(&f.Stride, "stride", 128, "and every so many-th key")
	threadsFlag(c, &f.Threads, machine.Threads(), "compute threads")
	fl.DurationVar(&f.Budget, "budget", 500*time.Millisecond, "time for each measurement")
	fl.BoolVar(&f.Causal, "causal", false, "keys up to the query's own alone")
	fl.StringVar(&out, "out", "", "PNG file to draw the times to")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
