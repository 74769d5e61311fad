package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever has a run's directory computes any of its steps again and gets what stands in
// its record, on any number of threads; a record, a checkpoint or a job that was changed
// is found; what cannot be checked says what would help.
func TestAudit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--workers", "2", "--set", "optimizer.ema=true", "--set", "cluster.optimizer=sharded", "--set", "batch.group=2", "--set", "batch.global=16")
	check := func(want int, text string, args ...string) string {
		t.Helper()
		code, out, errText := call(t, bin.coordinator, append([]string{"audit", dir}, args...)...)
		if code != want || !strings.Contains(out+errText, text) {
			t.Errorf("audit %v: exit code %d, want %d and %q\n%s%s", args, code, want, text, out, errText)
		}
		return out
	}
	check(0, "steps 1 to 4, computed again from the job's first weights", "--step", "4", "--threads", "1")
	check(0, "steps 6 to 8, computed again from "+filepath.Join(dir, "checkpoints", "step-00000005"), "--step", "8", "--threads", "3")
	check(0, "steps 1 to 12", "--step", "12", "--from-step", "3")
	var r struct {
		Holds   bool   `json:"holds"`
		Weights string `json:"weights"`
		SHA256  string `json:"model_sha256"`
	}
	if err := json.Unmarshal([]byte(check(0, "", "--step", "10", "--json")), &r); err != nil || !r.Holds || len(r.Weights) != 8 || len(r.SHA256) != 64 {
		t.Errorf("%+v (%v)", r, err)
	}
	check(1, "newest is 12", "--step", "13")
	check(2, "--step K is missing", "--step", "0")
	check(2, "--from-step 4 comes after --step 3", "--step", "3", "--from-step", "4")

	path := filepath.Join(dir, "metrics.jsonl")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(good), "\n")
	edit := func(step int, key string, to any) {
		var m map[string]any
		if err := json.Unmarshal([]byte(lines[step-1]), &m); err != nil {
			t.Fatal(err)
		}
		m[key] = to
		b, _ := json.Marshal(m)
		l := append([]string(nil), lines...)
		l[step-1] = string(b) + "\n"
		if err := os.WriteFile(path, []byte(strings.Join(l, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit(8, "weights", "00000000")
	check(4, "DIFFERS from step 8 on: weights\n  recorded    00000000", "--step", "9")
	check(0, "HOLDS", "--step", "7")
	edit(7, "loss", 1.5)
	check(4, "step 7 has loss 1.5 recorded", "--step", "9")
	edit(6, "weights", nil) // of an older release
	check(0, "1 of the steps were recorded without", "--step", "9")
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "checkpoints", "step-00000005", "model.safetensors")
	b, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-9] ^= 1
	if err := os.WriteFile(model, b, 0o644); err != nil {
		t.Fatal(err)
	}
	check(0, "its bytes changed", "--step", "6")
	check(0, "from the job's first weights", "--step", "6") // what does not verify is not gone on from
	os.Remove(filepath.Join(dir, "run.json"))
	check(1, "is no run directory", "--step", "6")
}
