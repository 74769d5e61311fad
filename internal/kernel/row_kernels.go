package kernel

// rowKernels are the row kernels of one level. Each computes, on n ≥ 1 elements, what the plain Go of the function that calls it
// does, bit for bit.
type rowKernels struct {
	add                       func(dst, x, y *float32, n int)
	scale, divide, addScaled  func(dst, x *float32, n int, s float32)
	addProduct                func(dst, x, y *float32, n int)
	lerp                      func(dst, x, y *float32, n int, s float32)
	reluBack                  func(dst, x, y *float32, n int, s float32)
	relu                      func(x *float32, n int)
	exp, tanh, gelu, geluBack func(dst, x *float32, n int)
	erfGELU, erfGELUBack      func(dst, x *float32, n int)
	swish, swishBack          func(dst, x *float32, n int, s float32)
	multiply                  func(dst, x, y *float32, n int)
	sum, max, finite          func(x *float32, n int) float32
	dot                       func(x, y *float32, n int) float32
	sumSquares                func(x *float32, n int) float64
	sumSquaredDiff            func(x, y *float32, n int) float64
	softmax                   func(dst, x *float32, n int, s float32) (max, sum float32)
	softmaxTwo                func(dst, x, max, sum *float32, n, stride int, s float32) int // nil where it gains nothing
	softmaxAgain              func(dst, x *float32, n int, s, max, sum float32)
	softmaxBack               func(dst, x, y *float32, n int, s float32)
	norm                      func(y, xhat, z, gamma, beta *float32, n int, count, eps float32) (rstd float32)
	normBack                  func(dz, dy, xhat, gamma *float32, n int, count, rstd float32)
	normFour                  func(y, xhat, z, gamma, beta, rstd *float32, n int, count, eps float32) // nil where it gains nothing
	normBackFour              func(dz, dy, xhat, gamma, rstd *float32, n int, count float32)          // as normFour
	rmsFour                   func(y, x, gamma, rstd *float32, n int, count, eps float32)             // as normFour
	rmsBackFour               func(dx, dy, x, gamma, rstd *float32, n int, count float32)             // as normFour
	addRows                   func(dst, x *float32, n, rows, stride int)
	normRows                  func(gamma, beta, dy, xhat *float32, n, rows, stride int)
	reluRows                  func(dst, x, y *float32, n, rows, stride int, s float32)
	adam, adamL2              func(p, g, m, v *float32, a *AdamArgs, n int)
	drop                      func(dst, x *float32, n int, block, sample, step, site, key0, key1, threshold uint32, scale float32)
	dropAdd, dropTwo          func(dst, x, y *float32, n int, block, sample, step, site, key0, key1, threshold uint32, scale float32)
}

// row is the row kernels of the level in use, nil for plain Go. Like active it is written by init and Select alone.
var row *rowKernels
