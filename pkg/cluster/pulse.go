package cluster

import (
	"sync/atomic"
	"time"
)

// Pulse says how a coordinator does, to who watches its process from outside.
type Pulse struct {
	Leads  bool      // the job is its own
	Looked time.Time // when its loop last went round; zero where it has not begun
	Stalls uint64    // reports of workers that wait for another, so far
}

// pulse is written by the coordinator's goroutines and read by any.
type pulse struct {
	looked atomic.Int64 // in nanoseconds since 1970; 0: not yet
	stalls atomic.Uint64
}

// Pulse may be asked for from any goroutine.
func (c *Coordinator) Pulse() Pulse {
	p := Pulse{Stalls: c.pulse.stalls.Load()}
	if at := c.pulse.looked.Load(); at != 0 {
		p.Leads, p.Looked = true, time.Unix(0, at)
	}
	return p
}
