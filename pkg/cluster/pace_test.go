package cluster

import (
	"math"
	"slices"
	"testing"
)

func TestPaceIsARunningMean(t *testing.T) {
	var p pace
	p.add(2)
	if p.mean != 2 {
		t.Errorf("the first step's pace is %v, want 2", p.mean)
	}
	p.add(1)
	if want := 2 + paceMemory*(1-2); p.mean != want {
		t.Errorf("the second step's is %v, want %v", p.mean, want)
	}
	for range 100 {
		p.add(5)
	}
	if math.Abs(p.mean-5) > 1e-6 {
		t.Errorf("after a hundred steps of 5 it is %v", p.mean)
	}
}

// Speeds are what micro-batches are divided by, so they must be finite and
// above 0 whatever clocks say.
func TestSpeeds(t *testing.T) {
	known := func(mean float64) *pace { return &pace{mean: mean, n: slowSteps, shed: true} }
	least := minPace // not a constant: 1/minPace is rounded at run time
	zero := &pace{shed: true}
	for range slowSteps {
		zero.add(0)
	}
	for _, c := range []struct {
		in   []*pace
		want []float64
	}{
		{[]*pace{{}, {}}, []float64{1, 1}},
		{[]*pace{{mean: 1, n: 99}, {mean: 5, n: 99}}, []float64{1, 1}}, // nobody sheds
		{[]*pace{known(1), known(4)}, []float64{1, 0.25}},
		{[]*pace{known(1), known(4), {}}, []float64{1, 0.25, 0.625}}, // a newcomer counts as the mean
		{[]*pace{known(2), {mean: 3, n: slowSteps - 1, shed: true}}, []float64{0.5, 0.5}},
		{[]*pace{zero, zero}, []float64{1 / least, 1 / least}},
	} {
		if got := speeds(c.in); !slices.Equal(got, c.want) {
			t.Errorf("speeds %v, want %v", got, c.want)
		}
	}
}
