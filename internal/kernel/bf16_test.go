package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestNarrowBF16Rounds holds the rounding against math/big, which rounds to nearest even at any precision.
func TestNarrowBF16Rounds(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 16))
		src := []float32{0, float32(math.Copysign(0, -1)), 1, math.MaxFloat32, -math.MaxFloat32, float32(math.Inf(1)), float32(math.Inf(-1)),
			math.Float32frombits(0x3f808000), math.Float32frombits(0x3f818000), math.Float32frombits(0x3f808001), math.Float32frombits(0x7f7f7fff)}
		for len(src) < 4096 {
			if x := math.Float32frombits(r.Uint32() &^ (r.Uint32N(2) * 0x7fff)); x == x {
				src = append(src, x)
			}
		}
		dst := make([]uint16, len(src))
		NarrowBF16(dst, src)
		for i, x := range src {
			got := math.Float32frombits(uint32(dst[i]) << 16)
			if math.IsInf(float64(x), 0) || x == 0 {
				if math.Float32bits(got) != math.Float32bits(x) {
					t.Fatalf("%g becomes %g", x, got)
				}
				continue
			}
			f := new(big.Float).SetPrec(8).SetMode(big.ToNearestEven)
			f.SetFloat64(float64(x))
			want, _ := f.Float64()
			if math.Abs(float64(x)) < 0x1p-126 { // denormal: a fixed step of 2^-133
				want = math.RoundToEven(float64(x)*0x1p133) * 0x1p-133
			}
			if float64(got) != want && !(math.IsInf(float64(got), 0) && math.Abs(want) > math.MaxFloat32) {
				t.Fatalf("%g (%x) becomes %g, want %g", x, math.Float32bits(x), got, want)
			}
		}
	})
}

// TestBF16Bits compares every level with plain Go on random bits, NaN among them, at every length, behind guards.
func TestBF16Bits(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 16))
		for n := range 70 {
			src, back := fenced(t, n), fenced(t, n)
			for i := range src.x {
				src.x[i] = math.Float32frombits(r.Uint32())
				if r.IntN(4) == 0 {
					src.x[i] = math.Float32frombits(0x7f800000 | r.Uint32()&0x807fffff)
				}
			}
			const guard = 0xbeef
			half := make([]uint16, n+1)
			half[n] = guard
			NarrowBF16(half[:n], src.x)
			WidenBF16(back.x, half[:n])
			for i, x := range src.x {
				if half[i] != narrowBF16(x) {
					t.Fatalf("n %d: %x becomes %x, want %x", n, math.Float32bits(x), half[i], narrowBF16(x))
				}
				if math.Float32bits(back.x[i]) != uint32(half[i])<<16 {
					t.Fatalf("n %d: %x comes back as %x", n, half[i], math.Float32bits(back.x[i]))
				}
				if (x != x) != (back.x[i] != back.x[i]) {
					t.Fatalf("n %d: NaN is not kept: %x", n, math.Float32bits(x))
				}
			}
			if half[n] != guard || !src.intact() || !back.intact() {
				t.Fatalf("n %d: words beyond were written", n)
			}
		}
	})
}

func BenchmarkBF16(b *testing.B) {
	const n = 1 << 16
	x, h := AlignedFloats(n), make([]uint16, n)
	for _, c := range []struct {
		name string
		f    func()
	}{{"narrow", func() { NarrowBF16(h, x) }}, {"widen", func() { WidenBF16(x, h) }}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				c.f()
			}
		})
	}
}
