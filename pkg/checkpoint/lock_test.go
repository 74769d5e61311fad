package checkpoint_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// TestMain lets the test binary stand in for another process: it locks the
// directory that the environment names and holds it until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CHECKPOINT_TEST_LOCK"); dir != "" {
		if _, err := checkpoint.LockRunDir(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		bufio.NewReader(os.Stdin).ReadByte() // until the parent is gone or kills
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	l, err := checkpoint.LockRunDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = checkpoint.LockRunDir(dir) // from the same process too
	var held *checkpoint.LockedError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("second lock: %v", err)
	}
	for range 2 {
		if err := l.Unlock(); err != nil {
			t.Errorf("Unlock: %v", err)
		}
	}
	if l, err = checkpoint.LockRunDir(dir); err != nil {
		t.Fatalf("after Unlock: %v", err)
	}
	l.Unlock()
	if _, err := checkpoint.LockRunDir(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// Another process's lock is named by its process id, and goes with it when it
// is killed without a chance to clean up.
func TestLockDiesWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHECKPOINT_TEST_LOCK="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = checkpoint.LockRunDir(dir)
	var held *checkpoint.LockedError
	if !errors.As(err, &held) || held.PID != cmd.Process.Pid || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d on ", cmd.Process.Pid)) {
		t.Errorf("while it runs: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // it reports the kill
	l, err := checkpoint.LockRunDir(dir)
	if err != nil {
		t.Fatalf("after it was killed: %v", err)
	}
	l.Unlock()
}
