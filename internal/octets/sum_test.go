package octets

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// The sum of every length, from every place in a cache line, behind every kind of sum, is
// that of the plain table, one byte after the other; and that of the standard library.
func TestSum(t *testing.T) {
	t.Logf("folded in wide registers: %v", folds)
	plain := crc32.MakeTable(crc32.Castagnoli)
	slow := func(sum uint32, b []byte) uint32 {
		sum = ^sum
		for _, x := range b {
			sum = plain[byte(sum)^x] ^ sum>>8
		}
		return ^sum
	}
	if got, want := Sum([]byte("123456789")), uint32(0xe3069283); got != want { // RFC 3720's check value
		t.Errorf("the sum of 123456789 is %08x, want %08x", got, want)
	}
	b := make([]byte, 1<<14)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	lengths := []int{0, 1, 7, 8, 255, 256, 1023, 1024, 1025, 1279, 1280, 1281, 4096, 5000, 1<<14 - 64}
	for n := 1000; n < 1600; n++ {
		lengths = append(lengths, n)
	}
	for _, sum := range []uint32{0, 1, ^uint32(0), 0xdeadbeef} {
		for i, n := range lengths {
			at := i * 7 % 64
			want := slow(sum, b[at:at+n])
			if got := AddSum(sum, b[at:at+n]); got != want {
				t.Fatalf("%d bytes from %d behind %08x: %08x, want %08x", n, at, sum, got, want)
			}
			if got := crc32.Update(sum, plain, b[at:at+n]); got != want {
				t.Fatalf("%d bytes from %d: the library has %08x, the table %08x", n, at, got, want)
			}
		}
	}
	h := NewSum()
	for lo := 0; lo < len(b); lo += 3000 {
		h.Write(b[lo:min(lo+3000, len(b))])
	}
	if got, want := h.Sum32(), slow(0, b); got != want || binary.BigEndian.Uint32(h.Sum(nil)) != want {
		t.Errorf("written in parts: %08x, want %08x", got, want)
	}
	if h.Reset(); h.Sum32() != 0 {
		t.Error("after Reset there is a sum")
	}
}

// Sums of parts, joined, are the sum of the whole.
func TestJoint(t *testing.T) {
	b := make([]byte, 5000)
	for i := range b {
		b[i] = byte(i*i>>3 + i)
	}
	for _, cut := range []int{0, 1, 2, 7, 64, 1000, 4095, 4096, 4999, 5000} {
		if got, want := JointOf(int64(len(b)-cut)).Sums(Sum(b[:cut]), Sum(b[cut:])), Sum(b); got != want {
			t.Errorf("joined at %d: %08x, want %08x", cut, got, want)
		}
	}
	if got, want := JointOf(1<<26).Sums(Sum(b), Sum(make([]byte, 1<<26))), AddSum(Sum(b), make([]byte, 1<<26)); got != want {
		t.Errorf("with much behind: %08x, want %08x", got, want)
	}
}

// BenchmarkSum is of bytes in the nearest cache, in the next one, and in memory.
//
//	go test ./internal/octets -run '^$' -bench Sum
func BenchmarkSum(b *testing.B) {
	for _, n := range []int{256, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 128 << 20} {
		x := make([]byte, n)
		for i := range x {
			x[i] = byte(i)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				Sum(x)
			}
		})
		b.Run(fmt.Sprint(n, "/library"), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				crc32.Checksum(x, castagnoli)
			}
		})
	}
}
