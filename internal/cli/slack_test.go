//go:build linux

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// All threads of a command sleep with slack, those that Go's runtime starts before main included.
func TestThreadsSleepWithSlack(t *testing.T) {
	t.Setenv(relaxed, "") // and then away again, at the test's end
	os.Unsetenv(relaxed)
	runtime.LockOSThread() // a program has the slack of the thread that starts it, and the tests' threads have this already
	defer runtime.UnlockOSThread()
	had, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, 50_000, 0, 0, 0) != nil {
		t.Skipf("NOT RUN: the system has no slack of timers: %v", err)
	}
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(had), 0, 0, 0)
	p := start(t, nil, bin.worker, "--job", "none", "--nats", "nats://127.0.0.1:1", "--join-timeout", "30s")
	if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", p.cmd.Process.Pid)); os.IsPermission(err) {
		t.Skip("only root may see the slack of another process")
	}
	until(t, "slack of all threads", func() bool {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
		if err != nil || len(tasks) < 2 {
			return false
		}
		for _, task := range tasks {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%s/timerslack_ns", task.Name())); err != nil || string(b) != "1000000\n" {
				return false
			}
		}
		return true
	})
}

// A command starts itself anew once, whatever the environment says beforehand.
func TestStartedAnewOnce(t *testing.T) {
	for _, value := range []string{"", "1"} {
		c := exec.Command(bin.worker, "--version")
		c.Env = append(os.Environ(), relaxed+"="+value)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
		if err := c.Wait(); err != nil {
			t.Errorf("with VLARING_RELAXED=%q: %v", value, err)
		}
		late.Stop()
	}
}
