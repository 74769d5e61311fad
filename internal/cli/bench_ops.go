package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
)

func newBenchOps() *cobra.Command {
	var f bench.OpsOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "ops",
		Short: "Time row kernels and operations with sizes from the models, against bandwidth and peak",
		Long: `Time the row kernels on their own, and the operations of a tape forward and
backward, on sizes of the default model (batch 8) and the small one (batch 32).

What multiplies matrices is measured against the FMA peak, all else against the
memory bandwidth, by the bytes that it must read and write. Activations of a few
megabytes stay in the caches: shares above 100% are of those.`,
		Example: "  coordinator bench ops\n  coordinator bench ops --threads 2 --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := bench.Ops(f)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			printMachine(c.OutOrStdout(), &r.Machine)
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintf(w, "\nNAME\tPASS\tSHAPE\tMS\tRATE\tOF\n")
			for _, o := range r.Rows {
				rate, of := fmt.Sprintf("%.1f GB/s", o.GBs), percent(o.ShareOfBandwidth)+" of bandwidth"
				if o.GFLOPs > 0 {
					rate, of = fmt.Sprintf("%.1f GFLOP/s", o.GFLOPs), percent(o.ShareOfPeak)+" of peak"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%.3f\t%s\t%s\n", o.Name, o.Pass, o.Shape, o.Milliseconds, rate, of)
			}
			return w.Flush()
		},
	}
	fl := c.Flags()
	fl.IntVar(&f.Parameters, "parameters", 34646023, "floats of the slabs that optimizer, norm and fold work on")
	fl.Float64Var(&f.Part, "part", 1, "share of each batch that is taken")
	benchFlags(c, &f.Options, &asJSON, 200*time.Millisecond, "each measurement")
	return c
}
