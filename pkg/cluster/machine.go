package cluster

import (
	"fmt"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// machine decides everything about a job's membership, and nothing else: no
// clock, no I/O, no goroutine. Its driver, the Coordinator, passes it events and
// carries out the actions that it returns. It is not safe for concurrent use.
//
// What it knows is kept in parts that know nothing of each other:
//
//	roster  who takes part, and at which place
//	ledger  what was reported of the steps, and what was announced
//	saves   checkpoints in the making, and the newest on the disk
//	trust   whose state counts
//	blame   whose fault it is that the job gets no further
//	oversight  whose gradients are wrong
//
// The machine decides what follows from one part for the others.
type machine struct {
	cfg        Config
	phase      Phase
	generation uint64 // the current one, or the newest that is over

	roster roster
	ledger ledger
	saves  saves
	trust  trust
	blame  blame
	stalls stalls

	oversight oversight // of gradients
	parting   parting

	start    beginning // what the current generation began with
	digest   string    // of the state after the committed step, by majority
	midStep  bool      // the generation broke within a step, whose micro-gradients are kept
	rollback rollback
	shares   shares
	orders   orders
	waits    waits
	failing  string        // why the job fails, once its checkpoint is stored; empty: it does not
	ending   End           // what workers are told at the end
	repeats  plain.Repeats // what outsiders can have said again and again

	started time.Time // of this machine; later by each pause of its driver
	began   time.Time // of the phase
	pardon  time.Time // until then silence does not count: the driver was held up

	// Of the event that is being handled.
	out     []action
	at      time.Time
	routine bool  // see routine
	before  Phase // it came in
	// news: somebody may have become ready since members without a place were
	// looked for.
	news bool
}

// rollback is the way back to the state on the disk.
type rollback struct {
	base     restored // the state on the disk that those without any begin with
	underway bool     // rewind is out, and restored has yet to come
	total    bool     // no member's state counts, because they differ
	disowns  bool     // what is kept is being dropped, too
	again    bool     // the job is Gathering anew, after a rollback
	// wary: after a total one. The job waits for all members, since a majority of
	// them can tell which one is wrong.
	wary bool
}

// orders are what somebody has asked for, and what the ring has yet to carry out.
type orders struct {
	flags   allreduce.Flags // to be seen in the ring before anything else happens
	flagged time.Time       // when they were last sent
	stop    string          // why the job is to stop; empty: it is not
	asked   time.Time       // when that was
	members int             // how many the job is to have; 0: as configured
}

// waits are what the machine waits for, and whether it has said so.
type waits struct {
	quiet     time.Time // of a takeover: when to stop waiting for workers that are not known yet
	saidQuiet bool      // that it waits for those
	saidLoad  bool      // that it waits for members that load
	saidLate  bool      // which member all others wait for, in this phase
	roads     string    // what was last said of the roads
}

// newMachine returns a machine in Gathering.
func newMachine(cfg Config, now time.Time) *machine {
	m := &machine{
		cfg:       cfg,
		roster:    newRoster(),
		ledger:    newLedger(cfg.StartStep, cfg.Reported, cfg.Takeover),
		saves:     newSaves(cfg.StartStep, cfg.Stored),
		trust:     newTrust(),
		blame:     newBlame(cfg),
		oversight: newOversight(cfg),
		rollback:  rollback{base: restored{Step: cfg.StartStep, State: cfg.State}},
		started:   now, began: now, at: now,
	}
	for id, why := range cfg.Record.Out {
		m.trust.ban(id, why, nil)
	}
	if cfg.Takeover {
		m.generation, m.trust.fence = cfg.Record.Fence, cfg.Record.Fence
		m.waits.quiet = now.Add(2 * cfg.Deadline)
	}
	return m
}

// Handle takes one event at a time, in the order of their coming, and returns
// what is to be done about it. now never goes back.
func (m *machine) Handle(now time.Time, ev Event) []action {
	m.out, m.at = nil, now
	m.routine, m.before = routine(ev), m.phase
	m.news = m.news || !m.routine
	if m.phase == Ended {
		m.ended(ev)
		return m.out
	}
	if msg, ok := ev.(fromWorker); ok && !m.admit(msg) {
		return m.out
	}
	m.take(ev)
	m.proceed()
	return m.out
}

// HandleAt is Handle at a reading of the wall clock. Where c stood still
// meanwhile, because the driver was held up, the machine is told.
func (m *machine) HandleAt(c *clock, wall time.Time, ev Event) []action {
	now := c.At(wall)
	var out []action
	if pause := c.Held(); pause > 0 {
		out = m.Handle(now, held{pause})
	}
	return append(out, m.Handle(now, ev)...)
}

// admit says whether a worker's message is to be taken in. It is the one place
// where staleness and authorship are looked at.
func (m *machine) admit(msg fromWorker) bool {
	id, generation := msg.from()
	if ValidID(id) != nil {
		return false
	}
	w := m.roster.members[id]
	_, joins := msg.(*Join)
	if !joins && w == nil {
		m.stranger(msg, id)
		return false
	}
	if !reachable(m.generation, generation) {
		m.unreachable(w, id, generation)
		return false
	}
	if err := m.check(msg); err != nil && w != nil {
		m.dismiss(w, fmt.Sprintf("its %s makes no sense: %v", kindOf(msg), err))
		m.proceed()
		return false
	}
	if w != nil && !joins {
		w.LastSeen = m.at
	}
	if generation > m.generation && m.phase == Gathering { // a coordinator before this one made it: the next one here is newer
		m.generation = generation
	}
	if generation > m.generation {
		m.finish(Superseded, fmt.Sprintf("another coordinator has the job: worker %s is in generation %d, the newest here is %d",
			id, generation, m.generation))
		return false
	}
	return true
}

// take changes what is known by one event. What follows from that, proceed does.
func (m *machine) take(ev Event) {
	switch e := ev.(type) {
	case tick:
		m.tick()
	case held:
		m.heldUp(e.For)
	case *Lead:
		m.lead(e)
	case malformed:
		m.note("dropped a message: %v", e.Err)
	case StopRequest:
		m.stop(e.Reason)
	case Hopeless:
		if len(m.roster.members) == 0 {
			m.finish(Failed, e.Reason)
		}
	case rogue:
		m.expelRogue(e)
	case scaleTo:
		m.scale(e.Workers)
	case WorkerGone:
		if w := m.roster.members[e.Worker]; w != nil {
			m.lose(w, e.Reason)
		} else if m.phase == Gathering { // it need not be waited for
			m.roster.forget(e.Worker)
		}
	case saved:
		m.saved(e)
	case restored:
		m.restored(e)
	case *Join:
		m.join(e)
	case *Ready:
		m.ready(e)
	case *Standing:
		m.standing(e)
	case *Formed:
		m.formed(e)
	case *Heartbeat:
		m.heartbeat(e)
	case *Report:
		m.report(e)
	case *Stall:
		m.stalled(e)
	case *Notice:
		m.note("%s: %s", m.roster.named(e.Worker), e.Text)
	case *Offer:
		m.offer(e)
	case *Fault:
		m.fault(e)
	case *Retire:
		m.retire(e)
	case *Leave:
		m.lose(m.roster.members[e.Worker], "it left: "+e.Reason)
		m.blame.ends.left(e.Worker)
	default:
		m.note("ignored an unexpected %T", ev)
	}
}

// ended answers those who missed that the job has ended.
func (m *machine) ended(ev Event) {
	switch e := ev.(type) {
	case *Join:
		m.act(answer{Refused: "the job has ended"})
	case *Heartbeat:
		if m.ending.Outcome != Superseded {
			m.act(send{e.Worker, &m.ending})
		}
	case *Retire:
		if m.ending.Outcome != Superseded {
			m.act(send{e.Worker, &m.ending})
		}
	case *Leave:
		m.roster.strikeOff(e.Worker)
	}
}

// lead hears of another coordinator. Of two that begin at once the one with the
// greater id stays.
func (m *machine) lead(e *Lead) {
	young := m.at.Sub(m.started) < m.cfg.Deadline
	if e.Coordinator != m.cfg.Coordinator && !(young && e.Coordinator < m.cfg.Coordinator) {
		m.finish(Superseded, fmt.Sprintf("another coordinator, process %d on %s, has the job", e.PID, e.Host))
	}
}

// proceed does what has become possible.
func (m *machine) proceed() {
	m.blame.ends.reached(m.ledger.committed)
	m.expel()
	m.letIdleGo()
	if m.phase < Saving && m.phase != Running && m.phase == m.before && m.routine {
		return // such an event makes no member ready or at rest, and a look at all after each one costs their number squared
	}
	switch m.phase {
	case Gathering:
		m.gathered()
	case Settling, Paused:
		switch {
		case m.roster.allStand():
			m.form()
		case m.orders.stop != "" && len(m.roster.members) == 0 && (m.parting.left() || m.at.Sub(m.orders.asked) >= stopPatience):
			m.rollBack() // nobody came back with the newest state: the job ends with the disk's
		}
	case Forming:
		if m.roster.ringListens() {
			m.run()
		}
	case Running:
		switch {
		case m.trust.broken != "":
			m.recall(m.trust.broken)
		case m.roster.ringStands():
			m.midStep = false
			m.form()
		case m.orders.flags&(allreduce.FlagReform|allreduce.FlagStop) == 0 && (m.parting.waits() || m.wantsReform()):
			m.flag(allreduce.FlagReform)
		}
	case Saving:
		m.conclude()
	}
}

// routine says whether an event is one of those that come from every member in
// every step: what follows from them must not look at all the others.
func routine(ev Event) bool {
	switch ev.(type) {
	case *Heartbeat, *Report, *Stall, *Notice, *Offer:
		return true
	}
	return false
}

// wantsReform says whether the next step boundary should change the members, or
// divide the micro-batches anew.
func (m *machine) wantsReform() bool {
	if m.news {
		m.news = false
		for _, w := range m.roster.list {
			if !m.roster.ring[w.Worker] && w.Status != Loading {
				return true
			}
		}
	}
	return m.reshare()
}

// heldUp follows a pause of the driver, in which deadlines stood still.
func (m *machine) heldUp(d time.Duration) {
	m.started = m.started.Add(-d) // for others it is as old as it is
	m.pardon = m.at.Add(pardonFor(d))
	if d > m.cfg.Deadline {
		m.note("this coordinator was held up for %v: nobody is taken for lost because of it", d.Round(100*time.Millisecond))
	}
}

// pardonFor is how long after a pause no member is taken for lost: connections may
// have to be made anew, and what was sent meanwhile comes late.
func pardonFor(held time.Duration) time.Duration { return min(held, 10*time.Second) }

// unreachable notes once of a member, until it joins anew, that somebody speaks
// in its name of a generation that the job cannot be in. Such words are no sign
// of life, and no reason to put it out either: it may not have said them.
func (m *machine) unreachable(w *Member, id string, generation uint64) {
	if w == nil || w.unreachable {
		return
	}
	w.unreachable = true
	m.note("dropped what worker %s says of generation %d, which this job cannot be in: the newest here is %d", id, generation, m.generation)
}

// stop asks the ring to end at one step that all ranks learn from it.
func (m *machine) stop(reason string) {
	if m.phase == Saving && !m.saves.last.since.IsZero() {
		m.saves.last.ended = true
		m.warn("the wait for the disk ends: %s", reason)
	}
	if m.orders.stop != "" {
		return
	}
	m.orders.stop, m.orders.asked = reason, m.at
	if m.phase == Running { // else the job ends when the members have come to rest
		m.note("stopping after this step: %s", reason)
		m.flag(allreduce.FlagStop)
	}
}

// scale has the job have n members: more than that are let go at the next step
// boundary, and below it there is no minimum. Its owner starts what is missing.
func (m *machine) scale(n int) {
	if n < 1 {
		return
	}
	m.orders.members = n
	m.cfg.MaxWorkers = max(n, m.cfg.MaxWorkers)
	m.cfg.MinWorkers = min(n, m.cfg.MinWorkers)
	m.note("scaling to %s", plain.Workers(n))
	if m.phase == Running && len(m.roster.members) > n {
		m.flag(allreduce.FlagReform)
	}
}

// flag raises a flag that the ring carries to all at one step. tick repeats it
// until it has had its effect.
func (m *machine) flag(f allreduce.Flags) {
	m.orders.flags |= f
	m.orders.flagged = m.at
	m.broadcast(&Control{Generation: m.generation, Flags: m.orders.flags})
}

// finish ends the job. Whoever supersedes this coordinator needs the workers, so
// they are not told.
func (m *machine) finish(o Outcome, reason string) {
	m.flush(true)
	m.becomeEnded()
	m.ending.Outcome, m.ending.Reason = o, reason
	if o != Superseded {
		m.broadcast(&m.ending)
	}
	m.act(Finish{Outcome: o, Step: m.ledger.committed, Stored: m.saves.has(m.ledger.committed), Reason: reason})
}

func (m *machine) act(a action) { m.out = append(m.out, a) }

func (m *machine) broadcast(msg Message) {
	for _, w := range m.roster.list {
		m.act(send{w.Worker, msg})
	}
}

// note says a decision in words, for the log.
func (m *machine) note(f string, args ...any) { m.act(note{Text: fmt.Sprintf(f, args...)}) }

// warn is note for what somebody should look after.
func (m *machine) warn(f string, args ...any) {
	m.act(note{Text: fmt.Sprintf(f, args...), Bad: true})
}

// kindOf is a message's name on the wire.
func kindOf(m Message) string {
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", m), "*cluster."))
}
