package cluster

import (
	"fmt"
	"slices"
	"time"
)

// The coordinator's process.

// simDisk is a run directory.
type simDisk struct {
	metrics []uint64 // steps written
	states  map[uint64][]float32

	dropping []uint64 // what is after these steps is to be dropped
}

func (d *simDisk) newest() (best uint64) {
	for step := range d.states {
		best = max(best, step)
	}
	return best
}

type simCoordinator struct {
	s *sim
	*simDisk
	name   string
	idle   map[string]time.Time // members that have loaded, and are taken for loading
	m      *machine
	clock  *clock
	dead   bool
	frozen bool
	stash  []func()
}

func (c *simCoordinator) do(f func()) {
	switch {
	case c.dead:
	case c.frozen:
		c.stash = append(c.stash, f)
	default:
		f()
	}
}

func (c *simCoordinator) resume() {
	c.frozen = false
	l := c.stash
	c.stash = nil
	for _, f := range l {
		c.do(f)
	}
}

func (s *sim) startCoordinator(takeover bool) {
	s.nonce++
	c := &simCoordinator{s: s, idle: map[string]time.Time{}, name: fmt.Sprintf("coordinator-%d", s.nonce), simDisk: s.disk}
	c.drop()
	stored := c.newest()
	s.logf("%s starts from step %d", c.name, stored)
	reported := uint64(0)
	if n := len(c.metrics); n > 0 {
		reported = c.metrics[n-1]
	}
	c.m = newMachine(Config{Coordinator: c.name, Workers: s.workers, MinWorkers: 1, MaxWorkers: s.most,
		Micro: s.micro, Steps: uint64(s.steps), StartStep: stored, Stored: stored > 0, Reported: reported, Takeover: takeover,
		Deadline: time.Second, JoinTimeout: 20 * time.Second,
		Straggler: KeepStraggler, Divergence: s.divergence, MaxDivergences: s.strikes,
		Verify: s.share, Record: s.record, Secret: []byte(c.name)}, s.now)
	s.coord = c
	c.clock = newClock(s.now, 2*tickPeriod(time.Second))
	var beat func()
	beat = func() {
		if !c.dead {
			c.do(func() { c.step(tick{}) })
			c.watchIdle()
			s.after(simPeriod, beat)
		}
	}
	s.after(simPeriod, beat)
}

// receive is what the bus brings for the coordinator, whoever that is.
func (s *sim) receive(b []byte, reply func([]byte)) {
	for _, c := range append(slices.Clone(s.others), s.coord) {
		if c == nil || c.dead {
			continue
		}
		msg, err := Decode(b)
		if err != nil {
			s.fail("%v", err)
			return
		}
		ev, ok := msg.(Event)
		if !ok {
			s.fail("a worker sends a %T", msg)
			return
		}
		c.do(func() {
			for _, a := range c.step(ev) {
				if ans, ok := a.(answer); ok && reply != nil {
					w := &Welcome{Refused: ans.Refused, Source: ans.Source, StartStep: c.newest()}
					reply(Encode(w))
				}
			}
		})
	}
}

func (c *simCoordinator) step(ev Event) []action {
	s := c.s
	if c.dead {
		return nil
	}
	before := c.m.phase
	acts := c.m.HandleAt(c.clock, s.now, ev)
	if c.m.phase != before {
		s.logf("%s is %v", c.name, c.m.phase)
		if c.m.phase == Settling {
			s.recalls++
		}
	}
	for _, a := range acts {
		switch a := a.(type) {
		case send:
			b := Encode(a.Msg)
			s.carry(c.name, a.To, b, false, func(b []byte) {
				if w := s.procs[a.To]; w != nil {
					w.hear(b)
				}
			})
		case unwanted:
			s.dropped[a.Worker] = true
		case note:
			s.logf("%s: %s", c.name, a.Text)
			c.lost(a.Text)
		case stepDone:
			c.stepDone(a.Reports)
		case save:
			s.after(s.between(time.Millisecond, 80*time.Millisecond), func() { c.do(func() { c.save(a) }) })
		case keep:
			s.record = a.Record
		case disown:
			s.rewinds++
			s.record = a.Record
			c.dropping = append(c.dropping, a.After)
			s.after(s.between(time.Millisecond, 300*time.Millisecond), func() { c.do(func() { c.disown() }) })
		case rewind:
			s.rewinds++
			step, slow := c.newest(), time.Millisecond
			if s.rng.IntN(3) == 0 { // the disk is verified at leisure, and may be overtaken
				slow = s.between(time.Millisecond, 1500*time.Millisecond)
			}
			s.after(slow, func() { c.do(func() { c.step(restored{Step: step}) }) })
		case Finish:
			s.logf("%s finishes: %+v", c.name, a)
			if a.Outcome == Superseded {
				c.dead = true
				if s.coord == c {
					s.coord = nil
					s.after(100*time.Millisecond, func() {
						if s.coord == nil {
							s.startCoordinator(true)
						}
					})
				}
				continue
			}
			if s.ended == nil {
				s.ended = &a
				s.last = c.simDisk
			}
		}
	}
	return acts
}

// save fetches the parts of a checkpoint from the workers that offer them.
func (c *simCoordinator) save(a save) {
	s := c.s
	if c.dead {
		return
	}
	state := make([]float32, 2*simElements)
	for i, o := range a.Parts {
		w := s.procs[o.Worker]
		if w == nil || w.frozen || s.cut[w.id] || w.offers[o.Step] == nil {
			c.step(saved{a.Step, fmt.Errorf("part %d of worker %s is not there", i, o.Worker)})
			return
		}
		for j := i; j < len(state); j += len(a.Parts) {
			state[j] = w.offers[o.Step][j]
		}
	}
	if !s.mixed && !s.sampled && !slices.Equal(state, s.want[a.Step]) {
		s.fail("the checkpoint of step %d is not the state after it", a.Step)
	}
	c.states[a.Step] = state
	c.step(saved{Step: a.Step})
}
