package cluster

import (
	"context"
	"sync"
)

// hands do what takes time, beside the coordinator's goroutine.
type hands struct {
	c       *Coordinator
	ctx     context.Context // ends with Run
	cancel  context.CancelFunc
	saves   chan func()   // one after another
	saver   chan struct{} // closed when no save runs any more
	rewinds sync.WaitGroup
}

// newHands begins the goroutine that saves, one checkpoint after another: two at
// once would only take bandwidth from each other.
func (c *Coordinator) newHands(ctx context.Context) *hands {
	h := &hands{c: c, saves: make(chan func(), 16), saver: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(ctx)
	go func() {
		defer close(h.saver)
		for f := range h.saves {
			f()
		}
	}()
	return h
}

// save queues a checkpoint. It must not wait: the coordinator's goroutine calls it.
func (h *hands) save(s save) {
	f := func() { h.c.Tell(saved{Step: s.Step, Err: h.c.hooks.Save(h.ctx, s.Step, s.Parts)}) }
	select {
	case h.saves <- f:
	default:
		go h.c.Tell(saved{Step: s.Step, Err: errTooManyOffers})
	}
}

// rewind looks for the disk's newest state, which is read and verified.
func (h *hands) rewind() {
	h.rewinds.Go(func() {
		step, state, err := h.c.hooks.Rewind(h.ctx)
		h.c.Tell(restored{Step: step, State: state, Err: err})
	})
}

// disown drops what is wrong, once nothing is being saved, and looks for the newest
// state that is left.
func (h *hands) disown(d disown) {
	h.rewinds.Go(func() {
		r := restored{Disowned: true}
		done := make(chan struct{})
		f := func() {
			defer close(done)
			if h.c.hooks.Disown != nil {
				r.Err = h.c.hooks.Disown(h.ctx, d.After, d.Record)
			}
			if r.Err == nil {
				r.Step, r.State, r.Err = h.c.hooks.Rewind(h.ctx)
			}
		}
		select {
		case h.saves <- f:
			<-done // h.ctx ends what it waits for
			h.c.Tell(r)
		case <-h.ctx.Done():
		}
	})
}

// end waits for what runs. leave comes first: events are not taken any more, so no
// goroutine may wait to pass one.
func (h *hands) end(leave func()) {
	leave()
	h.cancel()
	h.rewinds.Wait()
	close(h.saves)
	<-h.saver
}
