package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// prober looks whether anybody listens at each worker's place. A process that
// dies takes its connection with it, and the server knows at once that nobody
// does: sooner than the deadline says that it is silent. One that is frozen, or
// cut off from the server but not by it, is left to the deadline.
type prober struct {
	c       *Coordinator
	absence time.Duration // of so long a connection does not come back by itself
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	seen   map[string]*probed
	clock  *clock // a pause of our own is nobody's absence
	pardon time.Time
}

type probed struct {
	heard time.Time // when it last said something
	asked bool      // a probe is on its way
	gone  time.Time // since when nobody listens; zero: somebody did
	told  bool
}

const probesPerAbsence = 5

// probesARound bounds the probes that go out at once. Of more members those are
// asked that have not been heard of for longest: who has died is among them
// after a heartbeat.
const probesARound = 64

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

func (p *prober) stop() {
	p.cancel()
	p.wg.Wait()
}

// watch sets whom to look for.
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

// heard takes note of a message from a member.
func (p *prober) heard(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.seen[id]; w != nil {
		w.heard = time.Now()
	}
}

// now is the time. After a pause of our own nobody is absent for a while.
func (p *prober) now() time.Time {
	now := p.clock.At(time.Now())
	if held := p.clock.Held(); held > 0 {
		p.pardon = now.Add(pardonFor(held))
	}
	return now
}

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
