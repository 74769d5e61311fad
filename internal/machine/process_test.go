package machine

import (
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// A process that has ended does not run, though its parent has not asked yet.
func TestRunning(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !Running(cmd.Process.Pid) {
		t.Error("a process that sleeps does not run")
	}
	cmd.Process.Kill()
	if runtime.GOOS == "linux" {
		for end := time.Now().Add(30 * time.Second); Running(cmd.Process.Pid); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal("a process that was killed runs")
			}
		}
	}
	cmd.Wait()
	if Running(cmd.Process.Pid) {
		t.Error("a process that is gone runs")
	}
}
