package kernel

import "math"

// actsDigest is rowsDigest of the activations of pretrained networks.
const actsDigest = 0x84c7cb6838fe58a1

var actOps = []rowOp{
	{"erfgelu", 2, none(func(v [][]float32) { ErfGELU(v[0], v[1]) }), each(func(e []float64) { e[0] = e[1] / 2 * (1 + math.Erf(e[1]/math.Sqrt2)) }), 5e-7, true},
	{"erfgelu/backward", 2, none(func(v [][]float32) { ErfGELUBackward(v[0], v[1]) }), each(func(e []float64) {
		x := e[1]
		e[0] *= (1+math.Erf(x/math.Sqrt2))/2 + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	}), 5e-7, true},
	{"swish", 2, none(func(v [][]float32) { Swish(v[0], v[1], 1.702) }), each(func(e []float64) { e[0] = e[1] / (1 + math.Exp(-1.702*e[1])) }), 5e-7, true},
	{"swish/backward", 2, none(func(v [][]float32) { SwishBackward(v[0], v[1], 1.702) }), each(func(e []float64) {
		z := 1.702 * e[1]
		s := 1 / (1 + math.Exp(-z))
		e[0] *= s * (1 + z*(1-s))
	}), 5e-7, true},
	{"multiply", 3, none(func(v [][]float32) { Multiply(v[0], v[1], v[2]) }), each(func(e []float64) { e[0] = e[1] * e[2] }), 1e-7, true},
}
