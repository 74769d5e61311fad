package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Chaos that is stopped leaves no process: neither in its undisturbed run, nor
// when a coordinator was killed and its workers live on.
func TestChaosLeavesNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signal os.Signal
		until  string // a file, of the directory, that has lines
		kinds  string
	}{
		"in the undisturbed run": {os.Interrupt, "calm/metrics.jsonl", "worker killed"},
		"coordinators killed":    {syscall.SIGTERM, "run-001.faults.jsonl", "coordinator killed"},
		"workers from elsewhere": {os.Interrupt, "run-001.faults.jsonl", "worker joined"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			steps := "1000000"
			if c.until != "calm/metrics.jsonl" {
				steps = "250"
			}
			p := start(t, nil, bin.coordinator, "chaos", "testdata/small.yaml", "--dir", dir, "--set", "checkpoint.every=100", "--set", "train.steps="+steps, "--set", "schedule.min_lr=null", "--workers", "2",
				"--pace", "100ms", "--kinds", c.kinds)
			until(t, "lines in "+c.until, func() bool { return lineCount(filepath.Join(dir, c.until)) > 0 })
			p.cmd.Process.Signal(c.signal)
			began := time.Now()
			code, _ := p.wait()
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if code != exitFailed || !strings.Contains(p.errText(), "stopped by a signal") || !strings.Contains(p.errText(), dir) {
				t.Errorf("exit code %d\n%s", code, p.errText())
			}
			if n := workersOf(t, dir); n > 0 {
				t.Errorf("%d workers live on", n)
			}
		})
	}
}

// Chaos that is killed leaves nobody either, those that it had frozen least of all.
func TestChaosKilledLeavesNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, nil, bin.coordinator, "chaos", "testdata/small.yaml", "--dir", dir, "--set", "train.steps=250", "--set", "checkpoint.every=100", "--set", "train.eval_every=0", "--set", "schedule.min_lr=null", "--workers", "2",
		"--pace", "100ms", "--kinds", "worker frozen", "--seed", "3")
	frozen := func() bool {
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range procs {
			if b, _ := os.ReadFile(path); strings.Contains(string(b), dir+"/run-001/rescue") {
				if s, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "stat")); strings.Contains(string(s), ") T ") {
					return true
				}
			}
		}
		return false
	}
	workersOf(t, dir) // or it is skipped
	until(t, "a frozen worker", frozen)
	p.cmd.Process.Kill()
	p.wait()
	until(t, "all are gone", func() bool { // the coordinator too, which would go on storing
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		return !slices.ContainsFunc(procs, func(path string) bool {
			b, _ := os.ReadFile(path)
			return strings.Contains(string(b), dir)
		})
	})
}
