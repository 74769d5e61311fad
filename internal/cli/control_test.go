package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vlaring/vlaring/pkg/run"
)

// long is a job that ends only when it is told to.
func long(dir string, args ...string) []string {
	return append([]string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--set", "train.steps=1000000", "--set", "checkpoint.every=0"}, args...)
}

// A running job answers for itself, changes its size when it is asked to, and
// stops when it is told to: with a checkpoint of the last step.
func TestStatusScaleStop(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, long(dir, "--workers", "2")...)
	p.event("step")
	status := func(args ...string) (s run.Status) {
		t.Helper()
		code, stdout, stderr := call(t, bin.coordinator, append(args, dir, "--json")...)
		if code != 0 {
			t.Fatalf("%v: exit code %d\n%s", args, code, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &s); err != nil {
			t.Fatalf("%v: %v: %q", args, err, stdout)
		}
		return s
	}
	s := status("status")
	if s.Job != "small" || s.Phase != "running" || s.Step < 1 || s.Steps != 1000000 || len(s.Workers) != 2 || s.Workers[1].Rank != 1 || s.Workers[0].PID == 0 {
		t.Errorf("status %+v", s)
	}
	world := func(n int) {
		t.Helper()
		for {
			if m := p.event("step"); m["world"].(float64) == float64(n) {
				return
			}
		}
	}
	status("scale", "4")
	world(4)
	status("scale", "1")
	world(1)
	if code, stdout, _ := call(t, bin.coordinator, "status", dir); code != 0 || !strings.Contains(stdout, "RANK") || !strings.Contains(stdout, "small: running, step") {
		t.Errorf("status for people: exit code %d\n%s", code, stdout)
	}
	status("stop")
	end := p.event("end")
	if code, _ := p.wait(); code != exitResume || end["outcome"] != "stopped" || end["model_sha256"] == nil {
		t.Errorf("exit code %d, %v\n%s", code, end, p.errText())
	}
	if !strings.Contains(p.errText(), "--resume") {
		t.Errorf("nothing says how to resume:\n%s", p.errText())
	}
}

// The first line of a status says nothing of a loss and of a checkpoint that are not there yet.
func TestStatusText(t *testing.T) {
	s := run.Status{Job: "j", Phase: "gathering", Steps: 9, ETA: "-"}
	for _, want := range []string{
		"j: gathering, step 0 of 9, no loss yet, no checkpoint yet, generation 0, eta -\n",
		"j: running, step 4 of 9, loss 0.50000, 8.0 samples/s, checkpoint at step 3, generation 2, eta 5s\n",
		"j: running, step 4 of 9, no update, 8.0 samples/s, checkpoint at step 3, generation 2, eta 5s\n",
	} {
		var out strings.Builder
		out.WriteString(s.Text())
		if line, _, _ := strings.Cut(out.String(), "RANK"); line != want {
			t.Errorf("%q, want %q", line, want)
		}
		if s.Loss > 0 {
			s.Refused = "not finite"
		}
		s.Phase, s.Step, s.Loss, s.SamplesSec, s.Stored, s.Generation, s.ETA = "running", 4, 0.5, 8, 3, 2, "5s"
	}
}

func TestControlRefuses(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no job":          {[]string{"status"}, exitUsage, "run directory"},
		"no run":          {[]string{"status", empty}, exitUsage, empty},
		"no number":       {[]string{"scale", "many", empty}, exitUsage, "many"},
		"no arguments":    {[]string{"presets", "low"}, exitUsage, `coordinator presets takes no arguments, and got ["low"]`},
		"swapped":         {[]string{"scale", empty, "3"}, exitUsage, "scale wants the number of workers first: coordinator scale 3 " + empty},
		"too few":         {[]string{"scale", "0", empty}, exitUsage, "1 to 4096"},
		"no server":       {[]string{"stop", "--nats", "nats://127.0.0.1:1", "--job", "x", "--timeout", "1s"}, exitFailed, "127.0.0.1:1"},
		"unknown fault":   {[]string{"chaos", "testdata/small.yaml", "--kinds", "earthquake"}, exitUsage, "earthquake"},
		"chaos of no job": {[]string{"chaos", filepath.Join(empty, "none.yaml")}, exitUsage, "none.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := call(t, bin.coordinator, c.args...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want %d with %q in the message:\n%s", code, c.code, c.want, stderr)
			}
		})
	}
}

// A worker from elsewhere is in at a step boundary, and may go again.
func TestWorkerJoinsAndLeaves(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, long(dir, "--workers", "1")...)
	p.event("step")
	a, err := run.ReadAddress(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, []string{tokenEnv + "=" + a.Token}, bin.worker, "--nats", a.URL, "--job", "small", "--id", "guest")
	for p.event("step")["world"].(float64) != 2 {
	}
	w.cmd.Process.Signal(os.Interrupt)
	if code, _ := w.wait(); code != exitResume { // an Indexed Job must not count it complete
		t.Errorf("the worker's exit code is %d, want %d\n%s", code, exitResume, w.errText())
	}
	for p.event("step")["world"].(float64) != 1 {
	}
	call(t, bin.coordinator, "stop", dir)
	if code, _ := p.wait(); code != exitResume {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
}

// One run directory and one name have one coordinator.
func TestSecondCoordinator(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, long(dir, "--workers", "1")...)
	p.event("step")
	a, err := run.ReadAddress(dir)
	if err != nil {
		t.Fatal(err)
	}
	q := start(t, []string{tokenEnv + "=" + a.Token}, bin.coordinator, long(filepath.Join(t.TempDir(), "other"), "--workers", "1", "--nats", a.URL)...)
	if code, _ := q.wait(); code != exitFailed || !strings.Contains(q.errText(), "has a coordinator") {
		t.Errorf("a second coordinator of the job: exit code %d\n%s", code, q.errText())
	}
	if s := p.event("step"); s["world"].(float64) != 1 {
		t.Errorf("the first one's job is disturbed: %v", s)
	}
	call(t, bin.coordinator, "stop", dir)
	p.wait()
}

// A coordinator that is told to hand over leaves its workers to the next one,
// which goes on with them.
func TestHandover(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	args := long(dir, "--workers", "2", "--handover")
	p := start(t, nil, bin.coordinator, args...)
	p.event("step")
	p.cmd.Process.Signal(syscall.SIGTERM)
	if code, _ := p.wait(); code != exitResume {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	p = start(t, nil, bin.coordinator, args...)
	if s := p.event("step"); s["world"].(float64) != 2 {
		t.Errorf("a step of the next coordinator: %v", s)
	}
	until(t, "the workers live on", func() bool { return strings.Contains(p.errText(), "taking over 2 workers") }) // it may come behind the step
	call(t, bin.coordinator, "stop", dir)
	if code, _ := p.wait(); code != exitResume {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
}
