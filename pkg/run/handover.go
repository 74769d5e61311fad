package run

import (
	"context"
	"time"
)

// HandOver leaves the job to the next coordinator: it ends with ErrHandover as the cause. Where
// its workers are told to go at the same time, as when a whole namespace is stopped, it first
// sees them off, for nobody else stores what they hold. It returns then, and does not wait for
// the run to end.
func (r *Run) HandOver(end context.CancelCauseFunc) {
	for began := time.Now(); !handsOver(time.Since(began), r.parting()); {
		time.Sleep(handoverLook)
	}
	end(ErrHandover)
}

// parting says whether workers have asked to leave, and are waited for.
func (r *Run) parting() bool {
	c := r.leader.Load()
	return c != nil && c.Parting()
}

const (
	handoverLook = 20 * time.Millisecond
	// handoverPause is within what time workers ask that are told to go when the coordinator
	// is: who suspends two Jobs of Kubernetes takes seconds. The job goes on meanwhile.
	handoverPause = 5 * time.Second
	// handoverMost is for how long workers are waited for, at most: they go by themselves
	// before that.
	handoverMost = time.Minute
)

// handsOver says whether a coordinator that was told to hand over so long ago does, while
// workers are parting or not.
func handsOver(told time.Duration, parting bool) bool {
	return told >= handoverMost || told >= handoverPause && !parting
}
