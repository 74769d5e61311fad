package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func part(worker string, generation, step uint64, part, parts int) *Offer {
	return &Offer{Worker: worker, Generation: generation, Step: step, Part: part, Parts: parts, Digest: "d"}
}

// fetch has the checkpoints fetched that are whole, as the machine does.
func (s *saves) fetch(reported uint64) (steps []uint64) {
	for _, c := range s.whole(reported) {
		c.state = fetching
		steps = append(steps, c.step)
	}
	return steps
}

func (s *saves) String() string {
	var l []string
	for _, c := range s.sorted() {
		l = append(l, fmt.Sprintf("%d %v", c.step, c.state))
	}
	return fmt.Sprintf("stored %d, owed %v: %s", s.stored, s.owed, strings.Join(l, ", "))
}

// A checkpoint is fetched once all its parts, of one division of the state, and
// the reports up to its step are here.
func TestSavesFetchWholeCheckpoints(t *testing.T) {
	s := newSaves(0, false)
	s.offer(part("a", 1, 10, 0, 2), false)
	if l := s.fetch(10); len(l) > 0 {
		t.Fatalf("%v are fetched with one part of two", l)
	}
	s.offer(part("b", 2, 10, 1, 2), false) // another generation has divided it anew
	if l := s.fetch(10); len(l) > 0 {
		t.Fatalf("%v are fetched with parts of two divisions", l)
	}
	s.offer(part("a", 2, 10, 0, 2), false)
	if l := s.fetch(9); len(l) > 0 {
		t.Fatalf("%v are fetched before the reports are here", l)
	}
	if l := s.fetch(10); fmt.Sprint(l) != "[10]" || !s.fetches() {
		t.Fatalf("%v are fetched", l)
	}
	if l := s.fetch(10); len(l) > 0 {
		t.Errorf("%v are fetched twice", l)
	}
	if no := s.offer(part("c", 3, 10, 0, 1), false); no != nil || s.String() != "stored 0, owed false: 10 fetching" {
		t.Errorf("an offer of what is being fetched: %v; %v", no, &s)
	}
	if s.fetched(saved{Step: 10}); !s.has(10) || !s.has(9) || s.has(11) || s.fetches() {
		t.Errorf("after it is stored: %v", &s)
	}
	if no := s.offer(part("a", 3, 10, 0, 1), false); no == nil || no.Error != "" {
		t.Errorf("an offer of what is stored is answered with %v", no)
	}
}

// Each state of a checkpoint, and what makes the next one of it.
func TestSavesStates(t *testing.T) {
	bad := errors.New("the disk is full")
	for _, c := range []struct {
		name string
		do   func(*saves)
		want string
	}{
		{"a loss before all parts are here owes another", func(s *saves) {
			s.offer(part("a", 1, 10, 0, 2), false)
			for _, c := range s.breakUp(2) {
				s.giveUp(c.step)
			}
		}, "stored 0, owed true: "},
		{"a loss while it is fetched says nothing yet", func(s *saves) {
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.breakUp(2)
		}, "stored 0, owed false: 10 doubtful"},
		{"it came whole all the same", func(s *saves) {
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.breakUp(2)
			s.fetched(saved{Step: 10})
		}, "stored 10, owed false: "},
		{"it did not", func(s *saves) {
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.breakUp(2)
			s.fetched(saved{10, bad})
		}, "stored 0, owed true: "},
		{"a disk that refuses it owes nothing: the next is due by itself", func(s *saves) {
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.fetched(saved{10, bad})
		}, "stored 0, owed false: "},
		{"a newer one on the disk ends those that lack parts, and not those that are fetched", func(s *saves) {
			s.offer(part("a", 1, 8, 0, 2), false)
			s.offer(part("a", 1, 9, 0, 1), false)
			s.offer(part("a", 1, 10, 0, 1), false)
			s.offer(part("a", 1, 11, 0, 2), false)
			s.fetch(10)
			s.fetched(saved{Step: 10})
		}, "stored 10, owed false: 9 fetching, 11 partial"},
		{"an older one that comes late is no step back", func(s *saves) {
			s.offer(part("a", 1, 9, 0, 1), false)
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.fetched(saved{Step: 10})
			s.fetched(saved{Step: 9})
		}, "stored 10, owed false: "},
		{"a loss after a newer one is stored casts no doubt: nothing is owed for the older", func(s *saves) {
			s.offer(part("a", 1, 9, 0, 1), false)
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.fetched(saved{Step: 10})
			s.breakUp(2)
			s.fetched(saved{9, bad})
		}, "stored 10, owed false: "},
		{"a loss before any is stored, of the first two that are fetched", func(s *saves) {
			s.offer(part("a", 1, 9, 0, 1), false)
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.breakUp(2)
		}, "stored 0, owed false: 9 doubtful, 10 doubtful"},
		{"a loss while one is fetched that is newer than the disk's", func(s *saves) {
			s.offer(part("a", 1, 9, 0, 1), false)
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.fetched(saved{Step: 9})
			s.breakUp(2)
		}, "stored 9, owed false: 10 doubtful"},
		{"an end of a fetch that nobody began ends nothing", func(s *saves) {
			s.offer(part("a", 1, 10, 0, 2), false)
			s.fetched(saved{10, bad})
		}, "stored 0, owed false: 10 partial"},
		{"one that comes after a rollback spares those who offer it anew", func(s *saves) {
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.rollBack(5, 3)
			s.offer(part("a", 3, 10, 0, 2), false)
			s.fetched(saved{Step: 10})
		}, "stored 10, owed false: "},
		{"after a rollback nothing is in the making", func(s *saves) {
			s.offer(part("a", 1, 9, 0, 2), false)
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.rollBack(5, 3)
		}, "stored 5, owed false: "},
		{"and what was being fetched may fail without a word, or come", func(s *saves) {
			s.offer(part("a", 1, 9, 0, 1), false)
			s.offer(part("a", 1, 10, 0, 1), false)
			s.fetch(10)
			s.rollBack(5, 3)
			s.offer(part("a", 3, 10, 0, 1), false)
			s.fetch(10)
			if !s.fetched(saved{9, bad}) || !s.fetched(saved{10, bad}) {
				t.Error("what was abandoned is not known any more")
			}
			if s.fetched(saved{9, bad}) {
				t.Error("it is abandoned twice")
			}
		}, "stored 5, owed false: 10 fetching"},
	} {
		s := newSaves(0, false)
		c.do(&s)
		if got := s.String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Who offers what is of no use is told so, each in its own way.
func TestSavesRefuseOffers(t *testing.T) {
	s := newSaves(5, true)
	s.giveUp(8)
	s.breakUp(3)
	for _, c := range []struct {
		generation, step uint64
		ending           bool
		want             string
	}{
		{3, 5, false, "stored"},
		{3, 7, false, "it was given up"},
		{3, 8, false, "it was given up"},
		{3, 8, true, "fits"}, // the last step of the job is asked for again
		{2, 9, false, "it is of a generation that broke"},
		{3, 9, false, "fits"},
	} {
		no := s.offer(part("a", c.generation, c.step, 0, 2), c.ending)
		got := "fits"
		if no != nil {
			if got = no.Error; got == "" {
				got = "stored"
			}
		}
		if got != c.want {
			t.Errorf("generation %d, step %d: %s, want %s", c.generation, c.step, got, c.want)
		}
	}
	s.trouble, s.last.tries = "a full disk", 3
	if s.fetched(saved{Step: 6}); s.trouble != "" || s.last.tries != 0 {
		t.Errorf("after a checkpoint is stored the trouble is %q, and %d tries have failed", s.trouble, s.last.tries)
	}
	s.rollBack(5, 4)
	if s.offer(part("a", 4, 8, 0, 2), false) != nil || s.offer(part("a", 3, 9, 0, 2), false) == nil {
		t.Error("after a rollback step 8 is made again, but not of a generation before it")
	}
	if s.rollBack(0, 4); s.has(0) { // back to the job's beginning, of which there is no checkpoint
		t.Error("the disk has a checkpoint of step 0")
	}
	if !s.owed {
		t.Error("an offer of a broken generation owes no other checkpoint")
	}
}

// Checkpoints whose parts do not come are bounded: the oldest goes.
func TestSavesAreBounded(t *testing.T) {
	s := newSaves(0, false)
	s.offer(part("a", 1, 1, 0, 1), false)
	s.fetch(1)
	for step := uint64(2); step <= maxOpen; step++ {
		if s.offer(part("a", 1, step, 0, 2), false); s.crowded() != nil {
			t.Fatalf("too many at step %d", step)
		}
	}
	s.offer(part("a", 1, 1000, 0, 2), false)
	if c := s.crowded(); c == nil || c.step != 2 {
		t.Errorf("of too many %v goes, want that of step 2, for 1 is being fetched", c)
	}
}

// A disk is tried ten times at once, and then for as long as it may take.
func TestDiskWait(t *testing.T) {
	var d diskWait
	now := ledgerNow
	if d.goesOn() || !d.patient(now, 0) {
		t.Error("a wait before the first failure")
	}
	for i := range maxTries {
		if first := d.failed(now); first != (i == 0) {
			t.Errorf("failure %d is the first: %v", i, first)
		}
		if last := i == maxTries-1; d.patient(now, 0) == last || !d.goesOn() {
			t.Errorf("after failure %d: patient %v", i, d.patient(now, 0))
		}
	}
	if !d.patient(now.Add(59*time.Second), time.Minute) || d.patient(now.Add(time.Minute), time.Minute) {
		t.Error("it is not patient for the minute that it may take")
	}
	if d.ended = true; d.goesOn() || d.patient(now, time.Minute) {
		t.Error("it goes on after somebody has asked for its end")
	}
}
