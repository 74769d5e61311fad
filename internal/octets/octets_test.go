package octets

import (
	"bytes"
	"math"
	"testing"
)

// The bytes of floats, by the plain loops that a machine of the other byte order
// uses and by whatever this one does; NaN keeps its bits.
func TestFloats(t *testing.T) {
	values := []float32{1, -2, math.Float32frombits(0x7fa01234), float32(math.Inf(-1)), math.SmallestNonzeroFloat32, 0}
	want := []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0x34, 0x12, 0xa0, 0x7f, 0, 0, 0x80, 0xff, 1, 0, 0, 0, 0, 0, 0, 0}
	put := bytes.Repeat([]byte{9}, len(want)+3)
	Put(put, values)
	for name, got := range map[string][]byte{"Bytes": Bytes(values), "Append": Append(nil, values), "plain": appendPortable(nil, values), "Put": put[:len(want)]} {
		if !bytes.Equal(got, want) {
			t.Errorf("%s: % x, want % x", name, got, want)
		}
	}
	if !bytes.Equal(put[len(want):], []byte{9, 9, 9}) {
		t.Error("Put wrote behind the floats")
	}
	for name, get := range map[string]func([]float32, []byte){"Get": Get, "plain": getPortable} {
		got := make([]float32, len(values))
		get(got, append(bytes.Clone(want), 7))
		if !bytes.Equal(appendPortable(nil, got), want) {
			t.Errorf("%s: %v, want %v", name, got, values)
		}
	}
	for at := range want {
		for n := range len(want) - at + 1 {
			p := bytes.Repeat([]byte{0xa5}, n)
			changed := append(append(bytes.Clone(want[:at]), p...), want[at+n:]...)
			for name, put := range map[string]func([]float32, int, []byte){"PutAt": PutAt, "plain": putAtPortable} {
				got := append([]float32(nil), values...)
				put(got, at, p)
				if !bytes.Equal(appendPortable(nil, got), changed) {
					t.Fatalf("%s of %d bytes at %d: % x, want % x", name, n, at, appendPortable(nil, got), changed)
				}
			}
		}
	}
	Put(nil, nil)
	Get(nil, nil)
	PutAt(nil, 0, nil)
	if View(nil) != nil || len(Bytes(nil)) != 0 {
		t.Error("bytes of nothing")
	}
	for name, f := range map[string]func(){"Put": func() { Put(make([]byte, 7), values[:2]) }, "Get": func() { Get(make([]float32, 2), make([]byte, 7)) }, "PutAt": func() { PutAt(make([]float32, 1), 3, make([]byte, 2)) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s takes what is too short", name)
				}
			}()
			f()
		}()
	}
}
