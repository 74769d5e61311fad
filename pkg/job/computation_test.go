package job_test

import (
	"bytes"
	"strings"
	"testing"

	. "github.com/vlaring/vlaring/pkg/job"
)

// What changes the Computation and the Result is what changes a step, no knob.
func TestComputation(t *testing.T) {
	base := []byte("name: a\nmodel: {kind: vla}\ndata: {kind: tabletop}\nschedule: {min_lr: 0.00001}\n")
	parse := func(set ...string) *Job {
		t.Helper()
		j, err := kinds.Parse("a.yaml", base, set)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	was := parse()
	for _, c := range []struct {
		set                 string
		computation, result bool // the same
	}{
		{"cluster.stall=6s", true, true},
		{"cluster.workers=3", true, true},
		{"cluster.deadline=9s", true, true},
		{"cluster.orphan_timeout=1h", true, true},
		{"cluster.straggler=drop", true, true},
		{"cluster.window_bytes=4096", true, true},
		{"checkpoint.keep=1", true, true},
		{"train.cache=2GiB", true, true},
		{"train.cache=0", true, true},
		{"checkpoint.every=7", true, true},
		{"cluster.bucket_bytes=1048576", false, true},
		{"cluster.chunk_bytes=4096", false, true},
		{"cluster.topology=mesh", false, true},
		{"cluster.road=nats", false, true},
		{"cluster.reduce=fast", false, false},
		{"data.delivery=bus", false, true},
		{"train.check_every=1", false, true},
		{"train.steps=300", false, false},
		{"optimizer.lr=0.01", false, false},
		{"seed=3", false, false},
		{"precision=float32", true, true},
		{"precision=bf16", false, false},
		{"batch.micro=4", false, false},
		{"train.non_finite=skip", false, false},
		{"init=x.safetensors", false, false},
		{"schedule.kind=cosine", true, true},
		{"schedule.kind=linear", false, false},
		{"optimizer.ema=true", false, false},
	} {
		is := parse(c.set)
		if got := bytes.Equal(was.Computation().YAML(), is.Computation().YAML()); got != c.computation {
			t.Errorf("%s: the same computation: %v, want %v", c.set, got, c.computation)
		}
		if got := bytes.Equal(was.Result().YAML(), is.Result().YAML()); got != c.result {
			t.Errorf("%s: the same result: %v, want %v", c.set, got, c.result)
		}
	}
	// Workers of a job from before there were kinds know it by these bytes.
	for kind, written := range map[string]bool{"cosine": false, "linear": true} {
		if got := bytes.Contains(parse("schedule.kind="+kind).Computation().YAML(), []byte("schedule:\n  kind: ")); got != written {
			t.Errorf("the kind %s of the schedule is written: %v", kind, got)
		}
	}
	if was.Cluster.Workers == 0 || was.Checkpoint.Every == 0 {
		t.Error("the job itself was changed")
	}
}

// bfloat16 on the wire gives up the bits that exact promises: both must be said.
func TestWireWantsFast(t *testing.T) {
	text := []byte("name: j\nmodel: {kind: vit}\ndata: {kind: tabletop}\ntrain: {steps: 1}\ncluster:\n  wire: bf16\n")
	_, err := kinds.Parse("j.yaml", text, nil)
	if err == nil || !strings.Contains(err.Error(), "j.yaml:6:9: cluster.wire: bf16 rounds sums on their way") || !strings.Contains(err.Error(), "want float32, or cluster.reduce fast") {
		t.Errorf("got %v", err)
	}
	if _, err := kinds.Parse("j.yaml", text, []string{"cluster.reduce=fast"}); err != nil {
		t.Error(err)
	}
}
