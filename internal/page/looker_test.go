package page

import (
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/attention"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/train"
)

// The class token's row is what a result is made of; without one it is the mean over
// what is no patch, or over all. Shares are of the patches alone.
func TestPatchesOf(t *testing.T) {
	names := []string{"cls", "0,0", "0,1", "1,0", "1,1"}
	w := make([]float32, 25)
	copy(w, []float32{0.5, 0.1, 0.1, 0.1, 0.2})
	got := patchesOf(attention.Rollout{Positions: names, Weights: w})
	for k, want := range []float64{0.2, 0.2, 0.2, 0.4} {
		if len(got) != 4 || math.Abs(float64(got[k])-want) > 1e-6 {
			t.Fatalf("shares %v", got)
		}
	}
	words := []string{"0,0", "0,1", "1,0", "1,1", "push", "pad"}
	w = make([]float32, 36)
	copy(w[4*6:], []float32{1, 0, 0, 1, 5, 0}) // the word's row
	copy(w[5*6:], []float32{9, 9, 9, 9, 9, 9}) // padding looks at nothing that counts
	if got := patchesOf(attention.Rollout{Positions: words, Weights: w}); len(got) != 4 || got[0] != 0.5 || got[1] != 0 {
		t.Errorf("of words: %v", got)
	}
	if got := patchesOf(attention.Rollout{Positions: []string{"push", "it"}, Weights: make([]float32, 4)}); got != nil {
		t.Errorf("without patches: %v", got)
	}
}

// Steps count from nowhere, positions from their mean; other names are no plane.
func TestPlane(t *testing.T) {
	steps := &data.Stats{Names: []string{"gripper", "dx", "dy"}, Mean: []float64{0, 0.001, 0}, Std: []float64{1, 0.02, 0.02}}
	if p := planeOf(steps); p == nil || p.X != 1 || p.Y != 2 || p.FromX != 0 {
		t.Errorf("steps: %+v", p)
	}
	positions := &data.Stats{Names: []string{"X", "Y"}, Mean: []float64{0.4, -0.1}, Std: []float64{0.1, 0.1}}
	if p := planeOf(positions); p == nil || p.FromX != 0.4 || p.FromY != -0.1 {
		t.Errorf("positions: %+v", p)
	}
	if p := planeOf(&data.Stats{Names: []string{"joint_0", "joint_1"}, Mean: []float64{0, 0}, Std: []float64{1, 1}}); p != nil {
		t.Errorf("joints: %+v", p)
	}
}

// What stands in the way of a sample is said in place of it.
func TestNoSample(t *testing.T) {
	dir := t.TempDir()
	theRun(t, filepath.Join(dir, "x"), 3)
	write(t, dir, "x/checkpoints/step-00000010/manifest.json", "{}")
	l := newLooker(train.Kinds(), nil)
	defer l.close()
	for step, want := range map[uint64]string{3: "not in the run's directory", 10: "manifest.json"} {
		b, err := l.sample(context.Background(), spot{"x", dir, "x"}, step, 0)
		var x shown
		if err == nil {
			err = json.Unmarshal(b, &x)
		}
		if err != nil || !strings.Contains(x.Problem, want) {
			t.Errorf("step %d: %q, %v; want %q", step, x.Problem, err, want)
		}
	}
}
