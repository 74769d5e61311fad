package kernel

// The activations of pretrained networks, beside ReLU and GELU's tanh form (rows.go). As there, the plain Go is the definition.

const (
	erfMax = 3.95 // erf is 1 in float32 from 3.92 on

	// erf x = x·P(x²)/Q(x²) on [-erfMax, erfMax], within 2^-28 before rounding: a fit of this package, by weighted least squares.
	erfP6 = -1.29602222685e-8
	erfP5 = 4.63900142783e-6
	erfP4 = 3.7788777964e-4
	erfP3 = 3.84346964875e-3
	erfP2 = 5.42743950948e-2
	erfP1 = 1.8517553084e-1
	erfP0 = 1.1283791692
	erfQ5 = 6.26788294447e-5
	erfQ4 = 1.30401577996e-3
	erfQ3 = 1.54437545578e-2
	erfQ2 = 1.13912585445e-1
	erfQ1 = 4.97440950037e-1

	sqrtHalf  = 0.70710678118654752 // √½
	invSqrt2P = 0.39894228040143268 // 1/√(2π)
)

// erf32 returns the error function of x within 5 ulp; NaN for NaN.
func erf32(x float32) float32 {
	if x > erfMax {
		x = erfMax
	}
	if x < -erfMax {
		x = -erfMax
	}
	t := float32(x * x)
	p := fma32(erfP6, t, erfP5)
	p = fma32(p, t, erfP4)
	p = fma32(p, t, erfP3)
	p = fma32(p, t, erfP2)
	p = fma32(p, t, erfP1)
	p = fma32(p, t, erfP0)
	q := fma32(erfQ5, t, erfQ4)
	q = fma32(q, t, erfQ3)
	q = fma32(q, t, erfQ2)
	q = fma32(q, t, erfQ1)
	q = fma32(q, t, 1)
	return float32(float32(x*p) / q)
}

// ErfGELU writes PyTorch's gelu(approximate="none"): x/2·(1 + erf(x/√2)).
func ErfGELU(dst, x []float32) {
	x = x[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.erfGELU(&dst[i], &x[i], min(flatChunk, len(dst)-i))
		}
		return
	}
	for i, v := range x {
		dst[i] = float32(float32(0.5*v) * (1 + erf32(float32(v*float32(sqrtHalf)))))
	}
}

// ErfGELUBackward multiplies dy by the derivative of ErfGELU at the input x.
func ErfGELUBackward(dy, x []float32) {
	x = x[:len(dy)]
	if row != nil {
		for i := 0; i < len(dy); i += flatChunk {
			row.erfGELUBack(&dy[i], &x[i], min(flatChunk, len(dy)-i))
		}
		return
	}
	for i, v := range x {
		e := exp32(float32(float32(-0.5*v) * v))
		half := float32(0.5 * (1 + erf32(float32(v*float32(sqrtHalf)))))
		dy[i] = float32(dy[i] * fma32(float32(v*float32(invSqrt2P)), e, half))
	}
}

// sigmoids returns σ(z) and σ(-z), given e = e^-|z|.
func sigmoids(z, e float32) (of, ofNegative float32) {
	large, small := 1/(1+e), e/(1+e)
	if z > 0 {
		return large, small
	}
	return small, large
}

func negativeAbs(z float32) float32 {
	if z > 0 {
		return -z
	}
	return z
}

// Swish writes x·σ(a·x): SiLU where a is 1, OpenAI's quick GELU where it is 1.702.
func Swish(dst, x []float32, a float32) {
	x = x[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.swish(&dst[i], &x[i], min(flatChunk, len(dst)-i), a)
		}
		return
	}
	for i, v := range x {
		z := float32(a * v)
		s, _ := sigmoids(z, exp32(negativeAbs(z)))
		dst[i] = float32(v * s)
	}
}

// SwishBackward multiplies dy by the derivative of Swish at the input x: σ(ax)·(1 + ax·σ(-ax)).
func SwishBackward(dy, x []float32, a float32) {
	x = x[:len(dy)]
	if row != nil {
		for i := 0; i < len(dy); i += flatChunk {
			row.swishBack(&dy[i], &x[i], min(flatChunk, len(dy)-i), a)
		}
		return
	}
	for i, v := range x {
		z := float32(a * v)
		s, o := sigmoids(z, exp32(negativeAbs(z)))
		dy[i] = float32(dy[i] * float32(s*(1+float32(z*o))))
	}
}

// Multiply writes dst = x·y. dst may be x or y.
func Multiply(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	if row != nil {
		for i := 0; i < len(dst); i += flatChunk {
			row.multiply(&dst[i], &x[i], &y[i], min(flatChunk, len(dst)-i))
		}
		return
	}
	for i := range dst {
		dst[i] = float32(x[i] * y[i])
	}
}
