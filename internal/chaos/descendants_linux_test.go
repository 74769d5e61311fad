package chaos

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/machine"
)

// sleeper starts a process that would outlive the test.
func sleeper(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "300")
	c.Env = env
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c
}

// All that bear a mark are ended, frozen ones too, and nobody else.
func TestMarkedAreKilled(t *testing.T) {
	frozen, other := sleeper(t, markEnv+"=1-abc"), sleeper(t, markEnv+"=1-abcd")
	syscall.Kill(frozen.Process.Pid, syscall.SIGSTOP)
	Guard(strings.NewReader("whoever holds this is gone at once"), "1-abc")
	if err := frozen.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the marked one ended with %v", err)
	}
	if !machine.Running(other.Process.Pid) {
		t.Error("one of another mark was ended")
	}
}

// Children and what they have left behind are ended, but for the one that is named.
func TestDescendantsAreKilled(t *testing.T) {
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	guard := sleeper(t)
	out, err := exec.Command("sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!").Output() // sh is gone, its child ours
	if err != nil {
		t.Fatal(err)
	}
	var orphan int
	for _, r := range strings.TrimSpace(string(out)) {
		orphan = 10*orphan + int(r-'0')
	}
	child := exec.Command("sleep", "300")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killDescendants(guard.Process.Pid)
	for end := time.Now().Add(5 * time.Second); machine.Running(orphan) || machine.Running(child.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("orphan alive: %v, child alive: %v", machine.Running(orphan), machine.Running(child.Process.Pid))
		}
	}
	if !machine.Running(guard.Process.Pid) {
		t.Error("the one that is to stay was ended")
	}
}
