package models

import (
	"math"
	"slices"
	"testing"
)

func TestLooks(t *testing.T) {
	w := []float32{
		0.25, 0.5, 0.25,
		0, 0, 0, // sees nothing
		0.5, 0, 0.5,
	}
	if got := LooksAt(w, 3); !slices.Equal(got, []int{1, -1, 0}) {
		t.Errorf("looks at %v", got)
	}
	e := Entropy(w, 3)
	for q, want := range []float64{1.5 * math.Ln2, 0, math.Ln2} {
		if math.Abs(e[q]-want) > 1e-12 {
			t.Errorf("entropy of query %d is %v, want %v", q, e[q], want)
		}
	}
	tokens := func(q, k int) float64 { return math.Abs(float64(q - k)) }
	d := Distance(w, 3, tokens)
	if d[0] != 1 || !math.IsNaN(d[1]) || d[2] != 1 { // 0.5·1 + 0.25·2, nothing, 0.5·2
		t.Errorf("distances %v", d)
	}
	// With key 0 out of account, query 2 looks at itself alone.
	if d := Distance(w, 3, func(q, k int) float64 {
		if k == 0 {
			return -1
		}
		return tokens(q, k)
	}); d[2] != 0 {
		t.Errorf("distance without key 0 is %v", d[2])
	}
}

// Two layers, two heads, by hand: Ā₀ = [[.5 .5] [0 1]], Ā₁ = [[0 1] [0 0]],
// whose second query sees nothing, so that all it has is itself.
//
//	Ã₀ = [[.75 .25] [0 1]]   Ã₁ = [[.5 .5] [0 1]]   Ã₁·Ã₀ = [[.375 .625] [0 1]]
func TestRollout(t *testing.T) {
	layers := []LayerAttention{
		{B: 2, H: 2, T: 2, Data: []float32{9, 9, 9, 9, 9, 9, 9, 9, 1, 0, 0, 1, 0, 1, 0, 1}},
		{B: 2, H: 2, T: 2, Data: []float32{9, 9, 9, 9, 9, 9, 9, 9, 0, 1, 0, 0, 0, 1, 0, 0}},
	}
	if r := Rollout(layers, 1); !slices.Equal(r, []float32{0.375, 0.625, 0, 1}) {
		t.Errorf("rollout %v", r)
	}
}
