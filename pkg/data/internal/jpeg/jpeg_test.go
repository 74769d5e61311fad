package jpeg

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// The planes' arithmetic alone, without any DCT, against libjpeg's formulas
// written out for each place: a plane of one row of four samples.
func TestUpsamplingByHand(t *testing.T) {
	in := []byte{10, 20, 60, 255}
	p := newPlane(in, 4, 8, 1, 2, 1)
	if got, want := p.row(make([]byte, 8), 0), []byte{10, 13, 17, 30, 50, 109, 206, 255}; !bytes.Equal(got, want) {
		t.Errorf("4:2:2: %v, want %v", got, want)
	}
	p = newPlane(in, 1, 1, 8, 1, 2) // the same upright
	var got []byte
	for y := range 8 {
		got = append(got, p.row(make([]byte, 1), y)[0])
	}
	if want := []byte{10, 13, 17, 30, 50, 109, 206, 255}; !bytes.Equal(got, want) {
		t.Errorf("4:4:0: %v, want %v", got, want)
	}
	p = newPlane(in[:2], 2, 4, 1, 2, 1)
	if got := p.row(make([]byte, 4), 0); !bytes.Equal(got, []byte{10, 10, 20, 20}) {
		t.Errorf("two samples are repeated: %v", got)
	}
	p = newPlane(in, 4, 13, 1, 4, 1)
	if got := p.row(make([]byte, 16), 0)[:13]; !bytes.Equal(got, []byte{10, 10, 10, 10, 20, 20, 20, 20, 60, 60, 60, 60, 255}) {
		t.Errorf("4:1:1: %v", got)
	}
}

// The integer transform is the definition's to within the rounding of a unit.
func TestInverseAgainstItsDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 400 {
		var b block
		for range 1 + n%20 {
			b[r.IntN(64)] = int32(r.IntN(401) - 200)
		}
		if n < 64 {
			b = block{}
			b[n] = 300
		}
		var want [64]float64
		for i := range want {
			for k, c := range b {
				scale := 0.25
				if k%8 == 0 {
					scale *= math.Sqrt2 / 2
				}
				if k/8 == 0 {
					scale *= math.Sqrt2 / 2
				}
				want[i] += scale * float64(c) * math.Cos(float64(2*(i%8)+1)*float64(k%8)*math.Pi/16) * math.Cos(float64(2*(i/8)+1)*float64(k/8)*math.Pi/16)
			}
		}
		out := make([]byte, 8*11)
		inverse(&b, out, 11)
		for i, w := range want {
			if got, w := float64(out[i/8*11+i%8]), min(max(w+128, 0), 255); math.Abs(got-w) > 0.6 {
				t.Fatalf("block %d, sample %d: %v, want %v", n, i, got, w)
			}
		}
	}
}

// A Huffman code is read whether it is short or long, and no further than the
// data go; one that is in no table is refused.
func TestHuffman(t *testing.T) {
	counts := make([]byte, 16)
	counts[0], counts[2], counts[9], counts[15] = 1, 2, 1, 1 // 0, 100, 101, 1100000000, 1100000001000000
	tab, err := newTable(counts, []byte{7, 8, 9, 10, 11})
	if err != nil {
		t.Fatal(err)
	}
	b := bits{data: []byte{0b0_100_101_1, 0b10000000, 0b0_1100000, 0b00100000, 0b0_0_111111, 0xff, 0x00, 0xff, 0xd9}}
	for i, want := range []byte{7, 8, 9, 10, 11, 7} {
		if got, err := b.decode(tab); got != want || err != nil {
			t.Fatalf("value %d is %d, %v; want %d", i, got, err, want)
		}
	}
	if _, err := b.decode(tab); err == nil || !strings.Contains(err.Error(), "in no Huffman table") && err != errShort {
		t.Error(err)
	}
	b = bits{data: []byte{0b10_000000, 0xff, 0xd9}}
	b.n, b.acc = 2, 2
	b.at = 1
	if _, err := b.decode(tab); err != errShort {
		t.Errorf("two of a code's three bits: %v", err)
	}
	counts[0] = 3
	if _, err := newTable(counts, make([]byte, 7)); err == nil {
		t.Error("three codes of one bit were accepted")
	}
}
