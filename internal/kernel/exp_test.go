package kernel

import (
	"math"
	"os"
	"testing"
)

// ulps returns how far got is from the exact value want, in units of the last place of a float32 of that size.
func ulps(got float32, want float64) float64 {
	if w := float32(want); got == w || got != got && w != w {
		return 0
	}
	if got-got != 0 || want-want != 0 {
		return math.Inf(1)
	}
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

// latticeStep is the distance of the float32 that the functions are held against: 1021 with VLARING_LONG=1, and more on an emulated CPU.
func latticeStep() uint64 {
	switch {
	case testing.Short():
		return 65537
	case os.Getenv("VLARING_LONG") != "":
		return 1021
	}
	return 4093
}

// TestElementary holds the functions against float64 on a lattice through all float32, both signs, and at the edges.
func TestElementary(t *testing.T) {
	for _, f := range []struct {
		name string
		f    func(float32) float32
		want func(float64) float64
		max  float64
	}{{"exp", exp32, math.Exp, 1}, {"tanh", tanh32, math.Tanh, 2}, {"log", Log32, math.Log, 1}, {"erf", erf32, math.Erf, 5}} {
		worst, at := 0.0, float32(0)
		check := func(x float32) {
			if u := ulps(f.f(x), f.want(float64(x))); u > worst {
				worst, at = u, x
			}
		}
		for _, x := range awkward {
			check(x)
		}
		for b, step := uint64(0), latticeStep(); b < 1<<32; b += step {
			check(math.Float32frombits(uint32(b)))
		}
		t.Logf("%s: at most %.3f ulp, at %g", f.name, worst, at)
		if worst > f.max {
			t.Errorf("%s(%g = %x) = %g, want %g: %.3f ulp off, want at most %g", f.name, at, at, f.f(at), f.want(float64(at)), worst, f.max)
		}
	}
	if z := tanh32(float32(math.Copysign(0, -1))); math.Float32bits(z) != 1<<31 {
		t.Errorf("tanh(-0) = %x, want -0", z)
	}
}

// TestElementaryLevels compares exp, tanh and erf at every level with their definitions, bit for bit, on a lattice through all float32.
func TestElementaryLevels(t *testing.T) {
	var x []float32
	for b, step := uint64(0), latticeStep(); b < 1<<32; b += step {
		x = append(x, math.Float32frombits(uint32(b)))
	}
	e, h, erf := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x))
	wantE, wantH, wantErf := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x)) // once for all levels
	for i, v := range x {
		wantE[i], wantH[i], wantErf[i] = exp32(v), tanh32(v), float32(float32(0.5*v)*(1+erf32(float32(v*float32(sqrtHalf)))))
	}
	levels(t, func(t *testing.T) {
		ExpSlice(e, x)
		TanhSlice(h, x)
		ErfGELU(erf, x)
		for i, v := range x {
			if !sameBits(erf[i], wantErf[i]) {
				t.Fatalf("ErfGELU(%x) = %x, want %x", v, erf[i], wantErf[i])
			}
			if !sameBits(e[i], wantE[i]) || !sameBits(h[i], wantH[i]) {
				t.Fatalf("exp(%x) = %x, want %x; tanh = %x, want %x", v, e[i], wantE[i], h[i], wantH[i])
			}
		}
	})
}
