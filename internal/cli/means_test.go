package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/run"
)

// oddsJob writes the files of a job whose model names token y of 4 with odds
// y+1 to 10 in all, whatever it sees, so that the loss of label y is
// ln(10/(y+1)), and returns the job's file. Each row is one sample, an episode
// of its own, with four tokens; labels nil: the tokens.
func oddsJob(t *testing.T, tokens, labels [][4]int64, holdout, more string) string {
	t.Helper()
	dir := t.TempDir()
	flat := func(rows [][4]int64) (x []int64) {
		for _, r := range rows {
			x = append(x, r[:]...)
		}
		return x
	}
	n := len(tokens)
	episodes := make([]int64, n)
	for i := range episodes {
		episodes[i] = int64(i)
	}
	data := []safetensors.Tensor{{Name: "instruction_tokens", Shape: []int{n, 4}, Data: flat(tokens)}, {Name: "episode", Shape: []int{n}, Data: episodes}}
	if labels != nil {
		data = append(data, safetensors.Tensor{Name: "labels", Shape: []int{n, 4}, Data: flat(labels)})
	}
	bias := make([]float32, 4)
	for y := range bias {
		bias[y] = float32(math.Log(float64(y + 1)))
	}
	for name, tensors := range map[string][]safetensors.Tensor{"data.safetensors": data,
		"init.safetensors": {{Name: "output_head.weight", Shape: []int{4, 8}, Data: make([]float32, 32)}, {Name: "output_head.bias", Shape: []int{4}, Data: bias}}} {
		if err := safetensors.WriteFile(filepath.Join(dir, name), tensors, nil); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "job.yaml")
	text := fmt.Sprintf(`name: odds
seed: 1
model: {kind: encoder, d_model: 8, n_heads: 2, n_layers: 1, d_ff: 16, vocab_size: 4, dropout: 0, max_len: 8%s}
data: {kind: tensors, path: data.safetensors, shuffle: false%s}
batch: {global: 2, micro: 2}
optimizer: {kind: adamw, lr: 1.0e-12, weight_decay: 0, clip_norm: 0}
train: {steps: 1, freeze: ["encoder.*", output_head.weight]}
init: {path: init.safetensors, partial: true}
`, more, holdout)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

var ones = [4]int64{1, 1, 1, 1}

// A step's loss and gradient are means over its targets, for any batch.micro
// and any number of workers; the values are PyTorch's (cross_entropy over all
// targets at once).
func TestStepsAreMeansOverTargets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		labels     [][4]int64
		loss, norm float64
		targets    int
	}{
		"unequal": {[][4]int64{{-1, -1, -1, 3}, {0, 0, 0, 0}}, 2.025326, 0.812404, 5},
		"none":    {[][4]int64{{-1, -1, -1, -1}, {0, 0, 0, 0}}, 2.302585, 1.048809, 4},
	} {
		file := oddsJob(t, [][4]int64{ones, ones}, c.labels, "", "")
		hashes := map[string]bool{}
		for _, args := range [][]string{{"batch.micro=2"}, {"batch.micro=1"}, {"batch.micro=1", "cluster.workers=2"}} {
			dir := filepath.Join(t.TempDir(), "run")
			cmd := []string{"--run-dir", dir}
			for _, a := range args {
				cmd = append(cmd, "--set", a)
			}
			hashes[trainDone(t, file, cmd...)] = true
			m := readMetrics(t, filepath.Join(dir, "metrics.jsonl"))
			if len(m) != 1 || m[0].Targets != c.targets {
				t.Fatalf("%s, %v: %+v", name, args, m)
			}
			near(t, fmt.Sprint(name, args, ": loss"), m[0].Loss, c.loss, 1e-6)
			near(t, fmt.Sprint(name, args, ": gradient norm"), m[0].GradNorm, c.norm, 1e-6)
		}
		if len(hashes) != 1 {
			t.Errorf("%s: %d different weights", name, len(hashes))
		}
	}
}

// evalOf is what eval --json says of a finished run.
func evalOf(t *testing.T, run string) eval.Report {
	t.Helper()
	code, stdout, stderr := call(t, bin.coordinator, "eval", "--checkpoint", run, "--json")
	var r eval.Report
	if err := json.Unmarshal([]byte(stdout), &r); code != 0 || err != nil || r.Tokens == nil {
		t.Fatalf("exit code %d, %q, %s", code, stdout, stderr)
	}
	return r
}

// The held-out measures are over all targets of the split, not over batches of
// 32, and padding counts nowhere.
func TestHeldoutIsAMeanOverTargets(t *testing.T) {
	t.Parallel()
	var tokens, labels [][4]int64
	for i := range 35 {
		tokens, labels = append(tokens, ones), append(labels, [4]int64{0, 0, 0, 0})
		if i == 34 {
			labels[i] = [4]int64{-1, -1, -1, 3}
		}
	}
	for name, c := range map[string]struct {
		file           string
		loss, accuracy float64
		targets        int
	}{
		"33 samples": {oddsJob(t, tokens, labels, `, holdout: {episodes: [`+strings.Trim(strings.Join(strings.Fields(fmt.Sprint(count(2, 35))), ", "), "[]")+`]}`, ""), (128*math.Log(10) + math.Log(2.5)) / 129, 1.0 / 129, 129},
		"padding":    {oddsJob(t, [][4]int64{{3, 3, 3, 3}, {3, 3, 3, 3}, {3, 3, 0, 0}}, nil, ", holdout: {episodes: [2]}", ", pad_token: 0"), math.Log(2.5), 1, 2},
	} {
		dir := filepath.Join(t.TempDir(), "run")
		trainDone(t, c.file, "--run-dir", dir)
		r := evalOf(t, dir).Tokens
		near(t, name+": loss", r.Loss, c.loss, 1e-6)
		if r.Accuracy != c.accuracy || r.Targets != c.targets {
			t.Errorf("%s: accuracy %v over %d targets, want %v over %d", name, r.Accuracy, r.Targets, c.accuracy, c.targets)
		}
		lines, _, err := run.ReadEval(dir, 1)
		if err != nil || len(lines) != 1 || lines[0].Loss != r.Loss || metricOf(lines[0], "accuracy") != r.Accuracy {
			t.Errorf("%s: eval.jsonl has %+v, %v", name, lines, err)
		}
	}
}

func count(lo, hi int) (x []int) {
	for i := lo; i < hi; i++ {
		x = append(x, i)
	}
	return x
}

// A split without a target is refused before the first step, in both splits;
// a step without one is passed over and named.
func TestNoTarget(t *testing.T) {
	t.Parallel()
	none, all := [4]int64{-1, -1, -1, -1}, [4]int64{0, 0, 0, 0}
	for split, holdout := range map[string]string{"held-out": "[0]", "training": "[1]"} {
		run := filepath.Join(t.TempDir(), "run")
		code, _, stderr := call(t, bin.coordinator, "train", oddsJob(t, [][4]int64{ones, ones}, [][4]int64{none, all}, ", holdout: {episodes: "+holdout+"}", ""),
			"--set", "batch.global=1", "--set", "batch.micro=1", "--run-dir", run)
		want := "the " + split + " split has no target: every label of its 1 samples is -1"
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, want 1 and %q:\n%s", code, want, stderr)
		}
		if m, err := os.ReadFile(filepath.Join(run, "metrics.jsonl")); err == nil && len(m) > 0 {
			t.Errorf("%s: a step was made: %s", split, m)
		}
	}

	run := filepath.Join(t.TempDir(), "run")
	code, _, stderr := call(t, bin.coordinator, "train", oddsJob(t, [][4]int64{ones, ones}, [][4]int64{none, all}, "", ""),
		"--set", "batch.global=1", "--set", "batch.micro=1", "--set", "train.steps=2", "--run-dir", run)
	const want = "step 1: none of its 1 samples has a target"
	m := readMetrics(t, filepath.Join(run, "metrics.jsonl"))
	if code != 0 || len(m) != 2 || !strings.Contains(m[0].Refused, want) || m[0].Targets != 0 || m[1].Refused != "" || m[1].Targets != 4 {
		t.Fatalf("exit code %d, metrics %+v\n%s", code, m, stderr)
	}
	if !strings.Contains(stderr, "step 1/2  no update  ") || !strings.Contains(stderr, "WARN") || !strings.Contains(stderr, want) {
		t.Errorf("no warning of it:\n%s", stderr)
	}
	near(t, "loss of the step that was made", m[1].Loss, math.Log(10), 1e-6)
}
