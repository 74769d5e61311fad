package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// Node decides what one worker does: the other half of machine, and as pure.
// Its driver steps it with events and carries out the actions, in order.
//
//	loading ──Loaded──> resting ──Assign──> forming ──Formed──> formed ──Go──> stepping
//	                       ▲  ▲                                                   │
//	                       │  └──────── loop ended (flag, last step, fault) ──────┤
//	                       └─ Halted <─ halting <────────── Recall ───────────────┘
type Node struct {
	cfg   NodeConfig
	phase nodePhase

	generation  uint64 // newest heard of
	coordinator string // whose it is
	fence       uint64 // for the next coordinator: what generations before it came to does not count
	step        uint64 // committed
	state       bool   // weights and moments are here
	digest      string // of them, at rest
	assign      *Assign
	pending     *Assign  // to be formed once halted
	reload      *Restore // to be loaded once halted
	words       string   // of the step loop, for heartbeats

	reports  []*Report // committed, not known to be told
	offers   []*Offer
	fault    *Fault
	heard    time.Time // of the coordinator
	beat     time.Time // of the last heartbeat
	said     time.Time // when what is waited on was last said
	reported time.Time // since when the oldest report waits, or was sent again
	offered  time.Time
	out      []NodeAction
	at       time.Time
}

// NodeConfig fixes a node.
type NodeConfig struct {
	Join
	Job       string // hash of the resolved job file
	Heartbeat time.Duration
	Patience  time.Duration // without a coordinator for so long, the node keeps what it has and leaves
}

// NewNode returns a node that has been welcomed and loads.
func NewNode(cfg NodeConfig, now time.Time) *Node {
	return &Node{cfg: cfg, heard: now, at: now}
}

// Phase is what heartbeats say the node does.
func (n *Node) Phase() string {
	if n.phase == nodeStepping && n.words != "" {
		return n.words
	}
	return n.phase.String()
}

// Committed is the newest committed step.
func (n *Node) Committed() uint64 { return n.step }

// Reports are the commits that the coordinator may not have heard of. They go
// with the state to a peer that asks for it, so that nobody need live for the
// metrics' sake. They must not be changed.
func (n *Node) Reports() []*Report { return slices.Clone(n.reports) }

// Busy sets what the step loop is doing, in words for heartbeats.
func (n *Node) Busy(words string) { n.words = words }

// Handle takes one event and returns what is to be done about it.
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
	case Committed:
		n.committed(e)
	case LoopEnded:
		if n.phase == nodeStepping {
			n.rest(e.Digest)
		}
	case LoopBroke:
		n.broke(e)
	case HaltedNow:
		if n.phase == nodeHalting {
			n.digest, n.state = e.Digest, n.state && e.Digest != ""
			if r := n.reload; r != nil {
				n.reload, n.pending = nil, nil
				n.load(r)
			} else if a := n.pending; a != nil {
				n.pending = nil
				n.form(a)
			} else {
				n.becomeResting()
				n.say()
			}
		}
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
	case depart:
		n.tell(&Leave{Worker: n.cfg.Worker, Reason: e.Reason})
		n.exit(End{Outcome: Released, Reason: e.Reason}, false)
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
		n.stored(e.Step)
	case *End:
		n.tell(&Leave{Worker: n.cfg.Worker, Reason: "told to: " + e.Outcome.String()})
		n.exit(*e, e.Keep && n.state)
	}
	return n.out
}

func (n *Node) act(a NodeAction) { n.out = append(n.out, a) }
func (n *Node) tell(msg Message) { n.act(Tell{msg}) }

func (n *Node) exit(e End, rescue bool) {
	n.becomeLeft()
	n.act(Exit{e, rescue})
}

func (n *Node) loaded(e Loaded) {
	if n.phase != nodeLoading {
		return
	}
	n.becomeResting()
	n.state, n.step, n.digest = e.State, e.Step, e.Digest
	n.say()
}

// failed ends a worker that cannot load the job, and a forming that cannot be.
func (n *Node) failed(e LoadFailed) {
	switch n.phase {
	case nodeForming:
		n.broke(LoopBroke{Err: e.Err, Digest: cmp.Or(e.Digest, n.digest), Peer: e.Peer, Unshared: e.Unshared})
	case nodeLoading:
		n.fault = &Fault{Worker: n.cfg.Worker, Generation: n.generation, Step: n.step, Error: e.Err.Error()}
		n.say()
	}
}

// restore goes back to the disk's state: nobody's newer one counts. A node that
// is still in a generation before that, because it was given up, leaves it.
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

// load takes the coordinator's state: what is here is as good as overwritten,
// and the steps after that one are run again.
func (n *Node) load(r *Restore) {
	n.becomeLoading()
	n.fault, n.state = nil, false
	n.reports = slices.DeleteFunc(n.reports, func(o *Report) bool { return o.Step > r.StartStep })
	n.act(Load{*r})
}

// say tells the coordinator what it is waiting to hear; tick says it again.
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
		n.tell(&Standing{Worker: n.cfg.Worker, Generation: n.generation, Step: n.step, State: n.state, Digest: n.digest})
	}
}

func (n *Node) rest(digest string) {
	n.becomeResting()
	n.digest = digest
	n.say()
}

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

// maxReports is how many commits a worker remembers for a coordinator that is away.
const maxReports = 4096

// toldAtOnce bounds the reports that are sent again at once: more than a job of
// quick steps gathers until they are sent again, or its metrics would fall
// behind for good.
const toldAtOnce = 1024

// told forgets reports that the coordinator has.
func (n *Node) told(step uint64) {
	for len(n.reports) > 0 && n.reports[0].Step <= step {
		n.reports, n.reported = n.reports[1:], n.at
	}
}

// tellReports sends the oldest of what the coordinator may not have again. What
// comes with a peer's state was that peer's to tell: now it is everyone's.
func (n *Node) tellReports() {
	n.reported = n.at
	for _, r := range n.reports[:min(len(n.reports), toldAtOnce)] {
		mine := *r
		mine.Worker = n.cfg.Worker
		n.tell(&mine)
	}
}

func (n *Node) broke(e LoopBroke) {
	if n.phase == nodeLoading { // a panic there
		n.failed(LoadFailed{Err: e.Err})
		return
	}
	if n.phase != nodeStepping && n.phase != nodeForming {
		return
	}
	n.fault = &Fault{Worker: n.cfg.Worker, Generation: n.generation, Step: n.step, Error: e.Err.Error(), Peer: e.Peer, Fatal: e.Fatal, Unshared: e.Unshared}
	n.becomeResting()
	n.digest, n.state = e.Digest, n.state && e.Digest != ""
	n.say()
}

// newer says whether a generation of a coordinator is to be followed, and does
// so. Two coordinators cannot both lead it: the first to name a generation has
// it, and one that is behind has no say.
func (n *Node) newer(generation uint64, coordinator string) bool {
	if generation < n.generation || !reachable(n.generation, generation) || generation == n.generation && n.coordinator != "" && coordinator != n.coordinator {
		return false
	}
	n.generation, n.coordinator = generation, coordinator
	return true
}

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
	case nodeForming, nodeFormed, nodeStepping: // the answer comes with HaltedNow
		n.becomeHalting()
		n.act(Halt{e.Reason})
	case nodeResting:
		n.say()
	}
}

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

func (n *Node) form(a *Assign) {
	n.becomeForming()
	n.assign = a
	n.act(Form{a})
}

func (n *Node) introduce() {
	j := n.cfg.Join
	if n.state && n.assign != nil {
		s := &Seat{Job: n.cfg.Job, Fence: n.fence, Generation: n.generation, Step: n.step, Members: n.assign.Group.Members, Micro: n.assign.Group.Micro}
		if n.step <= n.assign.Step { // below, while it catches up
			s.Micro = n.assign.First
		}
		j.Seat = s
	}
	n.act(Introduced{j})
}

func (n *Node) snapshot(e *Snapshot) {
	if n.phase != nodeResting || !n.state || e.Step != n.step || e.Parts < 1 || e.Parts > limits.Workers || e.Part < 0 || e.Part >= e.Parts {
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

func (n *Node) stored(step uint64) {
	kept := n.offers[:0]
	for _, o := range n.offers {
		if o.Step > step {
			kept = append(kept, o)
		}
	}
	n.offers = kept
	n.act(Withdraw{step})
}

func (n *Node) tick() {
	if n.at.Sub(n.beat) >= n.cfg.Heartbeat {
		n.beat = n.at
		n.tell(&Heartbeat{Worker: n.cfg.Worker, Generation: n.generation, Coordinator: n.coordinator, Step: n.step, At: n.phase, Phase: n.Phase()})
	}
	again := 3 * n.cfg.Heartbeat
	if n.at.Sub(n.said) >= again {
		n.say()
	}
	if len(n.offers) > 0 && n.at.Sub(n.offered) >= 5*n.cfg.Heartbeat {
		n.offered = n.at
		for _, o := range n.offers {
			n.tell(o)
		}
	}
	if n.at.Sub(n.reported) >= 2*n.cfg.Heartbeat && n.at.Sub(n.heard) <= 10*n.cfg.Heartbeat { // to nobody's ears they would only fill the way there; a beat tells every heartbeat which are there
		n.tellReports()
	}
	if n.cfg.Patience > 0 && n.at.Sub(n.heard) > n.cfg.Patience {
		n.exit(End{Outcome: Failed, Reason: fmt.Sprintf("no coordinator for %v; step %d was the last committed here", n.at.Sub(n.heard).Round(time.Second), n.step)}, n.state)
	}
}
