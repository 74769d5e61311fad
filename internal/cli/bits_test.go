package cli

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Promise 1 over NATS with real processes: the final weights are the same
// bytes for any number of workers and threads, wherever the samples come from,
// and for a run that was stopped and went on with other workers.
func TestSameBits(t *testing.T) {
	t.Parallel()
	job := "testdata/small.yaml"
	want := undisturbed(t)
	for name, args := range map[string][]string{
		"2 workers":                 {"--workers", "2", "--threads", "1"},
		"3 workers":                 {"--workers", "3", "--threads", "1"},
		"1 worker, 2 threads":       {"--workers", "1", "--threads", "2"},
		"7 workers, 6 with samples": {"--workers", "7", "--threads", "1"},
		"samples over the bus":      {"--workers", "2", "--set", "data.delivery=bus"},
		"mesh":                      {"--workers", "3", "--set", "cluster.topology=mesh", "--set", "cluster.road=nats"},
		"over NATS":                 {"--workers", "3", "--threads", "1", "--set", "cluster.road=nats"},
		"shared memory alone":       {"--workers", "2", "--threads", "1", "--set", "cluster.road=shm"},
		"many small chunks":         {"--workers", "3", "--set", "cluster.chunk_bytes=4096", "--set", "cluster.bucket_bytes=10000"},
	} {
		t.Run(name, func(t *testing.T) {
			got := trainDone(t, job, append(args, "--set", "checkpoint.every=0", "--run-dir", filepath.Join(t.TempDir(), "run"))...) // checkpoints on the way take a fifth of it: others have them
			if got != want {
				t.Errorf("weights are %s, want %s", got, want)
			}
		})
	}
	for name, args := range map[string][]string{
		"one":                {"--workers", "1"},
		"four":               {"--workers", "4"},
		"five, over NATS":    {"--workers", "5", "--set", "cluster.road=nats", "--set", "cluster.chunk_bytes=4096"},
		"three, as a mesh":   {"--workers", "3", "--set", "cluster.topology=mesh", "--set", "cluster.road=nats"},
		"three, hosts apart": {"--workers", "3", "--set", "cluster.road=direct"},
	} {
		t.Run("sharded: "+name, func(t *testing.T) {
			got := trainDone(t, job, append(args, "--threads", "1", "--set", "cluster.optimizer=sharded", "--run-dir", filepath.Join(t.TempDir(), "run"))...)
			if got != want {
				t.Errorf("weights are %s, want %s", got, want)
			}
		})
	}
	t.Run("fast, of two workers", func(t *testing.T) { // their own bits, the same on every road
		args := []string{"--workers", "2", "--threads", "1", "--set", "cluster.reduce=fast", "--set", "checkpoint.every=0"}
		one := trainDone(t, job, append(slices.Clone(args), "--set", "cluster.road=shm", "--run-dir", filepath.Join(t.TempDir(), "run"))...)
		other := trainDone(t, job, append(slices.Clone(args), "--set", "cluster.road=nats", "--run-dir", filepath.Join(t.TempDir(), "run"))...)
		if one != other || one == want {
			t.Errorf("weights are %s over shared memory and %s over NATS, exact %s: want two that are equal and a third", one, other, want)
		}
	})
	for _, level := range tensor.CPULevels() {
		t.Run("on "+level, func(t *testing.T) {
			p := start(t, []string{"VLARING_CPU=" + level}, bin.coordinator, "train", job, "--json", "--workers", "1", "--set", "checkpoint.every=0", "--run-dir", filepath.Join(t.TempDir(), "run"))
			if cpu := p.event("joined")["cpu"]; cpu != level {
				t.Errorf("the worker computes with %v", cpu)
			}
			if got := p.event("end")["model_sha256"]; got != want {
				t.Errorf("weights are %v, want %s", got, want)
			}
			p.wait()
		})
	}
	t.Run("products of bfloat16", func(t *testing.T) { // their own bits, the same for all of these
		args := []string{"--set", "precision=bf16"}
		wide := trainDone(t, job, append(slices.Clone(args), "--workers", "1", "--threads", "2", "--run-dir", filepath.Join(t.TempDir(), "run"))...)
		if wide == want {
			t.Error("the weights are those of float32")
		}
		p := start(t, []string{"VLARING_CPU=generic"}, bin.coordinator, append([]string{"train", job, "--json", "--workers", "3", "--run-dir", filepath.Join(t.TempDir(), "run")}, args...)...)
		if got := p.event("end")["model_sha256"]; got != wide {
			t.Errorf("three workers in plain Go: weights are %v, want %s", got, wide)
		}
		p.wait()
		if n := strings.Count(p.errText(), "has no AMX (its CPU level is generic)"); n != 1 {
			t.Errorf("that products take longer without AMX is said %d times, want once:\n%s", n, p.errText())
		}
		stopAndResume(t, job, wide, "precision=bf16")
		killTwo(t, job, wide, "precision=bf16")
	})
	for _, optimizer := range []string{"replicated", "sharded"} {
		t.Run("stopped and resumed, "+optimizer, func(t *testing.T) { stopAndResume(t, job, want, "cluster.optimizer="+optimizer) })
		t.Run("workers killed, "+optimizer, func(t *testing.T) { killTwo(t, job, want, "cluster.optimizer="+optimizer) })
	}
	t.Run("coordinator killed", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		args := []string{"train", job, "--json", "--run-dir", dir, "--workers", "2", "--set", "train.steps=100", "--set", "checkpoint.every=20", "--set", "schedule.min_lr=null", "--set", "schedule.warmup_steps=0"}
		want := trainDone(t, job, append(slices.Clone(args[3:]), "--run-dir", filepath.Join(t.TempDir(), "run"))...)
		outlives(t, dir, args, want)
	})
}

func stopAndResume(t *testing.T, job, want string, set ...string) {
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, append([]string{"train", job, "--json", "--run-dir", dir, "--workers", "4"}, options(set)...)...)
	p.event("step")
	p.event("step")
	p.cmd.Process.Signal(os.Interrupt)
	end := p.event("end")
	if code, _ := p.wait(); code != exitResume {
		t.Fatalf("exit code %d, want %d\n%s", code, exitResume, p.errText())
	}
	if s := end["step"].(float64); s < 2 || s >= 12 {
		t.Fatalf("stopped at step %v", s)
	}
	if got := trainDone(t, job, append([]string{"--run-dir", dir, "--resume", "--workers", "3"}, options(set)...)...); got != want {
		t.Errorf("weights are %s, want %s", got, want)
	}
	wantSteps(t, dir, 12)
}

func killTwo(t *testing.T, job, want string, set ...string) {
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, append([]string{"train", job, "--json", "--run-dir", dir, "--workers", "3"}, options(set)...)...)
	pids := []int{int(p.event("joined")["pid"].(float64)), int(p.event("joined")["pid"].(float64))}
	for _, pid := range pids { // each in the middle of some step
		p.event("step")
		p.event("step")
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	end := p.event("end")
	if code, _ := p.wait(); code != 0 || end["outcome"] != "done" {
		t.Fatalf("exit code %d, %v\n%s", code, end, p.errText())
	}
	if got := end["model_sha256"]; got != want {
		t.Errorf("weights are %s, want %s", got, want)
	}
	wantSteps(t, dir, 12)
	if n := strings.Count(p.errText(), "lost worker"); n < 1 { // the second may die after the last step
		t.Errorf("nothing says that a worker was lost:\n%s", p.errText())
	}
}

// outlives kills a coordinator of two workers and 100 steps, starts it again
// with the same command, and wants the same workers to go on to the same end.
func outlives(t *testing.T, dir string, args []string, want string) {
	t.Helper()
	workers := func(p *proc) map[any]bool {
		return map[any]bool{p.event("joined")["pid"]: true, p.event("joined")["pid"]: true}
	}
	p := start(t, nil, bin.coordinator, args...)
	before := workers(p)
	p.event("step")
	p.cmd.Process.Kill()
	p.wait()
	p = start(t, nil, bin.coordinator, args...)
	if after := workers(p); !maps.Equal(after, before) {
		t.Errorf("the workers are processes %v, and were %v", after, before)
	}
	end := p.event("end")
	if code, _ := p.wait(); code != 0 || end["model_sha256"] != want {
		t.Fatalf("exit code %d, %v, want %s\n%s", code, end, want, p.errText())
	}
	if !strings.Contains(p.errText(), "taking over 2 workers") {
		t.Errorf("the workers did not live on:\n%s", p.errText())
	}
	wantSteps(t, dir, 100)
}

// wantSteps checks that metrics.jsonl has each step once, in order.
func wantSteps(t *testing.T, dir string, n int) {
	t.Helper()
	l := readMetrics(t, filepath.Join(dir, "metrics.jsonl"))
	for i, m := range l {
		if m.Step != uint64(i+1) {
			t.Errorf("line %d of metrics.jsonl is of step %d", i+1, m.Step)
		}
	}
	if len(l) != n {
		t.Errorf("metrics.jsonl has %d lines, want %s", len(l), strconv.Itoa(n))
	}
}
