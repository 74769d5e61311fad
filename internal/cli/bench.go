package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tensor/measure"
)

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure what this machine does",
		Long: `Measure what this machine does. Every figure is printed with its ceiling, the rate
of fused multiply-adds or of memory, measured in the same run, and their ratio:
other load and the clock move both alike. VLARING_CPU chooses the kernels.`,
		Args: subcommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBenchGemm(), newBenchOps(), newBenchStep(), newBenchRing(), newBenchWorkers(), newBenchModel(), newBenchAttention())
	return c
}

// benchMachine is what every report says of the machine.
type benchMachine struct {
	CPU       string  `json:"cpu"` // level of the kernels
	Threads   int     `json:"threads"`
	Cores     int     `json:"cores"`
	Go        string  `json:"go"`
	Peak      float64 `json:"peak_gflops"`    // of all threads together
	Bandwidth float64 `json:"bandwidth_gb_s"` // the same
}

func newBenchMachine(threads int) benchMachine {
	return benchMachine{CPU: tensor.CPULevel(), Threads: threads, Cores: runtime.GOMAXPROCS(0), Go: runtime.Version()}
}

func (m *benchMachine) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d of %d core(s), %s\n%-18s %8.1f GFLOP/s fused multiply-adds on registers\n%-18s %8.1f GB/s\n", m.CPU, m.Threads, m.Cores, m.Go, "FMA peak", m.Peak, "memory bandwidth", m.Bandwidth)
}

// benchFlags are common to the benchmarks of the engine.
type benchFlags struct {
	threads int
	budget  time.Duration
	slab    int // floats
	asJSON  bool
}

func (f *benchFlags) register(c *cobra.Command, budget time.Duration, what string) {
	fl := c.Flags()
	fl.IntVar(&f.threads, "threads", 1, "compute threads")
	fl.DurationVar(&f.budget, "budget", budget, "time for "+what)
	fl.IntVar(&f.slab, "slab", measure.BandwidthFloats, "floats of each of the two slabs that the memory bandwidth is measured with")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object")
}

// check refuses what does not fit, a CPU level too.
func (f *benchFlags) check() error {
	if err := within("threads", f.threads, 1, 1<<10); err != nil {
		return err
	}
	if err := within("slab", f.slab, 1<<10, 1<<30); err != nil {
		return err
	}
	if f.budget < 0 {
		return usagef("--budget %v: want a duration of at least 0s", f.budget)
	}
	if err := tensor.CPUError(); err != nil {
		return usageError{err}
	}
	return nil
}

func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
