package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// levels runs f at each level of the machine.
func levels(t *testing.T, f func(t *testing.T)) {
	before := Active()
	defer use(before)
	for _, l := range Supported() {
		t.Run(l.String(), func(t *testing.T) {
			use(l)
			f(t)
		})
	}
}

// atGeneric runs f in plain Go, whatever the level.
func atGeneric(f func()) {
	before := Active()
	defer use(before)
	use(Generic)
	f()
}

// canary is a NaN that no kernel makes.
var canary = math.Float32frombits(0x7fc0dead)

// fence is a slice between words that nobody may change; behind it, where the system can, lies a page that nobody may touch.
type fence struct {
	all []float32
	x   []float32
}

// fencePad is the words before the slice, more than the widest vector.
const fencePad = 37

// fenced returns a slice of n floats between guards. It starts and ends at no particular alignment.
func fenced(t testing.TB, n int) *fence {
	f := &fence{all: guarded(t, n+fencePad)}
	for i := range f.all {
		f.all[i] = canary
	}
	f.x = f.all[fencePad : fencePad+n : fencePad+n]
	return f
}

// intact says whether the words before the slice are as they were.
func (f *fence) intact() bool {
	for _, v := range f.all[:fencePad] {
		if math.Float32bits(v) != math.Float32bits(canary) {
			return false
		}
	}
	return true
}

// numbers fills x: mostly plain numbers, and with wild also zeros of both signs, subnormals, huge ones, infinities, NaN.
func numbers(r *rand.Rand, x []float32, wild bool) {
	for i := range x {
		switch {
		case wild && r.IntN(6) == 0:
			x[i] = awkward[r.IntN(len(awkward))]
		default:
			x[i] = (r.Float32()*2 - 1) * (0.125 * float32(uint(1)<<r.IntN(6)))
		}
	}
}

// differAt returns the first place where a and b are not the same bits (any NaN is as good as another), -1 for none.
func differAt(a, b []float32) int {
	for i := range a {
		if !sameBits(a[i], b[i]) {
			return i
		}
	}
	return -1
}
