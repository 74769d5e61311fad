package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// prober finds dead processes sooner than the deadline does. A process that dies
// takes its connection with it, and the server knows at once that the worker's
// subject has no listener any more: a request to it fails with ErrNoResponder. A
// process that is frozen keeps its connection and is left to the deadline. So is
// one that the network has cut off, until the server closes the connection.
type prober struct {
	c *Coordinator
	// absence is for how long a place must have no listener: a connection that was
	// lost for less is made anew by itself.
	absence time.Duration
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	seen   map[string]*probed // by worker: those that watch was given
	clock  *clock             // its own pauses count as no absence
	pardon time.Time          // nor until then
}

// probed is what is known of one worker's place.
type probed struct {
	heard time.Time // when it last said something
	asked bool      // a probe is on its way
	gone  time.Time // since when there is no listener; zero: there was one when last asked
	told  bool      // that it is gone
}

const (
	// probesPerAbsence is how often a place is looked at before it is given up.
	probesPerAbsence = 5

	// probesARound bounds the probes that go out at once. Of more members those are
	// asked that were silent for longest. A dead one is among them after a heartbeat.
	probesARound = 64
)

// newProber begins to look. absence is two fifths of the deadline: a dead worker is
// found well before its silence shows, and one that connects again is not lost.
func newProber(c *Coordinator, deadline time.Duration) *prober {
	ctx, cancel := context.WithCancel(context.Background())
	p := &prober{c: c, absence: deadline * 2 / 5, cancel: cancel, seen: map[string]*probed{}}
	period := max(p.absence/probesPerAbsence, time.Millisecond)
	p.clock = newClock(time.Now(), 2*period)
	p.wg.Go(func() {
		t := time.NewTicker(period)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				p.round(ctx)
			}
		}
	})
	return p
}

// stop ends all probes, and waits for them.
func (p *prober) stop() {
	p.cancel()
	p.wg.Wait()
}

// watch sets whose places to look at.
func (p *prober) watch(ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := map[string]*probed{}
	for _, id := range ids {
		if now[id] = p.seen[id]; now[id] == nil {
			now[id] = &probed{heard: time.Now()}
		}
	}
	p.seen = now
}

// heard records a message from a member.
func (p *prober) heard(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.seen[id]; w != nil {
		w.heard = time.Now()
	}
}

// now is the time. After a pause of this process absences do not count for a while.
func (p *prober) now() time.Time {
	now := p.clock.At(time.Now())
	if held := p.clock.Held(); held > 0 {
		p.pardon = now.Add(pardonFor(held))
	}
	return now
}

// round sends the probes of one round. They are answered beside it.
func (p *prober) round(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now()
	for _, id := range p.toAsk() {
		w := p.seen[id]
		w.asked = true
		p.wg.Go(func() {
			try, cancel := context.WithTimeout(ctx, 2*p.absence)
			defer cancel()
			_, err := p.c.bus.Request(try, workerSubject(p.c.job, id), nil)
			p.answered(id, w, errors.Is(err, ErrNoResponder))
		})
	}
}

// toAsk are the members that are probed in this round.
func (p *prober) toAsk() (ids []string) {
	for id, w := range p.seen {
		if !w.asked && !w.told {
			ids = append(ids, id)
		}
	}
	if len(ids) > probesARound {
		slices.SortFunc(ids, func(a, b string) int { return p.seen[a].heard.Compare(p.seen[b].heard) })
		ids = ids[:probesARound]
	}
	return ids
}

// answered records what came of a probe, and tells the coordinator of a
// worker that has been absent for long enough.
func (p *prober) answered(id string, w *probed, absent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.asked = false
	now := p.now()
	switch {
	case !absent:
		w.gone = time.Time{}
	case w.gone.IsZero(), now.Before(p.pardon):
		w.gone = now
	case now.Sub(w.gone) >= p.absence:
		w.told = true
		reason := fmt.Sprintf("its connection to the server has been gone for %v", now.Sub(w.gone).Round(time.Millisecond))
		go p.c.Tell(WorkerGone{Worker: id, Reason: reason}) // not under the lock: the coordinator's goroutine takes it
	}
}
