package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vlaring/vlaring/internal/octets"
)

// Numbers are the types that Values reads.
func Numbers() []string {
	return []string{"F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
}

// Index is the place of element i of a row-major tensor, one number a dimension.
func (i Info) Index(element int) []int {
	at := make([]int, len(i.Shape))
	for d := len(at) - 1; d >= 0; d-- {
		if n := i.Shape[d]; n > 0 {
			at[d], element = element%n, element/n
		}
	}
	return at
}

// Values reads elements from … from+len(dst)-1 of a tensor of any of the types
// of Numbers as float32: those that float32 holds exactly, the others rounded to
// nearest, ties to even, as PyTorch's Tensor.to(torch.float32) does. BOOL is 0
// and 1. Only those elements are read from the file.
func (f *File) Values(name string, from int, dst []float32) error {
	i, err := f.info(name)
	if err != nil {
		return err
	}
	if err := f.wantType(i, Numbers()...); err != nil {
		return err
	}
	if n := i.Elements(); from < 0 || from+len(dst) > n {
		return fmt.Errorf("%s: tensor %q has %d elements, and [%d, %d) were asked for", f.name, name, n, from, from+len(dst))
	}
	_, bits, _ := dtype(i.DType)
	size := int(bits / 8)
	if view := octets.View(dst); i.DType == "F32" && view != nil { // the file holds what memory is to hold
		return f.Raw(name, int64(from)*int64(size), view)
	}
	p := f.part(name)
	const most = 1 << 16 // elements
	buf := make([]byte, size*min(most, len(dst)))
	for len(dst) > 0 {
		n := min(most, len(dst))
		b := buf[:size*n]
		if err := readFull(p.r, b, p.start+i.Begin+int64(from)*int64(size)); err != nil {
			return fmt.Errorf("%s: tensor %q: %w", f.name, name, err)
		}
		decode(dst[:n], i.DType, b)
		dst, from = dst[n:], from+n
	}
	return nil
}

// Raw reads bytes [at, at+len(dst)) of a tensor's as the file has them.
func (f *File) Raw(name string, at int64, dst []byte) error {
	i, err := f.info(name)
	if err != nil {
		return err
	}
	if n := i.End - i.Begin; at < 0 || at+int64(len(dst)) > n {
		return fmt.Errorf("%s: tensor %q has %d bytes, and [%d, %d) were asked for", f.name, name, n, at, at+int64(len(dst)))
	}
	p := f.part(name)
	if err := readFull(p.r, dst, p.start+i.Begin+at); err != nil {
		return fmt.Errorf("%s: tensor %q: %w", f.name, name, err)
	}
	return nil
}

// decode turns the little-endian elements b of one of the types of Numbers into
// dst, which has room for them. Go's conversions of whole numbers and float64 to
// float32 round to nearest even.
func decode(dst []float32, dtype string, b []byte) {
	le := binary.LittleEndian
	switch dtype {
	case "F32":
		octets.Get(dst[:len(b)/4], b)
	case "BF16":
		for j := range len(b) / 2 {
			dst[j] = math.Float32frombits(uint32(le.Uint16(b[2*j:])) << 16)
		}
	case "F16":
		for j := range len(b) / 2 {
			dst[j] = half(le.Uint16(b[2*j:]))
		}
	case "F64":
		for j := range len(b) / 8 {
			dst[j] = float32(math.Float64frombits(le.Uint64(b[8*j:])))
		}
	case "I64":
		for j := range len(b) / 8 {
			dst[j] = float32(int64(le.Uint64(b[8*j:])))
		}
	case "U64":
		for j := range len(b) / 8 {
			dst[j] = float32(le.Uint64(b[8*j:]))
		}
	case "I32":
		for j := range len(b) / 4 {
			dst[j] = float32(int32(le.Uint32(b[4*j:])))
		}
	case "U32":
		for j := range len(b) / 4 {
			dst[j] = float32(le.Uint32(b[4*j:]))
		}
	case "I16":
		for j := range len(b) / 2 {
			dst[j] = float32(int16(le.Uint16(b[2*j:])))
		}
	case "U16":
		for j := range len(b) / 2 {
			dst[j] = float32(le.Uint16(b[2*j:]))
		}
	case "I8":
		for j, v := range b {
			dst[j] = float32(int8(v))
		}
	default: // U8, BOOL
		for j, v := range b {
			dst[j] = float32(v)
		}
	}
}

// half widens an IEEE binary16; exact, NaN payloads included.
func half(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h&0x3ff)
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp == 0: // zero and subnormals: frac·2^-24, exact in float32
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}
