package kernel

import "math"

// Row kernels: reductions and element-wise passes over one row or one run of a
// flat array. Reductions keep sixteen partial sums, lane j over elements j,
// j+16, …, and fold them 16→8→4→2→1, so that a machine of any vector width
// computes the same bits. The plain Go below is the definition; the code of the
// level in use (row) repeats it.

const lanes16 = 16

// fold16 is the tree 16→8→4→2→1.
func fold16(l *[lanes16]float32) float32 {
	for w := lanes16 / 2; w > 0; w /= 2 {
		for j := 0; j < w; j++ {
			l[j] += l[j+w]
		}
	}
	return l[0]
}

func fold16d(l *[lanes16]float64) float64 {
	for w := lanes16 / 2; w > 0; w /= 2 {
		for j := 0; j < w; j++ {
			l[j] += l[j+w]
		}
	}
	return l[0]
}

// Sum returns the sixteen-lane sum of x, 0 for none.
func Sum(x []float32) float32 {
	if row != nil && len(x) > 0 {
		return row.sum(&x[0], len(x))
	}
	var l [lanes16]float32
	for i, v := range x {
		l[i%lanes16] += v
	}
	return fold16(&l)
}

// Dot returns the sixteen-lane sum of fused products of x and y.
func Dot(x, y []float32) float32 {
	y = y[:len(x)]
	if row != nil && len(x) > 0 {
		return row.dot(&x[0], &y[0], len(x))
	}
	var l [lanes16]float32
	for i, v := range x {
		l[i%lanes16] = fma32(v, y[i], l[i%lanes16])
	}
	return fold16(&l)
}

// flatChunk bounds the elements of one call of assembly on memory-bound work,
// so that no call lasts longer than some tens of microseconds. It is a multiple
// of sixteen: lanes go on where they were.
const flatChunk = 1 << 16

// SumSquares returns the sixteen-lane sum of squares of x in float64; a
// float32's square is exact in it.
func SumSquares(x []float32) float64 {
	if row != nil && len(x) > 0 {
		return row.sumSquares(&x[0], len(x))
	}
	var l [lanes16]float64
	for i, v := range x {
		d := float64(v)
		l[i%lanes16] += float64(d * d)
	}
	return fold16d(&l)
}

// SumSquaredDiff returns the sixteen-lane sum in float64 of (x-y)², where the
// difference is rounded to float32 first.
func SumSquaredDiff(x, y []float32) float64 {
	y = y[:len(x)]
	if row != nil && len(x) > 0 {
		return row.sumSquaredDiff(&x[0], &y[0], len(x))
	}
	var l [lanes16]float64
	for i, v := range x {
		d := float64(float32(v - y[i]))
		l[i%lanes16] += float64(d * d)
	}
	return fold16d(&l)
}

// Finite says whether no element is NaN or infinite.
func Finite(x []float32) bool {
	for len(x) > 0 {
		part := x[:min(len(x), flatChunk)]
		x = x[len(part):]
		if row != nil {
			if row.finite(&part[0], len(part)) != 0 {
				return false
			}
			continue
		}
		for _, v := range part {
			if v-v != 0 {
				return false
			}
		}
	}
	return true
}

// Max returns the largest element, -Inf for none; a NaN anywhere makes it NaN,
// and a zero is +0.
func Max(x []float32) float32 {
	if row != nil && len(x) > 0 {
		return row.max(&x[0], len(x))
	}
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m || v != v {
			m = v
		}
		if m != m {
			return m
		}
	}
	return m + 0
}

// softmaxFloor is the x-max below which a softmax counts e^(x-max) as 0. That
// is less than 10⁻¹⁹ beside a sum of at least 1; without a floor such weights
// and the gradients made of them are mostly subnormal, which costs hundreds of
// cycles an operation, and change no result that is not.
const softmaxFloor = -44

// softmaxExp is e^d of d = x-max, with the floor; NaN for NaN.
func softmaxExp(d float32) float32 {
	if d < softmaxFloor {
		return 0
	}
	return exp32(d)
}

// SoftmaxRow replaces x by exp(x·s-max)/sum, where max is the largest x·s and
// sum that of the exponentials, and returns both. A row whose elements are all
// -Inf has no visible position and becomes zeros, with sum 0.
func SoftmaxRow(x []float32, s float32) (max, sum float32) { return softmaxTo(x, x, s) }

// softmaxTo is SoftmaxRow to dst. For many short rows another place is faster,
// as no load then waits for the store of the row before.
func softmaxTo(dst, x []float32, s float32) (max, sum float32) {
	dst = dst[:len(x)]
	if row != nil && len(x) > 0 {
		return row.softmax(&dst[0], &x[0], len(x), s)
	}
	Scale(dst, x, s)
	max = Max(dst)
	if math.IsInf(float64(max), -1) {
		clear(dst)
		return max, 0
	}
	for i, v := range dst {
		dst[i] = softmaxExp(v - max)
	}
	sum = Sum(dst)
	Divide(dst, dst, sum)
	return max, sum
}

// SoftmaxRowsTo writes to dst, which may be x, what SoftmaxRow makes of each of
// several rows of n elements that lie stride apart in both; max and sum take
// what it returns. It works on two rows at a time where that is faster.
func SoftmaxRowsTo(dst, x []float32, rows, n, stride int, s float32, max, sum []float32) {
	max, sum = max[:rows], sum[:rows]
	for r := 0; r < rows; r++ {
		at := r * stride
		if row != nil && row.softmaxTwo != nil && r+1 < rows && n > 0 {
			end := at + stride + n
			if d, f := dst[at:end], x[at:end]; row.softmaxTwo(&d[0], &f[0], &max[r], &sum[r], n, stride, s) != 0 {
				r++
				continue
			}
		}
		max[r], sum[r] = softmaxTo(dst[at:at+n], x[at:at+n], s)
	}
}

// SoftmaxAgainTo writes exp(x·s-max)/sum to dst, which may be x, with the max
// and sum that SoftmaxRow made of the same x: no x·s may be above max.
func SoftmaxAgainTo(dst, x []float32, s, max, sum float32) {
	dst = dst[:len(x)]
	if sum == 0 {
		clear(dst)
		return
	}
	if row != nil && len(x) > 0 {
		row.softmaxAgain(&dst[0], &x[0], len(x), s, max, sum)
		return
	}
	for i, v := range x {
		dst[i] = softmaxExp(float32(v*s)-max) / sum
	}
}

// SoftmaxAgain is SoftmaxAgainTo in place.
func SoftmaxAgain(x []float32, s, max, sum float32) { SoftmaxAgainTo(x, x, s, max, sum) }

// SoftmaxBackTo writes to dst, which may be dp, the gradient of x from dp, that
// of a softmax p of x·s: p·(dp - Σ p·dp)·s.
func SoftmaxBackTo(dst, p, dp []float32, s float32) {
	dst, dp = dst[:len(p)], dp[:len(p)]
	if row != nil && len(p) > 0 {
		row.softmaxBack(&dst[0], &p[0], &dp[0], len(p), s)
		return
	}
	dot := Dot(p, dp)
	for i, v := range p {
		dst[i] = float32(float32(v*float32(dp[i]-dot)) * s)
	}
}

// SoftmaxBack is SoftmaxBackTo in place of dp.
func SoftmaxBack(p, dp []float32, s float32) { SoftmaxBackTo(dp, p, dp, s) }

// Norm normalises each of len(rstd) rows of z, len(gamma) elements each, one behind
// the other: xhat = (z-mean)·rstd and y = xhat·gamma+beta (fused), where rstd, which
// it writes, is 1/√(variance + eps). xhat may be z itself.
func Norm(y, xhat, z, gamma, beta, rstd []float32, eps float32) {
	n, rows := len(gamma), len(rstd)
	y, xhat, z, beta = y[:rows*n], xhat[:rows*n], z[:rows*n], beta[:n]
	for r := 0; r < rows; r++ {
		at := r * n
		if row != nil && row.normFour != nil && r+4 <= rows && n > 0 {
			row.normFour(&y[at], &xhat[at], &z[at], &gamma[0], &beta[0], &rstd[r], n, float32(n), eps)
			r += 3
			continue
		}
		rstd[r] = normRow(y[at:at+n], xhat[at:at+n], z[at:at+n], gamma, beta, eps)
	}
}

// normRow is Norm of one row. It returns rstd.
func normRow(y, xhat, z, gamma, beta []float32, eps float32) (rstd float32) {
	y, xhat, gamma, beta = y[:len(z)], xhat[:len(z)], gamma[:len(z)], beta[:len(z)]
	n := float32(len(z))
	if row != nil && len(z) > 0 {
		return row.norm(&y[0], &xhat[0], &z[0], &gamma[0], &beta[0], len(z), n, eps)
	}
	mean := Sum(z) / n
	var l [lanes16]float32
	for i, v := range z {
		d := v - mean
		l[i%lanes16] = fma32(d, d, l[i%lanes16])
	}
	rstd = 1 / sqrt32(float32(fold16(&l)/n)+eps)
	for i, v := range z {
		h := float32(float32(v-mean) * rstd)
		xhat[i] = h
		y[i] = fma32(h, gamma[i], beta[i])
	}
	return rstd
}

// NormBackward writes dz = rstd·(g - mean(g) - xhat·mean(g·xhat)), where g = dy·gamma,
// for each of the rows of Norm. dz may be dy itself.
func NormBackward(dz, dy, xhat, gamma, rstd []float32) {
	n, rows := len(gamma), len(rstd)
	dz, dy, xhat = dz[:rows*n], dy[:rows*n], xhat[:rows*n]
	for r := 0; r < rows; r++ {
		at := r * n
		if row != nil && row.normBackFour != nil && r+4 <= rows && n > 0 {
			row.normBackFour(&dz[at], &dy[at], &xhat[at], &gamma[0], &rstd[r], n, float32(n))
			r += 3
			continue
		}
		normRowBackward(dz[at:at+n], dy[at:at+n], xhat[at:at+n], gamma, rstd[r])
	}
}

// normRowBackward is NormBackward of one row.
func normRowBackward(dz, dy, xhat, gamma []float32, rstd float32) {
	dz, xhat, gamma = dz[:len(dy)], xhat[:len(dy)], gamma[:len(dy)]
	n := float32(len(dy))
	if row != nil && len(dy) > 0 {
		row.normBack(&dz[0], &dy[0], &xhat[0], &gamma[0], len(dy), n, rstd)
		return
	}
	var s, d [lanes16]float32
	for i, v := range dy {
		g := float32(v * gamma[i])
		s[i%lanes16] += g
		d[i%lanes16] = fma32(g, xhat[i], d[i%lanes16])
	}
	a, b := fold16(&s)/n, fold16(&d)/n
	for i, v := range dy {
		dz[i] = float32(rstd * fma32(-xhat[i], b, float32(v*gamma[i])-a))
	}
}

// sqrt32 is the correctly rounded square root.
func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// Add writes dst = x + y.
func Add(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.add(&dst[i], &x[i], &y[i], min(flatChunk, len(dst)-i))
		}
		return
	}
	for i := range dst {
		dst[i] = x[i] + y[i]
	}
}

// Accumulate adds src to dst.
func Accumulate(dst, src []float32) { Add(dst, dst, src) }

// Scale writes dst = src·s.
func Scale(dst, src []float32, s float32) {
	src = src[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.scale(&dst[i], &src[i], min(flatChunk, len(dst)-i), s)
		}
		return
	}
	for i := range dst {
		dst[i] = src[i] * s
	}
}

// Divide writes dst = src/s.
func Divide(dst, src []float32, s float32) {
	src = src[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.divide(&dst[i], &src[i], min(flatChunk, len(dst)-i), s)
		}
		return
	}
	for i := range dst {
		dst[i] = src[i] / s
	}
}

// AddScaled adds src·s to dst, fused.
func AddScaled(dst, src []float32, s float32) {
	src = src[:len(dst)]
	if row != nil && len(dst) > 0 {
		row.addScaled(&dst[0], &src[0], len(dst), s)
		return
	}
	for i := range dst {
		dst[i] = fma32(src[i], s, dst[i])
	}
}

// AddProducts adds x·y to dst, fused.
func AddProducts(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	if row != nil && len(dst) > 0 {
		row.addProduct(&dst[0], &x[0], &y[0], len(dst))
		return
	}
	for i := range dst {
		dst[i] = fma32(x[i], y[i], dst[i])
	}
}

// Lerp writes dst = x + (y-x)·s, the product fused with the sum. dst may be x or y.
func Lerp(dst, x, y []float32, s float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.lerp(&dst[i], &x[i], &y[i], min(flatChunk, len(dst)-i), s)
		}
		return
	}
	for i := range dst {
		dst[i] = fma32(y[i]-x[i], s, x[i])
	}
}

// relu replaces what is below 0 in x by 0. NaN and -0 stay.
func relu(x []float32) {
	if row != nil && len(x) > 0 {
		row.relu(&x[0], len(x))
		return
	}
	for i, v := range x {
		if v < 0 {
			x[i] = 0
		}
	}
}

// ReLUBackward multiplies dy by s where the output y is positive, and zeroes it
// elsewhere. s is 1, or the scale of the dropout that y went through: what that
// one dropped is 0 in y.
func ReLUBackward(dy, y []float32, s float32) {
	y = y[:len(dy)]
	if row != nil && len(dy) > 0 {
		row.reluBack(&dy[0], &dy[0], &y[0], len(dy), s)
		return
	}
	for i := range dy {
		if y[i] > 0 {
			dy[i] *= s
		} else {
			dy[i] = 0
		}
	}
}

const (
	geluA = 0.7978845608028654 // √(2/π)
	geluB = 0.044715
)

// geluInner returns √(2/π)·(x + 0.044715·x³).
func geluInner(x float32) float32 {
	return float32(float32(geluA) * fma32(float32(float32(geluB)*float32(x*x)), x, x))
}

// GELU writes PyTorch's gelu(approximate="tanh"): x/2·(1 + tanh(√(2/π)(x + 0.044715x³))).
func GELU(dst, x []float32) {
	x = x[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.gelu(&dst[i], &x[i], min(flatChunk, len(dst)-i))
		}
		return
	}
	for i, v := range x {
		dst[i] = float32(float32(0.5*v) * (1 + tanh32(geluInner(v))))
	}
}

// GELUBackward multiplies dy by the derivative of GELU at the input x.
func GELUBackward(dy, x []float32) {
	x = x[:len(dy)]
	if row != nil {
		for i := 0; i < len(dy); i += flatChunk {
			row.geluBack(&dy[i], &x[i], min(flatChunk, len(dy)-i))
		}
		return
	}
	for i, v := range x {
		t := tanh32(geluInner(v))
		sech2 := fma32(-t, t, 1)
		inner := float32(float32(geluA) * fma32(float32(3*geluB), float32(v*v), 1))
		d := fma32(float32(float32(0.5*v)*sech2), inner, float32(0.5*(1+t)))
		dy[i] = float32(dy[i] * d)
	}
}
