package data

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func actionsOf(v ...[]float32) func(i int) []float32 { return func(i int) []float32 { return v[i] } }

// Against values worked out by hand (numpy gives the same for mean, std, and
// quantile with its default method).
func TestComputeStats(t *testing.T) {
	at := actionsOf([]float32{1, 5}, []float32{2, 5}, []float32{3, 5}, []float32{4, 5}, []float32{10, 5})
	s, err := ComputeStats("", 5, 2, at)
	if err != nil {
		t.Fatal(err)
	}
	want := &Stats{Mode: MeanStd, Names: []string{"a0", "a1"}, Units: []string{"", ""}, Count: 5,
		Mean: []float64{4, 5}, Std: []float64{math.Sqrt(10), 0}, Min: []float64{1, 5}, Max: []float64{10, 5},
		Q01: []float64{1.04, 5}, Q99: []float64{9.76, 5}, Q10: []float64{1.4, 5}, Q90: []float64{7.6, 5}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
	if s, err := ComputeStats(None, 1, 1, actionsOf([]float32{3})); err != nil || s.Q01[0] != 3 || s.Q99[0] != 3 || s.Std[0] != 0 {
		t.Error(s, err)
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		if _, err := ComputeStats(None, 2, 1, actionsOf([]float32{0}, []float32{bad})); err == nil || !strings.Contains(err.Error(), "training sample 1") {
			t.Error(err)
		}
	}
	if _, err := ComputeStats("zscore", 1, 1, actionsOf([]float32{0})); err == nil || !strings.Contains(err.Error(), "quantile") {
		t.Error(err)
	}
	if _, err := ComputeStats(None, 0, 1, nil); err == nil {
		t.Error("statistics of nothing")
	}
}

// The exact quantile equals a naive one by floating-point rank.
func TestQuantileAgainstNaive(t *testing.T) {
	for n := 1; n < 400; n++ {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(i) * 0.25
		}
		for _, p := range []int{0, 1, 50, 99, 100} {
			want := 0.25 * float64(p) / 100 * float64(n-1)
			if got := quantile(v, p); math.Abs(got-want) > 1e-9 {
				t.Fatalf("n %d, %d %%: %v, want %v", n, p, got, want)
			}
		}
	}
}

// Every mode comes back to physical units, and a constant dimension to its constant.
func TestNormalizeRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var v [][]float32
	for i := 0; i < 300; i++ {
		v = append(v, []float32{float32(r.NormFloat64()) * 0.02, float32(r.NormFloat64()) + 3, 0.7, float32(i % 2)})
	}
	for _, mode := range Modes() {
		s, err := ComputeStats(mode, len(v), 4, actionsOf(v...))
		if err != nil {
			t.Fatal(err)
		}
		var mean, lo, hi [4]float64
		for _, x := range v {
			n, back := make([]float32, 4), make([]float32, 4)
			s.Normalize(n, x)
			s.Denormalize(back, n)
			for d := range back {
				if math.Abs(float64(back[d]-x[d])) > 1e-6*(1+math.Abs(float64(x[d]))) {
					t.Fatalf("%s: dimension %d: %v became %v", mode, d, x[d], back[d])
				}
				mean[d] += float64(n[d]) / float64(len(v))
				lo[d], hi[d] = min(lo[d], float64(n[d])), max(hi[d], float64(n[d]))
			}
			if mode != None && n[2] != 0 {
				t.Fatalf("%s: a constant became %v", mode, n[2])
			}
		}
		switch mode {
		case MeanStd:
			if math.Abs(mean[0]) > 1e-6 || math.Abs(mean[1]) > 1e-6 {
				t.Errorf("means %v", mean)
			}
		case MinMax:
			if lo[0] != -1 || hi[0] != 1 || lo[3] != -1 || hi[3] != 1 {
				t.Errorf("range [%v, %v]", lo, hi)
			}
		case Quantile:
			if lo[0] >= -1 || hi[0] <= 1 {
				t.Errorf("quantiles must leave the tails outside: [%v, %v]", lo, hi)
			}
		}
		same := make([]float32, 4)
		copy(same, v[5])
		s.Normalize(same, same) // in place
		other := make([]float32, 4)
		s.Normalize(other, v[5])
		if !reflect.DeepEqual(same, other) {
			t.Error("Normalize in place differs")
		}
	}
}
