package cluster

import (
	"testing"
	"time"
)

// Workers that are told to go, all at once.

// simGrace is for how long they wait to be let go. It is longer than a step may be
// that is broken off, and its passes.
const simGrace = 30 * time.Second

// tellAll tells all workers that run to go, within a second: as who scales a job to
// nothing does, or a queue that takes its machines back.
func (s *sim) tellAll(ids []string) {
	if len(ids) == 0 {
		return
	}
	s.logf("fault: tell all of %v to go", ids)
	sound := s.coord != nil && !s.coord.frozen && len(s.others) == 0 && len(s.cut) == 0 && len(s.told) == 0
	s.told, s.newest = map[*simWorker]bool{}, 0
	spread := s.between(0, time.Second)
	for _, id := range ids {
		w := s.procs[id]
		sound = sound && !w.frozen
		s.told[w] = true
		w.after(s.between(0, spread), func() {
			if w.node == nil { // it has not joined: it just ends
				w.went()
				w.kill()
				return
			}
			w.input(retire{"told to by the simulation"})
		})
	}
	s.spoilt = !sound
}

// went hears that a worker goes of its own accord. The last one of those that were
// told to go, with nothing else done to the cluster meanwhile, leaves all steps that
// any of them had committed on the disk, or with a worker that came meanwhile.
func (w *simWorker) went() {
	s := w.s
	if !s.told[w] {
		return
	}
	delete(s.told, w)
	if w.have {
		s.newest = max(s.newest, w.step)
	}
	if len(s.told) > 0 || s.spoilt || s.flips || s.sampled || len(s.dropped) > 0 { // with a liar goes what it took part in
		return
	}
	s.partings++
	safe := s.disk.newest()
	for _, id := range s.ids() {
		if o := s.procs[id]; o != w && o.have {
			safe = max(safe, o.step)
		}
	}
	if safe < s.newest {
		s.fail("all were told to go, and step %d is lost: step %d is the newest that is left\n%s", s.newest, safe, s.where())
	}
}

// Clusters to which nothing else is done than that all their workers are told to go,
// again and again, over networks of all kinds: no committed step is ever lost.
func TestSimulatedLeaving(t *testing.T) {
	partings := 0
	for seed := uint64(1); seed <= uint64(*simSeeds); seed++ {
		s := newSim(seed)
		s.leaving = true
		if err := s.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		partings += s.partings
	}
	if partings < *simSeeds/2 {
		t.Errorf("in %d seeds all workers went only %d times", *simSeeds, partings)
	}
	t.Logf("%d seeds, in which all workers went %d times", *simSeeds, partings)
}
