package eval

import "testing"

// The table of a measurement of the first samples of a held-out split.
func TestExitsText(t *testing.T) {
	r := ExitReport{Tokens: true, Samples: 10, Of: 40, Layers: []int{1, 2},
		Fixed:      []ExitRow{{Layer: 1, Millis: 0.5, Error: 0.25}, {Layer: 2, Millis: 1, Error: 0.125}},
		Thresholds: []ExitRow{{Threshold: 0.1, Layer: 1.4, Millis: 0.7, Error: 0.2, Shares: []int{600, 400}}}}
	want := `DEPTH        LAYERS  MS/SAMPLE  ACCURACY  LEFT AT LAYER
exit         1       0.500      75.00 %   
whole model  2       1.000      87.50 %   
doubt ≤ 0.1  1.40    0.700      80.00 %   1: 60 %, 2: 40 %
the first 10 of 40 held-out samples, one at a time; ms: the median; at a threshold the mean of the medians of the depths taken
`
	if got := r.Text("heldout"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
