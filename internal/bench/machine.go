package bench

import (
	"runtime"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Machine is what reports of the engine say of the machine.
type Machine struct {
	CPU       string  `json:"cpu"` // level of the kernels
	Threads   int     `json:"threads"`
	Cores     int     `json:"cores"`
	Go        string  `json:"go"`
	Peak      float64 `json:"peak_gflops"`    // of all threads together
	Tiles     bool    `json:"peak_of_tiles"`  // the peak is that of products of bfloat16 on tiles, not of fused multiply-adds
	Bandwidth float64 `json:"bandwidth_gb_s"` // the same
}

// newMachine describes this machine; rates are filled in where they are measured.
func newMachine(threads int) Machine {
	return Machine{CPU: tensor.CPULevel(), Threads: threads, Cores: runtime.GOMAXPROCS(0), Go: runtime.Version()}
}

// Options are common to the benchmarks of the engine.
type Options struct {
	Threads int
	Budget  time.Duration // for each measurement
	Slab    int           // floats of each of the two slabs that the memory bandwidth is measured with
}

// Check refuses what does not fit, a CPU level too, by a usage.Error.
func (f *Options) Check() error {
	if err := usage.Within("threads", f.Threads, 1, 1<<10); err != nil {
		return err
	}
	if err := usage.Within("slab", f.Slab, 1<<10, 1<<30); err != nil {
		return err
	}
	if f.Budget < 0 {
		return usage.Errorf("--budget %v: want a duration of at least 0s", f.Budget)
	}
	return usage.Wrap(tensor.CPUError())
}
