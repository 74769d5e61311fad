package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

// The job of testdata/curve is one that PyTorch trained: same first weights,
// same data, AdamW, clipping, warm-up and cosine. Its 30 losses must come out
// within 1e-5 and its weights within 1e-6 on average, whatever the number of
// workers. (PyTorch in float32 is 5e-7 and 6e-8 away from itself in float64.)
func TestCurveIsPyTorchs(t *testing.T) {
	t.Parallel()
	var want struct {
		Loss     []float64 `json:"loss"`
		GradNorm []float64 `json:"grad_norm"`
		LR       []float64 `json:"lr"`
	}
	b, err := os.ReadFile("testdata/curve/train_curve.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Loss) != 30 {
		t.Fatalf("%d losses in the reference, want 30", len(want.Loss))
	}
	hashes := map[string]bool{}
	for _, workers := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			hashes[trainDone(t, "testdata/curve/job.yaml", "--run-dir", dir, "--workers", fmt.Sprint(workers))] = true
			got := readMetrics(t, filepath.Join(dir, "metrics.jsonl"))
			if len(got) != 30 {
				t.Fatalf("%d lines in metrics.jsonl, want 30", len(got))
			}
			for i, m := range got {
				if m.Step != uint64(i+1) || m.World != workers {
					t.Errorf("line %d: step %d, world %d", i+1, m.Step, m.World)
				}
				near(t, fmt.Sprintf("loss of step %d", i+1), m.Loss, want.Loss[i], 1e-5)
				near(t, fmt.Sprintf("gradient norm of step %d", i+1), m.GradNorm, want.GradNorm[i], 1e-4)
				near(t, fmt.Sprintf("rate of step %d", i+1), m.LR, want.LR[i], 1e-12)
			}
			diff := weightsDiff(t, filepath.Join(dir, "checkpoints", "step-00000030", train.ModelFile), "testdata/curve/train_final.safetensors")
			if !(diff <= 1e-6) {
				t.Errorf("mean absolute difference of the final weights is %g, want ≤ 1e-6", diff)
			}
		})
	}
	if len(hashes) != 1 {
		t.Errorf("%d different final weights for 1, 2 and 3 workers, want one", len(hashes))
	}
}

func near(t *testing.T, what string, got, want, rel float64) {
	t.Helper()
	if !(math.Abs(got-want) <= rel*math.Abs(want)) {
		t.Errorf("%s is %.9g, want %.9g to %g", what, got, want, rel)
	}
}

func readMetrics(t *testing.T, path string) (l []run.Metrics) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var m run.Metrics
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		l = append(l, m)
	}
	return l
}

// weightsDiff is the mean absolute difference over all elements of two files
// with the same tensors.
func weightsDiff(t *testing.T, a, b string) float64 {
	t.Helper()
	fa, err := safetensors.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer fa.Close()
	fb, err := safetensors.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer fb.Close()
	if len(fa.Names()) != len(fb.Names()) || len(fa.Names()) == 0 {
		t.Fatalf("%d tensors in %s, %d in %s", len(fa.Names()), a, len(fb.Names()), b)
	}
	sum, n := 0.0, 0
	for _, name := range fa.Names() {
		xa, err := fa.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		xb, err := fb.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(xa) != len(xb) {
			t.Fatalf("%s: %d and %d elements", name, len(xa), len(xb))
		}
		for i := range xa {
			sum += math.Abs(float64(xa[i]) - float64(xb[i]))
			n++
		}
	}
	return sum / float64(n)
}
