package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// The average of the weights is a state as they are: its bits are the same where a
// worker is killed, where the optimizer is shared out, where a run is stopped and
// goes on with another number of workers. A run that has none does not get one on
// the way.
func TestAverage(t *testing.T) {
	t.Parallel()
	const job = "testdata/small.yaml"
	dir := t.TempDir()
	files := func(run string) (sums [2]string) {
		t.Helper()
		m, err := checkpoint.ReadManifest(filepath.Join(run, "checkpoints", "step-00000012"))
		if err != nil {
			t.Fatal(err)
		}
		return [2]string{m.File(checkpoint.ModelFile).SHA256, m.File(checkpoint.OptimizerFile).SHA256}
	}
	one := filepath.Join(dir, "one")
	if got, want := trainDone(t, job, "--run-dir", one, "--workers", "1", "--set", "optimizer.ema=true"), undisturbed(t); got != want {
		t.Errorf("with an average the weights are %s, without %s", got, want)
	}
	want := files(one)

	disturbed := filepath.Join(dir, "disturbed")
	args := []string{"--run-dir", disturbed, "--set", "optimizer.ema=true"}
	p := start(t, nil, bin.coordinator, append([]string{"train", job, "--json", "--workers", "3", "--set", "cluster.optimizer=sharded"}, args...)...)
	pid := int(p.event("joined")["pid"].(float64))
	p.event("step")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.event("step")
	p.cmd.Process.Signal(os.Interrupt)
	p.event("end")
	if code, _ := p.wait(); code != exitResume {
		t.Fatalf("exit code %d, want %d\n%s", code, exitResume, p.errText())
	}
	trainDone(t, job, append(args, "--resume", "--workers", "2")...)
	if got := files(disturbed); got != want {
		t.Errorf("weights and optimizer are %v, want %v", got, want)
	}

	code, _, stderr := call(t, bin.coordinator, "train", job, "--run-dir", one, "--resume", "--set", "train.steps=14", "--set", "optimizer.ema=false")
	if code == 0 || !strings.Contains(stderr, "optimizer.ema.max: 0.9999 in the run, nothing now") || !strings.Contains(stderr, "an average begins with a run") {
		t.Errorf("exit code %d of a run that is to go on without its average\n%s", code, stderr)
	}
}

// A run that loses all of its workers goes back to its newest checkpoint, and one that is
// resumed behind its back from an older one goes on there: weights and their average end
// with the bits of a run in which nothing happened.
func TestAverageGoesBack(t *testing.T) {
	t.Parallel()
	const job = "testdata/small.yaml"
	dir := t.TempDir()
	files := func(run string) (sums [2]string) {
		t.Helper()
		m, err := checkpoint.ReadManifest(filepath.Join(run, "checkpoints", "step-00000030"))
		if err != nil {
			t.Fatal(err)
		}
		return [2]string{m.File(checkpoint.ModelFile).SHA256, m.File(checkpoint.OptimizerFile).SHA256}
	}
	args := func(run string, more ...string) []string {
		return append([]string{"--run-dir", run, "--set", "optimizer.ema=true", "--set", "train.steps=30", "--set", "checkpoint.every=10"}, more...)
	}
	one, back := filepath.Join(dir, "one"), filepath.Join(dir, "back")
	trainDone(t, job, args(one, "--workers", "1")...)
	want := files(one)

	p := start(t, nil, bin.coordinator, append([]string{"train", job, "--json"}, args(back, "--workers", "2")...)...)
	var pids []int
	for len(pids) < 2 {
		pids = append(pids, int(p.event("joined")["pid"].(float64)))
	}
	for p.event("step")["step"].(float64) < 12 { // after the optimizer's step of one that is stored
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if code, _ := p.wait(); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	if got := files(back); got != want {
		t.Errorf("after the loss of all workers weights and optimizer are %v, want %v", got, want)
	}

	all := filepath.Join(back, "checkpoints")
	for _, step := range []string{"20", "30"} {
		if err := os.RemoveAll(filepath.Join(all, "step-000000"+step)); err != nil {
			t.Fatal(err)
		}
	}
	trainDone(t, job, args(back, "--resume", "--workers", "3")...)
	if got := files(back); got != want {
		t.Errorf("from an older checkpoint weights and optimizer are %v, want %v", got, want)
	}
}
