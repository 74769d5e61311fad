package train

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
)

// The error of an exit is over the dimensions that are learned, as that of the
// whole report is; where none is, it is 0 and no NaN.
func TestSampleErrorOfLearnedDimensions(t *testing.T) {
	b := models.NewBatch(1, models.Spec{Action: 3})
	copy(b.Actions, []float32{1, 0, -2})
	out := []float32{3, 100, -1}
	for _, c := range []struct {
		learned []bool
		want    float64
	}{
		{[]bool{true, false, true}, (4.0 + 1) / 2},
		{[]bool{true, true, true}, (4.0 + 10000 + 1) / 3},
		{[]bool{false, false, false}, 0},
	} {
		if got := sampleError(b, 0, c.learned, out); got != c.want {
			t.Errorf("learned %v: %v, want %v", c.learned, got, c.want)
		}
	}
}
