package run

import (
	"context"
	"sync"
	"time"
)

// clerk does what it is asked to, in order, on a goroutine of its own, so that
// whoever asks never waits for a disk or another process.
type clerk struct {
	mu     sync.Mutex
	asked  []func()
	closed bool
	wake   chan struct{}
	done   chan struct{}
}

func newClerk() *clerk {
	c := &clerk{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go c.run()
	return c
}

func (c *clerk) do(f func()) {
	c.mu.Lock()
	c.asked = append(c.asked, f)
	c.mu.Unlock()
	c.nudge()
}

func (c *clerk) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *clerk) run() {
	defer close(c.done)
	for {
		c.mu.Lock()
		l, closed := c.asked, c.closed
		c.asked = nil
		c.mu.Unlock()
		for _, f := range l {
			f()
		}
		switch {
		case len(l) > 0:
		case closed:
			return
		default:
			<-c.wake
		}
	}
}

// close waits until all is done, for as long as ctx lasts and a moment longer,
// and reports whether it is.
func (c *clerk) close(ctx context.Context) bool {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.nudge()
	return Drained(ctx, c.done)
}

// Drained waits for done: while ctx lasts, and then a moment for what is only on its
// way. It reports whether it has come.
func Drained(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-done:
		return true
	case <-time.After(time.Second):
		return false
	}
}
