package cluster

import (
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"
)

// floats are those of a simulated gradient, with losses and statements.
func (s *sim) floats() int {
	n := simElements + 2*s.micro
	if s.share > 0 {
		n += StatementFloats * s.micro
	}
	return n
}

// lie changes a gradient, where the worker is one that does: in one of three.
func (w *simWorker) lie(g []float32) {
	s := w.s
	if w.id != s.liar || s.accuses || len(w.assign.Group.Members) < 3 || s.rng.IntN(3) > 0 {
		return
	}
	for i := range g {
		g[i] *= -1.01
	}
	s.evils++
}

func simSum(g []float32) uint32 { return crc32.ChecksumIEEE([]byte(simDigest(g))) }

func (s *sim) statement(sum []float32, m int) []float32 {
	return sum[simElements+2*s.micro+StatementFloats*m:]
}

// tell adds to the gradients of a worker, from lo on, what it says of them, and of
// those of others.
func (w *simWorker) tell(micro [][]float32, lo int) {
	s := w.s
	if s.share == 0 {
		return
	}
	for i, g := range micro {
		Claim(s.statement(g, lo+i), simSum(g[:simElements]))
	}
	if len(micro) == 0 {
		return
	}
	for _, m := range w.assign.Checks(w.step, 1) {
		g, _ := simGradient(w.step, m, w.state[:simElements])
		sum := simSum(g)
		if w.id == s.liar && s.accuses && len(w.assign.Group.Members) > 2 && s.rng.IntN(3) == 0 {
			sum++
			s.evils++
		}
		Check(s.statement(micro[0], m), sum)
	}
}

// unseen notes that a liar commits what nobody could verify.
func (w *simWorker) unseen() {
	if w.id == w.s.liar && w.s.evils > 0 && len(w.assign.Group.Members) < 3 {
		w.s.sampled = true
	}
}

// stops ends the step loop before a step on which statements differ. A liar insists
// on what it has said.
func (w *simWorker) stops(sum []float32) bool {
	s := w.s
	w.unseen()
	for m := 0; m < s.micro && s.share > 0; m++ {
		claim, check, checked := Stated(s.statement(sum, m))
		if !checked || claim == check {
			continue
		}
		g, _ := simGradient(w.step, m, w.state[:simElements])
		v := w.assign.Verdict(w.step, m, 1, claim, check, simSum(g))
		if w.id == s.liar && v.Owner == w.id {
			v.Own = v.Claim
		} else if w.id == s.liar && v.Checker == w.id {
			v.Own = v.Check
		}
		s.hung++
		run := w.run
		w.waits = false
		w.after(s.between(0, s.pass), func() {
			w.input(Disputed{v})
			w.end(run, LoopEnded{w.digest()})
		})
		return true
	}
	return false
}

// drop drops what the disk has of steps in which a liar took part.
func (d *simDisk) drop() {
	for _, after := range d.dropping {
		maps.DeleteFunc(d.states, func(step uint64, _ []float32) bool { return step > after })
		d.metrics = slices.DeleteFunc(d.metrics, func(step uint64) bool { return step > after })
	}
	d.dropping = nil
}

func (c *simCoordinator) disown() {
	c.drop()
	c.step(restored{Step: c.newest(), Disowned: true})
}

// gone says whether a job has ended because the honest were killed: there were two
// workers left, or the liar alone; or it waits, for nobody is left but who was put out.
func (s *sim) gone(err error) bool {
	return strings.Contains(err.Error(), "without a third") || strings.Contains(err.Error(), "Reason:0 of ") ||
		s.dropped[s.liar] && len(s.procs) == 1 && s.procs[s.liar] != nil
}

// verified is a simulated cluster that verifies a share. -sim.seed runs one, with its log.
func verified(t *testing.T, seed uint64, share float64) *sim {
	s := newSim(seed)
	if *simSeed == seed {
		s.logf = func(f string, a ...any) { t.Logf("%9.3f "+f, append([]any{s.now.Sub(simStart).Seconds()}, a...)...) }
	}
	s.share, s.strikes = share, 3
	s.workers, s.most = 3+int(seed%2), 4
	s.wanted = s.workers
	s.micro = max(s.micro, s.workers)
	s.expect()
	return s
}

// Among all faults nobody honest is accused, and the bits are the same.
func TestSimulatedVerified(t *testing.T) {
	for seed := uint64(1); seed <= uint64(*simSeeds/2); seed++ {
		s := verified(t, seed, 0.05)
		if seed%3 == 0 {
			s.share = 1
		}
		if err := s.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if s.hung > 0 || len(s.dropped) > 0 {
			t.Fatalf("seed %d: %d disputes among honest workers, put out: %v", seed, s.hung, s.dropped)
		}
	}
}

// Where all is verified no lie is ever committed, among all faults, and nobody but
// the liar is put out, whether it sends wrong gradients or accuses others of it.
func TestSimulatedLiar(t *testing.T) {
	found, tied, seeds := 0, 0, *simSeeds
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		s := verified(t, seed, 1)
		s.liar, s.accuses = "w1", seed%4 == 1
		err := s.run()
		if err != nil && s.gone(err) {
			tied++
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if s.dropped[s.liar] {
			found++
			delete(s.dropped, s.liar)
		}
		if len(s.dropped) > 0 {
			t.Fatalf("seed %d: put out was %v", seed, s.dropped)
		}
	}
	t.Logf("found in %d of %d runs, %d ended without a third worker", found, seeds, tied)
	if found < seeds/2 || tied > seeds/4 {
		t.Errorf("found in %d of %d runs, %d ended without a third worker", found, seeds, tied)
	}
}

// Where a share is verified lies are committed before one is found. Then all that the
// liar took part in is computed again, and the last state has none of it.
func TestSimulatedLiarSampled(t *testing.T) {
	found, seeds := 0, *simSeeds/2
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		s := verified(t, seed, 0.2)
		s.liar, s.accuses, s.sampled = "w1", seed%5 == 1, true
		if seed%2 == 0 {
			s.quiet = simStart
		}
		err := s.run()
		if err != nil && s.gone(err) {
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !s.dropped[s.liar] || s.split {
			continue
		}
		found++
		if !slices.Equal(s.last.states[uint64(s.steps)], s.want[s.steps]) {
			t.Fatalf("seed %d: lies of %s are in the last state, though it was found", seed, s.liar)
		}
		if delete(s.dropped, s.liar); len(s.dropped) > 0 {
			t.Fatalf("seed %d: put out was %v", seed, s.dropped)
		}
	}
	t.Logf("found in %d of %d runs", found, seeds)
	if found < seeds/3 {
		t.Errorf("found in %d of %d runs", found, seeds)
	}
}
