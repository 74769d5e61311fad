package kernel

import (
	"runtime"
	"time"
)

// PeakFlops measures the floating-point operations per second that one core's fused multiply-adds reach on registers alone
// at the level in use: the ceiling of every Gemm. It takes the best of rounds measurements of about a millisecond each.
// At the plain-Go level it measures independent fma32.
func PeakFlops(rounds int) float64 {
	best := 0.0
	for range rounds {
		n, per := 0, 0
		start := time.Now()
		if vec != nil {
			n, per = 1<<15, 2*2*vec.mr*vec.lanes
			vec.peak(n)
		} else {
			n, per = 1<<16, 2*4
			a, b, c, d := float32(0.5), float32(0.25), float32(0.125), float32(0.75)
			for range n {
				a, b, c, d = fma32(a, 0.5, 0.3), fma32(b, 0.5, 0.3), fma32(c, 0.5, 0.3), fma32(d, 0.5, 0.3)
			}
			runtime.KeepAlive(a + b + c + d) // or the compiler drops the loop
		}
		best = max(best, float64(n)*float64(per)/time.Since(start).Seconds())
	}
	return best
}

// HasTiles says whether the level in use has tiles for products of bfloat16.
func HasTiles() bool { return til != nil && til.peak != nil }

// PeakTiles is PeakFlops of products of bfloat16 where the level in use has tiles: what TDPBF16PS reaches on registers. 0 where it has none.
func PeakTiles(rounds int) float64 {
	if !HasTiles() {
		return 0
	}
	c := tileConfig{palette: 1}
	for i := range 8 {
		c.rows[i], c.colBytes[i] = tileLanes, 64
	}
	// Numbers like those of training: tiles of zeros take less current, and so run at another clock.
	var data [4 * tileWords]uint16
	for i := range data {
		data[i] = roundBF16(float32(i*7919%1000)/500 - 1)
	}
	best := 0.0
	for range rounds {
		const n, per = 1 << 12, 4 * 2 * tileLanes * tileLanes * tileSteps
		start := time.Now()
		til.peak(n, &c.palette, &data[0])
		best = max(best, float64(n)*per/time.Since(start).Seconds())
	}
	return best
}
