package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/run"
)

// stepsIn are the steps of a run's checkpoints, all of which must verify.
func stepsIn(t *testing.T, dir string) (steps []uint64) {
	t.Helper()
	l, err := checkpoint.List(filepath.Join(dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range l {
		if err := checkpoint.Verify(e.Dir).Err(); err != nil {
			t.Error(err)
		}
		steps = append(steps, e.Step)
	}
	return steps
}

// metricOf is a metric of a line of eval.jsonl; NaN where it lacks it.
func metricOf(h run.Heldout, name string) float64 {
	if v, ok := h.Metric(name); ok {
		return v
	}
	return math.NaN()
}

// Checkpoints are measured on the held-out split beside training, which ends
// at the bits that it ends at without; of the checkpoints stay the newest,
// those of every 4th step and the one that the measurements call best. The
// measurements are those of coordinator eval.
func TestRetentionJob(t *testing.T) {
	t.Parallel()
	plain := undisturbed(t)
	dir := filepath.Join(t.TempDir(), "run")
	got := trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--set", "checkpoint={every: 2, keep: 1, keep_every: 4, best: {metric: heldout_l1}}", "--set", "train.eval_every=2")
	if got != plain {
		t.Errorf("measured, the run ends at %s, and otherwise at %s", got, plain)
	}
	lines, torn, err := run.ReadEval(dir, math.MaxUint64)
	if err != nil || torn {
		t.Fatalf("%s: torn %v, %v", run.EvalFile, torn, err)
	}
	best, last := uint64(0), uint64(0)
	l1 := map[uint64]float64{}
	for _, h := range lines {
		if h.Step%2 != 0 || h.Step <= last || math.IsNaN(metricOf(h, "l1")) || h.Samples != 16 {
			t.Errorf("measured: %+v, after step %d", h, last)
		}
		last, l1[h.Step] = h.Step, metricOf(h, "l1")
		if best == 0 || metricOf(h, "l1") <= l1[best] {
			best = h.Step
		}
	}
	if len(lines) < 2 || last != 12 { // how many depends on the machine; the last, and one before it, always
		t.Errorf("measured %v, want some steps and the last", l1)
	}
	want := []uint64{4, 8, 12}
	if !slices.Contains(want, best) {
		want = append(want, best)
		slices.Sort(want)
	}
	left := stepsIn(t, dir)
	if !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	losses := readMetrics(t, filepath.Join(dir, "metrics.jsonl"))
	for _, step := range left {
		at := filepath.Join(dir, "checkpoints", checkpoint.DirName(step))
		m, err := checkpoint.ReadManifest(at)
		if err != nil {
			t.Fatal(err)
		}
		mean := (losses[step-2].Loss + losses[step-1].Loss) / 2
		if m.Training == nil || m.Training.Steps != 2 || m.Training.Loss != mean {
			t.Errorf("step %d: training loss %+v, and metrics.jsonl has %v", step, m.Training, mean)
		}
		if _, ok := l1[step]; !ok {
			continue
		}
		code, out, stderr := call(t, bin.coordinator, "eval", "--checkpoint", at, "--json")
		var rep eval.Report
		if err := json.Unmarshal([]byte(out), &rep); err != nil || code != 0 {
			t.Fatalf("eval: exit code %d, %v\n%s", code, err, stderr)
		}
		if rep.Actions.L1 != l1[step] {
			t.Errorf("step %d: measured as %v beside training, as %v by eval", step, l1[step], rep.Actions.L1)
		}
	}
}

// A resumed run's means and measurements are those of one that was not stopped.
func TestResumedMetrics(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"testdata/small.yaml", "--run-dir", dir, "--set", "checkpoint.every=4", "--set", "train.eval_every=4", "--set", "schedule.min_lr=null"}
	trainDone(t, args[0], append(args[1:], "--set", "train.steps=8")...)
	f, err := os.OpenFile(filepath.Join(dir, run.EvalFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"step":12,"samples":1,"loss":9}` + "\n" + `{"step":13,`) // of a checkpoint that is not there any more, and torn
	f.Close()
	trainDone(t, args[0], append(args[1:], "--resume")...)
	lines, torn, err := run.ReadEval(dir, math.MaxUint64)
	var steps []uint64
	for _, h := range lines {
		steps = append(steps, h.Step)
		if h.Samples != 16 {
			t.Errorf("measured: %+v", h)
		}
	}
	if err != nil || torn || !slices.Equal(steps, []uint64{4, 8, 12}) {
		t.Errorf("measured are %v, torn %v, %v", steps, torn, err)
	}
	m, err := checkpoint.ReadManifest(filepath.Join(dir, "checkpoints", checkpoint.DirName(12)))
	if err != nil {
		t.Fatal(err)
	}
	l, sum := readMetrics(t, filepath.Join(dir, "metrics.jsonl")), 0.0
	for _, x := range l[8:] {
		sum += x.Loss
	}
	if m.Training == nil || m.Training.Steps != 4 || m.Training.Loss != sum/4 {
		t.Errorf("training loss %+v, want %v", m.Training, sum/4)
	}
}

// prune prints the whole plan with reasons, removes what it says, and nothing
// with --dry-run or while the run goes on.
func TestPrune(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--set", "checkpoint={every: 2, keep: 0}", "--set", "schedule.min_lr=null")
	all := []uint64{2, 4, 6, 8, 10, 12}
	prune := func(args ...string) string {
		t.Helper()
		code, out, stderr := call(t, bin.coordinator, append([]string{"checkpoint", "prune", dir}, args...)...)
		if code != 0 || stderr != "" {
			t.Fatalf("prune %v: exit code %d\n%s%s", args, code, out, stderr)
		}
		return out
	}
	if out := prune(); !strings.Contains(out, "removing 0 of 6") || strings.Count(out, "all are kept") != 6 { // as the job says
		t.Errorf("as the job says:\n%s", out)
	}
	policy := []string{"--keep", "1", "--keep-every", "6", "--best", "1", "--metric", "loss"}
	var plan run.Pruning
	if err := json.Unmarshal([]byte(prune(append(policy, "--dry-run", "--json")...)), &plan); err != nil {
		t.Fatal(err)
	}
	best, kept := 0, []uint64{}
	for i, c := range plan.Checkpoints {
		if c.Score == nil || c.Step != all[i] || c.Size <= 0 || c.Reason == "" {
			t.Fatalf("plan for step %d: %+v", all[i], c)
		}
		if *c.Score <= *plan.Checkpoints[best].Score {
			best = i
		}
		if c.Keep {
			kept = append(kept, c.Step)
		}
	}
	want := []uint64{6, 12}
	if !slices.Contains(want, all[best]) {
		want = append(want, all[best])
		slices.Sort(want)
	}
	if !slices.Equal(kept, want) || !plan.DryRun || plan.Freed != int64(6-len(want))*plan.Checkpoints[0].Size {
		t.Errorf("keeps %v, want %v: %+v", kept, want, plan)
	}
	if got := stepsIn(t, dir); !slices.Equal(got, all) {
		t.Fatalf("after a dry run there are %v", got)
	}
	if out := prune(append(policy, "--dry-run")...); !strings.Contains(out, fmt.Sprintf("would remove %d of 6 checkpoints", 6-len(want))) || !strings.Contains(out, "number 1 by loss") {
		t.Errorf("dry run:\n%s", out)
	}

	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir, "--resume", "--json", "--workers", "0",
		"--set", "train.steps=20", "--set", "checkpoint={every: 2, keep: 0}", "--set", "schedule.min_lr=null")
	p.event("waiting")
	code, _, stderr := call(t, bin.coordinator, append([]string{"checkpoint", "prune", dir}, policy...)...)
	if code == 0 || !strings.Contains(stderr, "--dry-run") {
		t.Errorf("while the run goes on: exit code %d\n%s", code, stderr)
	}
	p.cmd.Process.Signal(os.Interrupt)
	p.wait()
	if got := stepsIn(t, dir); !slices.Equal(got, all) {
		t.Fatalf("there are %v", got)
	}

	if out := prune(policy...); !strings.Contains(out, "\tremove\t") && !strings.Contains(out, "  remove  ") || !strings.Contains(out, "newer ones are complete, and 1 are kept") {
		t.Errorf("the plan:\n%s", out)
	}
	if got := stepsIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	b, err := os.ReadFile(filepath.Join(dir, "checkpoints", "latest"))
	if err != nil || string(b) != checkpoint.DirName(12)+"\n" {
		t.Errorf("latest is %q, %v", b, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{t.TempDir()}, "is not the directory of a run"},
		{[]string{dir, "--keep", "-1"}, "--keep -1"},
		{[]string{dir, "--keep", "1", "--best", "1", "--metric", "los"}, `--metric "los"`},
		{[]string{dir, "--best", "1"}, "give --keep too"},
	} {
		code, _, stderr := call(t, bin.coordinator, append([]string{"checkpoint", "prune"}, c.args...)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("prune %v: exit code %d\n%s", c.args, code, stderr)
		}
	}
}
