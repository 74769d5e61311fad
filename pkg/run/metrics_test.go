package run

import (
	"math"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// The rate of a step is of its own time, as the slowest worker measured it, and
// not of when its reports arrived.
func TestCombineRate(t *testing.T) {
	m := combine([]*cluster.Report{
		{Step: 3, Targets: 1, Times: cluster.Times{Forward: 0.1, Step: 0.25}},
		{Step: 3, Targets: 1, Times: cluster.Times{Forward: 0.2, Step: 0.24}},
	}, 50)
	if m.SamplesSec != 200 || m.Time.Step != 0.25 || m.Time.Forward != 0.2 {
		t.Errorf("%v samples/s and %+v, want 200 of 0.25 s", m.SamplesSec, m.Time)
	}
	var b strings.Builder // also where a clock is too coarse for the step
	if m := combine([]*cluster.Report{{Step: 1}}, 8); math.IsInf(m.SamplesSec, 0) || writeMetrics(&b, m) != nil {
		t.Errorf("without a time: %v samples/s, %q", m.SamplesSec, b.String())
	}
}
