package cluster

import (
	"context"
	"time"
)

// Hooks are what a Coordinator's owner does for it. All but Save are called on
// the coordinator's own goroutine and must not block for long.
type Hooks struct {
	Welcome  func(*Join) *Welcome                // the job for an accepted worker
	StepDone func([]*Report)                     // a step is committed everywhere; by rank
	Members  func(Phase, []Member)               // after each event that may have changed them
	Save     func(context.Context, *Offer) error // fetch to the disk; one call at a time, on its own goroutine
	Note     func(text string)                   // a decision, in words
}

// Coordinator drives a Machine over a Bus. It holds no decision of its own.
type Coordinator struct {
	bus    Bus
	job    string
	hooks  Hooks
	events chan any
	done   chan struct{}
}

type joining struct {
	join  *Join
	reply func([]byte) error
}

// NewCoordinator returns a coordinator for job; Run starts it.
func NewCoordinator(bus Bus, job string, hooks Hooks) *Coordinator {
	return &Coordinator{bus: bus, job: job, hooks: hooks, events: make(chan any, 256), done: make(chan struct{})}
}

// Tell passes an event from outside the bus: WorkerGone or StopRequest. It
// does nothing once the job has ended.
func (c *Coordinator) Tell(ev any) {
	select {
	case c.events <- ev:
	case <-c.done:
	}
}

// Run serves the job until it ends or ctx does, which abandons it: workers
// notice by themselves. It returns how the job finished.
func (c *Coordinator) Run(ctx context.Context, cfg Config) (Finish, error) {
	defer close(c.done)
	unsubscribe, err := c.bus.Subscribe(CoordinatorSubject(c.job), c.receive)
	if err != nil {
		return Finish{}, err
	}
	defer unsubscribe()

	saves := make(chan *Offer, 16)
	saver := make(chan struct{})
	saveCtx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(saver)
		for o := range saves {
			c.Tell(Saved{From: o.Worker, Step: o.Step, Err: c.hooks.Save(saveCtx, o)})
		}
	}()
	defer func() { cancel(); close(saves); <-saver }()

	tick := time.NewTicker(max(cfg.Deadline/10, time.Millisecond))
	defer tick.Stop()
	m := NewMachine(cfg, time.Now())
	for {
		var ev any
		select {
		case <-ctx.Done():
			return Finish{Outcome: Failed, Step: m.committed, Stored: m.storedAll(), Reason: "abandoned"}, context.Cause(ctx)
		case <-tick.C:
			ev = Tick{}
		case ev = <-c.events:
		}
		var reply func([]byte) error
		if j, ok := ev.(joining); ok {
			ev, reply = j.join, j.reply
		}
		for _, a := range m.Step(time.Now(), ev) {
			switch a := a.(type) {
			case Answer:
				w := &Welcome{Refused: a.Refused}
				if a.Refused == "" {
					w = c.hooks.Welcome(ev.(*Join))
				}
				if err := reply(Encode(w)); err != nil {
					c.hooks.Note("answering a join: " + err.Error())
				}
			case Send:
				if err := c.bus.Publish(WorkerSubject(c.job, a.To), Encode(a.Msg)); err != nil {
					c.hooks.Note("sending to worker " + a.To + ": " + err.Error())
				}
			case StepDone:
				c.hooks.StepDone(a.Reports)
			case Save:
				select {
				case saves <- a.Offer:
				default:
					go c.Tell(Saved{From: a.Offer.Worker, Step: a.Offer.Step, Err: errTooManyOffers})
				}
			case Note:
				c.hooks.Note(a.Text)
			case Finish:
				c.hooks.Members(m.Phase(), m.Members())
				return a, nil
			}
		}
		c.hooks.Members(m.Phase(), m.Members())
	}
}

// receive runs on the bus's goroutine. Whoever asks for a reply to anything
// but a Join only wants to know that the coordinator is there.
func (c *Coordinator) receive(data []byte, reply func([]byte) error) {
	msg, err := Decode(data)
	if err != nil {
		c.Tell(Malformed{err})
		return
	}
	switch msg := msg.(type) {
	case *Join:
		if reply != nil && ValidID(msg.Worker) == nil {
			c.Tell(joining{msg, reply})
		}
		return
	case *Welcome, *Assign, *Go, *Control, *Halt, *Snapshot, *Stored, *End:
		return // not for a coordinator
	}
	c.Tell(msg)
	if reply != nil {
		reply(nil)
	}
}
