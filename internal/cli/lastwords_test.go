package cli

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/run"
)

// endless are the arguments of a run that goes on until it is stopped.
func endless(dir string, more ...string) []string {
	return append([]string{"train", "testdata/small.yaml", "--run-dir", dir, "--set", "train.steps=300000", "--set", "schedule.min_lr=null", "--workers", "1", "--threads", "1"}, more...)
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// lineCount is the number of whole lines of a file.
func lineCount(path string) int {
	b, _ := os.ReadFile(path)
	return strings.Count(string(b), "\n")
}

// workersOf are the processes whose command line names a run directory's rescue.
func workersOf(t *testing.T, dir string) (n int) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(procs) == 0 {
		t.Skip("no /proc here: the workers' processes cannot be seen")
	}
	for _, p := range procs {
		if b, _ := os.ReadFile(p); strings.Contains(string(b), dir+"/rescue") {
			n++
		}
	}
	return n
}

// A hang-up and an output that nobody reads end a run as SIGTERM does: with a
// checkpoint of the last committed step, the workers gone, and exit code 3.
func TestClosedTerminalAndClosedPipeEndARun(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *proc){
		"SIGHUP": func(p *proc) { p.cmd.Process.Signal(syscall.SIGHUP) },
		"SIGHUP again": func(p *proc) { // the kernel, then the shell
			p.cmd.Process.Signal(syscall.SIGHUP)
			p.cmd.Process.Signal(syscall.SIGHUP)
		},
		"pipe": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			metrics := filepath.Join(dir, "metrics.jsonl")
			var code int
			if end != nil {
				p := start(t, nil, bin.coordinator, endless(dir, "--json")...)
				p.event("step")
				end(p)
				code, _ = p.wait()
			} else {
				cmd := exec.Command(bin.coordinator, endless(dir, "--json")...)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { cmd.Process.Kill() })
				until(t, "a step", func() bool { return lineCount(metrics) > 0 })
				out.Close() // as head does
				cmd.Wait()
				code = cmd.ProcessState.ExitCode()
			}
			if code != exitResume {
				t.Errorf("exit code %d, want %d", code, exitResume)
			}
			found, err := checkpoint.LatestGood(filepath.Join(dir, "checkpoints"))
			if err != nil || int(found.Manifest.Step) != lineCount(metrics) {
				t.Errorf("the newest checkpoint is of step %d, %d were committed (%v)", found.Manifest.Step, lineCount(metrics), err)
			}
			if n := workersOf(t, dir); n > 0 {
				t.Errorf("%d workers live on", n)
			}
			if o, err := run.ReadOrigin(dir); err != nil || o.State != "stopped" || o.Step != found.Manifest.Step {
				t.Errorf("run.json says %+v (%v), want stopped at step %d", o, err, found.Manifest.Step)
			}
		})
	}
}

// What a stopped run prints last is a command that a shell takes, and that goes
// on with the flags that were given; status and stop say that it has ended.
func TestResumeHintAndStatusOfAnEndedRun(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	jobFile := filepath.Join(base, "my job.yaml")
	b, err := os.ReadFile("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(jobFile, b, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "my run")
	p := start(t, nil, bin.coordinator, "train", jobFile, "--run-dir", dir, "--set", "train.steps=300000", "--set", "schedule.min_lr=null", "--workers", "1", "--threads", "1", "--log-format", "json")
	until(t, "a step", func() bool { return lineCount(filepath.Join(dir, "metrics.jsonl")) > 4 })
	p.cmd.Process.Signal(os.Interrupt)
	if code, _ := p.wait(); code != exitResume {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	lines := strings.Split(strings.TrimSpace(p.errText()), "\n")
	hint, ok := strings.CutPrefix(lines[len(lines)-1], "resume with: coordinator ")
	if !ok {
		t.Fatalf("the last line is %q", lines[len(lines)-1])
	}
	again := exec.Command("sh", "-c", bin.coordinator+" "+hint+" --set train.steps=3")
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "nothing to do") {
		t.Errorf("%s: %v\n%s", hint, err, out)
	}
	for _, what := range []string{"--threads 1", "--workers 1", "--log-format json", "--set train.steps=300000"} {
		if !strings.Contains(hint, what) {
			t.Errorf("the hint lacks %s: %s", what, hint)
		}
	}

	code, out, stderr := call(t, bin.coordinator, "status", dir)
	if code != exitDone || !strings.Contains(out, "has ended: stopped at step ") {
		t.Errorf("status: exit code %d, %q, %q", code, out, stderr)
	}
	code, out, _ = call(t, bin.coordinator, "stop", dir, "--json")
	var o struct {
		Phase, Outcome string
		Step           int
	}
	if err := json.Unmarshal([]byte(out), &o); code != exitDone || err != nil || o.Phase != "ended" || o.Outcome != "stopped" || o.Step == 0 {
		t.Errorf("stop: exit code %d, %q (%v)", code, out, err)
	}
	if code, _, stderr := call(t, bin.coordinator, "scale", "3", dir); code != exitFailed || !strings.Contains(stderr, "has ended") {
		t.Errorf("scale: exit code %d, %q", code, stderr)
	}
	if code, _, stderr := call(t, bin.coordinator, "status", base); code != exitUsage || !strings.Contains(stderr, "is not the directory of a run") {
		t.Errorf("status of another directory: exit code %d, %q", code, stderr)
	}
}

// A coordinator that was killed is told from one that cannot be reached.
func TestStatusOfADeadCoordinator(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, endless(dir, "--json", "--set", "cluster.orphan_timeout=1s", "--set", "cluster.deadline=1s")...)
	p.event("step")
	p.cmd.Process.Kill()
	p.wait()
	code, _, stderr := call(t, bin.coordinator, "status", dir, "--timeout", "1s")
	if code != exitFailed || !strings.Contains(stderr, "has died") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	until(t, "no worker", func() bool { return workersOf(t, dir) == 0 })
}

// A resume that has nothing to do says so as JSON too, and which keys had no effect.
func TestNothingToDo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	sum := trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--workers", "1", "--set", "train.steps=2", "--set", "schedule.warmup_steps=0")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir, "--workers", "1", "--set", "train.steps=1", "--set", "schedule.warmup_steps=0", "--set", "checkpoint.keep=7", "--resume", "--json")
	end := p.event("end")
	if code, _ := p.wait(); code != exitDone {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
	var keys []string
	for _, k := range end["ignored"].([]any) {
		keys = append(keys, k.(string))
	}
	if end["outcome"] != "nothing to do" || end["step"] != 2.0 || end["model_sha256"] != sum || strings.Join(keys, " ") != "train.steps checkpoint.keep" {
		t.Errorf("the end is %v", end)
	}
	_, _, stderr := call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir, "--workers", "1", "--set", "train.steps=1", "--set", "schedule.warmup_steps=0", "--resume")
	if !strings.Contains(stderr, "nothing to do") || !strings.Contains(stderr, "without effect: train.steps") {
		t.Errorf("it says %q", stderr)
	}
}

// A resumed run does not keep the files of its first checkpoint open once that
// is removed.
func TestRemovedCheckpointsAreClosed(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("no /proc here: open files cannot be seen")
	}
	dir := filepath.Join(t.TempDir(), "run")
	args := endless(dir, "--json", "--set", "checkpoint.every=5", "--set", "checkpoint.keep=1")
	p := start(t, nil, bin.coordinator, args...)
	p.event("step")
	p.cmd.Process.Signal(os.Interrupt)
	if code, _ := p.wait(); code != exitResume {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	first := stepsIn(t, dir)[0]
	p = start(t, nil, bin.coordinator, append(args, "--resume")...)
	p.event("step")
	go func() { // so that it goes on
		for p.stdout.Scan() {
		}
	}()
	until(t, "the first checkpoint is removed", func() bool {
		l, err := checkpoint.List(filepath.Join(dir, "checkpoints"))
		return err == nil && len(l) > 0 && l[0].Step > first+10
	})
	fds, err := filepath.Glob("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd/*")
	if err != nil || len(fds) == 0 {
		t.Fatalf("no open files: %v", err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); strings.Contains(to, "(deleted)") && strings.Contains(to, checkpoint.DirName(first)) {
			t.Errorf("it holds %s open", to)
		}
	}
	p.cmd.Process.Signal(os.Interrupt)
	p.cmd.Wait()
}

// A second Ctrl-C ends a run at once: it says what there is to go on from, and
// the next start does not look for workers that were ended with it.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, endless(dir, "--json", "--set", "checkpoint.every=5")...)
	p.event("step")
	until(t, "a checkpoint", func() bool {
		_, err := checkpoint.LatestGood(filepath.Join(dir, "checkpoints"))
		return err == nil
	})
	worker := workersOf(t, dir)
	if worker != 1 {
		t.Fatalf("%d workers", worker)
	}
	stopWorkers(t, dir, syscall.SIGSTOP) // so that the step in progress does not end
	p.cmd.Process.Signal(os.Interrupt)
	until(t, "the first is heard", func() bool { return strings.Contains(p.errText(), "stopping after this step") })
	p.cmd.Process.Signal(os.Interrupt)
	code, _ := p.wait()
	lines := strings.Split(strings.TrimSpace(p.errText()), "\n")
	if code != exitFailed || !strings.HasPrefix(lines[len(lines)-1], "resume with: coordinator train ") || !strings.HasPrefix(lines[len(lines)-2], "coordinator: ended at once by a second Ctrl-C; the newest checkpoint is of step ") {
		t.Errorf("exit code %d, the last lines are\n%s", code, strings.Join(lines[max(0, len(lines)-3):], "\n"))
	}
	if o, err := run.ReadOrigin(dir); err != nil || o.State != run.StateAbandoned {
		t.Errorf("run.json says %+v (%v)", o, err)
	}
	if n := workersOf(t, dir); n > 0 {
		t.Errorf("%d workers live on", n)
	}
}

// stopWorkers sends a signal to the workers of a run directory.
func stopWorkers(t *testing.T, dir string, s syscall.Signal) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if b, _ := os.ReadFile(p); strings.Contains(string(b), dir+"/rescue") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			syscall.Kill(pid, s)
		}
	}
}

// A worker that cannot keep its state says that it is lost, and what to give it.
func TestRescueThatFailsNamesTheFlag(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "0", "--listen", freeAddress(t), "--set", "cluster.workers=1",
		"--set", "train.steps=300000", "--set", "schedule.min_lr=null", "--set", "cluster.deadline=1s", "--set", "cluster.orphan_timeout=1s")
	url, _ := p.event("waiting")["url"].(string)
	w := start(t, nil, bin.worker, "--nats", url, "--job", "small", "--token-file", filepath.Join(dir, "token"), "--threads", "1", "--rescue-dir", "/dev/null/rescue")
	p.event("step")
	p.cmd.Process.Kill()
	p.wait()
	code, _ := w.wait()
	lines := strings.Split(strings.TrimSpace(w.errText()), "\n")
	if code != exitFailed || !strings.HasPrefix(lines[len(lines)-1], "give --rescue-dir ") || !strings.Contains(lines[len(lines)-2], " is lost, for it could not be kept: ") {
		t.Errorf("exit code %d, the last lines are\n%s", code, strings.Join(lines[max(0, len(lines)-3):], "\n"))
	}
}

// freeAddress is one of loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Under nohup a closed terminal changes nothing.
func TestHangUpUnderNohup(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, "sh", append([]string{"-c", `trap '' HUP; exec "$@"`, "sh", bin.coordinator}, endless(dir)...)...)
	metrics := filepath.Join(dir, run.MetricsFile)
	until(t, "a step", func() bool { return lineCount(metrics) > 0 })
	p.cmd.Process.Signal(syscall.SIGHUP)
	n := lineCount(metrics)
	until(t, "more steps", func() bool { return lineCount(metrics) > n+20 })
	p.cmd.Process.Signal(syscall.SIGTERM)
	if code, _ := p.wait(); code != exitResume || !strings.Contains(p.errText(), "stopped by SIGTERM at step ") {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
}
