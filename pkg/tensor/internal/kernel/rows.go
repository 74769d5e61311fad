package kernel

import "math"

// Row kernels: reductions and element-wise passes over one row or one run of a
// flat array. Reductions keep sixteen partial sums, lane j over elements j,
// j+16, …, and fold them 16→8→4→2→1, so that a machine of any vector width
// computes the same bits.

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
	var l [lanes16]float32
	for i, v := range x {
		l[i%lanes16] += v
	}
	return fold16(&l)
}

// Dot returns the sixteen-lane sum of fused products of x and y.
func Dot(x, y []float32) float32 {
	var l [lanes16]float32
	y = y[:len(x)]
	for i, v := range x {
		l[i%lanes16] = FMA32(v, y[i], l[i%lanes16])
	}
	return fold16(&l)
}

// SumSquares returns the sixteen-lane sum of squares of x in float64; a
// float32's square is exact in it.
func SumSquares(x []float32) float64 {
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
	var l [lanes16]float64
	y = y[:len(x)]
	for i, v := range x {
		d := float64(float32(v - y[i]))
		l[i%lanes16] += float64(d * d)
	}
	return fold16d(&l)
}

// Max returns the largest element, -Inf for none; a NaN anywhere makes it NaN.
func Max(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m || v != v {
			m = v
		}
		if m != m {
			return m
		}
	}
	return m
}

// SoftmaxRow replaces x by exp(x-max)/sum and returns max and sum. A row whose
// elements are all -Inf has no visible position and becomes zeros, with sum 0.
func SoftmaxRow(x []float32) (max, sum float32) {
	max = Max(x)
	if math.IsInf(float64(max), -1) {
		clear(x)
		return max, 0
	}
	SoftmaxAgain(x, max, 0)
	sum = Sum(x)
	for i, v := range x {
		x[i] = v / sum
	}
	return max, sum
}

// SoftmaxAgain replaces x by exp(x-max)/sum with the given max and sum: what
// SoftmaxRow made of the same x. With sum 0 the division is left out.
func SoftmaxAgain(x []float32, max, sum float32) {
	for i, v := range x {
		x[i] = v - max
	}
	ExpSlice(x, x)
	if sum != 0 {
		for i, v := range x {
			x[i] = v / sum
		}
	}
}

// NormRow normalises z over the row: xhat = (z-mean)·rstd and
// y = xhat·gamma+beta (fused). xhat may be z itself. It returns rstd.
func NormRow(y, xhat, z, gamma, beta []float32, eps float32) (rstd float32) {
	n := float32(len(z))
	mean := Sum(z) / n
	var l [lanes16]float32
	for i, v := range z {
		d := v - mean
		l[i%lanes16] = FMA32(d, d, l[i%lanes16])
	}
	rstd = 1 / Sqrt32(float32(fold16(&l)/n)+eps)
	for i, v := range z {
		h := float32(float32(v-mean) * rstd)
		xhat[i] = h
		y[i] = FMA32(h, gamma[i], beta[i])
	}
	return rstd
}

// NormRowBackward writes dz = rstd·(g - mean(g) - xhat·mean(g·xhat)), where
// g = dy·gamma. g is scratch as long as the row.
func NormRowBackward(dz, dy, xhat, gamma, g []float32, rstd float32) {
	for i, v := range dy {
		g[i] = v * gamma[i]
	}
	n := float32(len(dy))
	a, b := Sum(g)/n, Dot(g, xhat)/n
	for i, v := range g {
		dz[i] = float32(rstd * FMA32(-xhat[i], b, v-a))
	}
}

// Sqrt32 is the correctly rounded square root.
func Sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// Add writes dst = x + y.
func Add(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = x[i] + y[i]
	}
}

// Accumulate adds src to dst.
func Accumulate(dst, src []float32) { Add(dst, dst, src) }

// Scale writes dst = src·s.
func Scale(dst, src []float32, s float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = src[i] * s
	}
}

// Divide writes dst = src/s.
func Divide(dst, src []float32, s float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = src[i] / s
	}
}

// AddScaled adds src·s to dst, fused.
func AddScaled(dst, src []float32, s float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = FMA32(src[i], s, dst[i])
	}
}

// AddProduct adds x·y to dst, fused.
func AddProduct(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = FMA32(x[i], y[i], dst[i])
	}
}

// ReLUBackward zeroes dy where the output y is not positive.
func ReLUBackward(dy, y []float32) {
	y = y[:len(dy)]
	for i := range dy {
		if !(y[i] > 0) {
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
	return float32(float32(geluA) * FMA32(float32(float32(geluB)*float32(x*x)), x, x))
}

// GELU writes PyTorch's gelu(approximate="tanh"): x/2·(1 + tanh(√(2/π)(x + 0.044715x³))).
func GELU(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = float32(float32(0.5*v) * (1 + Tanh32(geluInner(v))))
	}
}

// GELUBackward multiplies dy by the derivative of GELU at the input x.
func GELUBackward(dy, x []float32) {
	x = x[:len(dy)]
	for i, v := range x {
		t := Tanh32(geluInner(v))
		sech2 := FMA32(-t, t, 1)
		inner := float32(float32(geluA) * FMA32(float32(3*geluB), float32(v*v), 1))
		d := FMA32(float32(float32(0.5*v)*sech2), inner, float32(0.5*(1+t)))
		dy[i] = float32(dy[i] * d)
	}
}

// AdamArgs are the scalars of one optimizer step, computed in float64 and
// rounded once.
type AdamArgs struct {
	GradScale float32 // clipping factor
	Decay     float32 // 1 - lr·wd; 1 for none
	L2        float32 // added to the gradient times the weight; 0 for none
	Beta1     float32
	Beta2     float32
	Rest1     float32 // 1 - beta1
	Rest2     float32 // 1 - beta2
	StepSize  float32 // lr / (1 - beta1^t)
	RootBias2 float32 // √(1 - beta2^t)
	Eps       float32
}

// Adam updates weights p and moments m, v from the gradient g, as PyTorch's
// single-tensor AdamW does, with the multiply-adds fused.
func Adam(p, g, m, v []float32, a *AdamArgs) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	for i := range p {
		d := float32(g[i] * a.GradScale)
		if a.L2 != 0 {
			d = FMA32(p[i], a.L2, d)
		}
		m[i] = FMA32(d, a.Rest1, float32(m[i]*a.Beta1))
		v[i] = FMA32(float32(d*d), a.Rest2, float32(v[i]*a.Beta2))
		den := float32(Sqrt32(v[i])/a.RootBias2) + a.Eps
		p[i] = FMA32(-a.StepSize, float32(m[i]/den), float32(p[i]*a.Decay))
	}
}
