package cluster

import (
	"fmt"
	"time"
)

// Outcome is how a job ended, or why one worker is to leave.
type Outcome int

const (
	Done       Outcome = iota + 1 // all steps committed and stored
	Stopped                       // asked to stop; a checkpoint to resume is stored
	Failed                        // something is wrong that starting again may not cure; Finish.Stored says whether there is a checkpoint
	Superseded                    // another coordinator has the job
	Released                      // this worker is not needed any more; the job goes on
)

func (o Outcome) String() string {
	if o < Done || o > Released {
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
	return [...]string{"done", "stopped", "failed", "superseded", "released"}[o-1]
}

// StragglerPolicy is what to do about a member that stays slow.
type StragglerPolicy string

const (
	KeepStraggler StragglerPolicy = "keep" // name it, and wait for it
	ShedStraggler StragglerPolicy = "shed" // give it fewer micro-batches
	DropStraggler StragglerPolicy = "drop" // go on without it
)

// DivergencePolicy is what to do where a member's state is not the others'.
type DivergencePolicy string

const (
	// ResyncDivergence gives the minority the majority's state, and goes back to
	// the disk where there is no majority. What the minority computed since the
	// last comparison stays in the sums.
	ResyncDivergence DivergencePolicy = "resync"
	// RewindDivergence goes back to the disk's state, the last that all agreed
	// on: what follows has the bits of a run in which nobody diverged. One who
	// is lost before it is compared takes the evidence with it.
	RewindDivergence DivergencePolicy = "rewind"
)

// Config fixes a machine.
type Config struct {
	Coordinator string // random id of this process, for fencing
	Job         string // hash of the resolved job file
	Workers     int    // members to begin with
	MinWorkers  int    // below it the job pauses
	MaxWorkers  int    // members beyond it are spares: they follow every step without micro-batches
	Micro       int    // micro-batches a step
	Steps       uint64 // steps of the job
	StartStep   uint64 // committed before this run
	Stored      bool   // StartStep is on the disk
	State       []Blob // its files, on offer; none: the beginning, from the seed
	Reported    uint64 // steps that the metrics have
	Takeover    bool   // the run was left unfinished by a coordinator that died: its workers may live
	Deadline    time.Duration
	JoinTimeout time.Duration
	StoreWait   time.Duration // how long the last state waits in memory for a disk that does not take it
	Straggler   StragglerPolicy
	Divergence  DivergencePolicy
	// MaxDivergences is how often a member may differ from the majority: then it
	// is put out, and neither its name nor its process is taken back. 0: any number.
	MaxDivergences int
	// MaxEnds is how many processes of one worker, that had taken part, may end one
	// after another while the job gets no further: then it fails. 0: any number.
	MaxEnds int
	Road    Road   // empty: as NATSRoad, without a word
	Secret  []byte // random, of this process: secrets of generations are made of it
}

// Status is what is known of a member's place in the newest generation.
type Status int

const (
	Loading   Status = iota // reads the job, builds the model
	AtRest                  // at rest
	Assigned                // told its place, has not formed yet
	Listening               // listens
	Stepping                // in its step loop
)

func (s Status) String() string {
	return [...]string{"loading", "at rest", "assigned", "listening", "stepping"}[s]
}

// Member is the machine's view of one worker.
type Member struct {
	Join
	Rank     int // -1: none
	Status   Status
	State    bool   // it has weights and moments
	Step     uint64 // committed
	Digest   string // of its state, where it stands
	Phase    string // its own words
	LastSeen time.Time
	Spare    bool
	Slowdown float64 // its time a micro-batch, as a multiple of the others' median; 0: unknown

	restoring   bool   // it has been told to take the state from the disk
	restored    uint64 // and in which generation: what it says of older ones is of before
	unreached   int    // times that it could not reach a peer's memory
	unshared    string // why its memory is not to be used; empty: it may be
	unreachable bool   // it has been told that words in its name made no sense
	behind      bool   // it began its generation without the state
	pace        pace
	nagged      time.Time // when it was last told what it seems to have missed
}

// Events, beside the messages from workers.
type (
	// Tick lets deadlines pass. A few times a heartbeat is often enough.
	Tick struct{}
	// Held says that the driver was held up (stopped, suspended, blocked), and for
	// how much longer than the machine's time has moved on.
	Held struct{ For time.Duration }
	// WorkerGone says that a worker is dead for certain: its process ended, or its connection broke.
	WorkerGone struct{ Worker, Reason string }
	// Malformed is a message that could not be read.
	Malformed struct{ Err error }
	// StopRequest asks to finish the step, checkpoint and leave.
	StopRequest struct{ Reason string }
	// Hopeless says that no worker will ever come again.
	Hopeless struct{ Reason string }
	// Scale sets how many workers the job is to have.
	Scale struct{ Workers int }
	// Saved says how the fetch of a checkpoint ended; Err is nil when it is on the disk.
	Saved struct {
		Step uint64
		Err  error
	}
	// Restored answers Rewind: the disk's newest good checkpoint, 0 for the job's beginning.
	Restored struct {
		Step  uint64
		State []Blob
		Err   error
	}
)

// Actions: what the driver must do, in order.
type (
	// Answer is the reply to the Join that was stepped. Refused is empty when it is accepted.
	Answer struct {
		Refused string
		Source  StateSource
	}
	// Send passes a message to one worker.
	Send struct {
		To  string
		Msg any
	}
	// StepDone says that a step is committed; the reports are by rank, of those that came.
	StepDone struct{ Reports []*Report }
	// Save asks the driver to fetch all parts of a checkpoint to the disk and to answer with Saved.
	Save struct {
		Step  uint64
		Parts []*Offer
	}
	// Rewind asks for the state on the disk: all that was in memory is lost, or
	// not to be trusted. Answered by Restored.
	Rewind struct{}
	// Dropped says that a member was let go because it is slow or wrong, and is not wanted back.
	Dropped struct{ Worker string }
	// Note is a decision in words, for the log.
	Note struct {
		Text string
		Bad  bool // somebody should look after it
	}
	// Finish is the last action of a machine.
	Finish struct {
		Outcome Outcome
		Step    uint64 // committed
		Stored  bool   // a checkpoint of Step is on the disk
		Reason  string
	}
)
