package cluster

import (
	"fmt"
	"slices"
)

// Phase is where a job stands.
//
//	Gathering ──enough ready──> Forming ──all formed──> Running ──all stand──┐
//	    ▲                          ▲  └─lost, fault─> Settling <─lost, fault─┤
//	    │ nobody has state         └──────all stand──────┘ ▲ │               │
//	    └──────────────────── Paused <──too few────────────┼─┘               │
//	                             └───────enough────────────┘                 ▼
//	                                     Ended <──the last step is stored── Saving
type Phase int

const (
	Gathering Phase = iota // the first workers load the job
	Forming                // an assignment is out; the job waits until all members listen
	Running                // steps are being committed
	Settling               // a generation broke; the job waits until every member says where it stands
	Paused                 // fewer members than cluster.min_workers: they keep their state
	Saving                 // no more steps; the last checkpoint is on its way to the disk
	Ended
)

func (p Phase) String() string {
	return [...]string{"gathering", "forming", "running", "settling", "paused", "saving", "ended"}[p]
}

// The moves of a job. Each names the phases that it may come from, beside its
// own; from any other one it panics, for then the machine has made a mistake,
// and what it would do next is worse than an end.

func (m *machine) becomeGathering() { m.become(Gathering, Settling, Paused) }
func (m *machine) becomeForming()   { m.become(Forming, Gathering, Running, Settling, Paused) }
func (m *machine) becomeRunning()   { m.become(Running, Forming) }
func (m *machine) becomePaused()    { m.become(Paused, Gathering, Running, Settling) }
func (m *machine) becomeSaving()    { m.become(Saving, Gathering, Running, Settling, Paused) }

func (m *machine) becomeSettling() {
	m.become(Settling, Gathering, Forming, Running, Paused, Saving)
}

func (m *machine) becomeEnded() {
	m.become(Ended, Gathering, Forming, Running, Settling, Paused, Saving)
}

// become makes a move. One to where the job is already changes nothing; its time in
// the phase goes on.
func (m *machine) become(p Phase, from ...Phase) {
	if m.phase == p && p != Ended {
		return
	}
	if !slices.Contains(from, m.phase) {
		panic(fmt.Sprintf("cluster: a job cannot go from %v to %v", m.phase, p))
	}
	m.phase, m.began = p, m.at
	m.saves.last = diskWait{}
}
