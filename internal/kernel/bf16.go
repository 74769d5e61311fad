package kernel

import "math"

// bf16Block is how many values an assembly call converts at least, and a multiple of; the rest is plain Go.
const bf16Block = 16

// NarrowBF16 rounds src to bfloat16, the upper half of a float32, to nearest with ties to even. Infinities and signs stay, values
// that round beyond the largest become infinite, NaN stays NaN.
func NarrowBF16(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	i := 0
	if vec != nil && vec.narrow != nil {
		if i = len(src) / bf16Block * bf16Block; i > 0 {
			vec.narrow(&dst[0], &src[0], i)
		}
	}
	for ; i < len(src); i++ {
		dst[i] = narrowBF16(src[i])
	}
}

func narrowBF16(x float32) uint16 {
	u := math.Float32bits(x)
	if x != x {
		return uint16(u>>16) | 0x40 // quiet: rounding could have made an infinity of it
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// WidenBF16 turns bfloat16 into float32, exactly.
func WidenBF16(dst []float32, src []uint16) {
	dst = dst[:len(src)]
	i := 0
	if vec != nil && vec.widen != nil {
		if i = len(src) / bf16Block * bf16Block; i > 0 {
			vec.widen(&dst[0], &src[0], i)
		}
	}
	for ; i < len(src); i++ {
		dst[i] = math.Float32frombits(uint32(src[i]) << 16)
	}
}
