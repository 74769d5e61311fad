package cluster

import (
	"maps"
	"slices"
	"time"
)

// saves are the checkpoints in the making, and the newest one on the disk.
//
// A checkpoint is made of parts, one a rank, which members offer after its step.
// It goes through these states:
//
//	         Offer                all parts and reports are here
//	(none) ────────> partial ──────────────────────────────────> fetching ──saved──> stored
//	                  │                                           │     ▲ │
//	                  │ a worker was lost,              a worker  │     │ │ saved, with an error
//	                  │ or parts of two states          was lost  ▼     │ ▼
//	                  └──────────> given up <──error── doubtful ──saved─┘ given up
//
// A checkpoint that was given up is not made again of the same step, but for the
// last step of the job. If a loss was the reason, another one is owed: it is taken as
// soon as the ring runs again. A rollback abandons those that are being
// fetched: if they reach the disk after all, so much the better, and that they
// fail means nothing.
type saves struct {
	stored    uint64 // the newest step on the disk
	hasStored bool   // there is one

	open      map[uint64]*checkpoint // those that are partial, fetching or doubtful, by step
	abandoned map[uint64]bool        // those that were being fetched when the job rolled back

	void   uint64 // offers of generations before it can never become whole
	gaveUp uint64 // the newest step that was given up
	owed   bool   // a checkpoint is to be taken when the ring runs

	last    diskWait // of the job's last state
	trouble string   // the lasting state of the disk that was warned of; empty: all is well
	why     string   // why the newest one was not stored, in full
}

// checkpoint is one that is being made.
type checkpoint struct {
	step  uint64
	state saveState
	parts []*Offer // by part; nil where one is missing
}

// saveState is how far a checkpoint is.
type saveState int

const (
	partial  saveState = iota // parts, or the reports up to its step, are missing
	fetching                  // the driver puts it on the disk
	doubtful                  // so it does, but a worker was lost meanwhile, who may have had a part
)

func (s saveState) String() string { return [...]string{"partial", "fetching", "doubtful"}[s] }

func newSaves(stored uint64, hasStored bool) saves {
	return saves{stored: stored, hasStored: hasStored, open: map[uint64]*checkpoint{}, abandoned: map[uint64]bool{}}
}

// maxOpen is how many checkpoints may wait for parts. Each member has one on
// offer at a time, so that more are the sign of a fault.
const maxOpen = 64

// offer records a part of a checkpoint. It returns what the worker is to
// be told where the part is of no use, nil where it fits or is known already.
// ending: the job is Saving, and parts of a step that was given up are asked for
// again.
func (s *saves) offer(e *Offer, ending bool) *Stored {
	c := s.open[e.Step]
	switch {
	case s.hasStored && e.Step <= s.stored:
		return &Stored{Step: e.Step}
	case c != nil && c.state != partial:
		return nil
	case e.Step <= s.gaveUp && !ending: // the worker missed that
		return &Stored{Step: e.Step, Error: "it was given up"}
	case e.Generation < s.void:
		s.owed = true
		return &Stored{Step: e.Step, Error: "it is of a generation that broke"}
	}
	if c == nil || len(c.parts) != e.Parts || c.generation() != e.Generation { // new, or divided anew
		c = &checkpoint{step: e.Step, parts: make([]*Offer, e.Parts)}
		s.open[e.Step] = c
	}
	c.parts[e.Part] = e
	return nil
}

// generation is the one that divided the state into these parts.
func (c *checkpoint) generation() uint64 {
	for _, p := range c.parts {
		if p != nil {
			return p.Generation
		}
	}
	return 0
}

// votes are what the workers of the parts say that the state is.
func (c *checkpoint) votes() votes {
	v := votes{}
	for _, o := range c.parts {
		v.add("state "+o.Digest, o.Worker)
	}
	return v
}

// sorted are the open checkpoints by step.
func (s *saves) sorted() (l []*checkpoint) {
	for _, step := range slices.Sorted(maps.Keys(s.open)) {
		l = append(l, s.open[step])
	}
	return l
}

// crowded is the oldest checkpoint of too many whose parts do not come, nil where
// there are not too many.
func (s *saves) crowded() *checkpoint {
	if len(s.open) <= maxOpen {
		return nil
	}
	for _, c := range s.sorted() {
		if c.state == partial {
			return c
		}
	}
	return nil
}

// whole are the checkpoints that can be fetched: all parts are here, and the
// reports up to their step, for what the disk has the metrics have too.
func (s *saves) whole(reported uint64) (l []*checkpoint) {
	for _, c := range s.sorted() {
		if c.state == partial && c.step <= reported && !slices.Contains(c.parts, nil) {
			l = append(l, c)
		}
	}
	return l
}

// fetches says whether any checkpoint is on its way to the disk.
func (s *saves) fetches() bool {
	for _, c := range s.open {
		if c.state != partial {
			return true
		}
	}
	return false
}

// breakUp follows a loss: parts of generations before void may be gone with the lost
// worker. It returns the checkpoints that can never become whole. Of those that are
// being fetched that is not known yet.
func (s *saves) breakUp(void uint64) (lost []*checkpoint) {
	s.void = void
	for _, c := range s.sorted() {
		switch {
		case c.state == partial:
			lost = append(lost, c)
			s.owed = true
		case !s.hasStored || c.step > s.stored:
			c.state = doubtful
		}
	}
	return lost
}

// giveUp ends the making of a checkpoint.
func (s *saves) giveUp(step uint64) {
	delete(s.open, step)
	s.gaveUp = max(s.gaveUp, step)
}

// fetched records the end of a fetch. abandoned: a rollback came in between,
// and an error means nothing for those that are being made now.
func (s *saves) fetched(e saved) (abandoned bool) {
	if s.abandoned[e.Step] {
		delete(s.abandoned, e.Step)
		abandoned = true
	} else if c := s.open[e.Step]; c != nil && c.state != partial {
		s.owed = s.owed || e.Err != nil && c.state == doubtful
		delete(s.open, e.Step)
	}
	if e.Err != nil {
		return abandoned
	}
	s.last, s.trouble = diskWait{}, ""
	if !s.hasStored || e.Step > s.stored {
		s.stored, s.hasStored = e.Step, true
	}
	for step, c := range s.open {
		if step <= e.Step && c.state == partial {
			delete(s.open, step)
		}
	}
	return abandoned
}

// rollBack begins anew behind the disk's newest step, which generations before
// void know nothing of.
func (s *saves) rollBack(step, void uint64) {
	s.stored, s.hasStored = step, step > 0
	for at, c := range s.open {
		if c.state != partial {
			s.abandoned[at] = true
		}
	}
	clear(s.open)
	s.gaveUp, s.void = 0, void
}

// has says whether the disk has a step, or a later one.
func (s *saves) has(step uint64) bool { return s.hasStored && s.stored >= step }

// diskWait is the wait of the last state of a job, in the workers' memory, for a
// disk that does not take it.
type diskWait struct {
	tries int       // that failed
	since time.Time // the first of them; zero: none has
	ended bool      // a stop request has ended the wait
}

const (
	// maxTries is how often the disk is tried at once.
	maxTries = 10
	// tryEvery is the pace at which it is tried after that: each try copies and
	// sends the whole state.
	tryEvery = 5 * time.Second
)

// failed counts a try that failed, and says whether it was the first.
func (d *diskWait) failed(now time.Time) bool {
	d.tries++
	if !d.since.IsZero() {
		return false
	}
	d.since = now
	return true
}

// goesOn says whether the state waits, and the end of that was not asked for.
func (d *diskWait) goesOn() bool { return !d.since.IsZero() && !d.ended }

// patient says whether the wait may last any longer.
func (d *diskWait) patient(now time.Time, most time.Duration) bool {
	return !d.ended && (d.tries < maxTries || now.Sub(d.since) < most)
}
