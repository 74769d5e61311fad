package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A run whose coordinator is killed, which is taken over, stopped, and resumed from an
// earlier checkpoint has each number of its files in TensorBoard's once. The folder is
// read by TensorBoard's own loaders where TENSORBOARD_PYTHON names a Python that has
// them; internal/tensorboard and internal/board read it without.
func TestTensorBoard(t *testing.T) {
	t.Parallel()
	python := os.Getenv("TENSORBOARD_PYTHON")
	if python == "" {
		t.Log("NOT TESTED: event files of a killed and resumed run through TensorBoard's own loaders: TENSORBOARD_PYTHON names no Python that has tensorboard")
	}
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--tensorboard",
		"--set", "train.steps=2000", "--set", "train.eval_every=20", "--set", "checkpoint.every=20", "--set", "checkpoint.keep=0", "--set", "schedule.min_lr=null"}
	until := func(what string, there func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !there(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s has not come", what)
			}
		}
	}
	lines := func(name string) int {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return strings.Count(string(b), "\n")
	}
	p := start(t, nil, bin.coordinator, args...)
	until("a measurement", func() bool { return lines("eval.jsonl") > 1 })
	p.cmd.Process.Kill()
	p.wait()
	had := lines("metrics.jsonl")
	p = start(t, nil, bin.coordinator, args...) // takes over
	until("more", func() bool { return lines("metrics.jsonl") > had+50 })
	p.cmd.Process.Signal(os.Interrupt)
	if code, _ := p.wait(); code != 3 {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	had = lines("metrics.jsonl")
	all, err := filepath.Glob(filepath.Join(dir, "checkpoints", "step-*"))
	if err != nil || len(all) < 3 {
		t.Fatalf("%v (%v)", all, err)
	}
	for _, newest := range all[len(all)-2:] {
		os.RemoveAll(newest)
	}
	p = start(t, nil, bin.coordinator, append(args, "--resume")...)
	until("more", func() bool { return lines("metrics.jsonl") > had })
	p.cmd.Process.Signal(os.Interrupt)
	if code, _ := p.wait(); code != 3 {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	files, err := filepath.Glob(filepath.Join(dir, "tensorboard", "events.out.tfevents.*"))
	if err != nil || len(files) < 2 || len(files) > 3 { // the second has nothing left where all of its steps are after the checkpoint
		t.Errorf("event files %v (%v), want one for each start of which something stays", files, err)
	}
	if python == "" {
		return
	}
	out, err := exec.Command(python, "../../tools/tensorboard_compare.py", "--run", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, tag := range []string{"train/loss", "heldout/loss", "best/l1", "attention/heldout_0", "heldout/dimensions/gripper [open]", "weights/vision_encoder.cls_token", "job"} {
		if !strings.Contains(string(out), tag+" ") {
			t.Errorf("TensorBoard has no %s\n%s", tag, out)
		}
	}
	t.Logf("%s", out)
}
