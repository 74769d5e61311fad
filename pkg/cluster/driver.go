package cluster

import (
	"context"
	"time"
)

// Work is what a worker does. Its Node decides what, and a Driver says when.
type Work interface {
	// Do carries out what takes time, and returns the event that answers it, nil
	// for none. Do has a goroutine to itself, and no two of them run at once, so
	// what only Do touches needs no lock. Once ctx has ended it returns as soon as
	// it can: after a forward and backward pass, say, which cannot be interrupted.
	// Its event does not count then.
	Do(ctx context.Context, task Task) NodeEvent

	// Act carries out any other action but Exit, on the driver's goroutine. It must
	// not block: heartbeats would stop. ctx ends with the worker.
	Act(ctx context.Context, action NodeAction)

	// Look is asked at every tick what the step loop is doing, in words for
	// heartbeats, and for an event that time has brought, nil for none.
	Look() (words string, ev NodeEvent)

	// Know hears after every event what others than the driver ask for: the commits
	// that the coordinator may not have heard of, which must not be changed, and for
	// how long the coordinator has said nothing.
	Know(reports []*Report, silence time.Duration)
}

// Driver passes messages, ticks and what its Work says to a worker's Node, and has
// the Node's actions carried out. It decides nothing and waits for nothing: whatever
// the Work is busy with, and for however long, heartbeats go on and the coordinator
// is answered.
type Driver struct {
	node   *Node
	inbox  <-chan NodeEvent
	work   Work
	events chan NodeEvent // from the Work
	left   chan struct{}  // closed when events are not taken any more
	lane   lane
}

// ended says that the task of the lane has come to its end, and with which result.
type ended struct{ result NodeEvent }

// NewDriver returns a driver of node, which takes the coordinator's messages
// from inbox. Run starts it.
func NewDriver(node *Node, inbox <-chan NodeEvent, work Work) *Driver {
	return &Driver{node: node, inbox: inbox, work: work, events: make(chan NodeEvent, 16), left: make(chan struct{})}
}

// Say passes an event to the node. It waits until the driver takes the event, so
// that no commit is lost, or has left. It may be called from any goroutine but the
// driver's: Act, Look and Know would wait for themselves.
func (d *Driver) Say(ev NodeEvent) {
	select {
	case d.events <- ev:
	case <-d.left:
	}
}

// Retire asks the node to leave in good order: once the coordinator lets it go, or
// NodeConfig.Grace is over. It is as Say in all else.
func (d *Driver) Retire(reason string) { d.Say(retire{reason}) }

// Run prepares the job of welcome, and then does what the node says until the node
// says Exit. It returns that once nothing runs any more. The end of ctx has the
// node depart at once; Retire asks it to leave in good order.
func (d *Driver) Run(ctx context.Context, welcome *Welcome) Exit {
	defer close(d.left)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var cancel context.CancelFunc
	d.lane = newLane(func(t Task) {
		task, end := context.WithCancel(ctx)
		cancel = end
		go func() {
			defer end()
			d.Say(ended{d.work.Do(task, t)})
		}()
	}, func() { cancel() })
	d.lane.Do(Prepare{welcome})

	heartbeat := d.node.cfg.Heartbeat
	ticker := time.NewTicker(max(heartbeat/4, time.Millisecond))
	defer ticker.Stop()
	clock := newClock(time.Now(), max(heartbeat, time.Millisecond))
	done := ctx.Done()
	for {
		var ev NodeEvent
		select {
		case <-done:
			done = nil
			ev = depart{Reason: "it was told to stop by a signal"}
		case ev = <-d.inbox:
		case ev = <-d.events:
		case <-ticker.C:
			// What came while this process was held up is handled before the time
			// that has passed: else its own sleep would be the coordinator's silence.
			for range len(d.inbox) + len(d.events) {
				select {
				case ev = <-d.inbox:
				case ev = <-d.events:
				}
				if exit, ok := d.step(ctx, clock, ev); ok {
					return d.leave(exit)
				}
			}
			words, happened := d.work.Look()
			d.node.Busy(words)
			if happened != nil {
				if exit, ok := d.step(ctx, clock, happened); ok {
					return d.leave(exit)
				}
			}
			ev = tick{}
		}
		if exit, ok := d.step(ctx, clock, ev); ok {
			return d.leave(exit)
		}
	}
}

// step passes one event in and has the actions carried out.
func (d *Driver) step(ctx context.Context, clock *clock, ev NodeEvent) (Exit, bool) {
	if e, ok := ev.(ended); ok {
		if ev = d.lane.Ended(e.result); ev == nil {
			return Exit{}, false
		}
	}
	now := clock.At(time.Now())
	for _, a := range d.node.Handle(now, ev) {
		switch a := a.(type) {
		case Exit:
			return a, true
		case Task:
			d.lane.Do(a)
		default:
			d.work.Act(ctx, a)
		}
	}
	d.work.Know(d.node.Reports(), now.Sub(d.node.heard))
	return Exit{}, false
}

// leave cancels the task that runs and waits for its end. What it says on its way
// does not count any more.
func (d *Driver) leave(exit Exit) Exit {
	for d.lane.Stop(); d.lane.Busy(); {
		select {
		case ev := <-d.events:
			if e, ok := ev.(ended); ok {
				d.lane.Ended(e.result)
			}
		case <-d.inbox:
		}
	}
	return exit
}

// lane has tasks run one at a time, and its owner never waits for one: a task that
// takes another's place has that one cancelled, and begins when that one is over.
// It belongs to one goroutine.
//
//	idle ──Do: begin──> busy ──Do: cancel──> cancelled, the next one waits
//	  ▲                   │                     │            ▲ │ Do: another waits instead
//	  └──────Ended────────┘      begin <──Ended─┘            └─┘
type lane struct {
	begin  func(Task)
	cancel func()
	busy   bool // a task has begun, and its end has not been told
	stale  bool // it was cancelled: its result does not count
	next   Task // begins at its end; nil: none
}

// newLane returns an idle lane. begin begins a task and does not wait for it; the
// owner calls Ended when it is over. cancel asks the task that began last to end,
// and does not wait either.
func newLane(begin func(Task), cancel func()) lane { return lane{begin: begin, cancel: cancel} }

// Do begins a task, in the place of the one that runs or waits, if any.
func (l *lane) Do(task Task) {
	if l.busy {
		l.Stop()
		l.next = task
		return
	}
	l.busy, l.stale = true, false
	l.begin(task)
}

// Stop ends the task that runs, and nothing begins after it.
func (l *lane) Stop() {
	l.next = nil
	if l.busy && !l.stale {
		l.stale = true
		l.cancel()
	}
}

// Ended is called when the task that began last is over. It begins the one that
// waits, and returns the result, nil where that does not count any more.
func (l *lane) Ended(result NodeEvent) NodeEvent {
	stale, next := l.stale, l.next
	l.busy, l.next = false, nil
	if next != nil {
		l.Do(next)
	}
	if stale {
		return nil
	}
	return result
}

// Busy says whether a task runs.
func (l *lane) Busy() bool { return l.busy }
