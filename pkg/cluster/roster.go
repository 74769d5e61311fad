package cluster

import "time"

// Status is what is known of a member's place in the newest generation.
type Status int

const (
	Loading   Status = iota // reads the job, builds the model
	AtRest                  // at rest
	Assigned                // told its place, has not formed yet
	Listening               // listens
	Stepping                // in its step loop
)

func (s Status) String() string {
	return [...]string{"loading", "at rest", "assigned", "listening", "stepping"}[s]
}

// Member is the machine's view of one worker.
type Member struct {
	Join
	Rank     int // -1: none
	Status   Status
	State    bool   // it has weights and moments
	Step     uint64 // committed
	Digest   string // of its state, where it stands
	Phase    string // its own words
	LastSeen time.Time
	Spare    bool
	Slowdown float64 // its time a micro-batch, as a multiple of the others' median; 0: unknown

	at          nodePhase
	restoring   bool   // it has been told to take the state from the disk
	restored    uint64 // and in which generation: what it says of older ones is of before
	unreached   int    // times that it could not reach a peer's memory
	unshared    string // why its memory is not to be used; empty: it may be
	unreachable bool   // it has been told that words in its name made no sense
	behind      bool   // it began its generation without the state
	pace        pace
	nagged      time.Time // when it was last told what it seems to have missed
}
