package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// Node decides what one worker does. It is the other half of the machine, and as
// pure: its Driver passes it events, and carries out the actions that it returns.
// Where it stands, and the moves that it makes, are drawn at nodePhase. It is not
// safe for concurrent use.
type Node struct {
	cfg   NodeConfig
	phase nodePhase

	// Whom it follows.
	generation  uint64 // the newest that it has heard of; 0: none yet
	coordinator string // whose that is
	fence       uint64 // the newest that it has heard of, for the next coordinator; see trust

	// What it holds.
	step   uint64 // the newest that is committed here
	state  bool   // weights and moments are here
	digest string // of them, as of when it last came to rest
	safe   uint64 // the newest that the coordinator has stored, as far as it has said

	// What it is to do.
	assign  *Assign  // of its newest ring
	pending *Assign  // to be formed once it has halted; nil: none
	reload  *Restore // to be loaded once it has halted; nil: none
	fault   *Fault   // why it stands still; nil: it does not
	verdict *Verdict // on the step that it stands before, which was in dispute; nil: none was
	leaving string   // why it has asked to be let go; empty: it has not

	// What the coordinator may not have heard yet.
	reports []*Report // of commits, oldest first
	offers  []*Offer  // of checkpoint parts

	words    string    // of the step loop, for heartbeats
	heard    time.Time // when the coordinator last said something
	beat     time.Time // when a heartbeat last went out
	said     time.Time // when say last did
	reported time.Time // since when the oldest report waits, or when it was last sent again
	offered  time.Time // when the offers were last sent
	asked    time.Time // when it first asked to be let go
	retold   time.Time // when it last did

	// Of the event that is being handled.
	out []NodeAction
	at  time.Time
}

// NodeConfig fixes a node.
type NodeConfig struct {
	Join // how it introduces itself, but for the seat

	Job string // JobHash of what it computes, for its seat

	// Heartbeat is how often it says that it lives, several times in a
	// coordinator's deadline. What has no effect is said again every few of them.
	Heartbeat time.Duration
	// Grace is for how long one that is told to go in good order waits until the
	// coordinator lets it. Then it keeps what it has on its own disk and leaves. 0: it
	// does not ask, and leaves at once.
	Grace time.Duration
	// Patience is for how long it waits for a coordinator. Then it keeps what it
	// has on its own disk and leaves. 0: for ever.
	Patience time.Duration
}

// NewNode returns a node that has been welcomed and loads.
func NewNode(cfg NodeConfig, now time.Time) *Node {
	return &Node{cfg: cfg, heard: now, at: now}
}

// Phase is what heartbeats say that the node does: the words of the step loop
// where it runs and has said any, else where the node stands.
func (n *Node) Phase() string {
	if n.phase == nodeStepping && n.words != "" {
		return n.words
	}
	return n.phase.String()
}

// Committed is the newest committed step.
func (n *Node) Committed() uint64 { return n.step }

// Reports are the commits that the coordinator may not have heard of. They go
// with the state to a peer that takes it, so that they reach the metrics even if
// this worker dies first. They must not be changed.
func (n *Node) Reports() []*Report { return slices.Clone(n.reports) }

// Busy sets what the step loop is doing, in words for heartbeats.
func (n *Node) Busy(words string) { n.words = words }

// Handle takes one event and returns what is to be done about it. now never goes
// back.
func (n *Node) Handle(now time.Time, ev NodeEvent) []NodeAction {
	n.out, n.at = nil, now
	if n.phase == nodeLeft {
		return nil
	}
	if _, ok := ev.(Message); ok { // all of them are the coordinator's
		n.heard = now
	}
	switch e := ev.(type) {
	case tick:
		n.tick()
	case Loaded:
		n.loaded(e)
	case LoadFailed:
		n.failed(e)
	case Listens:
		if n.phase == nodeForming && e.Generation == n.assign.Group.Generation {
			n.becomeFormed()
			n.say()
		}
	case Caught:
		if n.assign != nil && e.Generation == n.assign.Group.Generation {
			n.state, n.step, n.reports = true, n.assign.Step, e.Reports
		}
	case Disputed:
		n.verdict = &e.Verdict
	case Committed:
		n.committed(e)
	case LoopEnded:
		if n.phase == nodeStepping {
			n.rest(e.Digest)
		}
	case LoopBroke:
		n.broke(e)
	case HaltedNow:
		n.halted(e)
	case OfferReady:
		e.Offer.Worker = n.cfg.Worker
		n.offers = append(n.offers, &e.Offer)
		n.tell(&e.Offer)
		n.offered = now
	case Waiting:
		e.Stall.Worker, e.Stall.Generation = n.cfg.Worker, n.generation
		n.tell(&e.Stall)
	case Retimed:
		n.cfg.Heartbeat, n.cfg.Patience = e.Heartbeat, e.Patience
	case Barred: // others have the state, unless all are barred
		n.becomeLeft()
		n.act(Exit{Rescue: n.state, Err: e.Err})
	case retire:
		n.retire(e.Reason)
	case depart:
		n.depart(e.Reason, false)
	case *Restore:
		n.restore(e)
	case *Introduce:
		n.introduce()
	case *Recall:
		n.recall(e)
	case *Assign:
		n.assigned(e)
	case *Go:
		if n.phase == nodeFormed && e.Generation == n.assign.Group.Generation {
			n.becomeStepping()
			n.words = ""
			n.act(Run{n.assign})
		}
	case *Control:
		if n.phase == nodeStepping && e.Generation == n.assign.Group.Generation {
			n.act(Raise{e.Flags})
		}
	case *Beat:
		n.told(e.Reported)
	case *Snapshot:
		n.snapshot(e)
	case *Stored:
		n.stored(e)
	case *End:
		n.tell(&Leave{Worker: n.cfg.Worker, Reason: "told to: " + e.Outcome.String()})
		n.exit(*e, e.Keep && n.state)
	}
	return n.out
}

func (n *Node) act(a NodeAction) { n.out = append(n.out, a) }
func (n *Node) tell(msg Message) { n.act(Tell{msg}) }

// exit is the last thing that a node does.
func (n *Node) exit(e End, rescue bool) {
	n.becomeLeft()
	n.act(Exit{End: e, Rescue: rescue})
}

// loaded ends the loading of the job, or of a state that a Restore named.
func (n *Node) loaded(e Loaded) {
	if n.phase != nodeLoading {
		return
	}
	n.becomeResting()
	n.state, n.step, n.digest = e.State, e.Step, e.Digest
	n.say()
}

// failed stops a worker that cannot load the job, or make the ring of its
// assignment.
func (n *Node) failed(e LoadFailed) {
	switch n.phase {
	case nodeForming:
		n.broke(LoopBroke{Err: e.Err, Digest: cmp.Or(e.Digest, n.digest), Peer: e.Peer, Unshared: e.Unshared})
	case nodeLoading:
		n.fault = &Fault{Worker: n.cfg.Worker, Generation: n.generation, Step: n.step, Error: e.Err.Error()}
		n.say()
	}
}

// restore rolls back to the disk's state: no member's newer one counts. A node
// that is still in a generation before the rollback, which was given up, leaves it.
func (n *Node) restore(e *Restore) {
	if !reachable(n.generation, e.Generation) || e.Fence > e.Generation {
		return
	}
	switch n.phase {
	case nodeResting, nodeLoading:
		if e.Generation < n.generation || n.phase == nodeLoading && n.fault == nil {
			return
		}
		n.load(e)
	case nodeForming, nodeFormed, nodeStepping:
		if e.Generation <= n.generation {
			return
		}
		n.becomeHalting()
		n.fault, n.reload, n.pending = nil, e, nil
		n.act(Halt{"the job goes back to the state on the disk"})
	default:
		return
	}
	n.generation, n.fence = max(n.generation, e.Generation), max(n.fence, e.Fence)
}

// load takes the coordinator's state. From here on the local one is considered
// lost, and the steps after the coordinator's are run again.
func (n *Node) load(r *Restore) {
	n.becomeLoading()
	n.fault, n.state, n.verdict = nil, false, nil
	n.reports = slices.DeleteFunc(n.reports, func(o *Report) bool { return o.Step > r.StartStep })
	n.act(Load{*r})
}

// say tells the coordinator what it waits to hear. tick says it again.
func (n *Node) say() {
	n.said = n.at
	switch {
	case n.fault != nil:
		n.tell(n.fault)
	case n.phase == nodeFormed:
		n.tell(&Formed{Worker: n.cfg.Worker, Generation: n.generation})
	case n.phase == nodeResting && n.generation == 0:
		n.tell(&Ready{Worker: n.cfg.Worker, Step: n.step, State: n.state, Digest: n.digest})
	case n.phase == nodeResting:
		n.tell(&Standing{Worker: n.cfg.Worker, Generation: n.generation, Step: n.step, State: n.state, Digest: n.digest, Verdict: n.verdict})
	}
}

// rest comes to rest with the state of a digest, and says so.
func (n *Node) rest(digest string) {
	n.becomeResting()
	n.digest = digest
	n.say()
}

// halted hears that nothing runs any more, and begins what waited for that.
func (n *Node) halted(e HaltedNow) {
	if n.phase != nodeHalting {
		return
	}
	n.digest, n.state = e.Digest, n.state && e.Digest != ""
	r, a := n.reload, n.pending
	switch {
	case r != nil:
		n.reload, n.pending = nil, nil
		n.load(r)
	case a != nil:
		n.pending = nil
		n.form(a)
	default:
		n.becomeResting()
		n.say()
	}
}

// committed reports a step, and remembers the report until the coordinator has it.
func (n *Node) committed(e Committed) {
	r := e.Report
	r.Worker, r.Generation = n.cfg.Worker, n.assign.Group.Generation
	r.Rank, r.World = n.assign.Group.Rank, len(n.assign.Group.Members)
	n.step = r.Step
	n.reports = append(n.reports, &r)
	if len(n.reports) > maxReports {
		n.reports = n.reports[1:]
	}
	if len(n.reports) == 1 {
		n.reported = n.at
	}
	n.tell(&r)
}

const (
	// maxReports is how many commits a worker remembers for a coordinator that is
	// away, and for how many steps a coordinator collects reports.
	maxReports = 4096

	// toldAtOnce bounds the reports that are sent again at once. It is more than a
	// job of quick steps gathers until then, or its metrics would fall behind for
	// good.
	toldAtOnce = 1024
)

// told forgets reports that the coordinator has.
func (n *Node) told(step uint64) {
	for len(n.reports) > 0 && n.reports[0].Step <= step {
		n.reports, n.reported = n.reports[1:], n.at
	}
}

// tellReports sends the oldest of what the coordinator may not have again. Reports
// that came with a peer's state go out in this worker's name, as in the peer's.
func (n *Node) tellReports() {
	n.reported = n.at
	for _, r := range n.reports[:min(len(n.reports), toldAtOnce)] {
		mine := *r
		mine.Worker = n.cfg.Worker
		n.tell(&mine)
	}
}

// broke stops a worker whose step loop or forming cannot go on.
func (n *Node) broke(e LoopBroke) {
	switch n.phase {
	case nodeLoading: // a panic there
		n.failed(LoadFailed{Err: e.Err})
		return
	case nodeStepping, nodeForming:
	default:
		return
	}
	n.fault = &Fault{Worker: n.cfg.Worker, Generation: n.generation, Step: n.step,
		Error: e.Err.Error(), Peer: e.Peer, Fatal: e.Fatal, Unshared: e.Unshared, Lost: e.Lost, Unlike: e.Unlike}
	n.state = n.state && e.Digest != ""
	n.rest(e.Digest)
}

// newer says whether a generation of a coordinator is to be followed, and does
// so. Two coordinators cannot both lead a generation: the first to name it has it.
// A coordinator whose generation is older is not followed.
func (n *Node) newer(generation uint64, coordinator string) bool {
	rival := generation == n.generation && n.coordinator != "" && coordinator != n.coordinator
	if generation < n.generation || rival || !reachable(n.generation, generation) {
		return false
	}
	n.generation, n.coordinator = generation, coordinator
	return true
}

// recall leaves the ring and says where the node stands; at once where it is at
// rest, else when it has halted.
func (n *Node) recall(e *Recall) {
	again := e.Generation == n.generation
	if n.phase == nodeLoading || !n.newer(e.Generation, e.Coordinator) {
		return
	}
	n.told(e.Reported)
	if !again {
		n.tellReports()
	}
	n.fault, n.pending = nil, nil
	switch n.phase {
	case nodeForming, nodeFormed, nodeStepping:
		n.becomeHalting()
		n.act(Halt{e.Reason})
	case nodeResting:
		n.say()
	}
}

// assigned takes a place in a new generation.
func (n *Node) assigned(a *Assign) {
	g := a.Group.Generation
	if !a.sound() {
		return
	}
	if g == n.generation && n.assign != nil && n.assign.Group.Generation == g { // sent again
		if n.phase == nodeFormed {
			n.say()
		}
		return
	}
	if n.phase == nodeLoading || !n.newer(g, a.Coordinator) {
		return
	}
	n.fault, n.fence = nil, max(n.fence, a.Fence)
	switch n.phase {
	case nodeResting:
		n.form(a)
	case nodeHalting:
		n.pending = a
	default: // it was given up as lost, and another generation went on without it
		n.pending = a
		n.becomeHalting()
		n.act(Halt{"assigned to a newer generation"})
	}
}

// form has the ring of an assignment made. Go starts it.
func (n *Node) form(a *Assign) {
	n.becomeForming()
	n.assign, n.verdict = a, nil
	n.act(Form{a})
}

// introduce asks a coordinator that does not know the worker to take it in. A
// worker that has had a place, and holds its state, comes with a seat.
func (n *Node) introduce() {
	j := n.cfg.Join
	if n.state && n.assign != nil {
		g := n.assign.Group
		s := &Seat{Job: n.cfg.Job, Fence: n.fence, Generation: n.generation, Step: n.step, Members: g.Members, Micro: g.Micro}
		if n.step <= n.assign.Step { // the first step is in progress; below it the node catches up
			s.Micro = n.assign.First
		}
		j.Seat = s
	}
	n.act(Introduced{j})
}

// snapshot offers a part of the state at rest, if this is the state that is asked for.
func (n *Node) snapshot(e *Snapshot) {
	sound := e.Parts >= 1 && e.Parts <= limits.Workers && e.Part >= 0 && e.Part < e.Parts
	if n.phase != nodeResting || !n.state || e.Step != n.step || !sound {
		return
	}
	for _, o := range n.offers {
		if o.Step == e.Step && o.Generation == e.Generation && o.Part == e.Part && o.Parts == e.Parts {
			n.tell(o)
			return
		}
	}
	n.act(MakeOffer{*e})
}

// stored ends the offers of steps up to one.
func (n *Node) stored(e *Stored) {
	kept := n.offers[:0]
	for _, o := range n.offers {
		if o.Step > e.Step {
			kept = append(kept, o)
		}
	}
	n.offers = kept
	if e.Error == "" {
		n.safe = max(n.safe, e.Step)
	}
	n.act(Withdraw{e.Step})
}

// retire asks the coordinator to let the node go: it may be the last that holds the
// job's newest state.
func (n *Node) retire(reason string) {
	switch {
	case n.leaving != "":
	case n.cfg.Grace <= 0:
		n.depart(reason, false)
	default:
		n.leaving, n.asked = reason, n.at
		n.askToLeave()
	}
}

func (n *Node) askToLeave() {
	n.retold = n.at
	n.tell(&Retire{Worker: n.cfg.Worker, Reason: n.leaving})
}

// depart goes at once. Others have the state, unless rescue says that they may not.
func (n *Node) depart(reason string, rescue bool) {
	n.tell(&Leave{Worker: n.cfg.Worker, Reason: reason})
	n.exit(End{Outcome: Released, Reason: reason}, rescue)
}

// tick sends what is due: a heartbeat, and again what has had no effect. Without a
// coordinator for too long it leaves.
func (n *Node) tick() {
	if n.at.Sub(n.beat) >= n.cfg.Heartbeat {
		n.beat = n.at
		n.tell(&Heartbeat{Worker: n.cfg.Worker, Generation: n.generation, Coordinator: n.coordinator,
			Step: n.step, At: n.phase, Phase: n.Phase()})
	}
	if n.at.Sub(n.said) >= 3*n.cfg.Heartbeat {
		n.say()
	}
	if len(n.offers) > 0 && n.at.Sub(n.offered) >= 5*n.cfg.Heartbeat {
		n.offered = n.at
		for _, o := range n.offers {
			n.tell(o)
		}
	}
	silence := n.at.Sub(n.heard)
	// A Beat tells every heartbeat which reports are there. Without any the
	// coordinator is away, and reports would only fill the way there.
	if n.at.Sub(n.reported) >= 2*n.cfg.Heartbeat && silence <= 10*n.cfg.Heartbeat {
		n.tellReports()
	}
	if n.leaving != "" && n.at.Sub(n.retold) >= 3*n.cfg.Heartbeat {
		n.askToLeave()
	}
	switch {
	case n.leaving != "" && n.at.Sub(n.asked) >= n.cfg.Grace:
		n.depart(fmt.Sprintf("%s, and was not let go within %v", n.leaving, n.cfg.Grace), n.state && n.step > n.safe)
	case n.cfg.Patience > 0 && silence > n.cfg.Patience:
		n.exit(End{Outcome: Failed, Reason: fmt.Sprintf("no coordinator for %v; step %d was the last committed here",
			silence.Round(time.Second), n.step)}, n.state)
	}
}
