package cluster

import (
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// NodeEvent is what a Node decides about: a message from the coordinator, or
// something that its driver or its Work has seen. The types of this package
// alone are events.
type NodeEvent interface{ nodeEvent() }

// Events of a node, beside the coordinator's messages and tick.
type (
	// Loaded says that the job is loaded. With State, the weights and moments
	// after Step are here too, and Digest is theirs.
	Loaded struct {
		Step   uint64
		State  bool
		Digest string
	}

	// LoadFailed says why the job could not be loaded, or why the ring of an
	// assignment could not be made.
	LoadFailed struct {
		Err      error
		Digest   string // of the state that is here, where that is known to be another than the assignment's
		Peer     string // the member whose memory cannot be reached, if that is why
		Unshared bool   // this worker is to have a place without shared memory
	}

	// Listens answers Form: the ring is there.
	Listens struct{ Generation uint64 }

	// Caught is said by a step loop that began behind: it has taken the state of
	// its assignment from a peer. Reports came with it; see Node.Reports.
	Caught struct {
		Generation uint64
		Reports    []*Report
	}

	// Committed says that the loop has committed a step. Report lacks the worker,
	// its rank and the generation.
	Committed struct{ Report Report }

	// Disputed says that the loop has stopped before a step on whose gradients two
	// statements differ, and what this worker finds. The loop ends then.
	Disputed struct{ Verdict Verdict }

	// LoopEnded says that the step loop has ended by itself: at a flag, or after
	// the last step.
	LoopEnded struct{ Digest string }

	// LoopBroke says that the step loop cannot go on, or that a task has panicked.
	LoopBroke struct {
		Err      error
		Peer     string // the member it blames, if any
		Fatal    bool   // every worker would fail alike
		Unshared bool   // Peer's memory cannot be reached
		Lost     bool   // a part of the state that it needs is with no worker
		Unlike   bool   // another worker has computed the same otherwise
		Digest   string // of the state that is still here; empty: there is none any more
	}

	// HaltedNow answers Halt: nothing runs any more. Digest is as in LoopBroke.
	HaltedNow struct{ Digest string }

	// OfferReady says that a part of a checkpoint is on offer from now on. Offer
	// lacks the worker.
	OfferReady struct{ Offer Offer }

	// Waiting says what the ring has waited for, for long.
	Waiting struct{ Stall Stall }

	// Retimed says that the job's times were changed.
	Retimed struct{ Heartbeat, Patience time.Duration }

	// Barred says that the worker can never again say or hear anything: its server does
	// not take its credentials any more.
	Barred struct{ Err error }

	// retire asks the node to leave in good order: a signal.
	retire struct{ Reason string }

	// depart asks the node to leave at once: its driver is to end.
	depart struct{ Reason string }
)

// NodeAction is what a Node's driver must do. Actions are carried out in their
// order.
type NodeAction interface{ nodeAction() }

// Task is a NodeAction that takes time. One runs at a time; see Work.Do.
type Task interface {
	NodeAction
	task()
}

// Tasks.
type (
	// Prepare is a worker's first task: to load the job that it was welcomed to,
	// and its state where the welcome says FromCoordinator. Answered by Loaded or
	// LoadFailed.
	Prepare struct{ Welcome *Welcome }

	// Load takes state from the coordinator. Answered by Loaded or LoadFailed.
	Load struct{ Restore Restore }

	// Form makes the ring. Answered by Listens or LoadFailed.
	Form struct{ Assign *Assign }

	// Run starts the step loop of the formed assignment. Where that names
	// Sources, the loop begins by taking the state from one of them, and says
	// Caught. Answered by LoopEnded or LoopBroke.
	Run struct{ Assign *Assign }

	// Halt leaves the ring. It takes the place of whatever runs, a Form included.
	// Answered by HaltedNow.
	Halt struct{ Reason string }
)

// Actions that are done at once.
type (
	// Tell sends a message to the coordinator.
	Tell struct{ Msg Message }

	// Introduced sends a Join. Of its Welcome a refusal and the job's times count.
	Introduced struct{ Join Join }

	// Raise has the ring carry flags.
	Raise struct{ Flags allreduce.Flags }

	// MakeOffer offers one part of the state at rest. Answered by OfferReady.
	MakeOffer struct{ Snapshot Snapshot }

	// Withdraw ends the offers of steps up to Step.
	Withdraw struct{ Step uint64 }

	// Exit ends the worker. Rescue: the state is to be kept here, as no
	// coordinator has it. Err is why, where no coordinator has said End.
	Exit struct {
		End    End
		Rescue bool
		Err    error
	}
)
