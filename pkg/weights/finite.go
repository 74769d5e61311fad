package weights

import (
	"fmt"
	"math"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// notFiniteError refuses a weight that is NaN or infinite.
type notFiniteError struct {
	tensor string
	index  []int // of the first
	value  float32
	note   string // of the type that it was read from
	count  int    // of such values
	of     int
}

func (e *notFiniteError) Error() string {
	return fmt.Sprintf("tensor %s: the value at %v is %v%s; %d of its %d values are not finite, "+
		"and a model that begins with them learns nothing",
		clip(e.tensor), e.index, e.value, e.note, e.count, e.of)
}

// finite refuses a tensor with a value that is NaN or infinite as float32.
func finite(name, dtype string, shape []int, x []float32) error {
	var bad *notFiniteError
	for i, v := range x {
		if f := float64(v); !math.IsNaN(f) && !math.IsInf(f, 0) {
			continue
		}
		if bad == nil {
			bad = &notFiniteError{tensor: name, index: safetensors.Info{Shape: shape}.Index(i), value: v, of: len(x)}
			if dtype == "F64" {
				bad.note = " as float32"
			}
		}
		bad.count++
	}
	if bad == nil {
		return nil
	}
	return bad
}

// CheckFinite refuses weights of which one is NaN or infinite; file is where
// they came from.
func CheckFinite(ps *tensor.Params, file string) error {
	return checkFinite(ps, file, func(string) string { return "F32" })
}

// checkFinite is CheckFinite of weights that had a type of their own in the file.
func checkFinite(ps *tensor.Params, file string, dtype func(name string) string) error {
	for _, p := range ps.List() {
		if err := finite(p.Name, dtype(p.Name), p.Shape, p.Value); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}
