package bench

import (
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// OpRow is a kernel on its own, or a pass of an operation of a tape. One of
// the two rates is there.
type OpRow struct {
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

type OpsReport struct {
	Machine
	Rows []OpRow `json:"rows"`
}

// OpsOptions bound what Ops times.
type OpsOptions struct {
	Options
	Parameters int     // floats of the slabs that optimizer, norm and fold work on
	Part       float64 // share of each batch that is taken, above 0, to 1
}

// Ops times the row kernels and the operations of a tape. What it refuses of its
// options is a usage.Error.
func Ops(f OpsOptions) (*OpsReport, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	if err := usage.Within("parameters", f.Parameters, 1, 1<<30); err != nil {
		return nil, err
	}
	if !(f.Part > 0 && f.Part <= 1) {
		return nil, usage.Errorf("--part %v: want above 0, to 1", f.Part)
	}
	rt := tensor.NewRuntime(f.Threads)
	defer rt.Close()
	b := measure.New(rt)
	r := OpsReport{Machine: newMachine(f.Threads)}
	r.Peak = measure.Peak(rt, 20) / 1e9
	b.Kernels(f.Parameters, f.Part, f.Budget, func(k measure.KernelTime) {
		r.Rows = append(r.Rows, OpRow{Name: k.Name, Pass: "kernel", Shape: shapeText(k.Shape), Runs: k.Runs, Milliseconds: 1e3 * k.Median, GBs: k.Bytes / k.Median / 1e9})
	})
	b.Ops(f.Part, f.Budget, func(o measure.OpTime) {
		r.Rows = append(r.Rows, OpRow{Name: o.Name, Pass: o.Pass, Shape: o.Shape, Runs: o.Runs, Milliseconds: 1e3 * o.Time, GFLOPs: o.FLOPs / o.Time / 1e9, GBs: o.Bytes / o.Time / 1e9})
	})
	r.Peak = max(r.Peak, measure.Peak(rt, 20)/1e9)
	r.Bandwidth = b.Bandwidth(f.Slab) / 1e9
	for i := range r.Rows {
		o := &r.Rows[i]
		o.ShareOfPeak, o.ShareOfBandwidth = o.GFLOPs/r.Peak, o.GBs/r.Bandwidth
	}
	return &r, nil
}

func shapeText(shape []int) string {
	var s []string
	for _, n := range shape {
		s = append(s, strconv.Itoa(n))
	}
	return "[" + strings.Join(s, " ") + "]"
}
