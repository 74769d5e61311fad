package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/rollout"
)

// A model that was trained here is rolled out to the same bits with one thread and with
// three, and on every machine: the trace is written down.
func TestRollout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	job, at := filepath.Join(dir, "job.yaml"), filepath.Join(dir, "run")
	writeTo(t, job, []byte("name: acts\nmodel: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, dropout: 0}\n"+
		"data: {kind: tabletop, scene: simple, episodes: 200, cameras: [front], state: [gripper], chunk: 2, holdout: {fraction: 0.1}}\n"+
		"batch: {global: 8, micro: 4}\nschedule: {warmup_steps: 0}\ntrain: {steps: 20}\ncheckpoint: {every: 0}\n"))
	trainDone(t, job, "--run-dir", at, "--workers", "1")
	var first string
	for _, threads := range []string{"1", "3"} {
		code, out, errText := coordinator(t.Context(), "rollout", "--checkpoint", at, "--episodes", "5", "--json", "--threads", threads)
		var r rollout.Report
		if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || len(r.Trials) != 5 || r.Episodes != 5 || r.Step != 20 || r.Execute != 1 {
			t.Fatalf("exit code %d: %v\n%s%s", code, err, out, errText)
		}
		if first == "" {
			first = out
			const golden = "c2d5ce74c3920c3603b7d3d87d28dd7968ce92b4f9711037d6381e32ee1a30c4"
			if r.Trace != golden {
				t.Errorf("the trace is %s, want %s", r.Trace, golden)
			}
		}
		if out != first {
			t.Errorf("%s threads: %s\none: %s", threads, out, first)
		}
	}
	code, out, _ := coordinator(t.Context(), "rollout", "--checkpoint", at, "--episodes", "20", "--policy", "expert")
	if code != 0 || !strings.Contains(out, "all  100.0 %  [84, 100]  20") {
		t.Errorf("exit code %d: %s", code, out)
	}
	for arg, want := range map[string]string{"--policy=x": "want one of model", "--execute=3": "--execute 3", "--episodes=0": "--episodes 0", "--weights=ema": "no averaged weights", "--data-set=x": "--data-set"} {
		if code, _, errText := coordinator(t.Context(), "rollout", "--checkpoint", at, arg); code != exitUsage || !strings.Contains(errText, want) {
			t.Errorf("%s: exit code %d, %q; want %d, %q", arg, code, errText, exitUsage, want)
		}
	}
}
