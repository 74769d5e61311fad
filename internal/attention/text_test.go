package attention

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
)

// A report of one layer of two heads over three words and padding, as people
// read it.
func TestText(t *testing.T) {
	labels, visible := []string{"pick", "the", "cube", "pad"}, []bool{true, true, true, false}
	far := 1.25
	r := Report{Checkpoint: "runs/x", Step: 7, Kind: "encoder", stacks: map[string]stack{"encoder": {name: "encoder", labels: labels, visible: visible}}}
	r.Layers = []Layer{{Name: "encoder.transformer_blocks.0", Stack: "encoder", Positions: labels, Visible: visible, Heads: []Head{
		{Head: 0, LooksAt: []int{1, 1, 0, -1}, MeanEntropy: 0.5, Distance: &far, DistanceUnit: "tokens", Weights: Matrix{0, 1, 0, 0, 0.25, 0.75, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}},
		{Head: 1, LooksAt: []int{2, -1, 2, -1}, MeanEntropy: 1, Distance: &far, DistanceUnit: "tokens", Weights: Matrix{0, 0, 0.5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}},
	}}}
	r.Rollout = []Rollout{{Stack: "encoder", Positions: labels, Weights: Matrix{1, 0, 0, 0, 0, 0.5, 0.5, 0, 0.5, 0.5, 0, 0, 9, 9, 9, 9}}}
	want := `runs/x, step 7: encoder, 1 layers

=== encoder.transformer_blocks.0: 4 positions, entropy at most 1.39 ===
  head               0            1
  entropy (nats)     0.50         1.00
  distance (tokens)  1.2          1.2
  0:pick →           1:the 1.00   2:cube 0.50
  1:the →            1:the 0.75   nothing
  2:cube →           0:pick 1.00  2:cube 1.00

=== attention rollout: what the last layer's results are made of ===
  encoder, mean of positions:  0:pick 0.500  1:the 0.333  2:cube 0.167  3:pad 0.000
`
	if got := r.Text(false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A long sequence is listed in full only where that is asked for.
func TestTextOfLongSequences(t *testing.T) {
	const n = manyPositions + 1
	labels, visible, looks := make([]string, n), make([]bool, n), make([]int, n)
	for i := range n {
		labels[i], visible[i] = "w", true
	}
	r := Report{stacks: map[string]stack{"s": {labels: labels, visible: visible}}}
	r.Layers = []Layer{{Name: "s", Stack: "s", Positions: labels, Visible: visible, Heads: []Head{{LooksAt: looks, Weights: make(Matrix, n*n)}}}}
	if got := r.Text(false); strings.Count(got, "→") != 1 || !strings.Contains(got, "and 32 more: --all lists them") {
		t.Errorf("got\n%s", got)
	}
	if got := r.Text(true); strings.Count(got, "→") != n || strings.Contains(got, "more") {
		t.Errorf("got\n%s", got)
	}
}

func TestMatrixJSON(t *testing.T) {
	m := Matrix{1, 2, 3, 4}
	b, err := json.Marshal(m)
	if err != nil || string(b) != "[[1,2],[3,4]]" {
		t.Fatalf("got %s, %v", b, err)
	}
	var back Matrix
	if err := json.Unmarshal(b, &back); err != nil || !slices.Equal(back, m) {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestGreatest(t *testing.T) {
	if got := greatest([]float32{1, 5, 5, 0, 9}, 3); !slices.Equal(got, []int{4, 1, 2}) { // of equals the first
		t.Errorf("got %v", got)
	}
	if got := greatest([]float32{2}, 5); !slices.Equal(got, []int{0}) {
		t.Errorf("got %v", got)
	}
}

// Patches are pixels apart, words tokens; between a patch and a word, and from
// the class token, there is no distance.
func TestMeasure(t *testing.T) {
	vision := stack{labels: make([]string, 5), grid: 2, first: 1, side: 8}
	between, unit := vision.measure()
	if unit != "pixels" || between(1, 4) != 8*math.Sqrt2 || between(0, 1) != -1 {
		t.Errorf("%s: %v from corner to corner, %v from the class token", unit, between(1, 4), between(0, 1))
	}
	words := stack{labels: []string{"a", "b", "pad"}, visible: []bool{true, true, false}}
	if between, unit = words.measure(); unit != "tokens" || between(1, 0) != 1 || between(0, 2) != -1 {
		t.Errorf("%s: %v between neighbours, %v to padding", unit, between(1, 0), between(0, 2))
	}
	fusion := stack{labels: make([]string, 9), grid: 2, first: 1, side: 8}
	if between, _ = fusion.measure(); between != nil {
		t.Error("patches and words have a distance")
	}
}
