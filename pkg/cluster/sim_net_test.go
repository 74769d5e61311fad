package cluster

import (
	"container/heap"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// The network of the simulation, its virtual clock, and what goes wrong.

type simEvent struct {
	at  time.Time
	seq int
	f   func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }

func (q simQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}

func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *simQueue) Push(x any) { *q = append(*q, x.(simEvent)) }

func (q *simQueue) Pop() any {
	o := *q
	x := o[len(o)-1]
	*q = o[:len(o)-1]
	return x
}

func (s *sim) after(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now.Add(d), s.seq, f})
}

func (s *sim) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)+1))
}

// carry delivers a message, or not, once or twice, soon or late.
func (s *sim) carry(from, to string, b []byte, lossy bool, deliver func([]byte)) {
	if s.cut[from] != s.cut[to] {
		return
	}
	drop, dup, corrupt, slow := s.drop, s.dup, s.corrupt, s.slow
	if s.calm() {
		drop, dup, corrupt, slow = 0, 0, 0, 0
	}
	n := 1
	if s.rng.Float64() < drop {
		n = 0
	} else if s.rng.Float64() < dup {
		n = 2
	}
	for range n {
		c := slices.Clone(b)
		if lossy && s.rng.Float64() < corrupt {
			c[s.rng.IntN(len(c))] ^= 1 << s.rng.IntN(8)
		}
		s.after(s.between(100*time.Microsecond, time.Millisecond+slow), func() { deliver(c) })
	}
}

// disturb does one random harm after another until it is time to be quiet.
func (s *sim) disturb() {
	if s.calm() {
		for _, w := range s.procs {
			if s.cut[w.id] {
				w.harmed = s.now
			}
		}
		clear(s.cut)
		if s.coord == nil {
			s.startCoordinator(true)
		}
		for _, id := range s.ids() {
			if w := s.procs[id]; w != nil { // what was stashed may have ended it
				w.resume()
			}
		}
		s.coord.resume()
		return
	}
	s.faults++
	ids := s.ids()
	if s.leaving {
		s.tellAll(ids)
		s.after(s.between(50*time.Millisecond, 4*time.Second), s.disturb)
		return
	}
	s.spoilt = true // unless what follows is tellAll
	flip := func() {
		w := s.procs[ids[s.rng.IntN(len(ids))]]
		steps := w.have && w.node != nil && w.node.phase == nodeStepping
		if steps && len(w.assign.Group.Members) > 1 { // alone, nobody would know
			s.logf("fault: a bit flips in %s after step %d", w.id, w.step)
			i := s.rng.IntN(len(w.state))
			w.state[i] = math.Float32frombits(math.Float32bits(w.state[i]) ^ 1<<s.rng.IntN(23))
		}
	}
	if s.mixed && len(ids) > 0 && s.rng.IntN(3) == 0 {
		flip()
	}
	if s.flips && !s.mixed {
		flip()
		if s.faults < 3 { // one that never agrees fails
			s.after(s.between(50*time.Millisecond, 500*time.Millisecond), s.disturb)
		}
		return
	}
	if s.crowd {
		s.harmCrowd(ids)
		return
	}
	pick := func() *simWorker {
		if len(ids) == 0 {
			return nil
		}
		return s.procs[ids[s.rng.IntN(len(ids))]]
	}
	switch s.rng.IntN(12) {
	case 11:
		s.tellAll(ids)
	case 10:
		if c := s.coord; c != nil && !c.frozen {
			d := s.between(10*time.Millisecond, 5*time.Second)
			s.logf("fault: freeze %s for %v", c.name, d)
			c.frozen = true
			s.after(d, c.resume)
		}
	case 0, 1, 2:
		if w := pick(); w != nil {
			s.logf("fault: kill %s", w.id)
			w.kill()
		}
	case 3:
		if w := pick(); w != nil && !w.frozen {
			d := s.between(10*time.Millisecond, 3*time.Second)
			s.logf("fault: freeze %s for %v", w.id, d)
			w.frozen = true
			s.after(d, w.resume)
		}
	case 4, 5:
		if s.coord != nil {
			d := s.between(10*time.Millisecond, 1500*time.Millisecond)
			s.logf("fault: kill the coordinator for %v", d)
			s.coord.dead, s.coord = true, nil
			s.after(d, func() {
				if s.coord == nil {
					s.startCoordinator(true)
				}
			})
		}
	case 6, 7:
		if w := pick(); w != nil {
			d := s.between(10*time.Millisecond, 2*time.Second)
			s.logf("fault: cut %s off for %v", w.id, d)
			s.cut[w.id] = true
			s.after(d, func() {
				delete(s.cut, w.id)
				w.harmed = s.now
			})
		}
	case 8:
		n := 1 + s.rng.IntN(5)
		s.wanted = n
		for i := range n {
			if id := fmt.Sprintf("w%d", i); s.procs[id] == nil {
				s.logf("fault: %s is started", id)
				s.startWorker(id)
			}
		}
		if s.coord != nil && s.rng.IntN(2) == 0 {
			s.logf("fault: scale to %d", n)
			c := s.coord
			c.do(func() { c.step(scaleTo{n}) })
		}
	case 9:
		if s.coord != nil && !s.coord.frozen && s.rng.IntN(3) == 0 {
			d := s.between(10*time.Millisecond, 3*time.Second)
			s.logf("fault: freeze %s for %v, and start another", s.coord.name, d)
			old := s.coord
			old.frozen = true
			s.after(time.Second, func() { // the new one has asked in vain who leads
				if !old.frozen || s.coord != old {
					return
				}
				s.others = append(s.others, old)
				s.split = true
				s.disk = &simDisk{metrics: slices.Clone(s.disk.metrics), states: maps.Clone(s.disk.states), dropping: slices.Clone(s.disk.dropping)}
				s.startCoordinator(true)
				lead := &Lead{Coordinator: s.coord.name}
				old.do(func() { old.step(lead) })
			})
			s.after(d, old.resume)
		}
	}
	s.after(s.between(5*time.Millisecond, 800*time.Millisecond), s.disturb)
}
