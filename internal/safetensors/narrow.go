package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Narrow returns x as a tensor of dtype F32, F16 or BF16: rounded to nearest,
// ties to even, as PyTorch's Tensor.to does. A finite value that F16 or BF16
// would make infinite is an error that names the element.
func Narrow(dtype string, x []float32) (Raw, error) {
	le := binary.LittleEndian
	switch dtype {
	case "F32":
		b := make([]byte, 4*len(x))
		for i, v := range x {
			le.PutUint32(b[4*i:], math.Float32bits(v))
		}
		return Raw{dtype, b}, nil
	case "F16", "BF16":
		round, infinity := toHalf, uint16(0x7c00)
		if dtype == "BF16" {
			round, infinity = toBF16, 0x7f80
		}
		b := make([]byte, 2*len(x))
		for i, v := range x {
			h := round(v)
			if h&0x7fff == infinity && !math.IsInf(float64(v), 0) {
				return Raw{}, fmt.Errorf("element %d is %v, beyond the range of %s", i, v, dtype)
			}
			le.PutUint16(b[2*i:], h)
		}
		return Raw{dtype, b}, nil
	}
	return Raw{}, fmt.Errorf("cannot write float32 as %q: want F32, F16 or BF16", dtype)
}

// toBF16 keeps the upper half, rounded. A NaN stays one.
func toBF16(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// toHalf rounds to binary16. Scaling by a power of two is exact until the
// result is subnormal, so all rounding is done on integers:
//
//	float32  s eeeeeeee fffffffffffffffffffffff   bias 127
//	half     s eeeee ffffffffff                   bias 15
func toHalf(v float32) uint16 {
	b := math.Float32bits(v)
	sign, abs := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case abs > 0x7f800000: // NaN, quiet
		return sign | 0x7e00
	case abs >= 0x47800000: // 2^16 and up
		return sign | 0x7c00
	case abs >= 0x38800000: // 2^-14 and up: normal
		abs -= 112 << 23
		return sign | uint16((abs+0xfff+abs>>13&1)>>13)
	case abs < 0x33000000: // below half of the least subnormal, 2^-25
		return sign
	}
	// Subnormal: the fraction with its leading one, in units of 2^-24.
	shift := 126 - abs>>23 // 14 to 24
	frac := abs&0x7fffff | 0x800000
	half := uint32(1) << (shift - 1)
	return sign | uint16((frac+half-1+frac>>shift&1)>>shift)
}
