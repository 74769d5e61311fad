package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"testing"
)

// bigFMA is the definition: exact arithmetic, one rounding.
func bigFMA(x, y, z float32) float32 {
	fx, fy, fz := float64(x), float64(y), float64(z)
	if s := fx*fy + fz; s-s != 0 || s == 0 {
		return float32(s)
	}
	// a product of 48 bits and one of 24, anywhere between 2^-298 and 2^256: no sum of them needs more
	sum := exact[0].Mul(exact[1].SetFloat64(fx), exact[2].SetFloat64(fy))
	f, _ := sum.Add(sum, exact[1].SetFloat64(fz)).Float32()
	return f
}

// exact are the numbers of bigFMA, which would otherwise allocate them millions of times.
var exact = [3]*big.Float{new(big.Float).SetPrec(1000), new(big.Float).SetPrec(53), new(big.Float).SetPrec(53)}

func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// awkward are the values at the edges of the format.
var awkward = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 1 + 0x1p-23, 1 - 0x1p-24, 2, 3, 0x1p-149, -0x1p-149, 0x1p-126, 0x1p-126 - 0x1p-149,
	math.MaxFloat32, -math.MaxFloat32, 0x1p127, 0x1p-75, 0x1p-74, 0x1.8p-75, 0x1p-63, 0x1p63, 0x1p64, 0x1.000002p-74, 0x1p-24, 0x1p-25, 0x1.000002p-25,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

func TestFMA32(t *testing.T) {
	check := func(x, y, z float32) {
		t.Helper()
		if got, want := fma32(x, y, z), bigFMA(x, y, z); !sameBits(got, want) {
			t.Fatalf("fma32(%x, %x, %x) = %x, want %x", x, y, z, got, want)
		}
	}
	for _, x := range awkward {
		for _, y := range awkward {
			for _, z := range awkward {
				check(x, y, z)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	triples := 50_000
	if os.Getenv("VLARING_LONG") != "" {
		triples = 200_000
	}
	for range triples {
		x, y := math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32())
		check(x, y, math.Float32frombits(r.Uint32()))
		// Sums near half-way points: few mantissa bits, exponents that meet.
		x = float32(int32(r.Uint32()>>20)) * 0x1p-11
		y = float32(int32(r.Uint32()>>18)) * float32(math.Ldexp(1, -int(r.Uint32()%40)))
		z := float32(int32(r.Uint32()>>8)) * float32(math.Ldexp(1, int(r.Uint32()%60)-30))
		check(x, y, z)
		check(x, -y, z)
		// The same in the subnormal range.
		check(x*0x1p-70, y*0x1p-60, z*0x1p-130)
		check(x*0x1p-70, -y*0x1p-62, z*0x1p-140)
	}
	// Every kind of half-way case made on purpose, of either sign: x·y is half an ulp of z, plus or minus a hair.
	for i := range triples {
		z := math.Float32frombits(r.Uint32() & 0x7f7fffff)
		ulp := float64(math.Nextafter32(z, float32(math.Inf(1)))) - float64(z)
		if math.IsInf(ulp, 0) {
			continue
		}
		f, e := math.Frexp(ulp / 2)
		x, y := float32(math.Ldexp(f, e/2)), float32(math.Ldexp(1, e-e/2))
		if i%2 == 1 {
			x, z = -x, -z
		}
		check(x, y, z)
		check(x*(1+0x1p-23), y, z)
		check(x*(1-0x1p-24), y, z)
		check(-x*(1-0x1p-24), y, z)
		check(-x*(1+0x1p-23), y*(1+0x1p-23), z)
		// A product that is half-way (12 bits by 13, both odd: mostly), and a hair that a float64 has no room for.
		x, y, z = float32(r.Uint32()>>20|0x801), float32(r.Uint32()>>19|0x1001), float32(math.Ldexp(1, -30-int(r.Uint32()%100)))
		check(x, y, z)
		check(x, y, -z)
		check(-x, y, z)
		check(-x, y, -z)
	}
}

func BenchmarkFMA32(b *testing.B) {
	x, y, z := float32(1.1), float32(0.99), float32(0.3)
	for b.Loop() {
		z = fma32(x, y, z)
	}
	if z == 0 {
		b.Fatal(z)
	}
}
