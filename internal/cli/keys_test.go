package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A whole run with a key for each: workers by theirs, a watcher who may look and not
// stop, an operator who may stop; and what was typed wrongly is said.
func TestRunWithKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	code, out, said := call(t, bin.coordinator, "keys", "small", "worker:w0..w1", "watcher:eve", "operator:ops", "--for", "1h", "--dir", keys)
	if code != 0 || !strings.Contains(out, "worker-w1.key") || !strings.Contains(out, "good until") {
		t.Fatalf("exit code %d: %s%s", code, out, said)
	}
	address := fmt.Sprint("127.0.0.1:", ownPort(t))
	url, run := "nats://"+address, filepath.Join(dir, "run")
	p := start(t, nil, bin.coordinator, long(run, "--workers", "0", "--set", "cluster.workers=2", "--set", "cluster.deadline=60s", "--listen", address, "--token-file", filepath.Join(keys, "token"))...)
	p.event("waiting")
	as := func(key string) []string {
		return []string{"--nats", url, "--job", "small", "--token-file", filepath.Join(keys, key)}
	}
	var workers []*proc
	for i := range 2 {
		workers = append(workers, start(t, nil, bin.worker, append(as(fmt.Sprintf("worker-w%d.key", i)), "--threads", "1", "--rescue-dir", dir)...))
	}
	p.event("step")
	free := held(t, workers[0].cmd.Process.Pid, workers[1].cmd.Process.Pid)
	code, out, said = call(t, bin.coordinator, append([]string{"status"}, as("watcher-eve.key")...)...)
	if code != 0 || !strings.Contains(out, "w0") || !strings.Contains(out, "w1") {
		t.Errorf("a watcher's status: exit code %d: %s%s", code, out, said)
	}
	if code, _, said := call(t, bin.coordinator, "keys", "small", "worker:w7", "--for", "1s", "--dir", keys); code != 0 {
		t.Fatal(said)
	}
	time.Sleep(2 * time.Second)
	for what, c := range map[string]struct {
		program string
		args    []string
		code    int
		want    string
	}{
		"a watcher stops":         {bin.coordinator, append([]string{"stop", "--timeout", "3s"}, as("watcher-eve.key")...), exitFailed, `the key of watcher "eve" is not for that`},
		"a worker asks":           {bin.coordinator, append([]string{"status"}, as("worker-w0.key")...), exitFailed, "this is the key of a worker, who may not ask for the job"},
		"a worker as another":     {bin.worker, append(as("worker-w0.key"), "--id", "w9"), exitFailed, `this is the key of worker "w0", and nobody else's`},
		"a watcher works":         {bin.worker, append(as("watcher-eve.key"), "--id", "w9"), exitFailed, `this is the key of watcher "eve", who may ask and takes no part in the job`},
		"a key that is over":      {bin.worker, as("worker-w7.key"), exitFailed, "this key of worker w7 was good until"},
		"another job":             {bin.worker, []string{"--nats", url, "--job", "large", "--token-file", filepath.Join(keys, "worker-w0.key")}, exitFailed, `this key is for job "small", and not for "large"`},
		"a key for a coordinator": {bin.coordinator, []string{"train", "testdata/small.yaml", "--run-dir", filepath.Join(dir, "r2"), "--token-file", filepath.Join(keys, "worker-w0.key")}, exitUsage, "the coordinator's own server is given the token that the keys were made from"},
	} {
		code, out, said := call(t, c.program, c.args...)
		if code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit code %d, want %d with %q: %s%s", what, code, c.code, c.want, out, said)
		}
	}
	broken := filepath.Join(keys, "broken.key")
	if err := os.WriteFile(broken, []byte("vlaring-key 1 job=small role=worker\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, said := call(t, bin.worker, append(as("broken.key"), "--id", "w9")...); code != exitUsage || !strings.Contains(said, "this key cannot be read") {
		t.Errorf("a broken key: exit code %d: %s", code, said)
	}
	free()
	code, out, said = call(t, bin.coordinator, "keys", "small", "worker:w1", "--revoke", "--dir", keys)
	if code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, said)
	}
	free = held(t, workers[0].cmd.Process.Pid)
	code, _ = workers[1].wait() // by itself, long before cluster.orphan_timeout
	free()
	for {
		if m := p.event("step"); m["world"].(float64) == 1 {
			break
		}
	}
	free = held(t, workers[0].cmd.Process.Pid)
	last := lastLines(workers[1], 1)
	if code != exitFailed || !strings.HasPrefix(last, "worker: NATS server at "+url+": the server refuses these credentials: the key of worker w1 may have been revoked") ||
		!strings.Contains(last, "; the state of step ") || strings.Contains(workers[1].errText(), "ERROR") ||
		strings.Count(workers[1].errText(), "reconnecting") > 3 {
		t.Errorf("a worker whose key was revoked ended with exit code %d:\n%s", code, workers[1].errText())
	}
	if code, _, said := call(t, bin.worker, append(as("worker-w1.key"), "--threads", "1")...); code != exitFailed || !strings.Contains(said, "the server refuses these credentials") {
		t.Errorf("started again: exit code %d: %s", code, said)
	}
	free()
	if code, out, said := call(t, bin.coordinator, append([]string{"stop"}, as("operator-ops.key")...)...); code != 0 {
		t.Errorf("an operator's stop: exit code %d: %s%s", code, out, said)
	}
	if end := p.event("end"); end["outcome"] != "stopped" {
		t.Errorf("it ended with %v", end)
	}
	workers[0].cmd.Process.Kill()
	workers[0].wait()
}
