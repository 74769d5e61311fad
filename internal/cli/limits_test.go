//go:build unix

package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// Sizes that cannot fit are refused in a sentence, before anything of the size
// is allocated: from a job file and from a manifest, in every command.
func TestSizesThatCannotFit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	small := []string{"--set", "train.steps=1", "--set", "checkpoint.every=1", "--set", "schedule.warmup_steps=0", "--set", "cluster.workers=1"}
	trainDone(t, "testdata/small.yaml", append(small, "--run-dir", run)...)
	step := filepath.Join(run, "checkpoints", checkpoint.DirName(1))
	step = claim(t, step, "d_model: 32", "d_model: 65536", "n_layers: 2", "n_layers: 1024")
	huge := func(set ...string) []string {
		args := append([]string{"train", "testdata/small.yaml", "--run-dir", filepath.Join(dir, "r"+fmt.Sprint(len(set), set[0]))}, small...)
		for _, s := range set {
			args = append(args, "--set", s)
		}
		return args
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"train":       {huge("model.d_model=65536", "model.n_layers=1024"), "model.d_model, model.n_layers"},
		"max_len":     {huge("model.d_model=65536", "model.max_len=1000000"), "model.max_len"},
		"batch.micro": {huge("model.d_model=2048", "model.n_layers=64", "model.image_size=64", "model.patch_size=4", "batch={global: 65536, micro: 65536}"), "batch.micro"},
		"eval":        {[]string{"eval", "--checkpoint", step}, "model.d_model"},
		"predict":     {[]string{"predict", "--checkpoint", step, "--inputs", "x", "--out", filepath.Join(dir, "y")}, "model.d_model"},
		"attention":   {[]string{"attention", "--checkpoint", step, "--input", "1 2"}, "model.d_model"},
		"teacher":     {huge("distill={teacher: " + step + "}"), "model.d_model"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, said := call(t, bin.coordinator, c.args...)
			if code != exitFailed || !strings.Contains(said, "of memory") || !strings.Contains(said, c.want) || strings.Count(said, "\n") > 1 {
				t.Errorf("exit code %d: %.2000s", code, said)
			}
		})
	}
}

// claim is the checkpoint in dir with a manifest that says something else of the job.
func claim(t *testing.T, dir string, fromTo ...string) string {
	t.Helper()
	m, err := checkpoint.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	config := string(m.Config)
	for i := 0; i < len(fromTo); i += 2 {
		if !strings.Contains(config, fromTo[i]) {
			t.Fatalf("the manifest's job has no %q:\n%s", fromTo[i], config)
		}
		config = strings.ReplaceAll(config, fromTo[i], fromTo[i+1])
	}
	store, err := checkpoint.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.Begin(m.Step)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		dst, err := w.Create(f.Name, f.Size)
		if err == nil {
			_, err = dst.Write(b)
		}
		if err == nil {
			err = dst.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	m.Config = checkpoint.Text(config)
	if err := w.Commit(m); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(store.Dir(), checkpoint.DirName(m.Step))
}

// crashEnv tells a child of TestCrashesAreNoUsageErrors how to crash.
const crashEnv = "VLARING_TEST_CRASH"

// A panic in a command, on any goroutine, and a fatal error of the runtime end
// with another code than a mistake in the job file.
func TestCrashesAreNoUsageErrors(t *testing.T) {
	t.Parallel()
	if way := os.Getenv(crashEnv); way != "" {
		c := &cobra.Command{Use: "crash", RunE: func(*cobra.Command, []string) error {
			switch way {
			case "command":
				panic("on purpose")
			case "goroutine":
				go panic("on purpose")
			case "fatal":
				new(sync.Mutex).Unlock() // fatal error: sync: unlock of unlocked mutex
			case "memory":
				for b := [][]byte{}; ; b = append(b, make([]byte, 1<<44)) {
					fmt.Fprint(os.Stderr, len(b))
				}
			}
			select {}
		}}
		os.Exit(Main(context.Background(), c, nil, os.Stdout, os.Stderr))
	}
	for way, want := range map[string]int{"command": exitFailed, "goroutine": exitCrash, "fatal": exitCrash, "memory": exitCrash} {
		var out bytes.Buffer
		c := exec.Command(os.Args[0], "-test.run=^TestCrashesAreNoUsageErrors$")
		c.Env = append(os.Environ(), crashEnv+"="+way)
		c.Stdout, c.Stderr = &out, &out
		c.Run()
		code := c.ProcessState.ExitCode()
		if st := c.ProcessState.Sys().(syscall.WaitStatus); st.Signaled() {
			code = 128 + int(st.Signal())
		}
		if code != want {
			t.Errorf("a crash by %s ends with %d, want %d:\n%.600s", way, code, want, out.String())
		}
	}
}
