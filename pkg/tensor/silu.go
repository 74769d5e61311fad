package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// SiLU in plain Go on the kernels' exponential: what uses it, such as the layers
// that read a time, is small beside the products around it.

// silu writes x·σ(x) to dst.
func silu(dst, x []float32) {
	expOfNegative(dst, x)
	for i, v := range x {
		s, _ := sigmoids(v, dst[i])
		dst[i] = float32(v * s)
	}
}

// siluBackward multiplies dy by the derivative of x·σ(x), σ(x)·(1 + x·σ(-x)).
// scratch is as long as x.
func siluBackward(dy, x, scratch []float32) {
	expOfNegative(scratch, x)
	for i, v := range x {
		s, o := sigmoids(v, scratch[i])
		dy[i] = float32(dy[i] * float32(s*(1+float32(v*o))))
	}
}

// expOfNegative writes e^-|x| to dst, which cannot overflow.
func expOfNegative(dst, x []float32) {
	for i, v := range x {
		if v > 0 {
			v = -v
		}
		dst[i] = v
	}
	kernel.ExpSlice(dst, dst)
}

// sigmoids returns σ(x) and σ(-x), given e = e^-|x|.
func sigmoids(x, e float32) (of, ofNegative float32) {
	large, small := 1/(1+e), e/(1+e)
	if x > 0 {
		return large, small
	}
	return small, large
}
