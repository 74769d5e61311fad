package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/philox"
)

// rowOp is one row kernel, seen by the tests: it works on up to six vectors of one length, which it may change, and returns
// numbers. twin is what it should be by the book, in float64.
type rowOp struct {
	name string
	vecs int
	do   func(v [][]float32) []float64
	twin func(v [][]float64) []float64
	tol  float64 // relative to the largest element of a vector, for n elements of size about 1
	wild bool    // also fed infinities, NaN and the like, where only levels are compared
}

func none(f func(v [][]float32)) func(v [][]float32) []float64 {
	return func(v [][]float32) []float64 { f(v); return nil }
}

// each makes a twin out of a function of one element.
func each(f func(e []float64)) func(v [][]float64) []float64 {
	return func(v [][]float64) []float64 {
		e := make([]float64, len(v))
		for i := range v[0] {
			for k := range v {
				e[k] = v[k][i]
			}
			f(e)
			for k := range v {
				v[k][i] = e[k]
			}
		}
		return nil
	}
}

// scan makes a twin out of a sum over elements.
func scan(f func(v [][]float64, i int) float64) func(v [][]float64) []float64 {
	return func(v [][]float64) []float64 {
		s := 0.0
		for i := range v[0] {
			s += f(v, i)
		}
		return []float64{s}
	}
}

func softmax(x []float64) (max, sum float64) {
	max = math.Inf(-1)
	for _, v := range x {
		max = math.Max(max, v)
	}
	for i, v := range x {
		x[i] = math.Exp(v - max)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
	return max, sum
}

func gelu(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

var adam = AdamArgs{GradScale: 0.5, Decay: 0.99, Beta1: 0.9, Beta2: 0.75, Rest1: 0.1, Rest2: 0.25, StepSize: 0.01, RootBias2: 0.5, Eps: 0.01}

// rowOps is every row kernel. A new one gets a line in one of the lists, and is then held to its twin, to plain Go at every
// level, to its guards, and to the list's digest.
var rowOps = slices.Concat(firstOps, actOps)

var firstOps = []rowOp{
	{"exp", 2, none(func(v [][]float32) { ExpSlice(v[0], v[1]) }), each(func(e []float64) { e[0] = math.Exp(e[1]) }), 2e-7, true},
	{"exp/inplace", 1, none(func(v [][]float32) { ExpSlice(v[0], v[0]) }), each(func(e []float64) { e[0] = math.Exp(e[0]) }), 2e-7, true},
	{"tanh", 2, none(func(v [][]float32) { TanhSlice(v[0], v[1]) }), each(func(e []float64) { e[0] = math.Tanh(e[1]) }), 2e-7, true},
	{"tanh/inplace", 1, none(func(v [][]float32) { TanhSlice(v[0], v[0]) }), each(func(e []float64) { e[0] = math.Tanh(e[0]) }), 2e-7, true},
	{"log", 2, none(func(v [][]float32) { Add(v[1], v[1], v[1]); ReLUBackward(v[1], v[1], 1); logSlice(v[0], v[1]) }),
		each(func(e []float64) { e[1] = math.Max(2*e[1], 0); e[0] = math.Log(e[1]) }), 2e-7, true},
	{"sum", 1, func(v [][]float32) []float64 { return []float64{float64(Sum(v[0]))} },
		scan(func(v [][]float64, i int) float64 { return v[0][i] }), 1e-5, true},
	{"dot", 2, func(v [][]float32) []float64 { return []float64{float64(Dot(v[0], v[1]))} },
		scan(func(v [][]float64, i int) float64 { return v[0][i] * v[1][i] }), 1e-5, true},
	{"sumsquares", 1, func(v [][]float32) []float64 { return []float64{SumSquares(v[0])} },
		scan(func(v [][]float64, i int) float64 { return v[0][i] * v[0][i] }), 1e-14, true},
	{"sumsquareddiff", 2, func(v [][]float32) []float64 { return []float64{SumSquaredDiff(v[0], v[1])} },
		scan(func(v [][]float64, i int) float64 { return (v[0][i] - v[1][i]) * (v[0][i] - v[1][i]) }), 1e-5, true},
	{"max", 1, func(v [][]float32) []float64 { return []float64{float64(Max(v[0]))} }, func(v [][]float64) []float64 {
		m := math.Inf(-1)
		for _, x := range v[0] {
			m = math.Max(m, x)
		}
		return []float64{m}
	}, 0, true},
	{"softmax", 1, func(v [][]float32) []float64 {
		if len(v[0]) == 0 {
			return nil
		}
		m, s := SoftmaxRow(v[0], 1)
		return []float64{float64(m), float64(s)}
	}, func(v [][]float64) []float64 {
		if len(v[0]) == 0 {
			return nil
		}
		m, s := softmax(v[0])
		return []float64{m, s}
	}, 1e-6, true},
	{"softmax/again", 2, none(func(v [][]float32) { // the same bits as the first time
		copy(v[1], v[0])
		m, s := SoftmaxRow(v[0], 1)
		SoftmaxAgain(v[1], 1, m, s)
		if i := differAt(v[0], v[1]); i >= 0 {
			panic(fmt.Sprintf("SoftmaxAgain makes %x of element %d, SoftmaxRow %x", v[1][i], i, v[0][i]))
		}
	}), nil, 0, true},
	{"norm", 5, func(v [][]float32) []float64 {
		if len(v[0]) == 0 {
			return nil
		}
		return []float64{float64(normRow(v[0], v[1], v[2], v[3], v[4], 1e-5))}
	}, func(v [][]float64) []float64 {
		if len(v[0]) == 0 {
			return nil
		}
		return []float64{normTwin(v[0], v[1], v[2], v[3], v[4])}
	}, 2e-6, true},
	{"norm/inplace", 4, none(func(v [][]float32) { normRow(v[0], v[1], v[1], v[2], v[3], 1e-5) }),
		func(v [][]float64) []float64 { normTwin(v[0], v[1], v[1], v[2], v[3]); return nil }, 2e-6, true},
	{"norm/backward", 4, none(func(v [][]float32) { normRowBackward(v[0], v[1], v[2], v[3], 1.5) }), func(v [][]float64) []float64 {
		n, a, b := float64(len(v[0])), 0.0, 0.0
		for i := range v[0] {
			a += v[1][i] * v[3][i] / n
			b += v[1][i] * v[3][i] * v[2][i] / n
		}
		for i := range v[0] {
			v[0][i] = 1.5 * (v[1][i]*v[3][i] - a - v[2][i]*b)
		}
		return nil
	}, 2e-6, true},
	{"add", 3, none(func(v [][]float32) { Add(v[0], v[1], v[2]) }), each(func(e []float64) { e[0] = e[1] + e[2] }), 1e-7, true},
	{"accumulate", 2, none(func(v [][]float32) { Accumulate(v[0], v[1]) }), each(func(e []float64) { e[0] += e[1] }), 1e-7, true},
	{"scale", 2, none(func(v [][]float32) { Scale(v[0], v[1], 0.3) }), each(func(e []float64) { e[0] = e[1] * float64(float32(0.3)) }), 1e-7, true},
	{"divide", 2, none(func(v [][]float32) { Divide(v[0], v[1], 3) }), each(func(e []float64) { e[0] = e[1] / 3 }), 1e-7, true},
	{"addscaled", 2, none(func(v [][]float32) { AddScaled(v[0], v[1], 0.3) }), each(func(e []float64) { e[0] += e[1] * float64(float32(0.3)) }), 1e-7, true},
	{"addproduct", 3, none(func(v [][]float32) { AddProducts(v[0], v[1], v[2]) }), each(func(e []float64) { e[0] += e[1] * e[2] }), 1e-7, true},
	{"lerp", 3, none(func(v [][]float32) { Lerp(v[0], v[1], v[2], 0.3) }), each(func(e []float64) { e[0] = e[1] + (e[2]-e[1])*float64(float32(0.3)) }), 2e-7, true},
	{"lerp/inplace", 2, none(func(v [][]float32) { Lerp(v[0], v[1], v[0], 0.3) }), each(func(e []float64) { e[0] = e[1] + (e[0]-e[1])*float64(float32(0.3)) }), 2e-7, true},
	{"relu/backward", 2, none(func(v [][]float32) { ReLUBackward(v[0], v[1], 1) }), each(func(e []float64) {
		if e[1] <= 0 {
			e[0] = 0
		}
	}), 0, true},
	{"gelu", 2, none(func(v [][]float32) { GELU(v[0], v[1]) }), each(func(e []float64) { e[0] = gelu(e[1]) }), 5e-7, true},
	{"gelu/backward", 2, none(func(v [][]float32) { GELUBackward(v[0], v[1]) }), each(func(e []float64) {
		const h = 1e-5
		e[0] *= (gelu(e[1]+h) - gelu(e[1]-h)) / (2 * h)
	}), 1e-6, true},
	{"adamw", 4, none(func(v [][]float32) { square(v[3]); Adam(v[0], v[1], v[2], v[3], &adam) }), adamBook(0), 1e-5, false},
	{"adam/l2", 4, none(func(v [][]float32) {
		square(v[3])
		a := adam
		a.L2, a.Decay = 0.25, 1
		Adam(v[0], v[1], v[2], v[3], &a)
	}), adamBook(0.25), 1e-5, false},
	{"dropout", 2, none(func(v [][]float32) {
		NewDrop(0.375).Apply(v[0], v[1], philox.Stream{Seed: 5, Purpose: philox.Dropout, Sample: 9}, 3)
	}), func(v [][]float64) []float64 {
		s := philox.Stream{Seed: 5, Purpose: philox.Dropout, Sample: 9}
		for i := range v[0] {
			v[0][i] = v[1][i] / 0.625
			if float64(s.Uint32(uint32(3+i)))/(1<<32) < 0.375 {
				v[0][i] = 0
			}
		}
		return nil
	}, 2e-7, true},
	{"softmax/scaled", 1, func(v [][]float32) []float64 {
		m, s := SoftmaxRow(v[0], 0.3)
		return []float64{float64(m), float64(s)}
	}, nil, 0, true},
	{"softmax/scaled/again", 2, none(func(v [][]float32) {
		copy(v[1], v[0])
		m, s := SoftmaxRow(v[0], 0.3)
		SoftmaxAgain(v[1], 0.3, m, s)
		if i := differAt(v[0], v[1]); i >= 0 {
			panic(fmt.Sprintf("SoftmaxAgain makes %x of element %d, SoftmaxRow %x", v[1][i], i, v[0][i]))
		}
	}), nil, 0, true},
	{"softmax/elsewhere", 4, none(func(v [][]float32) {
		m, t := softmaxTo(v[0], v[1], 0.3)
		SoftmaxAgainTo(v[2], v[1], 0.3, m, t)
		if i := differAt(v[0], v[2]); i >= 0 {
			panic(fmt.Sprintf("SoftmaxAgainTo makes %x of element %d, softmaxTo %x", v[2][i], i, v[0][i]))
		}
		SoftmaxBackTo(v[3], v[0], v[1], 0.3)
	}), nil, 0, true},
	{"softmax/backward", 2, none(func(v [][]float32) { SoftmaxBack(v[0], v[1], 0.3) }), func(v [][]float64) []float64 {
		dot := 0.0
		for i := range v[0] {
			dot += v[0][i] * v[1][i]
		}
		for i := range v[0] {
			v[1][i] = v[0][i] * (v[1][i] - dot) * float64(float32(0.3))
		}
		return nil
	}, 1e-5, true},
	{"finite", 1, func(v [][]float32) []float64 { return []float64{float64(btoi(Finite(v[0])))} },
		func([][]float64) []float64 { return []float64{1} }, 0, true},
	{"relu/backward/scaled", 2, none(func(v [][]float32) { ReLUBackward(v[0], v[1], 1.25) }), each(func(e []float64) {
		if e[0] *= 1.25; e[1] <= 0 {
			e[0] = 0
		}
	}), 1e-7, true},
	{"addrows", 2, none(func(v [][]float32) { byRows(v, func(n, rows int) { AddRows(v[0][:n], v[1], rows, n+2) }) }), func(v [][]float64) []float64 {
		byRows(v, func(n, rows int) {
			for i := range rows {
				for j := range n {
					v[0][j] += v[1][i*(n+2)+j]
				}
			}
		})
		return nil
	}, 1e-6, true},
	{"normrows", 4, none(func(v [][]float32) {
		byRows(v, func(n, rows int) { NormRows(v[0][:n], v[1][:n], v[2], v[3], rows, n+2) })
	}), func(v [][]float64) []float64 {
		byRows(v, func(n, rows int) {
			for i := range rows {
				for j := range n {
					v[0][j] += v[2][i*(n+2)+j] * v[3][i*(n+2)+j]
					v[1][j] += v[2][i*(n+2)+j]
				}
			}
		})
		return nil
	}, 2e-6, true},
	{"relurows", 3, none(func(v [][]float32) {
		byRows(v, func(n, rows int) { ReLURows(v[0][:n], v[1], v[2], rows, n+2, 1.25) })
	}), func(v [][]float64) []float64 {
		byRows(v, func(n, rows int) {
			for i := range rows {
				for j := range n {
					at := i*(n+2) + j
					if v[1][at] *= 1.25; v[2][at] <= 0 {
						v[1][at] = 0
					}
					v[0][j] += v[1][at]
				}
			}
		})
		return nil
	}, 1e-6, true},
	{"dropout/add", 3, none(func(v [][]float32) {
		NewDrop(0.375).Add(v[0], v[1], v[2], philox.Stream{Seed: 5<<32 + 6, Purpose: philox.Dropout, Site: 3, Step: 8, Sample: 9}, 1001)
	}), func(v [][]float64) []float64 {
		s := philox.Stream{Seed: 5<<32 + 6, Purpose: philox.Dropout, Site: 3, Step: 8, Sample: 9}
		for i := range v[0] {
			v[0][i] = v[1][i]
			if float64(s.Uint32(uint32(1001+i)))/(1<<32) >= 0.375 {
				v[0][i] += v[2][i] / 0.625
			}
		}
		return nil
	}, 2e-7, true},
}

// byRows reads vectors of one length as up to eleven rows of n elements, two elements apart, with a tail that depends on the length.
func byRows[T any](v [][]T, f func(n, rows int)) {
	rows := 11
	n := (len(v[0])+2)/rows - 2
	for n < 1 {
		if rows--; rows < 1 {
			return
		}
		n = (len(v[0])+2)/rows - 2
	}
	f(n, rows)
}

// square makes second moments, which no run has negative, of any numbers.
func square(x []float32) {
	for i := range x {
		x[i] *= x[i]
	}
}

func normTwin(y, xhat, z, gamma, beta []float64) (rstd float64) {
	mean, variance, n := 0.0, 0.0, float64(len(z))
	for _, v := range z {
		mean += v / n
	}
	for _, v := range z {
		variance += (v - mean) * (v - mean) / n
	}
	rstd = 1 / math.Sqrt(variance+1e-5)
	for i, v := range z {
		xhat[i] = (v - mean) * rstd
		y[i] = xhat[i]*gamma[i] + beta[i]
	}
	return rstd
}

func adamBook(l2 float64) func(v [][]float64) []float64 {
	return each(func(e []float64) {
		p, g, m, v := e[0], 0.5*e[1]+l2*e[0], e[2], e[3]*e[3]
		decay := 0.99
		if l2 != 0 {
			decay = 1
		}
		m, v = 0.9*m+0.1*g, 0.75*v+0.25*g*g
		e[0], e[2], e[3] = p*decay-0.01*m/(math.Sqrt(v)/0.5+0.01), m, v
	})
}

// rowSizes are all lengths up to some vectors, and some of models.
func rowSizes() []int {
	var s []int
	for n := range 100 {
		s = append(s, n)
	}
	return append(s, 127, 128, 129, 197, 512, 1000, 2048, 4099)
}

// run feeds a kernel with numbers that are a function of the name, the length and wild.
func (o *rowOp) run(v [][]float32, wild bool) []float64 {
	r := rand.New(rand.NewPCG(uint64(len(v[0])), uint64(len(o.name))))
	for _, x := range v {
		numbers(r, x, wild)
	}
	return o.do(v)
}

func plain(vecs, n int) [][]float32 {
	v := make([][]float32, vecs)
	for i := range v {
		v[i] = make([]float32, n)
	}
	return v
}

// TestRowsLevels: at every level, every length, between guards, the bits of plain Go.
func TestRowsLevels(t *testing.T) {
	for _, o := range rowOps {
		t.Run(o.name, func(t *testing.T) {
			levels(t, func(t *testing.T) {
				for _, n := range rowSizes() {
					for _, wild := range []bool{false, true}[:1+btoi(o.wild)] {
						want := plain(o.vecs, n)
						var numbers []float64
						atGeneric(func() { numbers = o.run(want, wild) })
						fences := make([]*fence, o.vecs)
						got := make([][]float32, o.vecs)
						for i := range got {
							fences[i] = fenced(t, n)
							got[i] = fences[i].x
						}
						for i, x := range o.run(got, wild) {
							if math.Float64bits(x) != math.Float64bits(numbers[i]) && (x == x || numbers[i] == numbers[i]) {
								t.Fatalf("%d elements, wild %v: result %d is %x, want %x", n, wild, i, x, numbers[i])
							}
						}
						for i := range got {
							if k := differAt(got[i], want[i]); k >= 0 {
								t.Fatalf("%d elements, wild %v: vector %d[%d] is %x, want %x", n, wild, i, k, got[i][k], want[i][k])
							}
							if !fences[i].intact() {
								t.Fatalf("%d elements: words before vector %d were written", n, i)
							}
						}
					}
				}
			})
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestRowsClose holds every row kernel against float64.
func TestRowsClose(t *testing.T) {
	for _, o := range rowOps {
		if o.twin == nil {
			continue
		}
		for _, n := range rowSizes() {
			got, want := plain(o.vecs, n), make([][]float64, o.vecs)
			r := rand.New(rand.NewPCG(uint64(n), uint64(len(o.name))))
			for i, x := range got {
				numbers(r, x, false)
				for _, v := range x {
					want[i] = append(want[i], float64(v))
				}
			}
			tol := o.tol
			if n < 8 && strings.HasPrefix(o.name, "norm") { // a row of one or two elements is all cancellation
				tol = 1e-3
			}
			near := func(what string, got, want, scale float64) {
				if got != want && !(math.Abs(got-want) <= tol*(1+scale)) {
					t.Errorf("%s of %d elements: %s is %.9g, want %.9g", o.name, n, what, got, want)
				}
			}
			a, b := o.do(got), o.twin(want)
			for i := range b {
				near(fmt.Sprint("result ", i), a[i], b[i], math.Abs(b[i]))
			}
			for i := range got {
				scale := 0.0
				for _, v := range want[i] {
					if !math.IsInf(v, 0) {
						scale = math.Max(scale, math.Abs(v))
					}
				}
				for k := range got[i] {
					near(fmt.Sprintf("vector %d[%d]", i, k), float64(got[i][k]), want[i][k], scale)
				}
			}
		}
	}
}

// rowsDigest is the digest of all row kernels' results on fixed numbers: the contract's arithmetic, on every CPU and every
// architecture. Change it with the contract alone.
const rowsDigest = 0x251c4aa96f0e7a47

func TestRowsDigest(t *testing.T) {
	digest(t, firstOps, rowsDigest)
	digest(t, actOps, actsDigest)
}

func digest(t *testing.T, ops []rowOp, want uint64) {
	levels(t, func(t *testing.T) {
		h := uint64(14695981039346656037) // FNV-1a over the bits
		add := func(b uint64) { h = (h ^ b) * 1099511628211 }
		for _, o := range ops {
			for _, n := range []int{1, 15, 16, 17, 31, 50, 197, 1000} {
				v := plain(o.vecs, n)
				for _, x := range o.run(v, false) {
					add(math.Float64bits(x))
				}
				for _, x := range v {
					for _, e := range x {
						if e != e {
							e = float32(math.NaN())
						}
						add(uint64(math.Float32bits(e)))
					}
				}
			}
		}
		if h != want {
			t.Errorf("the row kernels' digest is %#x, want %#x", h, want)
		}
	})
}

// The order of a reduction is sixteen lanes and a tree, whatever the machine.
func TestLanes(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		for _, n := range rowSizes() {
			x, y := make([]float32, n), make([]float32, n)
			numbers(r, x, false)
			numbers(r, y, false)
			var sum, dot [16]float32
			for i := range x {
				sum[i%16] += x[i]
				dot[i%16] = fma32(x[i], y[i], dot[i%16])
			}
			tree := func(l [16]float32) float32 {
				a := [8]float32{l[0] + l[8], l[1] + l[9], l[2] + l[10], l[3] + l[11], l[4] + l[12], l[5] + l[13], l[6] + l[14], l[7] + l[15]}
				b := [4]float32{a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]}
				return (b[0] + b[2]) + (b[1] + b[3])
			}
			if got, want := Sum(x), tree(sum); got != want {
				t.Errorf("sum of %d: %x, want %x", n, got, want)
			}
			if got, want := Dot(x, y), tree(dot); got != want {
				t.Errorf("dot of %d: %x, want %x", n, got, want)
			}
		}
	})
}

// A row in which nothing is visible becomes zeros; a NaN poisons its row and is not lost.
func TestSoftmaxEdges(t *testing.T) {
	levels(t, func(t *testing.T) {
		inf, nan := float32(math.Inf(1)), float32(math.NaN())
		for _, n := range []int{1, 7, 16, 33} {
			x := make([]float32, n)
			for i := range x {
				x[i] = -inf
			}
			if m, s := SoftmaxRow(x, 1); m != -inf || s != 0 {
				t.Errorf("nothing visible: max %v, sum %v", m, s)
			}
			for i, v := range x {
				if v != 0 {
					t.Errorf("nothing visible: element %d of %d is %v", i, n, v)
				}
				x[i] = -inf
			}
			x[n-1] = -3e38
			if SoftmaxRow(x, 1); x[n-1] != 1 || n > 1 && x[0] != 0 {
				t.Errorf("one visible of %d: %v", n, x)
			}
			for at := range n {
				clear(x)
				x[at] = nan
				SoftmaxRow(x, 1)
				for i, v := range x {
					if v == v {
						t.Errorf("a NaN at %d of %d: element %d is %v", at, n, i, v)
					}
				}
			}
		}
	})
}

// Apply is a function of the element's number in its stream: any split gives the same, and the share dropped is the one asked.
func TestDrop(t *testing.T) {
	levels(t, func(t *testing.T) {
		s := philox.Stream{Seed: 1, Purpose: philox.Dropout, Site: 2, Step: 3, Sample: 4}
		const n = 10000
		src, all, part := make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range src {
			src[i] = float32(i + 1)
		}
		r := rand.New(rand.NewPCG(2, 2))
		for _, p := range []float32{0, 0.1, 0.5, 0.999} {
			d := NewDrop(p)
			d.Apply(all, src, s, 0)
			zeros := 0
			for i, v := range all {
				if v == 0 {
					zeros++
				} else if v != src[i]*d.Scale {
					t.Fatalf("p %v: element %d is %v, want %v·%v", p, i, v, src[i], d.Scale)
				}
			}
			if math.Abs(float64(zeros)/n-float64(p)) > 5*math.Sqrt(float64(p)*(1-float64(p))/n) {
				t.Errorf("p %v: %d of %d dropped", p, zeros, n)
			}
			copy(part, src)
			for at := 0; at < n; {
				end := min(n, at+r.IntN(40))
				twin, also := slices.Clone(part[at:end]), slices.Clone(part[at:end])
				d.ApplyTwo(twin, twin, also, s, uint32(at))
				d.Apply(part[at:end], part[at:end], s, uint32(at)) // in place, too
				if differAt(twin, part[at:end]) >= 0 || differAt(also, part[at:end]) >= 0 {
					t.Fatalf("two from %d to %d are dropped otherwise than one", at, end)
				}
				at = end
			}
			if i := differAt(all, part); i >= 0 {
				t.Errorf("p %v: in parts, element %d is %v, at once %v", p, i, part[i], all[i])
			}
		}
	})
}

// The alignment that packed operands and slabs rely on.
func TestWorkspace(t *testing.T) {
	ws := NewWorkspace()
	for _, n := range []int{0, 1, 1000, 1025, 70000, 3} {
		x := ws.Floats(n)
		if len(x) != n {
			t.Errorf("Floats(%d) has %d", n, len(x))
		}
	}
	g := benchGemm(300, 300, 300, "XtW")
	g.Run(0, 300, 0, 300, ws)
	x := ws.Floats(64)
	for i := range x {
		x[i] = canary
	}
	if a := testing.AllocsPerRun(3, func() { g.Run(0, 300, 0, 300, ws); ws.Floats(64) }); a != 0 {
		t.Errorf("a Gemm in a warm workspace allocates %v times", a)
	}
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(canary) {
			t.Fatal("a Gemm wrote to its caller's scratch")
		}
	}
}
