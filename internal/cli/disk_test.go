package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// mounted is a small disk of its own for the test.
func mounted(t *testing.T, options string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("a small disk cannot be mounted here, so no real one is full in this test (it wants root): %v: %s", err, bytes.TrimSpace(out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", dir, err, out)
		}
	})
	return dir
}

// fill leaves less than a checkpoint of testdata/small.yaml, of 0.7 MiB, on a disk. Where
// a run removes checkpoints it is to be called until the run has noticed: the next one
// may find the room of one that went after all was full.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "other people's")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		s, err := checkpoint.FreeSpace(dir)
		if err != nil || !s.Known {
			t.Fatalf("free space: %+v, %v", s, err)
		}
		if s.Bytes < 300<<10 {
			return func() { os.Remove(path) }
		}
		if _, err := f.Write(block); err != nil && !errors.Is(err, syscall.ENOSPC) { // the run may have been quicker
			t.Fatal(err)
		}
	}
}

func small(dir string, more ...string) []string {
	return append([]string{"testdata/small.yaml", "--run-dir", dir, "--workers", "2", "--threads", "1"}, more...)
}

// A disk that is full from the middle of a run until after its end costs
// nothing: the state waits, the bits are the undisturbed ones, and the resumed
// run could do no better.
func TestFullDiskAtTheEndWaits(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	disk := mounted(t, "size=4m")
	dir := filepath.Join(disk, "run")
	free := fill(t, disk)
	p := start(t, nil, bin.coordinator, append([]string{"train"}, small(dir)...)...)
	until(t, "it waits", func() bool { return strings.Contains(p.errText(), "stays in the workers' memory for up to 10m0s") })
	text := p.errText()
	for _, w := range []string{"not even the first one fits", "the disk is full", "make room for"} {
		if !strings.Contains(text, w) {
			t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
	if n := strings.Count(text, "was not stored"); n != 1 {
		t.Errorf("one lasting state is told %d times:\n%s", n, text)
	}
	free()
	code, _ := p.wait()
	steps := stepsIn(t, dir)
	if code != exitDone || len(steps) == 0 || steps[len(steps)-1] != 12 {
		t.Fatalf("exit code %d, checkpoints %v\n%s", code, steps, p.errText())
	}
	m, err := checkpoint.ReadManifest(filepath.Join(dir, "checkpoints", checkpoint.DirName(12)))
	if err != nil || m.File("model.safetensors").SHA256 != want {
		t.Errorf("the weights are %v, want %s (%v)", m.Files, want, err)
	}
	if !strings.Contains(p.errText(), "checkpoints are stored again") {
		t.Errorf("nothing says that it is over:\n%s", p.errText())
	}
	wantSteps(t, dir, 12)
}

// A signal is heard while the state waits for the disk, and the last lines say
// why it is lost and what there is to go on from.
func TestFullDiskHearsSIGTERM(t *testing.T) {
	t.Parallel()
	disk := mounted(t, "size=4m")
	dir := filepath.Join(disk, "run")
	p := start(t, nil, bin.coordinator, append([]string{"train"}, small(dir, "--set", "train.steps=4000", "--set", "checkpoint.every=5", "--set", "checkpoint.keep=1", "--set", "schedule.min_lr=null")...)...)
	until(t, "a checkpoint", func() bool {
		_, err := checkpoint.LatestGood(filepath.Join(dir, "checkpoints"))
		return err == nil
	})
	until(t, "it is noticed", func() bool {
		fill(t, disk)
		return strings.Contains(p.errText(), "the disk is full")
	})
	before := len(p.errText())
	p.cmd.Process.Signal(os.Interrupt)
	until(t, "it waits", func() bool { return strings.Contains(p.errText()[before:], "stays in the workers' memory") })
	if code, _, stderr := call(t, bin.coordinator, "stop", dir); code != exitDone {
		t.Errorf("stop: exit code %d\n%s", code, stderr)
	}
	code, _ := p.wait()
	if code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	_, last, _ := strings.Cut(p.errText(), "\ncoordinator: ")
	lines := strings.Split(strings.TrimSpace(last), "\n")
	if !strings.Contains(lines[0], "could not be stored: ") || !strings.Contains(lines[0], "the disk is full") || !strings.HasPrefix(lines[len(lines)-1], "resume with: coordinator train ") {
		t.Errorf("the last lines are\n%s", last)
	}
	if n := strings.Count(p.errText(), "ERROR metrics.jsonl"); n > 1 {
		t.Errorf("metrics.jsonl is told of %d times", n)
	}
}

// Who presses Ctrl-C twice, at a run and then at its wait for the disk, ends the
// wait, as the message says, and not the workers with all that they hold.
func TestSecondSignalEndsTheWaitForTheDisk(t *testing.T) {
	t.Parallel()
	disk, other := mounted(t, "size=4m"), t.TempDir()
	dir := filepath.Join(disk, "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, "rescue")); err != nil { // a disk of the workers' own
		t.Fatal(err)
	}
	p := start(t, nil, bin.coordinator, append([]string{"train", "--json"}, small(dir, "--set", "train.steps=400000", "--set", "checkpoint.every=5", "--set", "checkpoint.keep=1", "--set", "schedule.min_lr=null")...)...)
	p.event("step")
	until(t, "it is noticed", func() bool {
		fill(t, disk)
		return strings.Contains(p.errText(), "the disk is full")
	})
	p.cmd.Process.Signal(os.Interrupt)
	until(t, "it waits", func() bool { return strings.Contains(p.errText(), "stays in the workers' memory") })
	p.cmd.Process.Signal(os.Interrupt)
	code, out := p.wait()
	if code != exitFailed || !strings.Contains(p.errText(), "the wait for the disk ends: stopped by Ctrl-C") {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	i := strings.LastIndex(out, `"event":"step"`)
	found, err := checkpoint.LatestGood(filepath.Join(other, "w0"))
	if err != nil || i < 0 || !strings.Contains(out[i:], fmt.Sprintf(`"step":%d,`, found.Manifest.Step)) {
		t.Fatalf("kept is %+v (%v), the last step %.100s", found, err, out[max(i, 0):])
	}
	if !strings.Contains(p.errText(), fmt.Sprintf("the newest checkpoint is of step %d\n", found.Manifest.Step)) {
		t.Errorf("the last words do not say what was kept:\n%s", p.errText())
	}
}

// What the run directory's disk does not take goes to checkpoint.fallback_dir,
// and a resume finds it there.
func TestFallbackDir(t *testing.T) {
	t.Parallel()
	constant := []string{"--set", "schedule.min_lr=null", "--set", "train.steps=9"}
	want := undisturbed(t, constant[1], constant[3])
	disk := mounted(t, "size=4m")
	dir, other := filepath.Join(disk, "run"), t.TempDir()
	free := fill(t, disk)
	args := small(dir, "--set", "checkpoint.fallback_dir="+other)
	code, _, stderr := call(t, bin.coordinator, append([]string{"train"}, append(slices.Clone(args), "--set", "train.steps=7", "--set", "schedule.min_lr=null")...)...)
	if code != exitDone || !strings.Contains(stderr, "stored in checkpoint.fallback_dir") {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if l, err := checkpoint.List(filepath.Join(other, "small", "checkpoints")); err != nil || len(l) != 1 || l[0].Step != 7 {
		t.Fatalf("the other disk has %+v (%v)", l, err)
	}
	free()
	p := start(t, nil, bin.coordinator, append([]string{"train", "--json", "--resume"}, append(slices.Clone(args), constant...)...)...)
	if e := p.event("rescued"); e["step"] != 7.0 {
		t.Errorf("it takes %v", e)
	}
	if end := p.event("end"); end["model_sha256"] != want {
		t.Errorf("the end is %v, want %s", end, want)
	}
	p.wait()
	if l, err := checkpoint.List(filepath.Join(other, "small", "checkpoints")); err != nil || len(l) != 0 {
		t.Errorf("the other disk still has %+v (%v)", l, err)
	}
}

// No inodes are not no bytes.
func TestNoInodes(t *testing.T) {
	t.Parallel()
	disk := mounted(t, "size=16m,nr_inodes=60")
	dir := filepath.Join(disk, "run")
	var made []string
	for i := 0; ; i++ {
		if s, err := checkpoint.FreeSpace(disk); err != nil || s.Inodes < 20 {
			break
		}
		path := filepath.Join(disk, strings.Repeat("x", i+1))
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		made = append(made, path)
	}
	p := start(t, nil, bin.coordinator, append([]string{"train"}, small(dir, "--set", "checkpoint.every=1")...)...)
	until(t, "it is noticed", func() bool {
		return strings.Contains(p.errText(), "no inodes left") || strings.Contains(p.errText(), "no inodes are left")
	})
	for _, path := range made {
		os.Remove(path)
	}
	if code, _ := p.wait(); code != exitDone || !strings.Contains(p.errText(), "df -i") {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
}

// A disk that turns read-only in the middle: it is named, and so is what there
// is to go on from.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := mounted(t, "size=8m")
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(disk, filepath.Join(dir, "checkpoints")); err != nil { // lock and metrics.jsonl are open and would keep it writable
		t.Fatal(err)
	}
	p := start(t, nil, bin.coordinator, append([]string{"train"}, small(dir, "--set", "train.steps=40000", "--set", "checkpoint.every=5", "--set", "checkpoint.keep=1", "--set", "schedule.min_lr=null", "--set", "checkpoint.wait=1s")...)...)
	until(t, "a checkpoint", func() bool {
		_, err := checkpoint.LatestGood(filepath.Join(dir, "checkpoints"))
		return err == nil
	})
	until(t, "the disk is read-only", func() bool { // not while a file of it is open
		return exec.Command("mount", "-o", "remount,ro", disk).Run() == nil
	})
	until(t, "it is noticed", func() bool { return strings.Contains(p.errText(), "the disk is read-only") })
	p.cmd.Process.Signal(os.Interrupt)
	code, _ := p.wait()
	_, last, _ := strings.Cut(p.errText(), "\ncoordinator: ")
	lines := strings.Split(strings.TrimSpace(last), "\n")
	if code != exitFailed || !strings.HasPrefix(last, "stopped by Ctrl-C; the checkpoint of step ") || !strings.Contains(lines[0], "read-only") || !strings.HasPrefix(lines[len(lines)-1], "resume with: ") {
		t.Errorf("exit code %d, the last lines are\n%s", code, last)
	}
}

// Workers that waited for a coordinator in vain have kept their state: a resume
// goes on there, to the undisturbed bits.
func TestResumeFindsRescuedState(t *testing.T) {
	t.Parallel()
	want := undisturbed(t, "train.steps=60", "schedule.min_lr=null")
	dir := filepath.Join(t.TempDir(), "run")
	args := takeoverJob(dir, "--set", "train.steps=60", "--set", "cluster.orphan_timeout=1s")
	orphans(t, args)
	until(t, "the workers have gone", func() bool { return workersOf(t, dir) == 0 })
	kept, err := checkpoint.LatestGood(filepath.Join(dir, "rescue", "w0"))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, bin.coordinator, append(args, "--resume")...)
	took := p.event("rescued")
	end := p.event("end")
	if code, _ := p.wait(); code != exitDone || end["model_sha256"] != want {
		t.Fatalf("exit code %d, %v, want %s\n%s", code, end, want, p.errText())
	}
	if took["step"].(float64) < float64(kept.Manifest.Step) {
		t.Errorf("it takes %v, and there is one of step %d", took, kept.Manifest.Step)
	}
}

// Where the optimizer is shared out and the broker went with the coordinator,
// each worker keeps what it holds: a resume puts the shares together.
func TestResumePutsSharesTogether(t *testing.T) {
	t.Parallel()
	want := undisturbed(t, "train.steps=60", "schedule.min_lr=null")
	dir := filepath.Join(t.TempDir(), "run")
	args := takeoverJob(dir, "--set", "train.steps=60", "--set", "cluster.orphan_timeout=1s", "--set", "cluster.optimizer=sharded", "--workers", "4")
	orphans(t, args)
	until(t, "the workers have gone", func() bool { return workersOf(t, dir) == 0 })
	shares, err := filepath.Glob(filepath.Join(dir, "rescue", "w*", "share-*", "share.json"))
	if err != nil || len(shares) < 3 {
		t.Fatalf("shares %v, %v", shares, err)
	}
	p := start(t, nil, bin.coordinator, append(args, "--resume")...)
	p.event("rescued")
	end := p.event("end")
	if code, _ := p.wait(); code != exitDone || end["model_sha256"] != want {
		t.Fatalf("exit code %d, %v, want %s\n%s", code, end, want, p.errText())
	}
}
