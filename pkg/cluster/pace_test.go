package cluster

import (
	"slices"
	"testing"
)

// Only what stays slow is slow: ten steps in a row. One freeze, however long,
// is one step, and moves what is typical by nothing.
func TestStaysSlow(t *testing.T) {
	const normal = 0.1
	steps := func(times ...float64) []float64 { return times }
	for _, c := range []struct {
		name    string
		times   []float64
		slow    int     // step at which it is found slow, from 1; 0: never
		typical float64 // at the end
	}{
		{"as the others", slices.Repeat(steps(normal), 50), 0, normal},
		{"frozen for a second", slices.Concat(slices.Repeat(steps(normal), 20), steps(1), slices.Repeat(steps(normal), 30)), 0, normal},
		{"frozen for twenty", slices.Concat(slices.Repeat(steps(normal), 20), steps(20), slices.Repeat(steps(normal), 8)), 0, normal},
		{"frozen again and again", slices.Repeat(steps(normal, normal, 20, normal), 20), 0, normal},
		{"slow nine times",
			slices.Concat(slices.Repeat(steps(normal), 20), slices.Repeat(steps(0.3), 9), slices.Repeat(steps(normal), 4)), 0, 0.3},
		{"slow from some step on", slices.Concat(slices.Repeat(steps(normal), 20), slices.Repeat(steps(0.3), 30)), 30, 0.3},
		{"slow from the start", slices.Repeat(steps(0.3), 30), 10, 0.3},
		{"a little slower", slices.Repeat(steps(1.4*normal), 50), 0, 1.4 * normal},
		{"by less than clocks are good for", slices.Repeat(steps(normal+slowLeast), 50), 0, normal + slowLeast},
	} {
		var p pace
		found := 0
		for i, s := range c.times {
			p.add(s)
			if p.staysSlow(normal) && found == 0 {
				found = i + 1
			}
		}
		if found != c.slow || p.typical() != c.typical {
			t.Errorf("%s: found slow at step %d, typical %v; want %d, %v", c.name, found, p.typical(), c.slow, c.typical)
		}
	}
}

// Speeds are what micro-batches are divided by, so they must be finite and
// above 0 whatever clocks say.
func TestSpeeds(t *testing.T) {
	of := func(n int, seconds float64, shed bool) *pace {
		p := &pace{shed: shed}
		for range n {
			p.add(seconds)
		}
		return p
	}
	known := func(seconds float64) *pace { return of(slowSteps, seconds, true) }
	least := minPace // not a constant: 1/minPace is rounded at run time
	zero := known(0)
	for _, c := range []struct {
		in   []*pace
		want []float64
	}{
		{[]*pace{{}, {}}, []float64{1, 1}},
		{[]*pace{of(99, 1, false), of(99, 5, false)}, []float64{1, 1}}, // nobody sheds
		{[]*pace{known(1), known(4)}, []float64{1, 0.25}},
		{[]*pace{known(1), known(4), {}}, []float64{1, 0.25, 0.625}}, // a newcomer counts as the mean
		{[]*pace{known(2), of(slowSteps-1, 3, true)}, []float64{0.5, 0.5}},
		{[]*pace{zero, zero}, []float64{1 / least, 1 / least}},
	} {
		if got := speeds(c.in); !slices.Equal(got, c.want) {
			t.Errorf("speeds %v, want %v", got, c.want)
		}
	}
}
