package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// Hooks are what a Coordinator's owner does for it. All but Save and Rewind,
// which have goroutines of their own, are called on the coordinator's goroutine:
// they must not wait for a disk, a terminal or another process. Noted may be
// nil; the others may not.
type Hooks struct {
	Lead     func() error                                  // the job is this coordinator's: nothing that others see may be touched before
	Welcome  func(*Join) *Welcome                          // the job for an accepted worker
	StepDone func([]*Report)                               // a step is committed; by rank
	Noted    func() uint64                                 // the newest step that StepDone told of whose record is safe; nil: each is at once
	Members  func(Phase, []Member)                         // at once where somebody came or went or the phase is another; what they do, a few times a second
	Save     func(context.Context, uint64, []*Offer) error // fetch a checkpoint's parts to the disk; one call at a time
	Rewind   func(context.Context) (uint64, []Blob, error) // put the disk's newest state on offer: all that was in memory is lost
	Note     func(text string)                             // a decision, in words
	Warn     func(text string)                             // what somebody should look after, in words; nil: Note
	Scaled   func(workers int)                             // somebody asked for so many workers
	Dropped  func(worker string)                           // it was let go because it is slow
	Status   func(Phase, []Member) any                     // what Ask{status} answers, as JSON
}

// Coordinator drives a machine over a Bus. It holds no decision of its own. Its
// time is a Clock: however long it is held up, it takes nobody's silence for
// longer than it listened.
type Coordinator struct {
	bus    Bus
	job    string
	hooks  Hooks
	events chan Event
	done   chan struct{}
	me     Lead
	waits  atomic.Bool // the last state waits for a disk that does not take it

	dropped  int       // malformed messages since the last that was told of; of receive
	nextTold time.Time // not before
}

// asking is a request that came over the bus: a Join or an Ask.
type asking struct {
	msg   Message
	reply func([]byte) error
}

// NewCoordinator returns a coordinator for job; Run starts it.
// host and pid name its process to others.
func NewCoordinator(bus Bus, job, host string, pid int, hooks Hooks) *Coordinator {
	return &Coordinator{bus: bus, job: job, me: Lead{Host: host, PID: pid}, hooks: hooks, events: make(chan Event, 256), done: make(chan struct{})}
}

// Tell passes an event from outside the bus: WorkerGone, StopRequest, Scale or
// Hopeless. It does nothing once the job has ended.
func (c *Coordinator) Tell(ev Event) {
	select {
	case c.events <- ev:
	case <-c.done:
	}
}

// WaitsForDisk says whether all that is left of the job is to store its last
// state, which the disk does not take: a StopRequest ends that wait. It may be
// called from any goroutine.
func (c *Coordinator) WaitsForDisk() bool { return c.waits.Load() }

// Run serves the job until it ends or ctx does, which abandons it: workers
// notice by themselves. It returns how the job finished.
func (c *Coordinator) Run(ctx context.Context, cfg Config) (Finish, error) {
	var once sync.Once
	leave := func() { once.Do(func() { close(c.done) }) }
	defer leave()
	c.me.Coordinator = cfg.Coordinator
	if err := c.lead(ctx, cfg.Deadline); err != nil {
		return Finish{}, err
	}
	unsubscribe, err := c.bus.Subscribe(CoordinatorSubject(c.job), c.receive)
	if err != nil {
		return Finish{}, err
	}
	defer unsubscribe()
	if c.hooks.Lead != nil {
		if err := c.hooks.Lead(); err != nil {
			return Finish{}, err
		}
	}
	if err := c.bus.Publish(CoordinatorSubject(c.job), Encode(&c.me)); err != nil {
		return Finish{}, err
	}

	saves := make(chan save, 16)
	saver := make(chan struct{})
	saveCtx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(saver)
		for s := range saves {
			c.Tell(saved{Step: s.Step, Err: c.hooks.Save(saveCtx, s.Step, s.Parts)})
		}
	}()
	var rewinds sync.WaitGroup
	defer func() { // nobody takes events any more, so nobody may wait to tell one
		leave()
		cancel()
		close(saves)
		<-saver
		rewinds.Wait()
	}()

	probes := newProber(c, cfg.Deadline)
	defer probes.stop()
	ticker := time.NewTicker(tickPeriod(cfg.Deadline))
	defer ticker.Stop()
	clock := newClock(time.Now(), 2*tickPeriod(cfg.Deadline))
	m := newMachine(cfg, time.Now())
	var shown showing
	var finish *Finish
	var linger <-chan time.Time // for workers that did not hear the end
	queued := 0                 // events that came before the tick that is due
	due := false
	for {
		var ev Event
		if due && queued == 0 {
			due, ev = false, tick{}
		} else if due {
			queued--
			ev = <-c.events
		} else {
			select {
			case <-ticker.C: // what was said while this process was held up comes before the time that has passed
				due, queued = true, len(c.events)
				continue
			case ev = <-c.events:
			case <-linger:
				return *finish, nil
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			if finish != nil {
				return *finish, nil
			}
			return Finish{Outcome: Failed, Step: m.ledger.committed, Stored: m.saves.has(m.ledger.committed), Reason: "abandoned"}, context.Cause(ctx)
		}
		var reply func([]byte) error
		if a, ok := ev.(asking); ok {
			reply = a.reply
			switch msg := a.msg.(type) {
			case *Join:
				ev = msg
			case *Ask:
				if ev = c.ask(m, msg, reply); ev == nil {
					continue
				}
			}
		}
		if msg, ok := ev.(fromWorker); ok {
			id, _ := msg.from()
			probes.heard(id)
		}
		for _, a := range m.HandleAt(clock, time.Now(), ev) {
			switch a := a.(type) {
			case answer:
				w := &Welcome{Refused: a.Refused}
				if a.Refused == "" {
					w = c.hooks.Welcome(ev.(*Join))
					w.Source = a.Source
					if a.Source != FromCoordinator {
						w.State = nil
					}
				}
				if err := reply(Encode(w)); err != nil {
					c.hooks.Note("answering a join: " + err.Error())
				}
			case send:
				if err := c.bus.Publish(workerSubject(c.job, a.To), Encode(c.acknowledge(a.Msg))); err != nil {
					c.hooks.Note("sending to worker " + a.To + ": " + err.Error())
				}
			case stepDone:
				c.hooks.StepDone(a.Reports)
			case save:
				select {
				case saves <- a:
				default:
					go c.Tell(saved{Step: a.Step, Err: errTooManyOffers})
				}
			case rewind:
				rewinds.Go(func() {
					step, state, err := c.hooks.Rewind(saveCtx)
					c.Tell(restored{Step: step, State: state, Err: err})
				})
			case unwanted:
				c.hooks.Dropped(a.Worker)
			case note:
				if a.Bad && c.hooks.Warn != nil {
					c.hooks.Warn(a.Text)
				} else {
					c.hooks.Note(a.Text)
				}
			case Finish:
				finish = &a
				linger = time.After(min(cfg.Deadline, 2*time.Second))
			}
		}
		c.waits.Store(m.waitsForDisk())
		if shown.due(m, ev, len(c.events) > 0) {
			c.hooks.Members(m.phase, m.roster.byRank())
			probes.watch(m.roster.expected())
		}
		if finish != nil && (len(m.roster.members) == 0 || finish.Outcome == Superseded) {
			return *finish, nil
		}
	}
}

// showing is what was last shown of the members. Each look at them costs as much
// as there are members, so there is none after each of their messages: it would
// cost their number squared in every step.
type showing struct {
	ever   bool
	phase  Phase
	people uint64
	stale  bool // something has happened since
}

// due says whether the members are to be shown after ev: at once where the phase
// changed, or who they are and no other event waits, which may change that too;
// and with each tick, where anything happened at all.
func (s *showing) due(m *machine, ev Event, more bool) bool {
	_, tick := ev.(tick)
	changed := !s.ever || m.phase != s.phase || m.roster.changes != s.people && !more
	if !changed && !(tick && s.stale) {
		s.stale = s.stale || !tick
		return false
	}
	*s = showing{ever: true, phase: m.phase, people: m.roster.changes}
	return true
}

// acknowledge has workers keep their reports of steps whose record is not safe
// yet: where this process dies first, the next coordinator gets them from there.
func (c *Coordinator) acknowledge(msg Message) Message {
	if c.hooks.Noted == nil {
		return msg
	}
	switch m := msg.(type) {
	case *Beat:
		b := *m
		b.Reported = min(b.Reported, c.hooks.Noted())
		return &b
	case *Recall:
		r := *m
		r.Reported = min(r.Reported, c.hooks.Noted())
		return &r
	}
	return msg
}

// tickPeriod is how often deadlines are looked at. Of a pause between two looks,
// which is this process's own, two periods count.
func tickPeriod(deadline time.Duration) time.Duration {
	return max(min(deadline/10, 100*time.Millisecond), time.Millisecond)
}

// lead makes sure that no other coordinator has the job. Where nobody listens
// it knows at once; one that listens and does not answer has lost the job.
func (c *Coordinator) lead(ctx context.Context, patience time.Duration) error {
	try, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ask := c.me
	ask.Asking = true
	data, err := c.bus.Request(try, CoordinatorSubject(c.job), Encode(&ask))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return nil
	}
	msg, err := Decode(data)
	if o, ok := msg.(*Lead); err == nil && ok {
		return fmt.Errorf("job %q has a coordinator on this server: process %d on %s: stop it first, or give this job another name", c.job, o.PID, o.Host)
	}
	return fmt.Errorf("job %q has a coordinator on this server, of another release: stop it first, or give this job another name", c.job)
}

// ask answers somebody outside the job, and returns the event that follows, if any.
func (c *Coordinator) ask(m *machine, a *Ask, reply func([]byte) error) Event {
	var ev Event
	out := &Answered{}
	switch {
	case a.What == "status":
	case a.What == "stop":
		ev = StopRequest{Reason: "stopped by request"}
	case a.What == "scale" && a.Workers >= 1 && a.Workers <= limits.Workers:
		ev = scaleTo{Workers: a.Workers}
		c.hooks.Scaled(a.Workers)
	default:
		out.Error = fmt.Sprintf("want status, stop, or scale with 1 to %d workers", limits.Workers)
	}
	if out.Error == "" {
		b, err := json.Marshal(c.hooks.Status(m.phase, m.roster.byRank()))
		if err != nil {
			out.Error = err.Error()
		}
		out.Status = b
	}
	if err := reply(Encode(out)); err != nil {
		c.hooks.Note("answering a request: " + err.Error())
	}
	return ev
}

// malformed tells of a message that makes no sense, and of those after it a
// second later: who floods the job with them does not flood its log.
func (c *Coordinator) malformed(err error) {
	c.dropped++
	now := time.Now()
	if now.Before(c.nextTold) {
		return
	}
	c.nextTold = now.Add(time.Second)
	if c.dropped > 1 {
		err = fmt.Errorf("%w (and %d others before it)", err, c.dropped-1)
	}
	c.dropped = 0
	c.Tell(malformed{err})
}

// receive runs on the bus's goroutine.
func (c *Coordinator) receive(data []byte, reply func([]byte) error) {
	msg, err := Decode(data)
	if w, ok := msg.(fromWorker); ok {
		id, _ := w.from()
		err = ValidID(id)
	}
	if err != nil {
		c.malformed(err)
		return
	}
	switch msg := msg.(type) {
	case *Join:
		if reply != nil {
			c.Tell(asking{msg, reply})
		}
	case *Ask:
		if reply != nil {
			c.Tell(asking{msg, reply})
		}
	case *Lead:
		switch {
		case msg.Coordinator == c.me.Coordinator:
		case !msg.Asking:
			c.Tell(msg)
		case reply != nil:
			reply(Encode(&c.me))
		}
	case fromWorker:
		c.Tell(msg)
	}
}
