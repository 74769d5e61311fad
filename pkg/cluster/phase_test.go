package cluster

import (
	"strings"
	"testing"
	"time"
)

// panics is what f panics with; empty: it does not.
func panics(f func()) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = p.(string)
		}
	}()
	f()
	return ""
}

// A job makes the moves of its drawing and no other: each letter is a phase that
// the move may come from.
func TestMovesOfAJob(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		move func(*machine)
		from string // Gathering, Forming, Running, seTtling, Paused, Saving, Ended
		to   Phase
	}{
		{(*machine).becomeGathering, "GTP", Gathering},
		{(*machine).becomeForming, "GFRTP", Forming},
		{(*machine).becomeRunning, "FR", Running},
		{(*machine).becomeSettling, "GFRTPS", Settling},
		{(*machine).becomePaused, "GRTP", Paused},
		{(*machine).becomeSaving, "GRTPS", Saving},
		{(*machine).becomeEnded, "GFRTPS", Ended},
	} {
		for from := Gathering; from <= Ended; from++ {
			m := newMachine(Config{}, now)
			m.phase, m.at = from, now.Add(time.Second)
			legal := strings.Contains(c.from, string("GFRTPSE"[from]))
			said := panics(func() { c.move(m) })
			if (said == "") != legal {
				t.Errorf("from %v to %v: panic %q, legal %v", from, c.to, said, legal)
			}
			if want := "from " + from.String() + " to " + c.to.String(); !legal && !strings.Contains(said, want) {
				t.Errorf("from %v to %v it says %q", from, c.to, said)
			}
			if legal && (m.phase != c.to || m.began.Equal(m.at) != (from != c.to)) {
				t.Errorf("from %v to %v: it is %v since %v", from, c.to, m.phase, m.began)
			}
		}
	}
}

// A worker makes the moves of its drawing and no other.
func TestMovesOfAWorker(t *testing.T) {
	for _, c := range []struct {
		move func(*Node)
		from string // Loading, Resting, Forming, forMed, Stepping, Halting, lefT
		to   nodePhase
	}{
		{(*Node).becomeLoading, "LRH", nodeLoading},
		{(*Node).becomeResting, "LFSH", nodeResting},
		{(*Node).becomeForming, "RH", nodeForming},
		{(*Node).becomeFormed, "F", nodeFormed},
		{(*Node).becomeStepping, "M", nodeStepping},
		{(*Node).becomeHalting, "FMS", nodeHalting},
		{(*Node).becomeLeft, "LRFMSH", nodeLeft},
	} {
		for from := nodeLoading; from <= nodeLeft; from++ {
			n := &Node{phase: from}
			legal := strings.Contains(c.from, string("LRFMSHT"[from]))
			if said := panics(func() { c.move(n) }); (said == "") != legal || legal && n.phase != c.to {
				t.Errorf("from %v to %v: panic %q, legal %v, it is %v", from, c.to, said, legal, n.phase)
			}
		}
	}
}
