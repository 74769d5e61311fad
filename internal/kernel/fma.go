package kernel

import "math"

// fma32 returns x*y+z rounded once to float32, bit for bit what the fused multiply-add instructions of AVX2, AVX-512
// and NEON return (NaN payloads apart). Go has no float32 FMA, and math.FMA followed by a conversion rounds twice.
//
// The product of two float32 is exact in float64 (48 of 53 bits), so only the sum can round before the conversion does.
// Rounding twice goes wrong only when the rounded sum lies exactly half-way between two neighbouring float32; see halfway.
func fma32(x, y, z float32) float32 {
	p := float64(x) * float64(y)
	s := p + float64(z)
	if halfway(s) {
		s = sumToOdd(p, z)
	}
	return float32(s)
}

// halfway says whether s may lie exactly between two neighbouring float32. Such an s has its 28 lowest bits zero (in
// the normal range the 29th is one; below it, where float32 has fewer bits, the one stands higher up). So have some
// others, zeros and sums of small integers among them; sumToOdd does them no harm.
func halfway(s float64) bool { return math.Float64bits(s)<<36 == 0 }

// sumToOdd returns p + z rounded to odd: an inexact sum gets its last bit set, so that the conversion to float32 sees on
// which side of a half-way point the true value lies. p is the product of two float32.
//
//go:noinline
func sumToOdd(p float64, z float32) float64 {
	a := float64(z)
	s := p + a
	if s-s != 0 || s == 0 { // Inf or NaN; an exact zero, since float64 cannot underflow here
		return s
	}
	// TwoSum: e is exactly (p + a) - s. A compiler that fuses p into an addition changes nothing: p is exact.
	t := s - a
	e := (p - t) + (a - (s - t))
	if e != 0 {
		b := math.Float64bits(s)
		if b&1 == 0 {
			if (e > 0) == (s > 0) {
				b++
			} else {
				b--
			}
			s = math.Float64frombits(b)
		}
	}
	return s
}
