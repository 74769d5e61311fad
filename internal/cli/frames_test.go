package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Every source that has frames trains a model that sees two cameras, the state and
// two times, and predicts chunks of four; nothing is wrong with its data.
func TestFramesOfEverySource(t *testing.T) {
	t.Parallel()
	fixtures, err := filepath.Abs(filepath.Join("..", "..", "pkg", "data", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	for name, section := range map[string]string{
		"tabletop": "kind: tabletop, scene: simple, episodes: 6, cameras: [front, side], state: [gripper], holdout: {fraction: 0.2}",
		"rlds":     "kind: rlds, path: " + fixtures + "/rlds/tiny, cameras: [image_0, wrist], state: [observation/state], holdout: {fraction: 0.2}",
		"lerobot":  "kind: lerobot, path: " + fixtures + "/lerobot/v3, cameras: [front, wrist], state: [observation.state], holdout: {split: test}",
	} {
		t.Run(name, func(t *testing.T) {
			job := filepath.Join(t.TempDir(), "job.yaml")
			writeTo(t, job, fmt.Appendf(nil, "name: frames\nloss: l1\nmodel: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2}\n"+
				"data: {%s, history: 2, chunk: 4}\nbatch: {global: 4, micro: 2}\nschedule: {warmup_steps: 0}\ntrain: {steps: 2}\ncheckpoint: {every: 0}\n", section))
			code, out, errText := coordinator(t.Context(), "data", "check", job)
			if code != 0 || !strings.Contains(out, "nothing is wrong") {
				t.Errorf("check: exit code %d\n%s%s", code, out, errText)
			}
			one := trainDone(t, job, "--run-dir", filepath.Join(t.TempDir(), "run"), "--workers", "1")
			if two := trainDone(t, job, "--run-dir", filepath.Join(t.TempDir(), "run"), "--workers", "2"); two != one {
				t.Errorf("one worker ends at %s, two at %s", one, two)
			}
		})
	}
}
