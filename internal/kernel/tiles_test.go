package kernel

import (
	"bufio"
	"flag"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

var updateTiles = flag.Bool("update-tiles", false, "write testdata/tdpbf16ps.txt anew from this CPU's AMX")

// exactly rounds the exact x·y + z to 24 bits with any exponent, by arithmetic of any length, and flushes: the definition. The sum must be
// finite and not vanish; others are IEEE's business.
func exactly(x, y, z float64) float32 {
	p := new(big.Float).SetPrec(600).Mul(big.NewFloat(x), big.NewFloat(y))
	s := p.Add(p, big.NewFloat(z))
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
	word := func(x float32, words []uint16, at int) float64 {
		if words != nil {
			return read(math.Float32frombits(uint32(words[at]) << 16))
		}
		return read(math.Float32frombits(uint32(roundBF16(x)) << 16))
	}
	step := func(x, y float64, t float32) float32 {
		if f := math.FMA(x, y, float64(t)); f == 0 || f-f != 0 { // a product of bfloat16 is never lost in float64
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
				a, b := i*g.ARow+(k+s)*g.ACol, (k+s)*g.BRow+j*g.BCol
				x, y = word(g.A[a], g.AWords, a), word(g.B[b], g.BWords, b)
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

// TestRoundBF16 takes every upper half of a float32 with the lower halves about a tie, at every level.
func TestRoundBF16(t *testing.T) {
	var x []float32
	for u := range 1 << 16 {
		for _, low := range []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff} {
			x = append(x, math.Float32frombits(uint32(u)<<16|low))
		}
	}
	x = x[:len(x)-5] // a tail
	got := make([]uint16, len(x))
	levels(t, func(t *testing.T) {
		RoundBF16(got, x)
		for i, v := range x {
			want := narrowBF16(v)
			if math.Abs(float64(v)) < 0x1p-126 {
				want = uint16(math.Float32bits(v)>>16) & 0x8000
			}
			if got[i] != want {
				t.Fatalf("%08x is rounded to %04x, want %04x", math.Float32bits(v), got[i], want)
			}
		}
	})
}

// checkTiles compares the case at every level of this machine with the definition.
func (g *gemmCase) checkTiles(t *testing.T, r *rand.Rand, ws *Workspace, pieces bool) {
	t.Helper()
	want, before := slices.Clone(g.C), slices.Clone(g.C)
	twin := g.Gemm
	twin.C = want
	for i := range g.M {
		for j := range g.N {
			twin.tileChain(i, j)
		}
	}
	levels(t, func(t *testing.T) {
		copy(g.C, before)
		g.hold(t, r, ws, pieces, want)
	})
}

// TestTiles takes products of many shapes, layouts and beginnings, tame and wild, of float32 and of bfloat16.
func TestTiles(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	ws := NewWorkspace()
	cases := 100
	if testing.Short() {
		cases = 20
	}
	for n := range cases {
		g := newGemm(t, r, 1+r.IntN(40), 1+r.IntN(40), 1+r.IntN(80), n%2 == 1)
		g.BF16 = true
		if n%4 > 1 {
			g.AWords, g.BWords = wordsOf(t, g.A), wordsOf(t, g.B)
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) { g.checkTiles(t, r, ws, n%3 == 0) })
	}
}

// TestTilesOfTraining takes the layouts of training with several chunks, groups, slabs and passes, of float32 and of bfloat16, whose rows may be
// read as they are: plain Go is the twin here, which TestTiles has held against the definition.
func TestTilesOfTraining(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 44))
	ws := NewWorkspace()
	shapes := [][3]int{{70, 530, 40}, {33, 40, tileDepth + 70}, {300, 33, 1088}, {50, 34, 2 * rowsAlike}, {48, 16, 64}}
	if testing.Short() {
		shapes = shapes[len(shapes)-1:]
	}
	for _, s := range shapes {
		for o := range 8 {
			g := trainingGemm(t, r, s[0], s[1], s[2], o&1 != 0, o&2 != 0)
			g.BF16 = true
			if o&4 != 0 {
				g.AWords, g.BWords = wordsOf(t, g.A), wordsOf(t, g.B)
			}
			want := slices.Clone(g.C)
			twin := g.Gemm
			twin.C = want
			atGeneric(func() { twin.Run(0, g.M, 0, g.N, ws) })
			before := slices.Clone(g.C)
			levels(t, func(t *testing.T) {
				copy(g.C, before)
				g.hold(t, r, ws, o%2 == 0, want)
			})
		}
	}
}

// TestTilesPacked checks that a B which is laid out before, in parts, gives the same bits, for all of C and for pieces of it, at every level.
func TestTilesPacked(t *testing.T) {
	r := rand.New(rand.NewPCG(47, 48))
	ws := NewWorkspace()
	for _, s := range [][3]int{{20, 70, 50}, {5, 33, 64}, {3, 20, tileDepth + 70}, {1, 7, 3}} {
		for o := range 4 {
			g := trainingGemm(t, r, s[0], s[1], s[2], o&1 != 0, o&2 != 0)
			g.BF16 = true
			if o == 3 {
				g.BWords = wordsOf(t, g.B)
			}
			before := slices.Clone(g.C)
			levels(t, func(t *testing.T) {
				twin := g.Gemm
				twin.C = slices.Clone(before)
				twin.Run(0, g.M, 0, g.N, ws)
				packed := g.Gemm
				packed.BTiles = make([]uint16, TileWords(g.N, g.K))
				for n := 0; n < g.N; n += TileCols {
					packed.PackB(packed.BTiles, n, min(n+TileCols, g.N), ws)
				}
				packed.B, packed.BWords = make([]float32, len(g.B)), nil // it is not read
				for _, cut := range []int{0, min(TileCols, g.N), min(19, g.N)} {
					packed.C = slices.Clone(before)
					if cut == 19 { // not where tiles begin: B is packed from what is there
						packed.B, packed.BWords = g.B, g.BWords
					}
					packed.Run(0, g.M, 0, cut, ws)
					packed.Run(0, g.M, cut, g.N, ws)
					for i, want := range twin.C {
						if !sameBits(packed.C[i], want) {
							t.Fatalf("%v, laid out %d, cut at %d: C[%d] is %x, want %x", s, o, cut, i, packed.C[i], want)
						}
					}
				}
			})
		}
	}
}

// TestTilesOut checks that the tiles which are handed over instead of written are the same ones, each once.
func TestTilesOut(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 46))
	ws := NewWorkspace()
	g := trainingGemm(t, r, 70, 300, 50, false, true)
	g.BF16, g.Acc = true, false
	want := slices.Clone(g.C)
	twin := g.Gemm
	twin.C = want
	levels(t, func(t *testing.T) {
		twin.Run(0, g.M, 0, g.N, ws)
		got, seen := slices.Clone(want), make([]int, len(want))
		clear(got)
		other := g.Gemm
		other.C, other.Out = nil, func(m0, m1, n0, n1 int, c []float32, row int, _ *Workspace) {
			for i := m0; i < m1; i++ {
				for j := n0; j < n1; j++ {
					got[i*g.CRow+j] = c[(i-m0)*row+j-n0]
					seen[i*g.CRow+j]++
				}
			}
		}
		other.Run(0, g.M, 0, 32, ws)
		other.Run(0, g.M, 32, g.N, ws)
		for i := range g.M {
			for j := range g.N {
				if at := i*g.CRow + j; seen[at] != 1 || !sameBits(got[at], want[at]) {
					t.Fatalf("C[%d,%d] was handed over %d times, %x; want %x", i, j, seen[at], got[at], want[at])
				}
			}
		}
	})
}

// edges are bfloat16 whose products and sums lie where arithmetic is odd: zeros, denormals (which count as zeros), products about the smallest
// normal float32 and half a step below it, the largest, infinities, NaN.
var edges = []uint16{
	0x0000, 0x8000, 0x0001, 0x807f, // ±0, denormals
	0x0080, 0x8080, // ±2^-126
	0x2000, 0xa000, 0x2001, 0x1fff, 0x9fff, // about ±2^-63
	0x1f80, 0x3f80, 0xbf80, 0x3f7f, 0x3f81, 0x3380, 0x3f00, // 2^-64, ±1, 1-2^-8, 1+2^-7, 2^-24, 1/2
	0x7f7f, 0xff7f, 0x5f80, 0x7f80, 0xff80, 0x7fc0, // the largest, 2^64, ±∞, NaN
}

// TestTileEdges takes all sums of two products of edges, from several beginnings, at every level: 331,776 elements each. The first product is
// added to the second in one chain, or stands in the other one.
func TestTileEdges(t *testing.T) {
	n := len(edges)
	g := Gemm{M: n * n, N: n * n, K: 4, ARow: 4, ACol: 1, BRow: 1, BCol: 4, CRow: n * n, BF16: true}
	ws := NewWorkspace()
	for _, other := range []int{1, 2} { // the second product's step: of the other chain, of the same one
		for _, start := range []float32{0, -0x1p-126, 0x1p-127, 1} {
			if testing.Short() && (other == 1 || start != 0) {
				continue
			}
			g.AWords, g.BWords = make([]uint16, 4*n*n), make([]uint16, 4*n*n)
			for i := range n * n {
				g.AWords[4*i], g.AWords[4*i+other] = edges[i/n], edges[i%n]
				g.BWords[4*i], g.BWords[4*i+other] = edges[i/n], edges[i%n]
			}
			g.A, g.B = make([]float32, 4*n*n), make([]float32, 4*n*n)
			g.Bias, g.C = slices.Repeat([]float32{start}, n*n), make([]float32, n*n*n*n)
			want := make([]float32, len(g.C))
			twin := g
			twin.C = want
			for i := 0; i < g.M; i += 1 + i%3 { // two thirds of the rows: big numbers take their time
				for j := range g.N {
					twin.tileChain(i, j)
				}
			}
			levels(t, func(t *testing.T) {
				g.Run(0, g.M, 0, g.N, ws)
				for i := 0; i < g.M; i += 1 + i%3 {
					for j := range g.N {
						if at := i*g.N + j; !sameBits(g.C[at], want[at]) {
							t.Fatalf("%x·%x + %x·%x (step %d) from %v: %x, want %x", g.AWords[4*i], g.BWords[4*j], g.AWords[4*i+other], g.BWords[4*j+other], other, start, g.C[at], want[at])
						}
					}
				}
			})
		}
	}
}

// regimes are the kinds of numbers that the table of what hardware computed has: exponents from low to high, and how many are denormal.
var regimes = []struct {
	name      string
	low, high int
	denormal  float64
}{
	{"ordinary", -3, 3, 0}, {"wide", -40, 40, 0}, {"products about the smallest", -70, -56, 0}, {"denormals", -126, -100, 0.3}, {"large", 50, 63, 0},
}

// hardwareCase is product n of a regime, 16×16×64 from a beginning: inputs follow from the names alone.
func hardwareCase(regime, n int) *Gemm {
	r := rand.New(rand.NewPCG(uint64(regime), uint64(n)))
	k := regimes[regime]
	number := func() float32 {
		if r.Float64() < k.denormal {
			return math.Float32frombits(uint32(r.IntN(0x80)) << 16)
		}
		x := float32(math.Ldexp(1+float64(r.IntN(128))/128, k.low+r.IntN(k.high-k.low+1)))
		if r.IntN(2) == 0 {
			return -x
		}
		return x
	}
	g := &Gemm{M: 16, N: 16, K: 64, A: make([]float32, 16*64), ARow: 64, ACol: 1, B: make([]float32, 64*16), BRow: 16, BCol: 1, C: make([]float32, 256), CRow: 16, Acc: true, BF16: true}
	for _, x := range [][]float32{g.A, g.B} {
		for i := range x {
			x[i] = number()
		}
	}
	for i := range g.C {
		g.C[i] = float32(float64(number()) * float64(number()))
	}
	return g
}

// TestTilesOfHardware compares every level with results of TDPBF16PS that are committed, so that a machine without AMX has them to compare
// with, and one with AMX is known to be like the first.
func TestTilesOfHardware(t *testing.T) {
	const cases, name = 4, "testdata/tdpbf16ps.txt"
	ws := NewWorkspace()
	if *updateTiles {
		before := Active()
		defer use(before)
		if err := Select(AMX.String()); err != nil {
			t.Fatal(err)
		}
		var s strings.Builder
		s.WriteString("# C of hardwareCase(regime, case), computed by TDPBF16PS on an Intel Xeon, family 6 model 207: 16 rows of 16 float32.\n")
		for r := range regimes {
			for n := range cases {
				g := hardwareCase(r, n)
				b, a := make([]uint16, stripWords(g.K)), make([]uint16, stripWords(g.K))
				packTiles(a, operand{x: g.A, lane: g.ARow, step: g.ACol}, 16, g.K, false, ws)
				packTiles(b, operand{x: g.B, lane: g.BCol, step: g.BRow}, 16, g.K, true, ws)
				g.tilesOn(tileGroup{a: a, b: b, c: g.C, row: g.CRow, i1: 16, j1: 16, k: g.K, mode: modeLoad}, ws)
				fmt.Fprintf(&s, "%d %d\n", r, n)
				for i := range 16 {
					for j := range 16 {
						fmt.Fprintf(&s, "%08x", math.Float32bits(g.C[16*i+j]))
					}
					s.WriteByte('\n')
				}
			}
		}
		if err := os.WriteFile(name, []byte(s.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan()
	compared := 0
	for lines.Scan() {
		var r, n int
		if _, err := fmt.Sscan(lines.Text(), &r, &n); err != nil {
			t.Fatal(err)
		}
		want := make([]float32, 256)
		for i := range 16 {
			lines.Scan()
			for j := range 16 {
				var u uint32
				if _, err := fmt.Sscanf(lines.Text()[8*j:8*j+8], "%x", &u); err != nil {
					t.Fatal(err)
				}
				want[16*i+j] = math.Float32frombits(u)
			}
		}
		levels(t, func(t *testing.T) {
			g := hardwareCase(r, n)
			g.Run(0, 16, 0, 16, ws)
			if i := differAt(g.C, want); i >= 0 {
				t.Errorf("%s, case %d: C[%d,%d] is %x, hardware had %x", regimes[r].name, n, i/16, i%16, g.C[i], want[i])
			}
		})
		compared++
	}
	if compared != len(regimes)*cases {
		t.Errorf("%d products in %s, want %d", compared, name, len(regimes)*cases)
	}
}

// FuzzTiles compares shapes and layouts of any kind at all levels with plain Go.
func FuzzTiles(f *testing.F) {
	f.Add(uint64(1), uint8(17), uint8(33), uint16(70), true)
	f.Add(uint64(2), uint8(64), uint8(64), uint16(64), false)
	ws := NewWorkspace()
	f.Fuzz(func(t *testing.T, seed uint64, m, n uint8, k uint16, wild bool) {
		r := rand.New(rand.NewPCG(seed, 47))
		g := newGemm(t, r, 1+int(m)%100, 1+int(n)%100, 1+int(k)%300, wild)
		g.BF16 = true
		if seed%2 == 1 {
			g.AWords, g.BWords = wordsOf(t, g.A), wordsOf(t, g.B)
		}
		want, before := slices.Clone(g.C), slices.Clone(g.C)
		twin := g.Gemm
		twin.C = want
		atGeneric(func() { twin.Run(0, g.M, 0, g.N, ws) })
		for _, l := range Supported() {
			was := Active()
			use(l)
			copy(g.C, before)
			g.hold(t, r, ws, seed%3 == 0, want)
			use(was)
		}
	})
}
