package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The wire form of a micro-batch's samples, all integers little-endian:
//
//	"VLSB"  u16 version 2  u16 zero  u64 step  u32 micro-batch  u32 count
//	count × sample:
//	  u64 id  u32 image height  u32 image width
//	  9 × (u32 number of elements, elements):
//	     origin u8 · encoded u8 · rgb u8 · floats f32 · tokens i32 · action f32 · labels i32 · vision f32 · language f32
//	u32 CRC-32C of all bytes before it
const (
	codecMagic   = "VLSB"
	codecVersion = 2
	codecHeader  = 24
	codecSample  = 16 + 4*codecFields
	codecFields  = 9

	// MaxWireSamples and MaxWireBytes bound what DecodeSamples accepts.
	MaxWireSamples = 1 << 16
	MaxWireBytes   = 1 << 30
)

// ErrCorrupt is wrapped by every error of DecodeSamples.
var ErrCorrupt = errors.New("corrupt samples")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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
		dst = le.AppendUint64(dst, s.ID)
		dst = le.AppendUint32(dst, uint32(s.Image.H))
		dst = le.AppendUint32(dst, uint32(s.Image.W))
		dst = putBytes(dst, []byte(s.Origin))
		dst = putBytes(dst, s.Image.Encoded)
		dst = putBytes(dst, s.Image.RGB)
		dst = putFloats(dst, s.Image.Floats)
		dst = putInts(dst, s.Tokens)
		dst = putFloats(dst, s.Action)
		dst = putInts(dst, s.Labels)
		dst = putFloats(dst, s.Vision)
		dst = putFloats(dst, s.Language)
	}
	return le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
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
		return bad("wire version %d; this program speaks %d", v, codecVersion)
	}
	body := b[:len(b)-4]
	if got, want := crc32.Checksum(body, castagnoli), le.Uint32(b[len(b)-4:]); got != want {
		return bad("CRC-32C is %08x, the message says %08x", got, want)
	}
	step, m = le.Uint64(b[8:]), int(le.Uint32(b[16:]))
	n := int(le.Uint32(b[20:]))
	r := reader{b: body[codecHeader:]}
	if n > MaxWireSamples || n*codecSample > len(r.b) {
		return bad("%d samples in %d bytes", n, len(b))
	}
	samples = make([]Sample, n)
	for i := range samples {
		s := &samples[i]
		s.ID = le.Uint64(r.take(8, 1))
		h, w := le.Uint32(r.take(4, 1)), le.Uint32(r.take(4, 1))
		if h > MaxImageSide || w > MaxImageSide {
			return bad("sample %d has a picture of %d×%d", i, w, h)
		}
		s.Image.H, s.Image.W = int(h), int(w)
		s.Origin = string(r.bytes())
		s.Image.Encoded = r.bytes()
		s.Image.RGB = r.bytes()
		s.Image.Floats = r.floats()
		s.Tokens = r.ints()
		s.Action = r.floats()
		s.Labels = r.ints()
		s.Vision = r.floats()
		s.Language = r.floats()
		if r.short {
			return bad("sample %d of %d runs past the end", i, n)
		}
	}
	if len(r.b) > 0 {
		return bad("%d bytes after the last sample", len(r.b))
	}
	return step, m, samples, nil
}

func putBytes(dst, v []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(v))), v...)
}

func putFloats(dst []byte, v []float32) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v)))
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
	}
	return dst
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
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(v[4*i:]))
	}
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
