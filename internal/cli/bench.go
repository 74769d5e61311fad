package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
	"github.com/vlaring/vlaring/internal/bench/measure"
)

func newBench() *cobra.Command {
	return group(&cobra.Command{
		Use:   "bench",
		Short: "Measure what this machine does",
		Long: `Measure what this machine does. Every figure is printed with its ceiling, the rate
of fused multiply-adds or of memory, measured in the same run, and their ratio:
other load and the clock move both alike. VLARING_CPU chooses the kernels.`,
	}, newBenchGemm(), newBenchOps(), newBenchStep(), newBenchRing(), newBenchWorkers(), newBenchModel(), newBenchAttention())
}

// benchFlags registers what is common to the benchmarks of the engine.
func benchFlags(c *cobra.Command, o *bench.Options, asJSON *bool, budget time.Duration, what string) {
	fl := c.Flags()
	threadsFlag(c, &o.Threads, 1, "compute threads")
	fl.DurationVar(&o.Budget, "budget", budget, "time for "+what)
	fl.IntVar(&o.Slab, "slab", measure.BandwidthFloats, "floats of each of the two slabs that the memory bandwidth is measured with")
	fl.BoolVar(asJSON, "json", false, "print one JSON object")
}

func printMachine(w io.Writer, m *bench.Machine) {
	peak, of := "FMA peak", "fused multiply-adds"
	if m.Tiles {
		peak, of = "tiles' peak", "products of bfloat16"
	}
	fmt.Fprintf(w, "%s, %d of %d core(s), %s\n%-18s %8.1f GFLOP/s %s on registers\n%-18s %8.1f GB/s\n", m.CPU, m.Threads, m.Cores, m.Go, peak, m.Peak, of, "memory bandwidth", m.Bandwidth)
}

func percent(x float64) string { return fmt.Sprintf("%.1f%%", 100*x) }
