package data

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/octets"
)

// The wire form of a micro-batch's samples, all integers little-endian:
//
//	"VLSB"  u16 version 4  u16 zero  u64 step  u32 micro-batch  u32 count
//	count × sample:
//	  u64 id  u64 epoch  u32 set  u32 number of bytes, origin  u32 features
//	  features × (u32 form  u32 height  u32 width  u32 number of elements, elements)
//	u32 CRC-32C of all bytes before it
//
// Features stand in the order of the data's Spec. Height and width are of
// pictures, and 0 elsewhere.
const (
	codecMagic   = "VLSB"
	codecVersion = 4
	codecHeader  = 24
	codecSample  = 28 // least bytes of a sample
	codecFeature = 16 // and of a feature

	// MaxWireSamples and MaxWireBytes bound what DecodeSamples accepts.
	MaxWireSamples = 1 << 16
	MaxWireBytes   = 1 << 30
)

// The forms of a feature's elements.
const (
	formNothing uint32 = iota // no element
	formEncoded               // u8, a picture's file
	formRGB                   // u8, [H, W, 3]
	formFloats                // f32
	formInts                  // i32
)

// ErrCorrupt is wrapped by every error of DecodeSamples.
var ErrCorrupt = errors.New("corrupt samples")

// EncodeSamples appends the wire form of the samples of micro-batch m of step
// to dst.
func EncodeSamples(dst []byte, step uint64, m int, samples []Sample) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, codecMagic...)
	dst = le.AppendUint16(dst, codecVersion)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint64(dst, step)
	dst = le.AppendUint32(dst, uint32(m))
	dst = le.AppendUint32(dst, uint32(len(samples)))
	for i := range samples {
		s := &samples[i]
		dst = le.AppendUint64(le.AppendUint64(dst, s.ID), s.Epoch)
		dst = le.AppendUint32(dst, uint32(s.Set))
		dst = putBytes(dst, s.Origin)
		dst = le.AppendUint32(dst, uint32(len(s.Values)))
		for k := range s.Values {
			dst = s.Values[k].encode(dst)
		}
	}
	return le.AppendUint32(dst, octets.Sum(dst[start:]))
}

// DecodeSamples reads what EncodeSamples wrote, and copies out of b. Any
// damage is an error that wraps ErrCorrupt; no length in b is believed beyond
// the bytes that are there.
func DecodeSamples(b []byte) (step uint64, m int, samples []Sample, err error) {
	bad := func(format string, a ...any) (uint64, int, []Sample, error) {
		return 0, 0, nil, fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
	}
	le := binary.LittleEndian
	if len(b) < codecHeader+4 || len(b) > MaxWireBytes {
		return bad("%d bytes; a message has %d to %d", len(b), codecHeader+4, MaxWireBytes)
	}
	if string(b[:4]) != codecMagic {
		return bad("it begins with %q, not %q", b[:4], codecMagic)
	}
	if v := le.Uint16(b[4:]); v != codecVersion || le.Uint16(b[6:]) != 0 {
		return bad("wire version %d; this program speaks %d: run the same release on both sides", v, codecVersion)
	}
	body := b[:len(b)-4]
	if got, want := octets.Sum(body), le.Uint32(b[len(b)-4:]); got != want {
		return bad("CRC-32C is %08x, the message says %08x", got, want)
	}
	step, m = le.Uint64(b[8:]), int(le.Uint32(b[16:]))
	n := int(le.Uint32(b[20:]))
	r := reader{b: body[codecHeader:]}
	if n > MaxWireSamples || n*codecSample > len(r.b) {
		return bad("%d samples in %d bytes", n, len(b))
	}
	samples = make([]Sample, n)
	var values []Value // of all samples, in one piece as long as they have the first's number of features
	for i := range samples {
		s := &samples[i]
		s.ID, s.Epoch = le.Uint64(r.take(8, 1)), le.Uint64(r.take(8, 1))
		s.Set = r.count()
		s.Origin = string(r.take(r.count(), 1))
		k := r.count()
		if r.short || k > len(r.b)/codecFeature {
			return bad("sample %d of %d runs past the end", i, n)
		}
		if len(values) < k {
			values = make([]Value, max(k, min((n-i)*k, len(r.b)/codecFeature)))
		}
		s.Values, values = values[:k:k], values[k:]
		for j := range s.Values {
			if err := s.Values[j].decode(&r); err != nil {
				return bad("sample %d, feature %d: %v", i, j, err)
			}
		}
		if r.short {
			return bad("sample %d of %d runs past the end", i, n)
		}
	}
	if len(r.b) > 0 {
		return bad("%d bytes after the last sample", len(r.b))
	}
	return step, m, samples, nil
}

func (v *Value) encode(dst []byte) []byte {
	le := binary.LittleEndian
	form := formNothing
	switch {
	case len(v.Encoded) > 0:
		form = formEncoded
	case len(v.RGB) > 0:
		form = formRGB
	case len(v.Floats) > 0:
		form = formFloats
	case len(v.Ints) > 0:
		form = formInts
	}
	dst = le.AppendUint32(le.AppendUint32(le.AppendUint32(dst, form), uint32(v.H)), uint32(v.W))
	switch form {
	case formEncoded:
		return putBytes(dst, v.Encoded)
	case formRGB:
		return putBytes(dst, v.RGB)
	case formFloats:
		return putFloats(dst, v.Floats)
	}
	return putInts(dst, v.Ints)
}

func (v *Value) decode(r *reader) error {
	form, h, w := uint32(r.count()), r.count(), r.count()
	if h > MaxImageSide || w > MaxImageSide {
		return fmt.Errorf("a picture of %d×%d", w, h)
	}
	v.H, v.W = h, w
	switch form {
	case formNothing:
		if n := r.count(); n != 0 && !r.short {
			return fmt.Errorf("%d elements of no form", n)
		}
		return nil
	case formEncoded:
		v.Encoded = r.bytes()
	case formRGB:
		v.RGB = r.bytes()
	case formFloats:
		v.Floats = r.floats()
	case formInts:
		v.Ints = r.ints()
	default:
		return fmt.Errorf("its form is %d; this program knows 0 to %d", form, formInts)
	}
	if !r.short && v.Encoded == nil && v.RGB == nil && v.Floats == nil && v.Ints == nil {
		return fmt.Errorf("no elements of form %d", form)
	}
	return nil
}

func putBytes[T string | []byte](dst []byte, v T) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(v))), v...)
}

func putFloats(dst []byte, v []float32) []byte {
	return octets.Append(binary.LittleEndian.AppendUint32(dst, uint32(len(v))), v)
}

func putInts(dst []byte, v []int32) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v)))
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(x))
	}
	return dst
}

// reader takes fields off the front of b; once it runs short it yields zeros.
type reader struct {
	b     []byte
	short bool
}

var zeros [8]byte

// take returns n·size bytes.
func (r *reader) take(n, size int) []byte {
	if r.short || n > len(r.b)/size {
		r.short = true
		return zeros[:min(n*size, len(zeros))]
	}
	v := r.b[:n*size]
	r.b = r.b[n*size:]
	return v
}

func (r *reader) count() int { return int(binary.LittleEndian.Uint32(r.take(4, 1))) }

func (r *reader) bytes() []byte {
	v := r.take(r.count(), 1)
	if r.short || len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

func (r *reader) floats() []float32 {
	n := r.count()
	v := r.take(n, 4)
	if r.short || n == 0 {
		return nil
	}
	out := make([]float32, n)
	octets.Get(out, v)
	return out
}

func (r *reader) ints() []int32 {
	n := r.count()
	v := r.take(n, 4)
	if r.short || n == 0 {
		return nil
	}
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(v[4*i:]))
	}
	return out
}
