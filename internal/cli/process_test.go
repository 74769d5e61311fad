package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/access"
	"github.com/vlaring/vlaring/internal/process"
	"github.com/vlaring/vlaring/pkg/objects/s3test"
)

// The tests of this package run the real program, in processes of its own. TestMain
// gives the test's own binary the names of both commands: under either it does what that
// command's main does. That one is linked already; the two would be linked anew each time.
// What cmd/ builds is run by tools/release's test and by .ci/run.
var bin struct{ coordinator, worker string }

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "coordinator":
		process.RelaxTimers()
		os.Exit(Main(context.Background(), NewCoordinator(), os.Args[1:], os.Stdout, os.Stderr))
	case "worker":
		process.RelaxTimers()
		os.Exit(Main(context.Background(), NewWorker(), os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv(crashEnv) != "" { // a child, which is to crash and starts nothing
		os.Exit(m.Run())
	}
	process.RelaxTimers() // its commands have these timers from it
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(self), "vlaring") // go removes that folder even where these tests are killed
	if err != nil {
		panic(err)
	}
	bin.coordinator, bin.worker = filepath.Join(dir, "coordinator"), filepath.Join(dir, "worker")
	for _, name := range []string{bin.coordinator, bin.worker} {
		if err := named(name); err != nil {
			fmt.Fprintf(os.Stderr, "naming the commands: %v\n", err)
			os.Exit(1)
		}
	}
	os.Setenv(relaxed, "1")                                  // where it could not: a command that starts itself anew takes twice as long to start, a thousand times
	os.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache")) // what is kept of data sets is not the user's
	for k, v := range s3test.Env("") {
		os.Setenv(k, v)
	}
	if os.Getenv("GOGC") == "" {
		os.Setenv("GOGC", "400") // a heap of some MiB is collected all the time otherwise: a sixth of what these commands compute
	}
	flag.Parse()
	atOnce := 2 * runtime.GOMAXPROCS(0) // these tests wait for half of their time
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "test.parallel" {
			atOnce = 0
		}
	})
	if atOnce > 0 {
		flag.Set("test.parallel", strconv.Itoa(atOnce))
	}
	// Under nohup a hang-up is ignored, and so it would be by every program that
	// is started here: with a handler it has its own effect there again.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// relaxed is what a command has in its environment once it has started itself anew, for
// its timers' sake. Only the tests of that go without.
const relaxed = "VLARING_RELAXED"

// named gives this program one more name: a link, or a copy where its disk is another.
// A symbolic link would not do, since os.Executable names what it leads to.
func named(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if os.Link(self, path) == nil {
		return nil
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o755)
}

// environ has the commands that a test starts find these variables, in place of the
// test's own process: unlike t.Setenv a parallel test may call it.
func environ(t *testing.T, env ...string) {
	t.Helper()
	l, _ := environs.Load(t.Name())
	before, _ := l.([]string)
	environs.Store(t.Name(), append(before, env...))
	t.Cleanup(func() { environs.Delete(t.Name()) })
}

// environs are the variables by the name of the test.
var environs sync.Map

// s3 is a store with a bucket, which the test's commands find where they are given no
// other. An address with ?endpoint= leads this process to it.
func s3(t *testing.T, bucket string) *s3test.Server {
	t.Helper()
	s := s3test.Serve(t, []string{bucket})
	environ(t, "AWS_ENDPOINT_URL="+s.Endpoint)
	return s
}

// proc is a running command.
type proc struct {
	t      *testing.T
	cmd    *exec.Cmd
	pipe   io.Reader // its standard output; an *os.File
	stdout *bufio.Scanner
	mu     sync.Mutex
	stderr bytes.Buffer
	done   chan struct{} // closed once it has ended
}

// start runs a command. Its standard output is read by the test, line by line
// or to the end by wait.
func start(t *testing.T, env []string, path string, args ...string) *proc {
	t.Helper()
	p := &proc{t: t, cmd: exec.Command(path, args...), done: make(chan struct{})}
	of, _, _ := strings.Cut(t.Name(), "/")
	l, _ := environs.Load(of)
	more, _ := l.([]string)
	p.cmd.Env = append(append(access.Without(os.Environ(), tokenEnv), more...), env...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.pipe, p.stdout = out, bufio.NewScanner(out)
	p.stdout.Buffer(nil, 1<<24)
	p.cmd.Stderr = lockedWriter{p}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(3*time.Minute, func() { p.cmd.Process.Kill() }) // a hang must end the test, not the CI
	t.Cleanup(func() {
		kill.Stop()
		p.cmd.Process.Kill()
	})
	return p
}

type lockedWriter struct{ p *proc }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.stderr.Write(b)
}

func (p *proc) errText() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// event reads standard output up to an event of this kind. In JSON mode every
// line is an object with an "event".
func (p *proc) event(kind string) map[string]any {
	p.t.Helper()
	for p.stdout.Scan() {
		var m map[string]any
		if err := json.Unmarshal(p.stdout.Bytes(), &m); err != nil {
			p.t.Fatalf("standard output has a line that is not JSON: %q", p.stdout.Text())
		}
		if m["event"] == kind {
			return m
		}
	}
	p.t.Fatalf("the process ended without an event %q; standard error:\n%s", kind, p.errText())
	return nil
}

// wait reads the rest of standard output and returns the exit code.
func (p *proc) wait() (code int, out string) {
	p.t.Helper()
	var b strings.Builder
	for p.stdout.Scan() {
		b.WriteString(p.stdout.Text() + "\n")
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if st := exit.Sys().(syscall.WaitStatus); st.Signaled() {
			return 128 + int(st.Signal()), b.String()
		}
		return exit.ExitCode(), b.String()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return 0, b.String()
}

// held stops processes until free is called, which says that the test waits for something
// else meanwhile: a job that goes on takes all cores. Its deadline is to be a long one.
func held(t *testing.T, pids ...int) (free func()) {
	t.Helper()
	signal := func(s syscall.Signal) {
		for _, pid := range pids {
			if err := syscall.Kill(pid, s); err != nil && s == syscall.SIGSTOP {
				t.Fatal(err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { // one that is stopped would outlive all others
		if t.Failed() {
			signal(syscall.SIGCONT)
		}
	})
	return func() { signal(syscall.SIGCONT) }
}

// call runs a command to its end.
func call(t *testing.T, path string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, nil, path, args...)
	code, stdout = p.wait()
	return code, stdout, p.errText()
}

// undisturbed is the SHA-256 of the weights that testdata/small.yaml with these
// settings ends with when one worker trains it on one thread and nobody disturbs it.
// Tests that disturb runs compare with it; those of the same settings share one run.
func undisturbed(t *testing.T, set ...string) string {
	t.Helper()
	run := func() (string, error) {
		dir, err := os.MkdirTemp(filepath.Dir(bin.coordinator), "undisturbed")
		if err != nil {
			return "", err
		}
		args := []string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "1", "--threads", "1", "--set", "checkpoint.every=0"} // 50 checkpoints take as long as 250 steps
		for _, s := range set {
			args = append(args, "--set", s)
		}
		c := exec.Command(bin.coordinator, args...)
		c.Env = access.Without(os.Environ(), tokenEnv)
		var errText bytes.Buffer
		c.Stderr = &errText
		out, err := c.Output()
		if err != nil {
			return "", fmt.Errorf("train %v: %w\n%s", args, err, &errText)
		}
		for line := range bytes.Lines(out) {
			var e struct{ Event, Model_sha256 string }
			if json.Unmarshal(line, &e) == nil && e.Event == "end" {
				return e.Model_sha256, nil
			}
		}
		return "", fmt.Errorf("train %v has no end:\n%s", args, out)
	}
	once, _ := shared.LoadOrStore(strings.Join(set, " "), sync.OnceValues(run))
	sum, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// shared are the runs of undisturbed, by their settings.
var shared sync.Map

// trainDone trains a job to its end and returns the SHA-256 of its weights.
func trainDone(t *testing.T, jobFile string, args ...string) string {
	t.Helper()
	p := start(t, nil, bin.coordinator, append([]string{"train", jobFile, "--json"}, args...)...)
	end := p.event("end")
	if code, _ := p.wait(); code != 0 {
		t.Fatalf("train %v: exit code %d\n%s", args, code, p.errText())
	}
	return end["model_sha256"].(string)
}
