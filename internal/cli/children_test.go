package cli

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vlaring/vlaring/pkg/run"
)

// A lone worker that is killed again and again, before the job gets beyond where
// it was, is not started for ever: the job ends, and says what became of it.
func TestLoneWorkerKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "1", "--set", "train.steps=1000000", "--set", "schedule.min_lr=null", "--set", "checkpoint.every=0")
	for i := range 5 { // it comes less far each time: not beyond the first
		pid := int(p.event("joined")["pid"].(float64))
		if i == 0 {
			until(t, "30 steps", func() bool { return lineCount(filepath.Join(dir, run.MetricsFile)) > 30 })
		} else {
			until(t, "a place for it", func() bool { return strings.Count(p.errText(), "1 worker from step") > i })
		}
		syscall.Kill(pid, syscall.SIGKILL)
	}
	code, _ := p.wait()
	if want := "worker w0 has ended 5 times, and the job did not get beyond step"; code != exitFailed || !strings.Contains(p.errText(), want) || !strings.Contains(p.errText(), "the last time its process ended with signal: killed\n") {
		t.Errorf("exit code %d, want %d and %q:\n%s", code, exitFailed, want, p.errText())
	}
}

// Compute never holds all threads of a worker: heartbeats have one left.
func TestHeartbeatsHaveAThread(t *testing.T) {
	for _, c := range []struct{ now, compute, want int }{{2, 1, 2}, {2, 2, 3}, {2, 4, 5}, {16, 4, 16}, {16, 16, 17}} {
		if got := goThreads(c.now, c.compute); got != c.want {
			t.Errorf("of %d, with %d that compute: %d, want %d", c.now, c.compute, got, c.want)
		}
	}
}
