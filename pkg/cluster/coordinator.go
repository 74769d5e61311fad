package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/plain"
)

// Hooks are what a Coordinator's owner does for it. All but Save and Rewind, which
// have goroutines of their own, are called on the coordinator's goroutine: they
// must not wait for a disk, a terminal or another process, for while they do no
// worker is answered. Lead, Noted and Warn may be nil; the others may not.
type Hooks struct {
	// Lead is called once the job is this coordinator's: nothing that others see
	// may be touched before. Its error ends Run. Nil: there is nothing to do.
	Lead func() error

	// Welcome is the job for an accepted worker. The coordinator adds where the
	// worker's state comes from.
	Welcome func(*Join) *Welcome

	// StepDone hears that a step is committed, once for each step and in order.
	// The reports are by rank, of those that came, at least one. They are the
	// owner's to keep and not to change.
	StepDone func([]*Report)
	Arrived  func(*Report) // is told of each report as it comes, of any generation and unchecked, on the bus's goroutine; nil: of none

	// Noted is the newest step of StepDone whose record is safe on a disk: workers
	// keep their reports of later ones. Nil: each is safe at once.
	Noted func() uint64

	// Members shows who takes part: at once where somebody came or went or the
	// phase is another, and else with each tick in which anything happened.
	Members func(Phase, []Member)

	// Save fetches a checkpoint's parts and puts them on the disk, one call at a
	// time. After an error the checkpoint is given up with a warning; the job's last
	// one is tried again. A *PartError names workers whose parts were wrong. An error
	// with a method Lasting() string, which names a lasting state of the disk, is
	// worth one warning in that state. ctx ends with Run.
	Save func(ctx context.Context, step uint64, parts []*Offer) error

	// Rewind puts the disk's newest good state on offer, and returns its step, 0
	// and no files for the job's beginning: what members have in memory is lost
	// or does not count. An error ends the job as Failed. ctx ends with Run.
	Rewind func(ctx context.Context) (step uint64, state []Blob, err error)

	// Disown drops what was computed from wrong gradients: all that is kept of steps
	// after after. It keeps r first, and that this is to be dropped: where the process
	// dies meanwhile, the next coordinator has to do it before it begins. As Save it has
	// a goroutine of its own, and no Save runs meanwhile; Rewind follows. Its error ends
	// the job as Failed. Disown and Keep may be nil where Config.Verify is 0.
	Disown func(ctx context.Context, after uint64, r Record) error

	// Keep keeps r for coordinators after this one, in the place of what it was given
	// before, here or by Disown, which may run meanwhile: see Record.Edition.
	Keep func(r Record)

	// Note is told a decision, in words.
	Note func(text string)

	// Warn is Note for what somebody should look after. Nil: Note is told.
	Warn func(text string)

	// Scaled hears that somebody asked for so many workers, 1 or more: the
	// machine makes room for them, the owner starts or stops them.
	Scaled func(workers int)

	// Dropped hears that a worker was let go because it is slow or wrong: its
	// process is not to be started again.
	Dropped func(worker string)

	// Expel has the server close the connections of a worker that was put out for
	// what it said, and take none of it again, where it can tell it from others. Nil:
	// it cannot.
	Expel func(worker string)

	// Status is the answer to Ask{status}; it must be fit for JSON.
	Status func(Phase, []Member) any
}

// Coordinator drives a job's machine over a Bus. What it decides itself is how to
// answer those outside the job. Its time is a clock: however long it is held up, it
// takes no worker's silence for longer than it has listened.
type Coordinator struct {
	bus    Bus
	job    string
	hooks  Hooks
	events chan Event
	done   chan struct{} // closed when events are not taken any more
	me     Lead
	waits  atomic.Bool // see WaitsForDisk
	parts  atomic.Bool // see Parting
	pulse  pulse

	// Malformed messages that were logged. It has a lock of its own: the bus has several
	// goroutines.
	droppedMu sync.Mutex
	dropped   plain.Repeats

	floods floods // of hearWorkers alone
}

// asking is a request that came over the bus: a Join or an Ask.
type asking struct {
	msg   Message
	reply func([]byte) error
}

// NewCoordinator returns a coordinator for job; Run starts it. host and pid name
// its process to others.
func NewCoordinator(bus Bus, job, host string, pid int, hooks Hooks) *Coordinator {
	return &Coordinator{bus: bus, job: job, me: Lead{Host: host, PID: pid}, hooks: hooks,
		events: make(chan Event, 256), done: make(chan struct{})}
}

// Tell passes an event from outside the bus: WorkerGone, StopRequest or Hopeless.
// It waits until the coordinator takes it. It does nothing once the job has ended.
// It may be called from any goroutine but the coordinator's, whose hooks would
// wait for themselves.
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

// Parting says whether members have asked to leave, and wait until they may. It may be
// called from any goroutine.
func (c *Coordinator) Parting() bool { return c.parts.Load() }

// Run serves the job until it ends or ctx does, which abandons it: workers
// notice by themselves. It returns how the job finished. An error says why the
// job was not led, or is ctx's cause.
func (c *Coordinator) Run(ctx context.Context, cfg Config) (Finish, error) {
	var once sync.Once
	leave := func() { once.Do(func() { close(c.done) }) }
	defer leave()
	c.me.Coordinator = cfg.Coordinator
	if err := c.lead(ctx, cfg.Deadline); err != nil {
		return Finish{}, err
	}
	for subject, h := range map[string]Handler{
		coordinatorSubject(c.job): c.hearCoordinators,
		FromSubject(c.job, "*"):   c.hearWorkers,
		askSubject(c.job, false):  c.hearAsk(false),
		askSubject(c.job, true):   c.hearAsk(true),
	} {
		unsubscribe, err := c.bus.Subscribe(subject, h)
		if err != nil {
			return Finish{}, err
		}
		defer unsubscribe()
	}
	if c.hooks.Lead != nil {
		if err := c.hooks.Lead(); err != nil {
			return Finish{}, err
		}
	}
	if err := c.bus.Publish(coordinatorSubject(c.job), Encode(&c.me)); err != nil {
		return Finish{}, err
	}
	hands := c.newHands(ctx)
	defer hands.end(leave)
	probes := newProber(c, cfg.Deadline)
	defer probes.stop()
	now := time.Now()
	defer c.pulse.looked.Store(0) // what is left, such as a disk that is slow, takes as long as it does
	s := service{c: c, m: newMachine(cfg, now), clock: newClock(now, 2*tickPeriod(cfg.Deadline)), hands: hands, probes: probes}
	return s.run(ctx, cfg)
}

// service is one Run.
type service struct {
	c      *Coordinator
	m      *machine
	clock  *clock
	hands  *hands
	probes *prober
	shown  showing
	finish *Finish          // the machine's last action; nil: the job goes on
	linger <-chan time.Time // how long workers that did not hear the end are waited for
}

// run takes one event after another, and carries out what the machine says about
// it before the next.
func (s *service) run(ctx context.Context, cfg Config) (Finish, error) {
	c, m := s.c, s.m
	ticker := time.NewTicker(tickPeriod(cfg.Deadline))
	defer ticker.Stop()
	// When a tick is due, what was said while this process was held up is handled
	// before the time that has passed: queued is the number of those events.
	queued, due := 0, false
	for {
		c.pulse.looked.Store(time.Now().UnixNano())
		var ev Event
		if due && queued == 0 {
			due, ev = false, tick{}
		} else if due {
			queued--
			ev = <-c.events
		} else {
			select {
			case <-ticker.C:
				due, queued = true, len(c.events)
				continue
			case ev = <-c.events:
			case <-s.linger:
				return *s.finish, nil
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			if s.finish != nil {
				return *s.finish, nil
			}
			step := m.ledger.committed
			return Finish{Outcome: Failed, Step: step, Stored: m.saves.has(step), Reason: "abandoned"}, context.Cause(ctx)
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
			s.probes.heard(id)
			if _, is := ev.(*Stall); is {
				c.pulse.stalls.Add(1)
			}
		}
		for _, a := range m.HandleAt(s.clock, time.Now(), ev) {
			s.carryOut(ctx, a, ev, reply)
		}
		c.waits.Store(m.waitsForDisk())
		c.parts.Store(m.parting.waits())
		if s.shown.due(m, ev, len(c.events) > 0) {
			c.hooks.Members(m.phase, m.roster.byRank())
			s.probes.watch(m.roster.expected())
		}
		if s.finish != nil && (len(m.roster.members) == 0 || s.finish.Outcome == Superseded) {
			return *s.finish, nil
		}
	}
}

// carryOut does what the machine says about ev. reply answers ev where it is a Join.
func (s *service) carryOut(ctx context.Context, a action, ev Event, reply func([]byte) error) {
	c := s.c
	switch a := a.(type) {
	case answer:
		w := &Welcome{Refused: a.Refused, Passes: a.Passes}
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
		s.hands.save(a)
	case rewind:
		s.hands.rewind()
	case disown:
		s.hands.disown(a)
	case keep:
		if c.hooks.Keep != nil {
			c.hooks.Keep(a.Record)
		}
	case unwanted:
		c.hooks.Dropped(a.Worker)
	case expel:
		if c.hooks.Expel != nil {
			c.hooks.Expel(a.Worker)
		}
	case note:
		if a.Bad && c.hooks.Warn != nil {
			c.hooks.Warn(a.Text)
		} else {
			c.hooks.Note(a.Text)
		}
	case Finish:
		s.finish = &a
		s.linger = time.After(min(s.m.cfg.Deadline, 2*time.Second))
	}
}

// showing is what was last shown of the members. Each look at them costs as much
// as there are members, so there is none after each of their messages: it would
// cost their number squared in every step.
type showing struct {
	ever   bool
	phase  Phase
	people uint64 // roster.changes
	stale  bool   // something has happened since
}

// due says whether the members are to be shown after ev: at once where the phase
// has changed, or who they are and no other event waits, which may change that
// too; and with each tick, where anything has happened at all.
func (s *showing) due(m *machine, ev Event, more bool) bool {
	_, ticks := ev.(tick)
	changed := !s.ever || m.phase != s.phase || m.roster.changes != s.people && !more
	if !changed && !(ticks && s.stale) {
		s.stale = s.stale || !ticks
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

// lead makes sure that no other coordinator has the job. Without a
// listener it knows at once; a listener that does not answer has lost the job.
func (c *Coordinator) lead(ctx context.Context, patience time.Duration) error {
	try, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ask := c.me
	ask.Asking = true
	data, err := c.bus.Request(try, coordinatorSubject(c.job), Encode(&ask))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return nil
	}
	const cure = "stop it first, or give this job another name"
	msg, err := Decode(data)
	if o, ok := msg.(*Lead); err == nil && ok {
		return fmt.Errorf("job %q has a coordinator on this server: process %d on %s: %s", c.job, o.PID, o.Host, cure)
	}
	return fmt.Errorf("job %q has a coordinator on this server, of another release: %s", c.job, cure)
}

// ask answers somebody outside the job, and returns the event that follows, nil
// where none does.
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

// malformed tells of a message on a subject that makes no sense, and later on of how many
// there came after it: whoever floods the job with them does not flood its log.
func (c *Coordinator) malformed(subject string, err error) {
	c.droppedMu.Lock()
	text := c.dropped.Tell(time.Now(), subject, err.Error())
	c.droppedMu.Unlock()
	if text != "" {
		c.Tell(malformed{errors.New(text)})
	}
}

// hearCoordinators takes what a coordinator says to others. It runs on the bus's
// goroutine, as those that follow.
func (c *Coordinator) hearCoordinators(_ string, data []byte, reply func([]byte) error) {
	msg, err := Decode(data)
	lead, ok := msg.(*Lead)
	switch {
	case err != nil || !ok:
		c.malformed("coordinator", cmp.Or(err, errors.New("a coordinator says what is not a coordinator's to say")))
	case lead.Coordinator == c.me.Coordinator:
	case !lead.Asking:
		c.Tell(lead)
	case reply != nil:
		reply(Encode(&c.me))
	}
}

// hearAsk returns what takes questions from outside the job, or its orders.
func (c *Coordinator) hearAsk(order bool) Handler {
	return func(_ string, data []byte, reply func([]byte) error) {
		msg, err := Decode(data)
		ask, ok := msg.(*Ask)
		switch {
		case err != nil || !ok:
			c.malformed("ask", cmp.Or(err, errors.New("who only asks says what is a member's to say")))
		case order != (ask.What != "status"):
			if reply != nil {
				reply(Encode(&Answered{Error: fmt.Sprintf("%.20q is not to be asked for here", ask.What)}))
			}
		case reply != nil:
			c.Tell(asking{ask, reply})
		}
	}
}

// hearWorkers takes what a worker says, where it alone can speak: a message in
// another one's name is dropped.
func (c *Coordinator) hearWorkers(from string, data []byte, reply func([]byte) error) {
	if ValidID(from) != nil {
		return
	}
	switch many, first := c.floods.came(from, time.Now()); {
	case first:
		c.Tell(rogue{from, fmt.Sprintf("it has sent %d messages within %v", many, floodTime)})
		return
	case many > 0:
		return
	}
	msg, err := Decode(data)
	w, ok := msg.(fromWorker)
	if err == nil && !ok {
		err = fmt.Errorf("worker %s says what is not a worker's to say: %T", from, msg)
	}
	if err != nil {
		c.malformed("from "+from, err)
		return
	}
	if as, _ := w.from(); as != from {
		if _, joins := msg.(*Join); joins {
			c.malformed("join "+from, fmt.Errorf("worker %s wants to join as %.64q", from, as))
			return
		}
		c.Tell(rogue{from, fmt.Sprintf("it speaks in the name of worker %.64q", as)})
		return
	}
	switch msg := msg.(type) {
	case *Join:
		if reply != nil {
			c.Tell(asking{msg, reply})
		}
	default:
		if r, ok := msg.(*Report); ok && c.hooks.Arrived != nil {
			c.hooks.Arrived(r)
		}
		c.Tell(w)
	}
}

// floods counts what each worker says, so that one that floods the coordinator is
// told from one that has much to say: after an absence it tells a thousand
// reports again at once.
type floods struct {
	since time.Time
	count map[string]int
}

const (
	floodTime = time.Second
	// floodMost is how many messages a worker may send in floodTime: with steps of a
	// tenth of a millisecond it would be as many.
	floodMost = 10_000
)

// came counts a message. many is how many there were, where that is too many;
// first, where this is the first one beyond.
func (f *floods) came(from string, now time.Time) (many int, first bool) {
	if f.count == nil || now.Sub(f.since) >= floodTime {
		f.since, f.count = now, map[string]int{}
	}
	f.count[from]++
	if n := f.count[from]; n > floodMost {
		return n, n == floodMost+1
	}
	return 0, false
}
