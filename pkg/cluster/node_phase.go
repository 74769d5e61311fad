package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// nodePhase is where a worker stands. Heartbeats carry it by name.
//
//	loading ──Loaded──> resting ──Assign──> forming ──Listens──> formed ──Go──> stepping
//	   ▲                 ▲ ▲ │                 │ at fault          │               │
//	   └─────Restore─────┼─┼─┘                 │                   │               │
//	                     │ └─── loop ended (flag, last step), at fault ────────────┤
//	                     └─HaltedNow── halting <── Recall, Restore, newer Assign ──┘
//
// What halts because of a Restore goes on to loading, and because of an Assign to
// forming.
type nodePhase int

const (
	nodeLoading  nodePhase = iota // the job, or state from the coordinator
	nodeResting                   // nothing runs; it says where it stands
	nodeForming                   // the ring of its assignment is being made
	nodeFormed                    // the ring is there; it waits for Go
	nodeStepping                  // the step loop runs
	nodeHalting                   // it has been told to stop, and something still runs
	nodeLeft                      // it has said Exit
)

var nodePhases = [...]string{"loading", "resting", "forming", "formed", "stepping", "halting", "left"}

func (p nodePhase) String() string {
	if p < 0 || int(p) >= len(nodePhases) {
		return fmt.Sprintf("nodePhase(%d)", int(p))
	}
	return nodePhases[p]
}

// MarshalText implements encoding.TextMarshaler.
func (p nodePhase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *nodePhase) UnmarshalText(text []byte) error {
	i := slices.Index(nodePhases[:], string(text))
	if i < 0 {
		return fmt.Errorf("%.40q is no state of a worker: want one of %s", text, strings.Join(nodePhases[:], ", "))
	}
	*p = nodePhase(i)
	return nil
}

// The moves of a node. From a phase that a move does not name it panics: the
// node has made a mistake.

func (n *Node) becomeLoading()  { n.become(nodeLoading, nodeLoading, nodeResting, nodeHalting) }
func (n *Node) becomeForming()  { n.become(nodeForming, nodeResting, nodeHalting) }
func (n *Node) becomeFormed()   { n.become(nodeFormed, nodeForming) }
func (n *Node) becomeStepping() { n.become(nodeStepping, nodeFormed) }
func (n *Node) becomeHalting()  { n.become(nodeHalting, nodeForming, nodeFormed, nodeStepping) }

func (n *Node) becomeResting() {
	n.become(nodeResting, nodeLoading, nodeForming, nodeStepping, nodeHalting)
}

func (n *Node) becomeLeft() {
	n.become(nodeLeft, nodeLoading, nodeResting, nodeForming, nodeFormed, nodeStepping, nodeHalting)
}

func (n *Node) become(p nodePhase, from ...nodePhase) {
	if !slices.Contains(from, n.phase) {
		panic(fmt.Sprintf("cluster: a worker cannot go from %v to %v", n.phase, p))
	}
	n.phase = p
}
