package worker

import (
	"testing"
	"time"
)

// A part of a step that goes on is busy; what waits for a network or a disk is not, for
// however long it does, and neither is a worker whose loop has ended.
func TestStandingBusy(t *testing.T) {
	w := New(Config{})
	if s := w.Standing(); s.Busy != 0 || s.Loaded || s.Rank != -1 || !s.Looked.IsZero() {
		t.Errorf("before anything: %+v", s)
	}
	w.doing("forward")
	time.Sleep(2 * time.Millisecond)
	if b := w.Standing().Busy; b < 2*time.Millisecond {
		t.Errorf("busy for %v", b)
	}
	for _, words := range []string{"checkpoint", "fetching the state"} {
		w.doing("backward")
		w.pending(words)
		time.Sleep(2 * time.Millisecond)
		if b := w.Standing().Busy; b != 0 {
			t.Errorf("%s: busy for %v", words, b)
		}
		if got, _ := w.Look(); got != words {
			t.Errorf("heartbeats say %q", got)
		}
	}
}
