package kernel

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// exactly rounds the exact sum of a product and a number, or of two numbers (y = 1), to 24 bits with any exponent, and flushes: the definition, by
// arithmetic of any length. It knows finite operands whose sum does not vanish; others are IEEE's business, and plain.
func exactly(x, y, z float64) float32 {
	p := new(big.Float).SetPrec(2000).Mul(big.NewFloat(x), big.NewFloat(y))
	s := p.Add(p, new(big.Float).SetPrec(2000).SetFloat64(z))
	r := new(big.Float).SetPrec(24).SetMode(big.ToNearestEven).Set(s)
	v, _ := r.Float64()
	if math.Abs(v) < 0x1p-126 {
		return float32(math.Copysign(0, v))
	}
	return float32(v)
}

// tileChain is the definition of a product of bfloat16, for one element.
func (g *Gemm) tileChain(i, j int) {
	read := func(x float32) float64 {
		if math.Abs(float64(x)) < 0x1p-126 {
			return math.Copysign(0, float64(x))
		}
		return float64(x)
	}
	word := func(x float32) float64 { return read(math.Float32frombits(uint32(roundBF16(x)) << 16)) }
	step := func(x, y float64, t float32) float32 {
		if f := math.FMA(x, y, float64(t)); f == 0 || f-f != 0 {
			if f == 0 { // the sign is IEEE's; a product of bfloat16 is never lost in float64
				return float32(f)
			}
			return float32(f)
		}
		return exactly(x, y, float64(t))
	}
	c := g.start(i, j)
	for k := 0; k < g.K; k += 32 {
		var t [2]float32
		for s := range 32 {
			x, y := 0.0, 0.0
			if k+s < g.K {
				x, y = word(g.A[i*g.ARow+(k+s)*g.ACol]), word(g.B[(k+s)*g.BRow+j*g.BCol])
			}
			t[s%2] = step(x, y, t[s%2])
		}
		c = step(1, read(c), step(1, float64(t[0]), t[1]))
	}
	g.finish(i, j, c)
}

// wordsOf rounds an operand, between guards.
func wordsOf(t *testing.T, x []float32) []uint16 {
	f := fenced(t, (len(x)+1)/2)
	w := unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(f.x))), 2*len(f.x))[2*len(f.x)-len(x):]
	for i, v := range x {
		w[i] = roundBF16(v)
	}
	return w
}

// TestTiles compares products of bfloat16 at every level of this machine with the definition.
func TestTiles(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(41, 42))
		ws := NewWorkspace()
		for n := range 120 {
			m, c, k := 1+r.IntN(50), 1+r.IntN(50), 1+r.IntN(100)
			g := newGemm(t, r, m, c, k, n%2 == 1)
			g.BF16 = true
			if n%4 > 1 { // operands that are rounded already
				g.AWords, g.BWords = wordsOf(t, g.A), wordsOf(t, g.B)
			}
			t.Run(fmt.Sprint(n), func(t *testing.T) { g.checkTiles(t, r, ws, n%3 == 0) })
		}
	})
}

func (g *gemmCase) checkTiles(t *testing.T, r *rand.Rand, ws *Workspace, pieces bool) {
	t.Helper()
	want := make([]float32, len(g.C))
	copy(want, g.C)
	twin := g.Gemm
	twin.C = want
	for i := range g.M {
		for j := range g.N {
			twin.tileChain(i, j)
		}
	}
	g.hold(t, r, ws, pieces, want)
}
