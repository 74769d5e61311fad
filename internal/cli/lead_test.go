package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/run"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// A start that fails leaves nothing that looks like a run that goes on: the next
// one neither wants --resume nor waits for workers that never were.
func TestFailedStartLeavesNoRun(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	args := []string{"train", "testdata/small.yaml", "--run-dir", dir, "--workers", "1", "--set", "train.steps=3"}
	code, _, stderr := call(t, bin.coordinator, append(args, "--listen", taken.Addr().String())...)
	if code != exitFailed || !strings.Contains(stderr, "in use") {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	for _, name := range []string{run.OriginFile, run.JobCopy, run.AddressFile} {
		if exists(filepath.Join(dir, name)) {
			t.Errorf("it leaves %s", name)
		}
	}
	began := time.Now()
	if code, _, stderr := call(t, bin.coordinator, args...); code != exitDone {
		t.Fatalf("the next start: exit code %d\n%s", code, stderr)
	}
	if took := time.Since(began); took > 35*time.Second { // two deadlines are 40 s
		t.Errorf("the next start took %v", took)
	}

	dir = filepath.Join(t.TempDir(), "run") // one that stopped before stays stopped
	args[3] = dir
	p := start(t, nil, bin.coordinator, endless(dir, "--json")...)
	p.event("step")
	p.cmd.Process.Signal(os.Interrupt)
	p.wait()
	was, err := os.ReadFile(filepath.Join(dir, run.OriginFile))
	if err != nil {
		t.Fatal(err)
	}
	call(t, bin.coordinator, endless(dir, "--resume", "--listen", taken.Addr().String())...)
	if is, err := os.ReadFile(filepath.Join(dir, run.OriginFile)); err != nil || string(is) != string(was) {
		t.Errorf("run.json says %s, and said %s (%v)", is, was, err)
	}
}

// A second coordinator of a job's name on the same server is turned away, and
// the first one does not notice.
func TestSecondCoordinatorTouchesNothing(t *testing.T) {
	t.Parallel()
	dir, other := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "other")
	want := undisturbed(t, "train.steps=60", "schedule.min_lr=null")
	addr := freeAddress(t)
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "2", "--set", "train.steps=60", "--set", "schedule.min_lr=null", "--listen", addr)
	p.event("step")
	code, _, stderr := call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", other, "--workers", "2", "--nats", "nats://"+addr, "--token-file", filepath.Join(dir, "token"))
	if code != exitFailed || !strings.Contains(stderr, "has a coordinator on this server") {
		t.Errorf("the second: exit code %d\n%s", code, stderr)
	}
	for _, name := range []string{run.OriginFile, run.JobCopy, run.AddressFile, "logs"} {
		if exists(filepath.Join(other, name)) {
			t.Errorf("the second leaves %s", name)
		}
	}
	if end := p.event("end"); end["model_sha256"] != want {
		t.Errorf("the first ends with %v, want %s", end, want)
	}
	if code, _ := p.wait(); code != exitDone || strings.Contains(p.errText(), "lost worker") {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
	wantSteps(t, dir, 60)
}

// A run directory that is moved under its run is named, with where it is now;
// no second one is made, and once it is back the run ends as it should.
func TestMovedRunDir(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir, moved := filepath.Join(base, "run"), filepath.Join(base, "elsewhere")
	p := start(t, nil, bin.coordinator, endless(dir, "--set", "checkpoint.every=50")...)
	until(t, "a step", func() bool { return lineCount(filepath.Join(dir, run.MetricsFile)) > 0 })
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	until(t, "it is noticed", func() bool {
		return strings.Contains(p.errText(), "until this is mended: the run directory "+dir+" was moved or removed while the run goes on")
	})
	if exists(dir) {
		t.Error("another directory was made in its place")
	}
	if exists("/proc/self/fd") && !strings.Contains(p.errText(), moved) {
		t.Errorf("it does not say where the directory is:\n%s", p.errText())
	}
	if err := os.Mkdir(dir, 0o755); err != nil { // another one
		t.Fatal(err)
	}
	until(t, "the other is noticed", func() bool {
		return strings.Contains(p.errText(), "until this is mended: the run directory "+dir+" was moved, and another directory has its name")
	})
	if l, err := os.ReadDir(dir); err != nil || len(l) > 0 {
		t.Errorf("the other directory has %v (%v)", l, err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Log(p.errText())
		}
	}()
	until(t, "it is back", func() bool { return strings.Contains(p.errText(), "is back") })
	p.cmd.Process.Signal(os.Interrupt)
	if code, _ := p.wait(); code != exitResume {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
	if steps := stepsIn(t, dir); len(steps) == 0 || int(steps[len(steps)-1]) != lineCount(filepath.Join(dir, run.MetricsFile)) {
		t.Errorf("checkpoints of steps %v", steps)
	}
}

// What the run directory cannot take, because it is gone, goes to
// checkpoint.fallback_dir, and leaves it once the run directory takes it again.
func TestFallbackWhileTheRunDirIsGone(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir, moved, other := filepath.Join(base, "run"), filepath.Join(base, "elsewhere"), filepath.Join(base, "spare")
	p := start(t, nil, bin.coordinator, endless(dir, "--set", "checkpoint.every=3", "--set", "checkpoint.fallback_dir="+other)...)
	until(t, "a step", func() bool { return lineCount(filepath.Join(dir, run.MetricsFile)) > 0 })
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	spare := func() []checkpoint.Entry {
		l, _ := checkpoint.List(filepath.Join(other, "small", "checkpoints"))
		return l
	}
	until(t, "a checkpoint in the fallback", func() bool { l := spare(); return len(l) == 1 && l[0].State == checkpoint.Complete && l[0].Step > 9 })
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	until(t, "the fallback is cleared", func() bool { return len(spare()) == 0 })
	p.cmd.Process.Signal(os.Interrupt)
	if code, _ := p.wait(); code != exitResume {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
}
