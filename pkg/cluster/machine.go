package cluster

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// machine decides everything about a job's membership, and nothing else: no
// clock, no I/O, no goroutine. The driver steps it with events and carries out
// the actions it returns. It is not safe for concurrent use.
type machine struct {
	cfg        Config
	phase      Phase
	generation uint64
	members    map[string]*Member // that are alive
	roster     []*Member          // the same by id; replaced, never changed, so that who walks it may lose some
	people     uint64             // changes of members and ring so far
	places     []place            // of the current generation, by rank, with its first step's micro-batches
	bounds     []int              // of its later steps
	start      beginning          // what it began with
	roadsTold  string             // what was last said of the roads
	ring       map[string]bool    // its members
	midStep    bool               // the generation broke within a step, whose micro-gradients are kept
	digest     string             // of the state after committed, by majority
	started    time.Time          // of this machine
	began      time.Time          // of the phase
	pardon     time.Time          // until then nobody is silent: the driver was held up
	quiet      time.Time          // Takeover: when to stop waiting for unknown workers
	awaits     bool               // that it waits for them has been said
	loads      bool               // that it waits for members that load has been said

	committed uint64 // newest step that any worker told of
	reported  uint64 // newest step whose reports are here, and were compared
	told      uint64 // newest step of StepDone: of steps that are run again nothing is told
	reports   map[uint64]*stepReports

	stored    uint64 // newest step on the disk
	hasStored bool
	offers    map[uint64][]*Offer // parts, by step; nil where one is missing
	saving    map[uint64]bool
	abandoned map[uint64]bool // saves of before a rewind: that they fail means nothing
	void      uint64          // offers of older generations are not complete and never will be
	gaveUp    uint64          // newest step whose checkpoint could not be stored: parts of it are offered in vain
	retake    bool            // so a checkpoint is owed
	doubted   uint64          // step that was being saved when a worker was lost
	stalls    stalls          // of about a second
	late      bool            // whom all wait for has been said, in this phase
	refused   int             // saves of the last step that failed
	waiting   time.Time       // since the first of them; zero: none has
	giveUp    bool            // somebody asked for the end of that
	unsaved   string          // the state for which the newest checkpoint was not stored, which has been told
	why       string          // the same in full, of the newest

	raise    allreduce.Flags // to be seen in the ring before anything else happens
	raised   time.Time
	stopping string            // reason; empty: nobody asked
	asked    time.Time         // when
	reshares bool              // micro-batches are to be divided anew
	routine  bool              // the event that is stepped is
	before   Phase             // of it
	news     bool              // somebody may have become ready since members without a place were looked for
	recovers bool              // whether the slow ones have recovered is to be looked at
	paces    []float64         // memory of watchPace
	target   int               // of Scale; 0: none
	diverged string            // who holds different states, where a generation has yet to end for it
	torn     string            // the same, where nobody's state is to count for it
	known    map[uint64]string // digests of the newest steps that all agreed on
	suspects map[string]bool   // members that have diverged, and have yet to commit with the others
	tied     bool              // the newest divergence had no majority
	strikes  map[string]int    // divergences from the majority, by worker
	struck   map[string]bool   // those that have one in this generation
	outcasts []string          // members to be put out
	fenced   map[string]string // names and processes that are not taken back, and why
	failing  string            // reason of an end that only waits for the checkpoint
	blamed   map[string]int
	faults   map[string]string // own faults since the last commit, by worker
	ends     ends
	base     restored // the state on the disk that those without any begin with
	again    bool     // Gathering anew, after a Rewind
	wary     bool     // because members hold different states
	rewinds  bool     // one is under way
	fence    uint64   // what generations before it came to does not count: their members held different states
	distrust bool     // because members hold different states: none of them counts
	diverges int      // such rewinds since the last checkpoint was stored
	ending   End
	out      []action
	at       time.Time
}

// NewMachine returns a machine in Gathering.
func newMachine(cfg Config, now time.Time) *machine {
	m := &machine{cfg: cfg, members: map[string]*Member{}, ring: map[string]bool{}, reports: map[uint64]*stepReports{},
		offers: map[uint64][]*Offer{}, saving: map[uint64]bool{}, abandoned: map[uint64]bool{},
		ends: newEnds(cfg), known: map[uint64]string{}, strikes: map[string]int{}, struck: map[string]bool{}, fenced: map[string]string{}, suspects: map[string]bool{}, blamed: map[string]int{}, faults: map[string]string{},
		committed: cfg.StartStep, reported: cfg.Reported, told: cfg.Reported, started: now, began: now, at: now}
	m.stored, m.hasStored = cfg.StartStep, cfg.Stored
	if !cfg.Takeover { // steps that the metrics have beyond it are run again
		m.reported = min(cfg.Reported, cfg.StartStep)
	}
	m.base = restored{Step: cfg.StartStep, State: cfg.State}
	if cfg.Takeover {
		m.quiet = now.Add(2 * cfg.Deadline)
	}
	return m
}

// Phase is where the job stands.
func (m *machine) Phase() Phase { return m.phase }

// Generation is the current or newest one.
func (m *machine) Generation() uint64 { return m.generation }

// Committed is the newest step that any worker told of.
func (m *machine) Committed() uint64 { return m.committed }

// Members returns copies of the living members: by rank, those without one last, by id.
func (m *machine) Members() []Member {
	var l []Member
	for _, w := range m.roster {
		l = append(l, *w)
	}
	sort.SliceStable(l, func(i, j int) bool { return uint(l[i].Rank) < uint(l[j].Rank) })
	return l
}

// Expected are the ids of the members, and of those that a takeover waits for.
func (m *machine) Expected() []string {
	var l []string
	for id := range m.members {
		l = append(l, id)
	}
	for id := range m.ring {
		if m.members[id] == nil {
			l = append(l, id)
		}
	}
	return l
}

// People counts the changes of Members and Expected, in who they are.
func (m *machine) People() uint64 { return m.people }

// enlist makes w a member.
func (m *machine) enlist(w *Member) {
	i, _ := slices.BinarySearchFunc(m.roster, w.Worker, byID)
	m.roster = slices.Concat(m.roster[:i], []*Member{w}, m.roster[i:])
	m.members[w.Worker] = w
	m.people++
	m.recovers = true
}

// strikeOff ends the membership of a worker, if it is one.
func (m *machine) strikeOff(id string) {
	if i, ok := slices.BinarySearchFunc(m.roster, id, byID); ok {
		m.roster = slices.Concat(m.roster[:i], m.roster[i+1:])
		delete(m.members, id)
		m.people++
		m.recovers = true
	}
}

func byID(w *Member, id string) int { return strings.Compare(w.Worker, id) }

// Handle takes one event at a time and returns what is to be done about it.
func (m *machine) Handle(now time.Time, ev Event) []action {
	m.out, m.at = nil, now
	m.routine, m.before = routine(ev), m.phase
	m.news = m.news || !m.routine
	if m.phase == Ended {
		switch e := ev.(type) {
		case *Join:
			m.act(answer{Refused: "the job has ended"})
		case *Heartbeat: // it missed the End
			if m.ending.Outcome != Superseded {
				m.act(send{e.Worker, &m.ending})
			}
		case *Leave:
			m.strikeOff(e.Worker)
		}
		return m.out
	}
	if msg, ok := ev.(fromWorker); ok {
		id, gen := msg.from()
		if ValidID(id) != nil {
			return m.out
		}
		w := m.members[id]
		_, joins := ev.(*Join)
		if !joins && w == nil {
			m.stranger(ev, id)
			return m.out
		}
		if !reachable(m.generation, gen) {
			m.unreachable(id, gen)
			return m.out
		}
		if err := m.check(msg); err != nil && w != nil {
			m.dismiss(w, fmt.Sprintf("its %s makes no sense: %v", strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", ev), "*cluster.")), err))
			m.proceed()
			return m.out
		}
		if w != nil && !joins {
			w.LastSeen = now
		}
		if gen > m.generation && m.phase == Gathering { // of a coordinator before this one: ours must be newer
			m.generation = gen
		}
		if gen > m.generation {
			m.finish(Superseded, fmt.Sprintf("another coordinator has the job: worker %s is in generation %d, the newest here is %d", id, gen, m.generation))
			return m.out
		}
	}
	switch e := ev.(type) {
	case tick:
		m.tick()
	case *Lead:
		young := now.Sub(m.started) < m.cfg.Deadline // of two that begin at once the greater id stays
		if e.Coordinator != m.cfg.Coordinator && !(young && e.Coordinator < m.cfg.Coordinator) {
			m.finish(Superseded, fmt.Sprintf("another coordinator, process %d on %s, has the job", e.PID, e.Host))
			return m.out
		}
	case held:
		m.heldUp(e.For)
	case malformed:
		m.note("dropped a message: %v", e.Err)
	case StopRequest:
		m.stop(e.Reason)
	case Hopeless:
		m.hopeless(e.Reason)
	case scaleTo:
		m.scale(e.Workers)
	case WorkerGone:
		if w := m.members[e.Worker]; w != nil {
			m.lose(w, e.Reason)
		} else if m.phase == Gathering { // it need not be waited for
			delete(m.ring, e.Worker)
			m.people++
		}
	case saved:
		m.saved(e)
	case restored:
		m.rewound(e)
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
		m.note("worker %s%s: %s", e.Worker, m.rankText(e.Worker), e.Text)
	case *Offer:
		m.offer(e)
	case *Fault:
		m.fault(e)
	case *Leave:
		m.lose(m.members[e.Worker], "it left: "+e.Reason)
		m.ends.left(e.Worker)
	default:
		m.note("ignored an unexpected %T", ev)
	}
	m.proceed()
	return m.out
}

// StepAt is Step at a reading of the wall clock. Where c stood still meanwhile,
// because the driver was held up, the machine is told.
func (m *machine) HandleAt(c *clock, wall time.Time, ev Event) []action {
	now := c.At(wall)
	var out []action
	if pause := c.Held(); pause > 0 {
		out = m.Handle(now, held{pause})
	}
	return append(out, m.Handle(now, ev)...)
}

// heldUp takes note of a pause of the driver, in which deadlines stood still.
func (m *machine) heldUp(d time.Duration) {
	m.started = m.started.Add(-d) // for others it is as old as it is
	m.pardon = m.at.Add(pardonFor(d))
	if d > m.cfg.Deadline {
		m.note("this coordinator was held up for %v: nobody is taken for lost because of it", d.Round(100*time.Millisecond))
	}
}

// pardonFor is how long after a pause nobody is taken for lost: connections may
// have to be made anew, and what was sent meanwhile comes late.
func pardonFor(held time.Duration) time.Duration { return min(held, 10*time.Second) }

// unreachable says once of a member, until it joins anew, that somebody speaks
// in its name of a generation that the job cannot be in. Such words are no sign
// of life, and no reason to put it out either: it may not have said them.
func (m *machine) unreachable(id string, generation uint64) {
	w := m.members[id]
	if w == nil || w.unreachable {
		return
	}
	w.unreachable = true
	m.note("dropped what worker %s says of generation %d, which this job cannot be in: the newest here is %d", id, generation, m.generation)
}

func (m *machine) act(a action) { m.out = append(m.out, a) }

func (m *machine) note(f string, args ...any) { m.act(note{Text: fmt.Sprintf(f, args...)}) }

func (m *machine) warn(f string, args ...any) {
	m.act(note{Text: fmt.Sprintf(f, args...), Bad: true})
}

func (m *machine) broadcast(msg Message) {
	for _, w := range m.roster {
		m.act(send{w.Worker, msg})
	}
}

// stop asks the ring to end at one step that all ranks learn from it.
func (m *machine) stop(reason string) {
	if m.phase == Saving && !m.waiting.IsZero() { // heard: it has waited for the disk long enough
		m.giveUp = true
		m.warn("the wait for the disk ends: %s", reason)
	}
	if m.stopping != "" {
		return
	}
	m.stopping, m.asked = reason, m.at
	if m.phase == Running { // else what has to be waited for comes first
		m.note("stopping after this step: %s", reason)
		m.flag(allreduce.FlagStop)
	}
}

func (m *machine) hopeless(reason string) {
	if len(m.members) == 0 {
		m.finish(Failed, reason)
	}
}

func (m *machine) scale(n int) {
	if n < 1 {
		return
	}
	m.target = n
	m.cfg.MaxWorkers = max(n, m.cfg.MaxWorkers)
	m.cfg.MinWorkers = min(n, m.cfg.MinWorkers)
	m.note("scaling to %d workers", n)
	if m.phase == Running && len(m.members) > n {
		m.flag(allreduce.FlagReform)
	}
}

// flag raises a flag that the ring carries to all at one step; tick repeats it
// until it has had its effect.
func (m *machine) flag(f allreduce.Flags) {
	m.raise |= f
	m.raised = m.at
	m.broadcast(&Control{Generation: m.generation, Flags: m.raise})
}

// proceed does what has become possible.
func (m *machine) proceed() {
	m.ends.reached(m.committed)
	m.expel()
	if m.phase < Saving && m.phase != Running && m.phase == m.before && m.routine {
		return // such an event makes nobody ready or at rest, and to look at all after each one costs their number squared
	}
	switch m.phase {
	case Gathering:
		m.gathered()
	case Settling, Paused:
		if m.allStand() {
			m.form()
		}
	case Forming:
		for _, p := range m.places {
			if w := m.members[p.Worker]; w == nil || w.Status < Listening {
				return
			}
		}
		m.becomeRunning()
		for _, p := range m.places {
			m.act(send{p.Worker, &Go{Generation: m.generation}})
		}
		if m.stopping != "" { // asked before there was a ring to carry it
			m.flag(allreduce.FlagStop)
		}
		if m.retake {
			m.retake = false
			m.broadcast(&Control{Generation: m.generation, Flags: allreduce.FlagCheckpoint}) // once: if it is lost, the next one due will do
		}
	case Running:
		if m.diverged != "" {
			m.recall(m.diverged)
			return
		}
		if m.ringStands() {
			m.midStep = false
			m.form()
			return
		}
		if m.raise&(allreduce.FlagReform|allreduce.FlagStop) == 0 && m.wantsReform() {
			m.flag(allreduce.FlagReform)
		}
	case Saving:
		m.conclude()
	}
}

// allStand says whether every member that has loaded the job is at rest.
func (m *machine) allStand() bool {
	n := 0
	for _, w := range m.members {
		if w.Status == Loading {
			continue
		}
		if w.Status != AtRest {
			return false
		}
		n++
	}
	return n > 0
}

// ringStands says whether every rank has left its step loop, as a flag or the
// last step told it to.
func (m *machine) ringStands() bool {
	for _, p := range m.places {
		if w := m.members[p.Worker]; w == nil || w.Status != AtRest {
			return false
		}
	}
	return len(m.places) > 0
}

// wantsReform says whether the next step boundary should change the members.
func (m *machine) wantsReform() bool {
	if m.news {
		m.news = false
		for _, w := range m.roster {
			if !m.ring[w.Worker] && w.Status != Loading {
				return true
			}
		}
	}
	return m.reshare()
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

func (m *machine) finish(o Outcome, reason string) {
	m.flush(true)
	m.becomeEnded()
	m.ending.Outcome, m.ending.Reason = o, reason
	if o != Superseded { // whoever has the job now needs the workers
		m.broadcast(&m.ending)
	}
	m.act(Finish{Outcome: o, Step: m.committed, Stored: m.storedAll(), Reason: reason})
}
