// Package octets is what this program's messages, shared memory and files have in
// common: float32 as little-endian bytes, and CRC-32C.
package octets

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// memory says whether float32 lie in memory as they do on the wire.
var memory = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// View returns the bytes of x in place, which change with x; nil where memory
// holds them in another order than the wire, or x is empty.
func View(x []float32) []byte {
	if !memory || len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}

// Bytes returns the bytes of x: its View, or a copy where there is none.
func Bytes(x []float32) []byte {
	if b := View(x); b != nil {
		return b
	}
	return appendPortable(make([]byte, 0, 4*len(x)), x)
}

// Append appends the bytes of x.
func Append(b []byte, x []float32) []byte {
	if v := View(x); v != nil {
		return append(b, v...)
	}
	return appendPortable(b, x)
}

func appendPortable(b []byte, x []float32) []byte {
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// Put writes the bytes of x to dst, which has room for them.
func Put(dst []byte, x []float32) {
	if len(x) > 0 {
		_ = dst[4*len(x)-1]
		Append(dst[:0], x)
	}
}

// Get fills x from 4·len(x) bytes or more.
func Get(x []float32, b []byte) {
	if v := View(x); v != nil {
		_ = b[len(v)-1]
		copy(v, b)
		return
	}
	getPortable(x, b)
}

func getPortable(x []float32, b []byte) {
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
}

// PutAt writes p into the bytes of x, from byte at on, which may be within a float.
func PutAt(x []float32, at int, p []byte) {
	if v := View(x); v != nil {
		copy(v[at:at+len(p)], p)
		return
	}
	putAtPortable(x, at, p)
}

func putAtPortable(x []float32, at int, p []byte) {
	for i, b := range p {
		k, shift := (at+i)/4, 8*((at+i)%4)
		x[k] = math.Float32frombits(math.Float32bits(x[k])&^(0xff<<shift) | uint32(b)<<shift)
	}
}
