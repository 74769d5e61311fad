package cli

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tensor/measure"
)

// opBench is a kernel on its own, or a pass of an operation of a tape. One of
// the two rates is there.
type opBench struct {
	Name             string  `json:"name"`
	Pass             string  `json:"pass"` // kernel, forward, backward
	Shape            string  `json:"shape"`
	Runs             int     `json:"runs"`
	Milliseconds     float64 `json:"ms"`
	GFLOPs           float64 `json:"gflops,omitempty"`
	ShareOfPeak      float64 `json:"share_of_peak,omitempty"`
	GBs              float64 `json:"gb_s,omitempty"`
	ShareOfBandwidth float64 `json:"share_of_bandwidth,omitempty"` // above 1: it came from a cache
}

type opsReport struct {
	benchMachine
	Rows []opBench `json:"rows"`
}

func newBenchOps() *cobra.Command {
	var f benchFlags
	var parameters int
	var part float64
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
			if err := f.check(); err != nil {
				return err
			}
			if err := within("parameters", parameters, 1, 1<<30); err != nil {
				return err
			}
			if !(part > 0 && part <= 1) {
				return usagef("--part %v: want above 0, to 1", part)
			}
			rt := tensor.NewRuntime(f.threads)
			defer rt.Close()
			b := measure.New(rt)
			r := opsReport{benchMachine: newBenchMachine(f.threads)}
			r.Peak = measure.Peak(rt, 20) / 1e9
			b.Kernels(parameters, part, f.budget, func(k measure.KernelTime) {
				r.Rows = append(r.Rows, opBench{Name: k.Name, Pass: "kernel", Shape: shapeText(k.Shape), Runs: k.Runs, Milliseconds: 1e3 * k.Median, GBs: k.Bytes / k.Median / 1e9})
			})
			b.Ops(part, f.budget, func(o measure.OpTime) {
				r.Rows = append(r.Rows, opBench{Name: o.Name, Pass: o.Pass, Shape: o.Shape, Runs: o.Runs, Milliseconds: 1e3 * o.Time, GFLOPs: o.FLOPs / o.Time / 1e9, GBs: o.Bytes / o.Time / 1e9})
			})
			r.Peak = max(r.Peak, measure.Peak(rt, 20)/1e9)
			r.Bandwidth = b.Bandwidth(f.slab) / 1e9
			for i := range r.Rows {
				o := &r.Rows[i]
				o.ShareOfPeak, o.ShareOfBandwidth = o.GFLOPs/r.Peak, o.GBs/r.Bandwidth
			}
			if f.asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			r.print(c.OutOrStdout())
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
	fl.IntVar(&parameters, "parameters", 34646023, "floats of the slabs that optimizer, norm and fold work on")
	fl.Float64Var(&part, "part", 1, "share of each batch that is taken")
	f.register(c, 200*time.Millisecond, "each measurement")
	return c
}

func shapeText(shape []int) string {
	var s []string
	for _, n := range shape {
		s = append(s, strconv.Itoa(n))
	}
	return "[" + strings.Join(s, " ") + "]"
}
