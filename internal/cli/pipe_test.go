//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// A named pipe in the place of a file is refused by name at once: opening it
// would wait for ever for somebody who writes to it.
func TestNamedPipes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	pipe := func(path string) string {
		t.Helper()
		os.Remove(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	job := []string{"testdata/small.yaml", "--workers", "1", "--set", "train.steps=3", "--set", "checkpoint.every=3"}
	trainDone(t, job[0], append(job[1:], "--run-dir", at("run"))...)
	step := at("run", "checkpoints", checkpoint.DirName(3))
	model := pipe(filepath.Join(step, "model.safetensors"))
	pipe(at("data", "manifest.jsonl"))
	train := func(args ...string) []string { return append(append([]string{"train"}, job...), args...) }
	for name, c := range map[string]struct {
		args []string
		path string // that the message names
	}{
		"job file":      {[]string{"train", pipe(at("job.yaml"))}, at("job.yaml")},
		"verify":        {[]string{"checkpoint", "verify", step}, "model.safetensors"},
		"eval":          {[]string{"eval", "--checkpoint", step}, "model.safetensors"},
		"predict":       {[]string{"predict", "--checkpoint", step, "--inputs", "x", "--out", at("y")}, "model.safetensors"},
		"resume":        {train("--run-dir", at("run"), "--resume", "--set", "train.steps=6"), "model.safetensors"},
		"first weights": {train("--run-dir", at("r1"), "--set", "init="+model), model},
		"data file":     {[]string{"data", "check", model}, model},
		"folder's list": {[]string{"data", "info", at("data")}, "manifest.jsonl"},
		"token":         {train("--run-dir", at("r3"), "--nats", "nats://127.0.0.1:1", "--token-file", pipe(at("token"))), at("token")},
		"authority":     {train("--run-dir", at("r4"), "--nats", "tls://127.0.0.1:1", "--tls-ca", pipe(at("ca"))), at("ca")},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, nil, bin.coordinator, c.args...)
			late := time.AfterFunc(time.Minute, func() { p.cmd.Process.Kill() }) // it hangs
			code, _ := p.wait()
			late.Stop()
			if said := p.errText(); code != exitFailed && code != exitUsage || !strings.Contains(said, c.path) || !strings.Contains(said, "named pipe") && !strings.Contains(said, "regular file") {
				t.Errorf("exit code %d: %s", code, said)
			}
		})
	}
}
