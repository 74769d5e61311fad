package cluster

import (
	"fmt"
	"strings"
	"testing"
)

func say(pairs ...string) votes {
	v := votes{}
	for _, p := range pairs {
		who, what, _ := strings.Cut(p, "=")
		v.add(what, who)
	}
	return v
}

func TestMajority(t *testing.T) {
	for _, c := range []struct {
		v    votes
		want string
		tie  bool
		text string
	}{
		{say("a=x", "b=x", "c=y"), "x", false, "a, b say x; c say y"},
		{say("a=y", "b=x", "c=y"), "y", false, "a, c say y; b say x"},
		{say("a=x", "b=y"), "x", true, "a say x; b say y"},
		{say("a=x", "b=y", "c=z"), "x", true, "a say x; b say y; c say z"},
		{say("a=x", "b=y", "c=y", "d=x", "e=z", "f=y"), "y", false, "a, d say x; b, c, f say y; e say z"},
		{say("a=x"), "x", false, "a say x"},
	} {
		if got, tie := c.v.majority(); tie != c.tie || !tie && got != c.want || c.v.String() != c.text {
			t.Errorf("%v: %s, tie %v; want %s, %v, %q", c.v, got, tie, c.want, c.tie, c.text)
		}
	}
}

// A worker is put out at its last strike, which are counted once a generation,
// and not where nobody can tell who is wrong.
func TestStrikes(t *testing.T) {
	tr := newTrust()
	for generation := 1; generation <= 3; generation++ {
		clear(tr.struck)
		tr.strike(say("a=x", "b=x", "c=y"), 3)
		tr.strike(say("a=x", "b=x", "c=y"), 3) // at the next step
		if id, out := tr.nextOutcast(); out != (generation == 3) || out && id != "c" {
			t.Fatalf("generation %d: %q is put out, %v", generation, id, out)
		}
	}
	if _, out := tr.nextOutcast(); out || tr.strikes["c"] != 3 || tr.strikes["a"] != 0 {
		t.Errorf("strikes: %v", tr.strikes)
	}
	clear(tr.struck)
	if tr.strike(say("a=x", "b=y"), 1); len(tr.outcasts) > 0 || !tr.tied {
		t.Errorf("in a tie %v are put out", tr.outcasts)
	}
	for range 100 {
		clear(tr.struck)
		tr.strike(say("a=x", "b=x", "d=y"), 0)
	}
	if len(tr.outcasts) > 0 {
		t.Errorf("without a bound %v are put out", tr.outcasts)
	}
}

// Neither the name nor the process of one that was put out comes back; others do.
func TestBans(t *testing.T) {
	tr := newTrust()
	tr.ban("a", "bad memory", &Member{Join: Join{Worker: "a", Host: "h", PID: 7}})
	tr.ban("b", "bad memory", nil) // not there when it was put out
	for _, c := range []struct {
		j    Join
		want string
	}{
		{Join{Worker: "a", Host: "other", PID: 1}, "bad memory"},
		{Join{Worker: "renamed", Host: "h", PID: 7}, "bad memory"},
		{Join{Worker: "b", Host: "h", PID: 8}, "bad memory"},
		{Join{Worker: "c", Host: "h", PID: 8}, ""},
		{Join{Worker: "c", Host: "other", PID: 7}, ""},
		{Join{Worker: "process 7 on h", Host: "x", PID: 1}, ""},
	} {
		if got := tr.banned(&c.j); got != c.want {
			t.Errorf("%+v: %q, want %q", c.j, got, c.want)
		}
	}
}

// What all agreed on is held against those who say otherwise later, for a while.
func TestTrustRemembers(t *testing.T) {
	tr := newTrust()
	for step := uint64(1); step <= maxKnown+2; step++ {
		tr.learn(step, fmt.Sprint("d", step))
	}
	for _, c := range []struct {
		step   uint64
		digest string
		other  bool
	}{
		{maxKnown, "x", true}, {maxKnown, fmt.Sprint("d", maxKnown), false}, {maxKnown + 9, "x", false}, {1, "x", false}, {2, "x", true},
	} {
		if _, other := tr.contradicts(c.step, c.digest); other != c.other {
			t.Errorf("step %d, %s: contradicts %v, want %v", c.step, c.digest, other, c.other)
		}
	}
	tr.torn, tr.broken = "x", "x"
	tr.rolledBack(0)
	if _, other := tr.contradicts(maxKnown, "x"); other || tr.torn+tr.broken != "" || tr.fence != 0 {
		t.Errorf("after a rollback: %+v", tr)
	}
	if tr.rolledBack(7); tr.fence != 7 {
		t.Errorf("the fence is %d, want the rollback's generation", tr.fence)
	}
	if tr.rolledBack(0); tr.fence != 7 { // a rollback because all who had the state were lost
		t.Errorf("the fence is %d, want it to stand", tr.fence)
	}
}

// The same checkpoint is rolled back to a few times, unless somebody is named who
// will be put out.
func TestRollbacksEnd(t *testing.T) {
	tr := newTrust()
	for i := range maxRollbacks {
		tr.torn = "x"
		if !tr.mayRollBack(true) || tr.torn != "" {
			t.Fatalf("rollback %d: %+v", i, tr)
		}
	}
	if tr.mayRollBack(true) {
		t.Error("it goes on for ever")
	}
	tr.count("a", 9)
	for range 100 {
		if !tr.mayRollBack(true) {
			t.Fatal("a is named, and is put out in the end")
		}
	}
	if tr.mayRollBack(false) {
		t.Error("a is named, and never put out")
	}
}
