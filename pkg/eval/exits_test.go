package eval

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
)

// The error of an exit is over the dimensions that are learned, as that of the
// whole report is; where none is, it is 0 and no NaN.
func TestErrorOfLearnedDimensions(t *testing.T) {
	b := models.NewBatch(1, models.Spec{models.Known(models.Actions, 3)})
	copy(b.Floats(models.Actions), []float32{1, 0, -2})
	out := []float32{3, 100, -1}
	for _, c := range []struct {
		learned []bool
		want    float64
		count   int
	}{
		{[]bool{true, false, true}, 4.0 + 1, 2},
		{[]bool{true, true, true}, 4.0 + 10000 + 1, 3},
		{[]bool{false, false, false}, 0, 0},
	} {
		if got, n := (scorer{learned: c.learned}).errors(out, models.Truth{Actions: b.Floats(models.Actions)}); got != c.want || n != c.count {
			t.Errorf("learned %v: %v over %d, want %v over %d", c.learned, got, n, c.want, c.count)
		}
	}
}
