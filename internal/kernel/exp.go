package kernel

import "math"

// The transcendental functions are defined by the scalar code of this file: one polynomial, one order of operations, every
// multiply-add fused. The vector kernels repeat it operation for operation, so all levels agree to the bit. The
// polynomials are those of Moshier's Cephes (expf, logf, tanhf), evaluated with FMAs.

const (
	expHi = 89   // e^89 overflows
	expLo = -104 // e^-104 is below half of the smallest subnormal

	log2e   = 1.44269504088896341
	ln2Hi   = 0.693147182464599609375  // ln 2 to 24 bits
	ln2Lo   = -1.904654299957767878e-9 // ln 2 - ln2Hi
	rndBias = 12582912                 // 1.5·2^23: adding it leaves the nearest integer (ties to even) in the low mantissa bits
	rndBits = 0x4B400000               // its bits

	expC7 = 1.9875691500e-4
	expC6 = 1.3981999507e-3
	expC5 = 8.3334519073e-3
	expC4 = 4.1665795894e-2
	expC3 = 1.6666665459e-1
	expC2 = 5.0000001201e-1
)

// expReduce splits x = n·ln2 + r with |r| ≤ ln2/2, and returns p with e^r ≈ 1 + r + r²·p.
func expReduce(x float32) (n int32, r, p float32) {
	t := float32(float32(x*log2e) + rndBias)
	n = int32(math.Float32bits(t)) - rndBits
	f := float32(t - rndBias)
	r = fma32(f, -ln2Hi, x)
	r = fma32(f, -ln2Lo, r)
	p = fma32(expC7, r, expC6)
	p = fma32(p, r, expC5)
	p = fma32(p, r, expC4)
	p = fma32(p, r, expC3)
	p = fma32(p, r, expC2)
	return n, r, p
}

// pow2 returns 2^n for -126 ≤ n ≤ 127.
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// exp32 returns e^x within 1 ulp: 0 below about -103.97, subnormal results rounded once, +Inf above about 88.72, NaN for NaN.
func exp32(x float32) float32 {
	if x != x {
		return x
	}
	if x > expHi {
		x = expHi
	}
	if x < expLo {
		x = expLo
	}
	n, r, p := expReduce(x)
	y := fma32(p, r, 1)
	y = fma32(y, r, 1)
	// Two factors, since 2^n may be out of range where the result is not. The first product is normal, hence exact.
	h := n >> 1
	return float32(float32(y*pow2(h)) * pow2(n-h))
}

const (
	tanhMax  = 10    // tanh has long been 1 in float32 (from 9.02 on)
	tanhTurn = 0.625 // below it the odd polynomial, which does not cancel; above it e^2|x|

	tanhC4 = -5.70498872745e-3
	tanhC3 = 2.06390887954e-2
	tanhC2 = -5.37397155531e-2
	tanhC1 = 1.33314422036e-1
	tanhC0 = -3.33332819422e-1
)

// tanh32 returns tanh x within 2 ulp, with the sign of x also for zeros; NaN for NaN.
func tanh32(x float32) float32 {
	if x != x {
		return x
	}
	b := math.Float32bits(x)
	a := math.Float32frombits(b &^ (1 << 31))
	var y float32
	if a < tanhTurn {
		z := float32(a * a)
		p := fma32(tanhC4, z, tanhC3)
		p = fma32(p, z, tanhC2)
		p = fma32(p, z, tanhC1)
		p = fma32(p, z, tanhC0)
		y = fma32(float32(p*z), a, a)
	} else {
		// With m = e^2|x| - 1 it is m/(m+2); the quotient damps the error of m.
		if a > tanhMax {
			a = tanhMax
		}
		n, r, p := expReduce(float32(a + a))
		q := fma32(p, float32(r*r), r)
		s := pow2(n)
		m := fma32(q, s, float32(s-1))
		y = float32(m / float32(m+2))
	}
	return math.Float32frombits(math.Float32bits(y) | b&(1<<31))
}

const (
	logC8 = 7.0376836292e-2
	logC7 = -1.1514610310e-1
	logC6 = 1.1676998740e-1
	logC5 = -1.2420140846e-1
	logC4 = 1.4249322787e-1
	logC3 = -1.6668057665e-1
	logC2 = 2.0000714765e-1
	logC1 = -2.4999993993e-1
	logC0 = 3.3333331174e-1

	sqrtHalfBits = 0x3F3504F3 // sqrt(1/2), the low end of the reduced mantissa
)

// Log32 returns the natural logarithm of x within 1 ulp: -Inf for ±0, NaN for negative x and NaN, +Inf for +Inf.
func Log32(x float32) float32 {
	switch {
	case x != x || x < 0:
		return float32(math.NaN())
	case x == 0:
		return float32(math.Inf(-1))
	case x > math.MaxFloat32:
		return x
	}
	var e int32
	if x < 0x1p-126 {
		x *= 0x1p23
		e = -23
	}
	// x = m·2^e with sqrt(1/2) ≤ m < sqrt 2.
	b := int32(math.Float32bits(x)) - sqrtHalfBits
	e += b >> 23
	f := float32(math.Float32frombits(uint32(b&(1<<23-1)+sqrtHalfBits)) - 1)
	n := float32(e)
	p := fma32(logC8, f, logC7)
	p = fma32(p, f, logC6)
	p = fma32(p, f, logC5)
	p = fma32(p, f, logC4)
	p = fma32(p, f, logC3)
	p = fma32(p, f, logC2)
	p = fma32(p, f, logC1)
	p = fma32(p, f, logC0)
	z := float32(f * f)
	y := float32(float32(p*f) * z)
	y = fma32(n, ln2Lo, y)
	y = fma32(-0.5, z, y)
	return fma32(n, ln2Hi, float32(f+y))
}

// ExpSlice sets dst[i] = exp32(src[i]). dst and src have one length and are the same memory or disjoint.
func ExpSlice(dst, src []float32) {
	dst = sameLen("exp", dst, src)
	if row != nil && len(src) > 0 {
		row.exp(&dst[0], &src[0], len(src))
		return
	}
	for i, x := range src {
		dst[i] = exp32(x)
	}
}

// TanhSlice sets dst[i] = tanh32(src[i]). dst and src have one length and are the same memory or disjoint.
func TanhSlice(dst, src []float32) {
	dst = sameLen("tanh", dst, src)
	if row != nil && len(src) > 0 {
		row.tanh(&dst[0], &src[0], len(src))
		return
	}
	for i, x := range src {
		dst[i] = tanh32(x)
	}
}

// logSlice sets dst[i] = Log32(src[i]). dst and src have one length and are the same memory or disjoint. It is plain Go at
// every level: training takes one logarithm a row.
func logSlice(dst, src []float32) {
	dst = sameLen("log", dst, src)
	for i, x := range src {
		dst[i] = Log32(x)
	}
}

func sameLen(op string, dst, src []float32) []float32 {
	if len(dst) != len(src) {
		panic(&ShapeError{Op: op, Want: sprintf("dst of %d elements, as src", len(src)), Got: sprintf("%d", len(dst))})
	}
	return dst
}
