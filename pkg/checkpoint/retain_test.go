package checkpoint_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/storetest"
)

func entries(steps ...uint64) (out []checkpoint.Entry) {
	for _, s := range steps {
		out = append(out, checkpoint.Entry{Step: s})
	}
	return out
}

func TestRetain(t *testing.T) {
	damaged := entries(100, 200, 300)
	damaged[2].State, damaged[2].Problem = checkpoint.Damaged, "manifest.json: is missing"
	early := entries(100, 150, 200)
	early[1].Latest = true // resumed from 100 because 200 does not verify
	type scores = map[uint64]float64
	loss := func(keep, best int) checkpoint.Policy {
		return checkpoint.Policy{Keep: keep, Best: best, Metric: "loss"}
	}
	for _, c := range []struct {
		name    string
		entries []checkpoint.Entry
		policy  checkpoint.Policy
		scores  scores
		inUse   map[uint64]string
		want    string
	}{
		{name: "nothing", policy: checkpoint.Policy{Keep: 3}},
		{name: "one is never removed", entries: entries(100), policy: checkpoint.Policy{Keep: 1}, want: "100 kept: one of the newest 1"},
		{name: "newest", entries: entries(100, 200, 300), policy: checkpoint.Policy{Keep: 2},
			want: "100 removed: 2 newer ones are complete, and 2 are kept|200 kept: one of the newest 2|300 kept: one of the newest 2"},
		{name: "all", entries: entries(100, 200), want: "100 kept: all are kept|200 kept: all are kept"},
		{name: "fewer than asked for", entries: entries(100, 200), policy: checkpoint.Policy{Keep: 5},
			want: "100 kept: one of the newest 5|200 kept: one of the newest 5"},
		{name: "a damaged one does not count", entries: damaged, policy: checkpoint.Policy{Keep: 1},
			want: "100 removed: 1 newer ones are complete, and 1 are kept|200 kept: one of the newest 1|300 kept: damaged (manifest.json: is missing): left to be looked at"},
		{name: "nor is it among the best", entries: damaged, policy: loss(1, 1), scores: scores{100: 2, 200: 3, 300: 1},
			want: "100 kept: number 1 by loss, 2|200 kept: one of the newest 1|300 kept: damaged (manifest.json: is missing): left to be looked at"},
		{name: "the last commit, though older", entries: early, policy: checkpoint.Policy{Keep: 1},
			want: "100 removed: 2 newer ones are complete, and 1 are kept|150 kept: committed last|200 kept: one of the newest 1"},
		{name: "every", entries: entries(100, 150, 200, 250), policy: checkpoint.Policy{Keep: 1, KeepEvery: 100},
			want: "100 kept: step is a multiple of 100|150 removed: 2 newer ones are complete, and 1 are kept|200 kept: step is a multiple of 100|250 kept: one of the newest 1"},
		{name: "best", entries: entries(1, 2, 3, 4), policy: loss(1, 2), scores: scores{1: 0.5, 2: 0.25, 3: 0.75, 4: 1},
			want: "1 kept: number 2 by loss, 0.5|2 kept: number 1 by loss, 0.25|3 removed: 1 newer ones are complete, and 1 are kept; number 3 by loss, 0.75|4 kept: one of the newest 1"},
		{name: "higher is better", entries: entries(1, 2, 3), policy: checkpoint.Policy{Keep: 1, Best: 1, Metric: "accuracy", Higher: true}, scores: scores{1: 0.5, 2: 0.25, 3: 0.1},
			want: "1 kept: number 1 by accuracy, 0.5|2 removed: 1 newer ones are complete, and 1 are kept; number 2 by accuracy, 0.25|3 kept: one of the newest 1"},
		{name: "of equals the later", entries: entries(1, 2, 3), policy: loss(1, 1), scores: scores{1: 0.5, 2: 0.5},
			want: "1 removed: 2 newer ones are complete, and 1 are kept; number 2 by loss, 0.5|2 kept: number 1 by loss, 0.5|3 kept: one of the newest 1"},
		{name: "no score, or none that compares", entries: entries(1, 2, 3), policy: loss(1, 1), scores: scores{2: math.NaN()},
			want: "1 removed: 2 newer ones are complete, and 1 are kept; without loss|2 removed: 1 newer ones are complete, and 1 are kept; without loss|3 kept: one of the newest 1"},
		{name: "several reasons", entries: entries(100, 200), policy: checkpoint.Policy{Keep: 1, KeepEvery: 200, Best: 1, Metric: "loss"}, scores: scores{200: 1},
			want: "100 removed: 1 newer ones are complete, and 1 are kept; without loss|200 kept: one of the newest 1; step is a multiple of 200; number 1 by loss, 1"},
		{name: "in use", entries: entries(1, 2), policy: checkpoint.Policy{Keep: 1}, inUse: map[uint64]string{1: "it is being measured", 7: "gone"},
			want: "1 kept: it is being measured|2 kept: one of the newest 1"},
	} {
		var got []string
		for _, d := range checkpoint.Retain(c.entries, c.policy, c.scores, c.inUse) {
			word := " removed: "
			if d.Keep {
				word = " kept: "
			}
			got = append(got, fmt.Sprint(d.Step, word, d.Reason))
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, s, c.want)
		}
	}
}

// Whatever the policy and the scores: the newest complete one stays, each
// decision has a reason, what is removed is complete, and once the plan has
// been carried out nothing more is to be removed.
func TestRetainIsSafe(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var l []checkpoint.Entry
		scores := map[uint64]float64{}
		for step := uint64(1); step <= uint64(rnd.IntN(12)); step++ {
			e := checkpoint.Entry{Step: 10 * step}
			if rnd.IntN(5) == 0 {
				e.State = checkpoint.Damaged
			}
			if rnd.IntN(3) > 0 {
				scores[e.Step] = float64(rnd.IntN(4))
			}
			l = append(l, e)
		}
		if len(l) > 0 {
			l[rnd.IntN(len(l))].Latest = true
		}
		p := checkpoint.Policy{Keep: rnd.IntN(4), KeepEvery: 10 * rnd.IntN(4), Best: rnd.IntN(3), Metric: "loss", Higher: rnd.IntN(2) == 0}
		plan := checkpoint.Retain(l, p, scores, nil)
		if len(plan) != len(l) {
			t.Fatalf("seed %d: %d decisions on %d checkpoints", seed, len(plan), len(l))
		}
		var rest []checkpoint.Entry
		newest := -1
		for i, d := range plan {
			if d.Reason == "" || d.Step != l[i].Step {
				t.Fatalf("seed %d: decision %+v on %+v", seed, d, l[i])
			}
			if d.Keep {
				rest = append(rest, l[i])
			} else if l[i].State != checkpoint.Complete || l[i].Latest {
				t.Fatalf("seed %d: %+v is removed", seed, l[i])
			}
			if l[i].State == checkpoint.Complete {
				newest = i
			}
		}
		if newest >= 0 && !plan[newest].Keep {
			t.Fatalf("seed %d: the newest is removed: %+v", seed, plan)
		}
		for i, d := range checkpoint.Retain(rest, p, scores, nil) {
			if !d.Keep || rest[i].Step != d.Step {
				t.Fatalf("seed %d: the plan carried out, there is another: %+v", seed, d)
			}
		}
	}
}

// The training loss goes into the manifest and comes back in the list.
func TestTrainingLoss(t *testing.T) {
	d := open(t)
	s := state(5)
	s.Manifest.Training = &checkpoint.Training{Loss: 0.1 + 0.2, Steps: 5}
	for _, s := range []*storetest.State{s, state(6)} {
		if err := storetest.Write(d, s); err != nil {
			t.Fatal(err)
		}
	}
	l, err := d.List()
	if err != nil || len(l) != 2 || !reflect.DeepEqual(l[0].Training, s.Manifest.Training) || l[1].Training != nil {
		t.Errorf("%+v, %v", l, err)
	}
}
