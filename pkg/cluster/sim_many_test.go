package cluster

import (
	"testing"
	"time"
)

// simCrowd is a simulated cluster of n workers, each with one micro-batch.
func simCrowd(seed uint64, n int) *sim {
	s := newSim(seed)
	s.workers, s.wanted, s.most, s.micro, s.steps, s.every = n, n, n, n, 4096/n, 1 // a step takes as long as there are ranks to go through
	s.drop, s.dup, s.corrupt, s.slow = 0, 0, 0, 0
	s.pass, s.rest = 20*time.Millisecond, 10*time.Millisecond
	s.crowd, s.quiet = true, simStart.Add(time.Minute)
	s.expect()
	return s
}

// harmCrowd kills a sixteenth of the workers at once, cuts a sixteenth off for
// longer than the deadline, and kills the coordinator.
func (s *sim) harmCrowd(ids []string) {
	some := func(f func(*simWorker)) {
		for range len(ids)/16 + 1 {
			if w := s.procs[ids[s.rng.IntN(len(ids))]]; w != nil {
				f(w)
			}
		}
	}
	switch s.faults {
	case 1: // they are joining
	case 2:
		s.logf("fault: kill some of %d workers", len(ids))
		some(func(w *simWorker) { w.kill() })
	case 3:
		s.logf("fault: cut some of %d workers off", len(ids))
		some(func(w *simWorker) {
			s.cut[w.id] = true
			s.after(1500*time.Millisecond, func() {
				delete(s.cut, w.id)
				w.harmed = s.now
			})
		})
	case 4:
		s.logf("fault: kill the coordinator of %d workers", len(ids))
		s.coord.dead, s.coord = true, nil
		s.after(time.Second, func() { s.startCoordinator(true) })
		s.quiet = s.now.Add(2 * time.Second)
	}
	s.after(s.between(1000*time.Millisecond, 1600*time.Millisecond), s.disturb)
}

// 128 workers, or 512 with VLARING_LONG=1, of whom some dozens are killed and cut off at once, and whose
// coordinator dies, come to the weights of one.
func TestSimulatedCrowd(t *testing.T) {
	s := simCrowd(1, crowd)
	s.logf = func(f string, a ...any) {
		if len(a) > 0 && f != "%s exits: %+v" && f != "%s: %s" {
			t.Logf("%9.3f "+f, append([]any{s.now.Sub(simStart).Seconds()}, a...)...)
		}
	}
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	if s.faults < 4 || s.recalls < 3 {
		t.Errorf("%d faults and %d broken generations: the simulation does not do its work", s.faults, s.recalls)
	}
	t.Logf("%d faults, %d broken generations, %v of the cluster's time", s.faults, s.recalls, s.now.Sub(simStart))
}
