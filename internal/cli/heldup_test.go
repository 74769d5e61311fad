package cli

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// metricSteps are the steps of a run's metrics.
func metricSteps(t *testing.T, dir string) (l []uint64) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var m struct {
			Step uint64 `json:"step"`
		}
		if json.Unmarshal(sc.Bytes(), &m) == nil { // else the line is being written
			l = append(l, m.Step)
		}
	}
	return l
}

// lostLines are the log's lines of lost workers.
func lostLines(log string) (l []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "lost worker") && !strings.Contains(line, "it left") {
			l = append(l, line)
		}
	}
	return l
}

// A coordinator that is stopped for three deadlines, and then for longer than
// its pipe holds steps has a reader who does not read, loses nobody: training
// and its metrics go on, and what scripts wait for comes once they read.
func TestCoordinatorHeldUp(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir, "--json", "--workers", "3",
		"--set", "train.steps=1000000", "--set", "schedule.min_lr=null", "--set", "checkpoint.every=0", "--set", "cluster.heartbeat=100ms", "--set", "cluster.deadline=1s")
	p.event("step")
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	least := 500 // 64 KiB hold some 200 steps
	if c, err := p.pipe.(*os.File).SyscallConn(); err == nil {
		c.Control(func(fd uintptr) {
			if n, _, _ := syscall.Syscall(syscall.SYS_FCNTL, fd, 1031, 4096); n == 4096 { // F_SETPIPE_SZ of Linux: and this some dozen
				least = 100
			}
		})
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	began := len(metricSteps(t, dir))
	for end := time.Now().Add(90 * time.Second); len(metricSteps(t, dir)) < began+least; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("training has stopped since nobody reads: %d steps then, %d now\n%s", began, len(metricSteps(t, dir)), p.errText())
		}
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.event("end")
	if code, _ := p.wait(); code != 3 {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
	if l := lostLines(p.errText()); len(l) > 0 {
		t.Errorf("nobody had died:\n%s\nin\n%s", strings.Join(l, ""), p.errText())
	}
	if !strings.Contains(p.errText(), "this coordinator was held up for ") {
		t.Errorf("it does not say that it was held up:\n%s", p.errText())
	}
	for i, step := range metricSteps(t, dir) {
		if step != uint64(i+1) {
			t.Fatalf("line %d of the metrics is of step %d", i+1, step)
		}
	}
}
