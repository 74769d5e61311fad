package cli

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/run"
)

// orphans trains until some steps beyond the last checkpoint are committed, and
// kills the coordinator: its two workers live on.
func orphans(t *testing.T, args []string) {
	t.Helper()
	p := start(t, nil, bin.coordinator, args...)
	for p.event("step")["step"].(float64) < 8 {
	}
	lines := filepath.Join(args[slices.Index(args, "--run-dir")+1], run.MetricsFile)
	for end := time.Now().Add(time.Minute); lineCount(lines) < 8; time.Sleep(time.Millisecond) { // written behind what is shown
		if time.Now().After(end) {
			t.Fatal("the lines of 8 steps do not come")
		}
	}
	p.cmd.Process.Kill()
	p.wait()
}

func takeoverJob(dir string, more ...string) []string {
	return append([]string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "2", "--threads", "1", "--set", "train.steps=200", "--set", "checkpoint.every=150",
		"--set", "schedule.min_lr=null", "--set", "cluster.deadline=1s", "--set", "cluster.orphan_timeout=20s"}, more...)
}

// Knobs that compute nothing may be changed when a run is taken over: the same
// workers go on where they were, to the same bits.
func TestTakeoverWithOtherKnobs(t *testing.T) {
	t.Parallel()
	want := undisturbed(t, "train.steps=200", "schedule.min_lr=null")
	for name, more := range map[string][]string{
		"cluster":    {"--set", "cluster.stall=6s", "--set", "cluster.deadline=2s", "--set", "cluster.window_bytes=1048576"},
		"checkpoint": {"--set", "checkpoint.every=7", "--set", "checkpoint.keep=2"},
		"workers":    {"--workers", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			orphans(t, takeoverJob(dir))
			p := start(t, nil, bin.coordinator, takeoverJob(dir, more...)...)
			end := p.event("end")
			if code, _ := p.wait(); code != exitDone || end["model_sha256"] != want {
				t.Fatalf("exit code %d, %v, want %s\n%s", code, end, want, p.errText())
			}
			if text := p.errText(); !strings.Contains(text, "taking over 2 workers") || strings.Contains(text, "refused") || strings.Contains(text, "diverged") || strings.Contains(text, "disagree") {
				t.Errorf("the workers did not live on:\n%s", text)
			}
			wantSteps(t, dir, 200)
		})
	}
}

// Without being asked nobody throws away what workers may hold; asked, the
// workers are refused and keep it, and no line of metrics is of two computations.
func TestTakeoverOfAnotherComputation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	args := takeoverJob(dir)
	orphans(t, args)
	other := append(slices.Clone(args), "--set", "optimizer.lr=0.01", "--set", "train.steps=12")
	code, _, stderr := call(t, bin.coordinator, other...)
	if code != exitUsage || !strings.Contains(stderr, "optimizer.lr: 0.001 in the run, 0.01 now") || !strings.Contains(stderr, "--resume") {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	want := undisturbed(t, "train.steps=12", "optimizer.lr=0.01", "schedule.min_lr=null")
	p := start(t, nil, bin.coordinator, append(other, "--resume")...)
	aside := p.event("aside")
	end := p.event("end")
	if code, _ := p.wait(); code != exitDone || end["model_sha256"] != want {
		t.Fatalf("exit code %d, %v, want %s\n%s", code, end, want, p.errText())
	}
	if aside["file"] != run.MetricsFile || aside["as"] != "metrics-1.jsonl" || lineCount(filepath.Join(dir, "metrics-1.jsonl")) < 8 {
		t.Errorf("set aside: %v", aside)
	}
	wantSteps(t, dir, 12)
	for _, m := range readMetrics(t, filepath.Join(dir, run.MetricsFile)) {
		if m.LR > 0.01 || m.Step > 3 && m.LR != 0.01 {
			t.Errorf("step %d has the rate %v of another computation", m.Step, m.LR)
		}
	}
	for _, w := range []string{"w0", "w1"} {
		l, err := checkpoint.List(filepath.Join(dir, "rescue", w))
		if err != nil || len(l) != 1 || l[0].Step < 8 {
			t.Errorf("worker %s kept %+v (%v)", w, l, err)
		}
	}
}

// A run that is begun anew in its directory before there is a checkpoint does
// not go on in the lines of the one before it.
func TestLinesOfAnotherComputation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	args := takeoverJob(dir, "--set", "cluster.orphan_timeout=1s")
	orphans(t, args)
	until(t, "no worker", func() bool { return workersOf(t, dir) == 0 })
	if err := os.RemoveAll(filepath.Join(dir, "rescue")); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, bin.coordinator, append(args, "--resume", "--set", "train.steps=5", "--set", "schedule.min_lr=0.0001")...)
	p.event("aside")
	if end := p.event("end"); end["outcome"] != "done" {
		t.Errorf("the end is %v", end)
	}
	if code, _ := p.wait(); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	wantSteps(t, dir, 5)
}

// hugeTargets are the flags that give testdata/curve's job other data: the
// squared error of its first samples, of 24, is beyond float32.
func hugeTargets(t *testing.T, samples int) []string {
	t.Helper()
	f, err := safetensors.Open("testdata/curve/train_data.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []safetensors.Tensor
	for _, name := range f.Names() {
		info, _ := f.Tensor(name)
		var data any
		if name == "instruction_tokens" {
			data, err = f.Int64(name)
		} else {
			data, err = f.Float32(name)
		}
		if err != nil {
			t.Fatal(err)
		}
		if name == "actions" {
			a := data.([]float32)
			for i := range samples * info.Shape[1] {
				a[i] = 1e30
			}
		}
		all = append(all, safetensors.Tensor{Name: name, Shape: info.Shape, Data: data})
	}
	var b bytes.Buffer
	if err := safetensors.Write(&b, all, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "data.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"testdata/curve/job.yaml", "--set", "data.path=" + path, "--set", "train.non_finite=skip", "--workers", "2"}
}

// A run whose steps were all refused has learned nothing and is no success; of
// one with some the last line says how many.
func TestRefusedSteps(t *testing.T) {
	t.Parallel()
	lastLine := func(s string) string {
		l := strings.Split(strings.TrimSpace(s), "\n")
		return l[len(l)-1]
	}
	dir := filepath.Join(t.TempDir(), "some")
	code, _, stderr := call(t, bin.coordinator, append([]string{"train", "--run-dir", dir}, hugeTargets(t, 1)...)...)
	metrics, err := os.ReadFile(filepath.Join(dir, run.MetricsFile))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(metrics); strings.Count(s, "(samples [") != 10 || strings.Contains(s, "passes over such steps") {
		t.Errorf("refused steps do not name samples of the data, or advise what the job says:\n%s", s)
	}
	if last := lastLine(stderr); code != exitDone || !strings.HasPrefix(last, "10 of 30 steps made no update") {
		t.Errorf("exit code %d, the last line is %q", code, last)
	}

	dir = filepath.Join(t.TempDir(), "all")
	all := append([]string{"train", "--run-dir", dir}, hugeTargets(t, 24)...)
	code, _, stderr = call(t, bin.coordinator, all...)
	if code != exitFailed || !strings.Contains(stderr, "coordinator: no update was made: all 30 of 30 steps were refused") || !strings.Contains(lastLine(stderr), "--run-dir") || strings.Contains(stderr, "done:") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if o, err := run.ReadOrigin(dir); err != nil || o.State != "failed" {
		t.Errorf("run.json says %+v (%v)", o, err)
	}

	dir = filepath.Join(t.TempDir(), "half") // those before a stop count too
	all = append([]string{"train", "--run-dir", dir, "--json"}, hugeTargets(t, 24)...)
	p := start(t, nil, bin.coordinator, append(all, "--set", "train.steps=10", "--set", "schedule.min_lr=null")...)
	if end := p.event("end"); end["outcome"] != "failed" || end["refused_steps"] != 10.0 {
		t.Errorf("the end is %v", end)
	}
	p.wait()
	p = start(t, nil, bin.coordinator, append(all, "--set", "schedule.min_lr=null", "--resume")...)
	if end := p.event("end"); end["outcome"] != "failed" || end["refused_steps"] != 30.0 {
		t.Errorf("the end is %v", end)
	}
	if code, _ := p.wait(); code != exitFailed {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
}

// A longer run bends the cosine, which is said with the rates on both sides.
func TestLongerRunSaysTheBend(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"--run-dir", dir, "--workers", "1", "--set", "optimizer.lr=0.001", "--set", "schedule.min_lr=0.0001"}
	trainDone(t, "testdata/small.yaml", append(slices.Clone(args), "--set", "train.steps=10")...)
	p := start(t, nil, bin.coordinator, append(append([]string{"train", "testdata/small.yaml", "--json", "--resume"}, args...), "--set", "train.steps=20")...)
	bend := p.event("schedule")
	if code, _ := p.wait(); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	l := readMetrics(t, filepath.Join(dir, run.MetricsFile))
	if bend["step"] != 11.0 || bend["lr"] != l[10].LR || math.Abs(bend["lr_before"].(float64)-0.0001) > 1e-12 || bend["steps"] != 20.0 || bend["steps_before"] != 10.0 {
		t.Errorf("it says %v; step 11 has %v", bend, l[10].LR)
	}
}

// The rate of a steady run is that of its steps' own times.
func TestRateIsOfTheStep(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--workers", "2")
	for _, m := range readMetrics(t, filepath.Join(dir, run.MetricsFile)) {
		x := m.Time
		if math.Abs(m.SamplesSec*x.Step-12) > 1e-6 || x.Step < x.Forward || x.Step < x.Backward || x.Step > 60 {
			t.Errorf("step %d: %v samples/s in %+v", m.Step, m.SamplesSec, x)
		}
	}
}

// Other data is another computation too, though the job says the same.
func TestTakeoverWithOtherData(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	path, dir := filepath.Join(base, "data.safetensors"), filepath.Join(base, "run")
	put := func(from string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("testdata/curve/train_data.safetensors")
	args := []string{"train", "testdata/curve/job.yaml", "--json", "--run-dir", dir, "--workers", "2", "--threads", "1", "--set", "data.path=" + path, "--set", "train.steps=400",
		"--set", "checkpoint.every=300", "--set", "schedule.min_lr=null", "--set", "cluster.deadline=1s", "--set", "cluster.orphan_timeout=1s", "--set", "train.non_finite=skip"}
	orphans(t, args)
	until(t, "no worker", func() bool { return workersOf(t, dir) == 0 })
	if err := os.RemoveAll(filepath.Join(dir, "rescue")); err != nil {
		t.Fatal(err)
	}
	set := hugeTargets(t, 1)
	put(strings.TrimPrefix(set[2], "data.path="))
	code, _, stderr := call(t, bin.coordinator, args...)
	if code != exitUsage || !strings.Contains(stderr, "the data is not what they have read") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	p := start(t, nil, bin.coordinator, append(args, "--resume", "--set", "train.steps=9")...)
	if aside := p.event("aside"); aside["as"] != "metrics-1.jsonl" {
		t.Errorf("set aside: %v", aside)
	}
	if code, _ := p.wait(); code != exitDone {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
	wantSteps(t, dir, 9)
}
