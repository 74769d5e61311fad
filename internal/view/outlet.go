package view

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/vlaring/vlaring/pkg/run"
)

// Outlet passes what is said on to a terminal, pipe or file from a goroutine of
// its own, so that nobody who speaks ever waits for a reader: a pager that is
// not paged, Ctrl-S, a disk that hangs. Up to most bytes wait here. What comes
// beyond them is dropped whole, and counted where it is missing; what is said
// with Keep never is.
type Outlet struct {
	w       io.Writer
	most    int
	missing func(lines int) []byte // says that so many lines were dropped here

	mu      sync.Mutex
	queue   []byte
	dropped int // lines, since the last that was taken
	writing bool
	closed  bool
	wake    chan struct{}
	done    chan struct{}
}

// outletMost is some ten thousand lines, or an hour of a job that reports once
// a third of a second.
const outletMost = 1 << 20

// NewOutlet passes on to w. missing says, in a line of w's form, that so many
// lines were dropped there: MissingText or MissingEvent.
func NewOutlet(w io.Writer, missing func(lines int) []byte) *Outlet {
	return newOutlet(w, outletMost, missing)
}

func newOutlet(w io.Writer, most int, missing func(lines int) []byte) *Outlet {
	o := &Outlet{w: w, most: most, missing: missing, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go o.run()
	return o
}

// Write takes whole lines. It never fails: what w says of them comes too late.
func (o *Outlet) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue)+len(p) > o.most {
		o.dropped += bytes.Count(p, []byte{'\n'})
		return len(p), nil
	}
	o.take(p)
	return len(p), nil
}

// Keep is Write for what must not be missing, of which there is little.
func (o *Outlet) Keep(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.take(p)
}

func (o *Outlet) take(p []byte) {
	if o.dropped > 0 {
		o.queue = append(o.queue, o.missing(o.dropped)...)
		o.dropped = 0
	}
	o.queue = append(o.queue, p...)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// behind says whether something waits: what is only of interest now can be left out.
func (o *Outlet) behind() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writing || len(o.queue) > 0
}

func (o *Outlet) run() {
	defer close(o.done)
	for {
		o.mu.Lock()
		b := o.queue
		if len(b) == 0 && o.dropped > 0 && o.closed {
			b = o.missing(o.dropped)
			o.dropped = 0
		}
		o.queue, o.writing = nil, len(b) > 0
		closed := o.closed
		o.mu.Unlock()
		switch {
		case len(b) > 0:
			o.w.Write(b)
		case closed:
			return
		default:
			<-o.wake
		}
	}
}

// Close waits until all is written, for as long as ctx lasts and a moment
// longer. Nothing may be said after it.
func (o *Outlet) Close(ctx context.Context) {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	run.Drained(ctx, o.done)
}

// MissingText and MissingEvent are what stands in the place of dropped lines, for people and for scripts.
func MissingText(lines int) []byte {
	return fmt.Appendf(nil, "… %d lines are missing here: nobody read this output\n", lines)
}

func MissingEvent(lines int) []byte {
	return fmt.Appendf(nil, `{"event":"missing","lines":%d}`+"\n", lines)
}
