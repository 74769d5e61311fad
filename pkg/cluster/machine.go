package cluster

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// Phase is where a job stands.
//
//	Gathering ──all ready──> Forming ──all formed──> Running ──steps done / stop──> Saving ──stored──> Ended
//	                            └───────member lost or at fault───────┴──> Halting ──all halted──> Saving
type Phase int

const (
	Gathering Phase = iota // waiting for workers to join and to be ready
	Forming                // an assignment is out; waiting until all listen
	Running                // steps are being committed
	Halting                // the ring is broken; waiting for survivors to say where they stand
	Saving                 // no more steps; waiting for the last checkpoint to reach the disk
	Ended
)

func (p Phase) String() string {
	return [...]string{"gathering", "forming", "running", "halting", "saving", "ended"}[p]
}

// Outcome is how a job ended.
type Outcome int

const (
	Done    Outcome = iota + 1 // all steps committed and stored
	Stopped                    // asked to stop; a checkpoint to resume is stored
	Lost                       // a member was lost; a checkpoint to resume is stored
	Failed                     // something is wrong that starting again may not cure; Finish.Stored says whether there is a checkpoint
)

func (o Outcome) String() string {
	if o < Done || o > Failed {
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
	return [...]string{"done", "stopped", "lost a worker", "failed"}[o-1]
}

// Config fixes a machine.
type Config struct {
	Workers     int    // members to wait for
	Micro       int    // micro-batches a step
	Steps       uint64 // steps of the job
	StartStep   uint64 // committed before this run
	Deadline    time.Duration
	JoinTimeout time.Duration
}

// Member is the machine's view of one worker.
type Member struct {
	Join
	Rank     int // -1 before the first assignment
	Ready    bool
	Formed   bool
	Halted   bool
	Gone     bool // lost or left
	tried    bool // its snapshot was asked for and could not be stored
	Step     uint64
	Phase    string
	Weights  string
	LastSeen time.Time
}

// Events, beside the messages from workers (*Join, *Ready, *Formed,
// *Heartbeat, *Report, *Halted, *Offer, *Fault, *Leave).
type (
	// Tick lets deadlines pass. A few times a heartbeat is often enough.
	Tick struct{}
	// WorkerGone says that a worker is dead for certain: its process ended, or its connection broke.
	WorkerGone struct{ Worker, Reason string }
	// Malformed is a message that could not be read.
	Malformed struct{ Err error }
	// StopRequest asks to finish the step, checkpoint and leave.
	StopRequest struct{ Reason string }
	// Saved says how the fetch of an offered snapshot ended; Err is nil when it is on the disk.
	Saved struct {
		From string // worker that offered it
		Step uint64
		Err  error
	}
)

// Actions: what the driver must do, in order.
type (
	// Answer is the reply to the Join that was stepped. Refused is empty when it is accepted.
	Answer struct{ Refused string }
	// Send passes a message to one worker.
	Send struct {
		To  string
		Msg any
	}
	// StepDone says that every rank has committed a step; Reports are by rank.
	StepDone struct{ Reports []*Report }
	// Save asks the driver to fetch an offered snapshot to the disk and to answer with Saved.
	Save struct{ Offer *Offer }
	// Note is a decision in words, for the log.
	Note struct{ Text string }
	// Finish is the last action of a machine.
	Finish struct {
		Outcome Outcome
		Step    uint64 // committed
		Stored  bool   // a checkpoint of Step is on the disk
		Reason  string
	}
)

// Machine decides everything about a job's membership, and nothing else: no
// clock, no I/O, no goroutine. The driver steps it with events and carries out
// the actions it returns. It is not safe for concurrent use.
type Machine struct {
	cfg        Config
	phase      Phase
	generation uint64
	members    map[string]*Member
	ranks      []*Member // of the current generation
	reports    map[uint64][]*Report
	committed  uint64 // newest step that any worker reported
	complete   uint64 // newest step that every rank reported
	stored     uint64 // newest step on the disk
	hasStored  bool
	asked      string  // worker whose snapshot is awaited in Saving
	stopping   string  // reason; empty: nobody asked
	outcome    Outcome // decided once in Saving
	reason     string
	began      time.Time
	out        []any
}

// NewMachine returns a machine in Gathering.
func NewMachine(cfg Config, now time.Time) *Machine {
	return &Machine{cfg: cfg, members: map[string]*Member{}, reports: map[uint64][]*Report{},
		committed: cfg.StartStep, complete: cfg.StartStep, stored: cfg.StartStep, hasStored: cfg.StartStep > 0, began: now}
}

// Phase returns where the job stands.
func (m *Machine) Phase() Phase { return m.phase }

// Generation returns the current membership epoch, 0 before the first.
func (m *Machine) Generation() uint64 { return m.generation }

// Members returns a copy of the machine's view, by rank and then by id.
func (m *Machine) Members() []Member {
	var l []Member
	for _, w := range m.sorted() {
		l = append(l, *w)
	}
	sort.SliceStable(l, func(i, j int) bool { return uint(l[i].Rank) < uint(l[j].Rank) })
	return l
}

func (m *Machine) sorted() []*Member {
	l := make([]*Member, 0, len(m.members))
	for _, w := range m.members {
		l = append(l, w)
	}
	sort.Slice(l, func(i, j int) bool { return l[i].Worker < l[j].Worker })
	return l
}

// Step takes one event at a time and returns what is to be done about it.
func (m *Machine) Step(now time.Time, ev any) []any {
	m.out = nil
	if m.phase == Ended {
		if _, ok := ev.(*Join); ok {
			m.act(Answer{Refused: "the job has ended"})
		}
		return m.out
	}
	if id := sender(ev); id != "" {
		w := m.members[id]
		if _, joining := ev.(*Join); !joining && (w == nil || w.Gone) {
			return nil // of someone who was never, or is no longer, a member
		}
		if w != nil {
			w.LastSeen = now
		}
	}
	switch e := ev.(type) {
	case Tick:
		m.tick(now)
	case Malformed:
		m.note("dropped a message: %v", e.Err)
	case StopRequest:
		m.stop(e.Reason)
	case WorkerGone:
		if w := m.members[e.Worker]; w != nil && !w.Gone {
			m.lose(w, e.Reason)
		}
		if m.phase == Gathering { // whoever watches its process will not start another
			m.finish(Failed, fmt.Sprintf("worker %s ended before the first step: %s", e.Worker, e.Reason))
		}
	case Saved:
		m.saved(e)
	case *Join:
		m.join(now, e)
	case *Ready:
		m.ready(e)
	case *Formed:
		m.formed(e)
	case *Heartbeat:
		m.members[e.Worker].Phase = e.Phase
	case *Report:
		m.report(e)
	case *Halted:
		m.halted(e)
	case *Offer:
		m.offer(e)
	case *Fault:
		m.fault(e)
	case *Leave:
		m.lose(m.members[e.Worker], "it left: "+e.Reason)
	default:
		m.note("ignored an unexpected %T", ev)
	}
	m.maybeEnd()
	return m.out
}

// maybeEnd ends a running job once every rank has reported its last step and
// the disk has it.
func (m *Machine) maybeEnd() {
	if m.phase != Running || m.complete != m.committed || !m.storedAll() {
		return
	}
	switch {
	case m.committed == m.cfg.Steps:
		m.finish(Done, "")
	case m.stopping != "" && m.allStopped():
		m.finish(Stopped, m.stopping)
	}
}

// allStopped says whether every rank has left its step loop.
func (m *Machine) allStopped() bool {
	for _, w := range m.ranks {
		if w.Phase != PhaseStopped {
			return false
		}
	}
	return true
}

func sender(ev any) string {
	switch e := ev.(type) {
	case *Join:
		return e.Worker
	case *Ready:
		return e.Worker
	case *Formed:
		return e.Worker
	case *Heartbeat:
		return e.Worker
	case *Report:
		return e.Worker
	case *Halted:
		return e.Worker
	case *Offer:
		return e.Worker
	case *Fault:
		return e.Worker
	case *Leave:
		return e.Worker
	}
	return ""
}

func (m *Machine) act(a any)                  { m.out = append(m.out, a) }
func (m *Machine) note(f string, args ...any) { m.act(Note{fmt.Sprintf(f, args...)}) }

func (m *Machine) broadcast(msg any) {
	for _, w := range m.sorted() {
		if !w.Gone {
			m.act(Send{w.Worker, msg})
		}
	}
}

func (m *Machine) live() (n int) {
	for _, w := range m.members {
		if !w.Gone {
			n++
		}
	}
	return n
}

func (m *Machine) join(now time.Time, j *Join) {
	switch {
	case j.Protocol != Protocol:
		m.act(Answer{Refused: fmt.Sprintf("worker %s speaks protocol version %d, this coordinator speaks %d: run the same release on both sides", j.Version, j.Protocol, Protocol)})
		m.note("refused worker %s on %s: protocol version %d, not %d", j.Worker, j.Host, j.Protocol, Protocol)
	case m.members[j.Worker] != nil && m.members[j.Worker].Join == *j && !m.members[j.Worker].Gone:
		m.act(Answer{}) // the reply to its first request was lost
	case m.members[j.Worker] != nil:
		m.act(Answer{Refused: fmt.Sprintf("the worker id %q is taken", j.Worker)})
	case m.phase != Gathering:
		m.act(Answer{Refused: fmt.Sprintf("the job is %s with %d workers and takes no more", m.phase, len(m.ranks))})
	case m.live() >= m.cfg.Workers:
		m.act(Answer{Refused: fmt.Sprintf("the job has its %d workers", m.cfg.Workers)})
	default:
		m.members[j.Worker] = &Member{Join: *j, Rank: -1, LastSeen: now}
		m.act(Answer{})
		m.note("worker %s joined from %s (%d of %d)", j.Worker, j.Host, m.live(), m.cfg.Workers)
	}
}

func (m *Machine) ready(e *Ready) {
	w := m.members[e.Worker]
	if m.phase != Gathering {
		return
	}
	w.Ready, w.Step, w.Weights = true, e.Step, e.Weights
	all := m.sorted()
	n := 0
	for _, o := range all {
		if o.Gone || !o.Ready {
			continue
		}
		n++
		if o.Weights != w.Weights || o.Step != w.Step {
			m.finish(Failed, fmt.Sprintf("worker %s starts from other weights (%.12s at step %d) than worker %s (%.12s at step %d)",
				w.Worker, w.Weights, w.Step, o.Worker, o.Weights, o.Step))
			return
		}
	}
	if n == m.cfg.Workers {
		m.form(e.Step)
	}
}

// form starts a new generation of all live members, ranked by id.
func (m *Machine) form(step uint64) {
	m.generation++
	m.ranks = m.ranks[:0]
	var names []string
	for _, w := range m.sorted() {
		if !w.Gone {
			w.Rank, w.Formed, w.Halted, w.Step = len(m.ranks), false, false, step
			m.ranks = append(m.ranks, w)
			names = append(names, w.Worker)
		}
	}
	m.phase = Forming
	bounds := Bounds(m.cfg.Micro, len(names))
	m.note("generation %d: %d workers from step %d (%s)", m.generation, len(names), step, strings.Join(names, ", "))
	for _, w := range m.ranks {
		m.act(Send{w.Worker, &Assign{Group: allreduce.Group{Generation: m.generation, Rank: w.Rank, Members: names, Micro: bounds}, Step: step}})
	}
}

func (m *Machine) formed(e *Formed) {
	if m.phase != Forming || e.Generation != m.generation {
		return
	}
	m.members[e.Worker].Formed = true
	for _, w := range m.ranks {
		if !w.Formed {
			return
		}
	}
	m.phase = Running
	m.broadcast(&Go{Generation: m.generation})
	if m.stopping != "" { // asked before there was a ring to carry it
		m.broadcast(&Control{Flags: allreduce.FlagStop})
	}
}

func (m *Machine) report(e *Report) {
	w := m.members[e.Worker]
	if e.Generation != m.generation || e.Rank != w.Rank {
		return
	}
	w.Step = max(w.Step, e.Step)
	m.committed = max(m.committed, e.Step)
	l := m.reports[e.Step]
	if l == nil {
		l = make([]*Report, len(m.ranks))
		m.reports[e.Step] = l
	}
	l[w.Rank] = e
	for _, r := range l {
		if r == nil {
			return
		}
	}
	delete(m.reports, e.Step)
	for _, r := range l[1:] {
		if r.GradNorm != l[0].GradNorm {
			m.halt(fmt.Sprintf("workers disagree after step %d: gradient norm %v on rank 0, %v on rank %d (worker %s)", e.Step, l[0].GradNorm, r.GradNorm, r.Rank, r.Worker), Failed)
			return
		}
	}
	m.complete = e.Step
	m.act(StepDone{l})
}

// stop asks the ring to end at one step that all ranks learn from it.
func (m *Machine) stop(reason string) {
	if m.stopping != "" {
		return
	}
	m.stopping = reason
	switch m.phase {
	case Gathering:
		m.finish(Stopped, reason+" before the first step")
	case Running:
		m.note("stopping after this step: %s", reason)
		m.broadcast(&Control{Flags: allreduce.FlagStop})
	}
}

// lose handles a member that will not come back.
func (m *Machine) lose(w *Member, reason string) {
	w.Gone = true
	m.note("lost worker %s%s: %s", w.Worker, rankText(w.Rank), reason)
	switch m.phase {
	case Gathering:
		delete(m.members, w.Worker) // another may take its place
	case Forming, Running:
		m.halt(fmt.Sprintf("worker %s%s was lost after step %d: %s", w.Worker, rankText(w.Rank), w.Step, reason), Lost)
	case Halting:
		m.settle()
	case Saving:
		m.settle() // perhaps it was the one that was asked
	}
}

func rankText(r int) string {
	if r < 0 {
		return ""
	}
	return fmt.Sprintf(" (rank %d)", r)
}

// halt breaks the ring and asks the survivors where they stand.
func (m *Machine) halt(reason string, outcome Outcome) {
	m.phase, m.outcome, m.reason = Halting, outcome, reason
	m.note("halting: %s", reason)
	m.broadcast(&Halt{Generation: m.generation, Reason: reason})
	m.settle()
}

func (m *Machine) halted(e *Halted) {
	w := m.members[e.Worker]
	if m.phase != Halting || e.Generation != m.generation {
		return
	}
	w.Halted, w.Step = true, e.Step
	m.committed = max(m.committed, e.Step)
	m.settle()
}

// settle goes on once every survivor has said where it stands.
func (m *Machine) settle() {
	if m.live() == 0 {
		m.finish(Failed, m.reason+"; no worker is left")
		return
	}
	for _, w := range m.members {
		if !w.Gone && !w.Halted {
			return
		}
	}
	m.phase = Saving
	m.ask()
}

func (m *Machine) storedAll() bool { return m.hasStored && m.stored >= m.committed }

// ask has the most advanced survivor offer its state, unless the disk has it.
// A step that only the dead had committed is no one's any more.
func (m *Machine) ask() {
	var best, untried *Member
	for _, w := range m.sorted() {
		if w.Gone {
			continue
		}
		if best == nil || w.Step > best.Step {
			best = w
		}
		if !w.tried && (untried == nil || w.Step > untried.Step) {
			untried = w
		}
	}
	m.committed = best.Step
	switch {
	case m.storedAll():
		m.finish(m.outcome, m.reason)
	case untried == nil || untried.Step < best.Step:
		m.finish(Failed, fmt.Sprintf("%s; and the checkpoint of step %d could not be stored", m.reason, m.committed))
	case untried.Worker != m.asked:
		m.asked = untried.Worker
		m.act(Send{m.asked, &Snapshot{}})
	}
}

func (m *Machine) offer(e *Offer) {
	if e.Step <= m.stored && m.hasStored {
		m.act(Send{e.Worker, &Stored{Step: e.Step}}) // twice
		return
	}
	m.act(Save{e})
}

func (m *Machine) saved(e Saved) {
	st := &Stored{Step: e.Step}
	if e.Err != nil {
		st.Error = e.Err.Error()
		m.note("the checkpoint of step %d was not stored: %v", e.Step, e.Err)
	} else {
		m.stored, m.hasStored = max(m.stored, e.Step), true
	}
	m.broadcast(st)
	switch {
	case m.phase == Saving && e.Err == nil:
		m.ask()
	case m.phase == Saving && e.From == m.asked:
		m.members[e.From].tried = true
		m.ask()
	case e.Err != nil && m.phase == Running && (e.Step == m.cfg.Steps || m.stopping != "" && e.Step >= m.committed):
		m.finish(Failed, fmt.Sprintf("the last checkpoint, of step %d, could not be stored: %v", e.Step, e.Err))
	}
}

func (m *Machine) tick(now time.Time) {
	for _, w := range m.sorted() {
		if !w.Gone && now.Sub(w.LastSeen) > m.cfg.Deadline {
			m.lose(w, fmt.Sprintf("not heard from for %v", now.Sub(w.LastSeen).Round(time.Millisecond)))
			if m.phase == Ended {
				return
			}
		}
	}
	if m.phase == Gathering && m.cfg.JoinTimeout > 0 && now.Sub(m.began) > m.cfg.JoinTimeout {
		m.finish(Failed, fmt.Sprintf("%d of %d workers were ready within %v", m.readyCount(), m.cfg.Workers, m.cfg.JoinTimeout))
		return
	}
}

func (m *Machine) readyCount() (n int) {
	for _, w := range m.members {
		if w.Ready && !w.Gone {
			n++
		}
	}
	return n
}

func (m *Machine) fault(e *Fault) {
	w := m.members[e.Worker]
	text := fmt.Sprintf("worker %s%s after step %d: %s", w.Worker, rankText(w.Rank), e.Step, e.Error)
	switch {
	case m.phase == Gathering:
		m.finish(Failed, text)
	case m.phase != Forming && m.phase != Running:
	case e.Peer != "": // it could not reach a member: the fault is in between, and a restart may cure it
		m.halt(text, Lost)
	default:
		m.halt(text, Failed)
	}
}

func (m *Machine) finish(o Outcome, reason string) {
	m.phase, m.outcome, m.reason = Ended, o, reason
	m.broadcast(&End{Outcome: o, Reason: reason})
	m.act(Finish{Outcome: o, Step: m.committed, Stored: m.storedAll(), Reason: reason})
}
