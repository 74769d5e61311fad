package run

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlaring/vlaring/internal/rollout"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
	"github.com/vlaring/vlaring/pkg/transport"
)

// TestWholeRunWithRollouts: success is measured beside training with both kinds of
// weights, moves no bit of it, keeps a checkpoint, and is what a rollout of the stored
// checkpoint gives.
func TestWholeRunWithRollouts(t *testing.T) {
	kinds := train.Kinds()
	keys := []string{"optimizer.ema=true", "checkpoint={every: 2, keep: 1}"}
	plain, _ := wholeRunOf(t, kinds, transport.NewMemory(), 1, keys...)
	keys[1] = "checkpoint={every: 2, keep: 1, best: {metric: ema_success}}"
	sum, dir := wholeRunOf(t, kinds, transport.NewMemory(), 1, append(keys, "train.rollout_every=2", "train.rollout_episodes=3")...)
	if sum != plain {
		t.Error("rollouts have moved the weights")
	}
	lines, _, err := ReadEval(dir, math.MaxUint64)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%s has %+v (%v)", EvalFile, lines, err)
	}
	for _, h := range lines {
		at := filepath.Join(dir, "checkpoints", map[uint64]string{2: "step-00000002", 4: "step-00000004"}[h.Step])
		if _, err := os.Stat(at); err != nil && h.Step == 2 { // neither the best nor the last
			continue
		}
		c, err := trained.Open(at, kinds)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for of, which := range map[string]string{"": job.Raw, job.Averaged: job.Average} {
			if err := c.Use(which); err != nil {
				t.Fatal(err)
			}
			r, err := rollout.Run(t.Context(), c, rollout.Options{Episodes: 3, Seed: rolloutSeed, Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]float64{"": r.Success, "_low": r.Low, "_high": r.High} {
				if got, ok := h.Metric(of + job.Success + name); !ok || got != want {
					t.Errorf("step %d: %s%s%s is %v, %v; a rollout gives %v", h.Step, of, job.Success, name, got, ok, want)
				}
			}
			if _, ok := h.Metric(of + "l1"); !ok {
				t.Errorf("step %d has no %sl1", h.Step, of)
			}
		}
	}
	if scores := scoresOf("ema_success", nil, lines); len(scores) != 2 {
		t.Errorf("checkpoints are kept by %v", scores)
	}
}

// What is said of rollouts, and when there are none.
func TestRolledText(t *testing.T) {
	if s := rolledText(nil); s != "" || rolledMetrics(nil) != nil {
		t.Errorf("without rollouts: %q, %v", s, rolledMetrics(nil))
	}
	r := rollout.Report{Step: 7, Rate: rollout.Rate{Episodes: 4, Successes: 1, Success: 0.25, Low: 0.046, High: 0.699},
		Tasks: []rollout.TaskRate{{Task: "put", Rate: rollout.Rate{Episodes: 4, Success: 0.25}}, {Task: "push"}}}
	if s, want := rolledText([]rollout.Report{r, r}), "rollouts, step 7: success 25.0 % [5, 70], put 25 %; averaged: success 25.0 % [5, 70], put 25 % (4 episodes)"; s != want {
		t.Errorf("%q, want %q", s, want)
	}
}
