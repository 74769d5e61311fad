package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// divisors are sums of which every mantissa is divided: the simplest, those next to a power of two, where a first quotient is furthest off, and
// any others.
func divisors() []float32 {
	d := []float32{1, 3, 7, 197, 1.5, 4. / 3, math.Sqrt2, 1 << 32}
	for k := range uint32(4) {
		d = append(d, math.Float32frombits(0x3F800001+k), math.Float32frombits(0x40000000-1-k), math.Float32frombits(0x3FB504F1+k))
	}
	r := rand.New(rand.NewPCG(3, 3))
	for range 4 {
		d = append(d, math.Float32frombits(0x3F800000|r.Uint32()>>9))
	}
	return d
}

// TestSoftmaxDivides: a softmax that divides by multiplying has the quotients of IEEE division. The exponents go down to -ln 2 in steps of 2⁻²⁴,
// so that there is hardly a mantissa which their exponentials do not have.
func TestSoftmaxDivides(t *testing.T) {
	levels(t, func(t *testing.T) {
		const n = 4096
		x, e, got, want := AlignedFloats(n), AlignedFloats(n), AlignedFloats(n), AlignedFloats(n)
		divide := func(sum float32) {
			SoftmaxAgainTo(got, x, 1, 0, sum)
			Divide(want, e, sum)
			if i := differAt(got, want); i >= 0 {
				t.Fatalf("%x/%x is %x, want %x", e[i], sum, got[i], want[i])
			}
		}
		step := 1
		if testing.Short() || row == nil || row.softmaxTwo == nil { // where all divide, a few are enough
			step = 97
		}
		sums := divisors()
		const ln2 = 11629080 // of 2⁻²⁴
		for at := 0; at < ln2; at += n * step {
			for i := range x {
				x[i] = -float32(at+i) / (1 << 24)
			}
			ExpSlice(e, x)
			for _, sum := range sums {
				divide(sum)
			}
		}
		// any exponents, sums of any size, and what no softmax has summed
		r := rand.New(rand.NewPCG(4, 4))
		odd := []float32{0.99999994, 0.5, 1e-30, 1e-40, 4294967808, 3e38, -2, float32(math.Inf(1)), float32(math.NaN())}
		for k := range 2000/step + 50 {
			for i := range x {
				x[i] = -44 * r.Float32()
				if r.IntN(100) == 0 {
					x[i] = float32(math.Inf(-1))
				}
			}
			ExpSlice(e, x)
			for i, d := range x {
				if d < softmaxFloor {
					e[i] = 0
				}
			}
			for range 5 {
				divide(math.Float32frombits(0x3F800000 + uint32(r.IntN(32<<23))))
			}
			divide(odd[k%len(odd)])
		}
	})
}

// TestQuotientTheorem: what a softmax divides by is right for all numbers of few bits, whose every pair can be tried: y = RN(1/b) and q = RN(ay)
// give the quotient RN(q + RN(a - qb)·y). Products and sums of such numbers are exact in float64.
func TestQuotientTheorem(t *testing.T) {
	for bits := 2; bits <= 11; bits++ {
		round := func(x float64) float64 {
			m, e := math.Frexp(x)
			return math.Ldexp(math.RoundToEven(math.Ldexp(m, bits)), e-bits)
		}
		one := 1 << (bits - 1)
		for b := one; b < 2*one; b++ {
			y := round(1 / float64(b))
			for a := one; a < 2*one; a++ {
				q := round(float64(a) * y)
				got := round(q + round(float64(a)-q*float64(b))*y)
				if want := round(float64(a) / float64(b)); got != want {
					t.Fatalf("%d bits: %d/%d is %v, want %v", bits, a, b, got, want)
				}
			}
		}
	}
}

// TestSoftmaxScales: at every level the bits of plain Go for factors of any sign and size, and rows whose largest element is none, or no number.
func TestSoftmaxScales(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	scales := []float32{1, 0.125, 0.3, -0.3, 0, float32(math.Copysign(0, -1)), 1e-44, 1e-38, 3e38, -3e38, inf, -inf, nan}
	fills := []struct {
		name        string
		rest, first float32
	}{{"numbers", 0, 0}, {"nothing visible", -inf, -inf}, {"one visible", -inf, -3}, {"one infinite", 0, inf}, {"all infinite", inf, inf}, {"a NaN", 0, nan},
		{"a NaN beside nothing", -inf, nan}, {"a NaN beside infinities", inf, nan}, {"a huge one", 0, 3e38}, {"all but huge", 3e38, 0}, {"tiny ones", 1e-40, -1e-44}}
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 5))
		for _, n := range []int{1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 96, 113, 197} {
			for _, f := range fills {
				for _, s := range scales {
					x := make([]float32, n)
					numbers(r, x, false)
					if f.rest != 0 {
						for i := range x {
							x[i] = f.rest
						}
					}
					x[r.IntN(n)] = f.first
					what := fmt.Sprintf("%d elements, %s, times %v", n, f.name, s)
					compare := func(where string, a, b []float32) {
						if i := differAt(a, b); i >= 0 {
							t.Fatalf("%s: %s[%d] is %x, want %x", what, where, i, a[i], b[i])
						}
					}
					want, got, again := make([]float32, n), make([]float32, n), make([]float32, n)
					var max, sum float32
					atGeneric(func() { max, sum = softmaxTo(want, x, s) })
					m, u := softmaxTo(got, x, s)
					compare("elsewhere", got, want)
					compare("maximum and sum", []float32{m, u}, []float32{max, sum})
					SoftmaxAgainTo(again, x, s, m, u)
					compare("again", again, want)
					const rows, gap = 5, 3
					five, to, ms, us := make([]float32, rows*(n+gap)-gap), make([]float32, rows*(n+gap)-gap), make([]float32, rows), make([]float32, rows)
					for i := range five {
						five[i], to[i] = canary, canary
					}
					for i := range rows {
						numbers(r, five[i*(n+gap):i*(n+gap)+n], false)
					}
					copy(five[2*(n+gap):], x)
					SoftmaxRowsTo(to, five, rows, n, n+gap, s, ms, us)
					compare("of five", to[2*(n+gap):][:n], want)
					compare("maximum and sum of five", []float32{ms[2], us[2]}, []float32{max, sum})
					inPlace := append([]float32(nil), five...)
					SoftmaxRowsTo(inPlace, inPlace, rows, n, n+gap, s, ms, us)
					compare("of five in place", inPlace, to)
					for i := range rows {
						at := i * (n + gap)
						one := make([]float32, n)
						m, u := softmaxTo(one, five[at:at+n], s)
						compare(fmt.Sprintf("row %d of five", i), to[at:at+n], one)
						compare("maximum and sum of it", []float32{ms[i], us[i]}, []float32{m, u})
						for _, v := range to[at+n : min(at+n+gap, len(to))] {
							if math.Float32bits(v) != math.Float32bits(canary) {
								t.Fatalf("%s: words behind row %d were written", what, i)
							}
						}
					}
					m, u = SoftmaxRow(x, s)
					compare("in place", x, want)
					compare("maximum and sum in place", []float32{m, u}, []float32{max, sum})
				}
			}
		}
	})
}
