package cluster

import "time"

// Event is what the machine decides about: a message from a worker or another
// coordinator, or something that its driver has seen. The types of this package
// alone are events.
type Event interface{ event() }

// fromWorker is an Event that a worker has sent. Staleness and authorship are
// checked once, where it comes in.
type fromWorker interface {
	Event
	Message
	// from is the worker in whose name it was sent, and the generation it speaks
	// of, 0 where it speaks of none.
	from() (worker string, generation uint64)
}

// Events beside messages.
type (
	// tick lets deadlines pass. A few of them in a heartbeat are often enough.
	// The Node has it too.
	tick struct{}

	// held says that the driver was held up (stopped, suspended, blocked), and
	// for how much longer than the machine's time has moved on.
	held struct{ For time.Duration }

	// malformed is a message that could not be read.
	malformed struct{ Err error }

	// rogue says that a worker does what no sound one does; see Coordinator.hearWorkers.
	rogue struct{ Worker, Why string }

	// scaleTo sets how many workers the job is to have.
	scaleTo struct{ Workers int }

	// saved says how the fetch of a checkpoint ended. Err is nil where it is on the disk.
	saved struct {
		Step uint64
		Err  error
	}

	// restored answers rewind: the disk's newest good checkpoint, step 0 for the
	// job's beginning.
	restored struct {
		Step  uint64
		State []Blob // its files, on offer to workers
		Err   error  // the disk could not be read

		Disowned bool // it answers disown, and not an earlier rewind
	}

	// WorkerGone says that a worker is dead for certain: its process has ended,
	// or its connection broke.
	WorkerGone struct{ Worker, Reason string }

	// StopRequest asks the job to finish the step, store a checkpoint and end.
	StopRequest struct{ Reason string }

	// Hopeless says that no worker will ever come again.
	Hopeless struct{ Reason string }
)

// action is what the driver must do. Actions are carried out in their order.
type action interface{ action() }

type (
	// answer is the reply to the Join that was handled. Refused is empty where
	// the worker is accepted. Passes: it may ask again.
	answer struct {
		Refused string
		Passes  bool
		Source  StateSource
	}

	// send passes a message to one worker.
	send struct {
		To  string
		Msg Message
	}

	// stepDone says that a step is committed. Reports are by rank, of those that came.
	stepDone struct{ Reports []*Report }

	// save has all parts of a checkpoint fetched to the disk. Answered by saved.
	save struct {
		Step  uint64
		Parts []*Offer
	}

	// rewind asks for the state on the disk: what was in memory is lost, or not
	// to be trusted. Answered by restored.
	rewind struct{}

	// disown has all dropped that was kept of steps after After, and the record kept
	// before that: it was computed from wrong gradients. Then it is as rewind, and
	// answered by restored.
	disown struct {
		After  uint64
		Record Record
	}

	// keep has a record kept.
	keep struct{ Record Record }

	// unwanted says that a member was let go because it is slow or wrong. Nobody
	// is to start its process again.
	unwanted struct{ Worker string }

	// expel says that a member was put out for what it said.
	expel struct{ Worker string }

	// note is a decision in words, for the log.
	note struct {
		Text string
		Bad  bool // somebody should look after it
	}

	// Finish is the last action of a machine.
	Finish struct {
		Outcome Outcome
		Step    uint64 // committed
		Stored  bool   // a checkpoint of Step is on the disk
		Reason  string // empty where the outcome says it all
	}
)
