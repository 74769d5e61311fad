package train

import "math"

// LRSchedule is linear warm-up, followed by what its kind says: constant, linear
// or cosine, as a job file names it.
type LRSchedule struct {
	Kind          string
	LR, MinLR     float64 // MinLR of a kind that goes down
	Warmup, Steps uint64
}

// At returns the learning rate of step s, counted from 0: LR·(s+1)/Warmup while
// s < Warmup, then LR, or from LR down to MinLR at s = Steps.
//
// The cosine is computed from a polynomial of our own, because the library's
// may differ in the last bit between CPUs and the rate decides the weights.
func (c LRSchedule) At(s uint64) float64 {
	if s < c.Warmup {
		return c.LR * float64(s+1) / float64(c.Warmup)
	}
	if c.Kind == "constant" || c.Steps <= c.Warmup {
		return c.LR
	}
	x := min(float64(s-c.Warmup)/float64(c.Steps-c.Warmup), 1)
	if c.Kind == "linear" {
		return c.MinLR + float64((c.LR-c.MinLR)*(1-x))
	}
	return c.MinLR + float64((c.LR-c.MinLR)*float64(0.5*(1+cosPi(x))))
}

// A Bend is where a run whose schedule is changed leaves its old one.
type Bend struct {
	Step    uint64  // from 1: the next to be committed
	Was, Is float64 // its learning rate under the old schedule and the new one
}

// Bends says whether a run that goes on under c after step steps of was has
// another learning rate from there on than it would have had.
func (c LRSchedule) Bends(was LRSchedule, step uint64) (Bend, bool) {
	for s := step; s < max(c.Steps, step+1); s++ { // within warm-up, or at its end, they may agree for a while
		if a, b := was.At(s), c.At(s); a != b {
			return Bend{s + 1, a, b}, true
		}
	}
	return Bend{}, false
}

// cosPi returns cos(πx) for x in [0, 1]: the Taylor series on |y| ≤ π/2 around
// the middle, to below 1e-15, each operation rounded by itself so that no
// compiler fuses them.
func cosPi(x float64) float64 {
	if x > 0.5 {
		return -cosPi(1 - x)
	}
	y := float64(math.Pi * x)
	y2 := float64(y * y)
	sum, term := 1.0, 1.0
	for k := 1; k <= 12; k++ {
		term = float64(-term*y2) / float64((2*k-1)*(2*k))
		sum = float64(sum + term)
	}
	return sum
}
