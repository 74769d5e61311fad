package cluster

import "testing"

// Processes of one worker that end without the job getting any further are
// counted; those that left, or that had taken no part, are not, and a step
// forward begins the count anew.
func TestEnds(t *testing.T) {
	e := newBlame(Config{MaxEnds: 2, StartStep: 5}).ends
	if why := e.began("a"); why != "" {
		t.Errorf("the first process: %s", why)
	}
	die := func(id, how string) string { e.lost(id, how); return e.began(id) }
	if why := die("a", "killed"); why != "" {
		t.Errorf("after one end: %s", why)
	}
	if why := die("b", "killed"); why != "" {
		t.Errorf("after another worker's end: %s", why)
	}
	e.reached(5) // not further
	want := "worker a has ended 2 times, and the job did not get beyond step 5 in between; the last time out of memory"
	if why := die("a", "out of memory"); why != want {
		t.Errorf("after two ends: %q", why)
	}
	e.reached(6)
	if why := die("a", "killed"); why != "" {
		t.Errorf("after a step forward: %s", why)
	}
	e.lost("a", "killed")
	e.left("a")
	if why := e.began("a"); why != "" {
		t.Errorf("after it left: %s", why)
	}
	any := newBlame(Config{}).ends
	for range 100 {
		any.lost("a", "killed")
		if why := any.began("a"); why != "" {
			t.Fatalf("without a bound: %s", why)
		}
	}
}

// A peer is to blame when generations in a row broke waiting for it; a step that
// succeeds disproves it.
func TestBlame(t *testing.T) {
	b := newBlame(Config{})
	b.waited("a")
	b.waited("b")
	b.waited("a")
	b.committed()
	for i := 1; i < mostWaits; i++ {
		if n := b.waited("a"); n != 0 {
			t.Fatalf("blamed after %d", n)
		}
	}
	if n := b.waited("a"); n != mostWaits {
		t.Errorf("not blamed after %d: %d", mostWaits, n)
	}
	if n := b.waited("a"); n != 0 {
		t.Errorf("blamed again at once, after %d", n)
	}
}
