package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/run"
)

// leaving is a job between whose checkpoints all workers are told to go.
var leaving = []string{"train.steps=300", "schedule.min_lr=null"}

// storedAtLeave is what the coordinator says of the step that all who left had stored.
var storedAtLeave = regexp.MustCompile(`step (\d+) is stored, for all workers that hold it are leaving`)

// leftAt is the step of the newest such line, and how many there are.
func leftAt(p *proc) (step string, times int) {
	for _, m := range storedAtLeave.FindAllStringSubmatch(p.errText(), -1) {
		step = m[1]
		times++
	}
	return step, times
}

// lastMetrics is the step of the last whole line of metrics.jsonl.
func lastMetrics(t *testing.T, dir string) (step int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	if _, err := fmt.Sscanf(lines[len(lines)-1], `{"step":%d,`, &step); err != nil {
		t.Fatalf("%q: %v", lines[len(lines)-1], err)
	}
	return step
}

// All workers of a job that are told to go at once (a Kubernetes scale to 0, say), far
// from any checkpoint, store their step before they go. Nobody is there then; those that
// come later go on from that very step.
func TestAllWorkersAreToldToLeave(t *testing.T) {
	t.Parallel()
	want := undisturbed(t, leaving...)
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "0", "--listen", freeAddress(t),
		"--set", "cluster.workers=3", "--set", "checkpoint.every=0"}
	for _, s := range leaving {
		args = append(args, "--set", s)
	}
	p := start(t, nil, bin.coordinator, args...)
	url, _ := p.event("waiting")["url"].(string)
	worker := func(id string) *proc {
		return start(t, nil, bin.worker, "--nats", url, "--job", "small", "--id", id, "--token-file", filepath.Join(dir, "token"), "--threads", "1",
			"--rescue-dir", filepath.Join(dir, "elsewhere"))
	}
	first := []*proc{worker("a"), worker("b"), worker("c")}
	for p.event("step")["step"].(float64) < 40 {
	}
	for _, w := range first {
		w.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, w := range first {
		code, _ := w.wait()
		if !strings.Contains(w.errText(), "told to leave: the coordinator is asked") || code != exitResume || !strings.Contains(w.errText(), "it was told to stop by a signal") {
			t.Errorf("exit code %d\n%s", code, w.errText())
		}
	}
	step, times := leftAt(p)
	if last := lastMetrics(t, dir); times != 1 || step != fmt.Sprint(last) || last >= 300 {
		t.Fatalf("%d times all left, the last time at step %q, and step %d is the last in the metrics:\n%s", times, step, last, p.errText())
	}
	if s, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Errorf("%s: a worker has kept its state, which the coordinator has stored", s.Name())
	}
	second := []*proc{worker("d"), worker("e"), worker("f")}
	end := p.event("end")
	if code, _ := p.wait(); code != exitDone || end["model_sha256"] != want {
		t.Errorf("exit code %d, %v, want weights %s\n%s", code, end, want, p.errText())
	}
	for _, w := range second {
		if code, _ := w.wait(); code != exitDone {
			t.Errorf("exit code %d\n%s", code, w.errText())
		}
	}
	text := p.errText()
	if !strings.Contains(text, "going on from the checkpoint of step "+step+",") || !strings.Contains(text, "3 workers from step "+step+" (d, e, f)") ||
		strings.Contains(text, "nobody holds the job's newest state") {
		t.Errorf("they did not go on from step %s:\n%s", step, text)
	}
	if last := lastMetrics(t, dir); last != 300 {
		t.Errorf("the metrics end at step %d", last)
	}
}

// A coordinator that hands over (`--handover`) is told to go with all its workers, as where a
// namespace is stopped. It sees them off first; the next one goes on from their step.
func TestAllAreToldToLeave(t *testing.T) {
	t.Parallel()
	want := undisturbed(t, leaving...)
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "0", "--listen", freeAddress(t), "--handover",
		"--set", "cluster.workers=2", "--set", "checkpoint.every=0", "--set", "cluster.deadline=2s"}
	for _, s := range leaving {
		args = append(args, "--set", s)
	}
	p := start(t, nil, bin.coordinator, args...)
	url, _ := p.event("waiting")["url"].(string)
	workers := func(ids ...string) (l []*proc) {
		for _, id := range ids {
			l = append(l, start(t, nil, bin.worker, "--nats", url, "--job", "small", "--id", id, "--token-file", filepath.Join(dir, "token"), "--threads", "1"))
		}
		return l
	}
	first := workers("a", "b")
	for p.event("step")["step"].(float64) < 40 {
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(200 * time.Millisecond)
	for _, w := range first {
		w.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, w := range first {
		if code, _ := w.wait(); code != exitResume || strings.Contains(w.errText(), "was not let go") {
			t.Errorf("exit code %d\n%s", code, w.errText())
		}
	}
	if code, _ := p.wait(); code != exitResume || !strings.Contains(p.errText(), "left the job to the next coordinator") {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
	step, times := leftAt(p)
	if last := lastMetrics(t, dir); times != 1 || step != fmt.Sprint(last) || last >= 300 {
		t.Fatalf("%d times all left, the last time at step %q, and step %d is the last in the metrics:\n%s", times, step, last, p.errText())
	}
	p = start(t, nil, bin.coordinator, args...)
	workers("c", "d")
	end := p.event("end")
	if code, _ := p.wait(); code != exitDone || end["model_sha256"] != want || !strings.Contains(p.errText(), "2 workers from step "+step+" (c, d)") {
		t.Errorf("exit code %d, %v, want weights %s and to go on from step %s\n%s", code, end, want, step, p.errText())
	}
}

// The coordinator's own workers are told to go (`pkill -TERM worker`), again and again: at
// once, or one after another within a second. They go when what they hold is stored, or
// with others; they are started again, and no bit of the weights moves.
func TestOwnWorkersAreToldToLeave(t *testing.T) {
	t.Parallel()
	want := undisturbed(t, leaving...)
	for name, set := range map[string][]string{
		"whole":   nil,
		"sharded": {"cluster.optimizer=sharded"},
		"mesh":    {"cluster.topology=mesh", "cluster.road=nats"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			args := []string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "3", "--threads", "1", "--set", "checkpoint.every=0"}
			for _, s := range append(set, leaving...) {
				args = append(args, "--set", s)
			}
			p := start(t, nil, bin.coordinator, args...)
			for p.event("step")["step"].(float64) < 30 {
			}
			stopWorkers(t, dir, syscall.SIGTERM)
			until(t, "all have left", func() bool { _, n := leftAt(p); return n == 1 })
			step, _ := leftAt(p)
			for p.event("step")["world"].(float64) != 3 || fmt.Sprint(lastMetrics(t, dir)) == step {
			}
			for _, w := range status(t, dir).Workers { // one after another
				if err := syscall.Kill(w.PID, syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				time.Sleep(150 * time.Millisecond)
			}
			end := p.event("end")
			if code, _ := p.wait(); code != exitDone || end["model_sha256"] != want {
				t.Errorf("exit code %d, %v, want weights %s\n%s", code, end, want, p.errText())
			}
			if text := p.errText(); strings.Contains(text, "nobody holds") || strings.Contains(text, "was not let go") || strings.Contains(text, "lost worker") {
				t.Errorf("somebody was lost:\n%s", text)
			}
		})
	}
}

// status is what the coordinator of a run directory says of its job.
func status(t *testing.T, dir string) (s run.Status) {
	t.Helper()
	code, out, errText := call(t, bin.coordinator, "status", dir, "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != exitDone {
		t.Fatalf("status: exit code %d, %v\n%s%s", code, err, out, errText)
	}
	return s
}

// Nobody lets a worker go whose coordinator is dead. After its grace it keeps its state, and
// a resume goes on from that.
func TestLeavingWithoutCoordinator(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	args := long(dir, "--workers", "0", "--listen", freeAddress(t), "--set", "cluster.workers=1", "--set", "cluster.deadline=1s")
	p := start(t, nil, bin.coordinator, args...)
	url, _ := p.event("waiting")["url"].(string)
	w := start(t, nil, bin.worker, "--nats", url, "--job", "small", "--id", "a", "--token-file", filepath.Join(dir, "token"), "--threads", "1",
		"--rescue-dir", filepath.Join(dir, "rescue"), "--leave-timeout", "1s")
	for p.event("step")["step"].(float64) < 10 {
	}
	p.cmd.Process.Kill()
	p.wait()
	began := time.Now()
	w.cmd.Process.Signal(syscall.SIGTERM)
	code, _ := w.wait()
	var step int
	kept, err := filepath.Glob(filepath.Join(dir, "rescue", "a", "step-*"))
	if err != nil || len(kept) != 1 || code != exitResume || !strings.Contains(w.errText(), "and was not let go within 1s; its state is in ") {
		t.Fatalf("exit code %d, it has kept %v (%v)\n%s", code, kept, err, w.errText())
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it waited only %v", took)
	}
	if _, err := fmt.Sscanf(filepath.Base(kept[0]), "step-%d", &step); err != nil || step < 10 {
		t.Fatalf("%s: %v", kept[0], err)
	}
	p = start(t, nil, bin.coordinator, append(args, "--resume", "--workers", "1")...)
	if at := p.event("resume")["step"]; at != float64(step) {
		t.Errorf("resumed at step %v, want %d\n%s", at, step, p.errText())
	}
	p.event("step")
	call(t, bin.coordinator, "stop", dir)
	p.wait()
}
