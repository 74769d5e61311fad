package cluster

import (
	"fmt"
	"time"
)

// Outcome is how a job ended, or why one worker is to leave.
type Outcome int

const (
	// Done: every step is committed, and the last one is stored.
	Done Outcome = iota + 1
	// Stopped: somebody asked the job to stop; a checkpoint to resume from is stored.
	Stopped
	// Failed: something is wrong that starting again may not cure. Finish.Stored
	// says whether there is a checkpoint.
	Failed
	// Superseded: another coordinator has the job.
	Superseded
	// Released: the job goes on and does not need this worker any more.
	Released
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
	// ResyncDivergence gives the minority the majority's state, and rolls back to
	// the disk where there is no majority. What the minority computed since the
	// last comparison stays in the sums.
	ResyncDivergence DivergencePolicy = "resync"
	// RewindDivergence rolls back to the disk's state, the last that all agreed
	// on: what follows has the bits of a run without divergence. If a diverged
	// worker is lost before the next comparison, the divergence goes unnoticed.
	RewindDivergence DivergencePolicy = "rewind"
)

// Config fixes a job's membership. The zero value of a field means what its
// comment says; where there is none it is a mistake.
type Config struct {
	Coordinator string // random id of this process: workers tell two coordinators apart by it
	Job         string // JobHash of what the job computes: workers of another one are refused

	Workers    int // members to begin with, at least 1
	MinWorkers int // below this the job pauses; 0 as 1
	MaxWorkers int // members beyond this are hot standbys: they follow every step and compute none; 0: all compute

	Micro int    // micro-batches a step
	Steps uint64 // steps of the job

	StartStep uint64 // committed before this run; 0: the job begins
	Stored    bool   // StartStep is on the disk
	State     []Blob // its files, on offer to workers; none: workers initialise from the seed
	Reported  uint64 // newest step that the metrics have
	Takeover  bool   // a coordinator that died left the run unfinished: its workers may live

	// Deadline is for how long a member may be silent. Other times follow from
	// it. It must be positive, and several heartbeats long.
	Deadline time.Duration
	// JoinTimeout is how long the job waits for Workers to be ready. Then it
	// begins with MinWorkers, or fails. 0: it waits for ever.
	JoinTimeout time.Duration
	// StoreWait is how long the last state may wait in the workers' memory for a
	// disk that does not take it. 0: ten tries, without a wait.
	StoreWait time.Duration

	Straggler  StragglerPolicy  // empty: as KeepStraggler
	Divergence DivergencePolicy // empty: as ResyncDivergence
	// MaxDivergences is how often a member may differ from the majority. Then it
	// is put out, and neither its name nor its process is taken back. 0: any number.
	MaxDivergences int
	// MaxEnds is how many processes of one worker, each of which had taken part,
	// may end one after another while the job gets no further. Then the job
	// fails. 0: any number.
	MaxEnds int

	Road   Road   // how gradients travel
	Secret []byte // random, of this process: the secrets of direct connections are made from it

	// Verify is the share of the micro-batches that another rank computes again, 0 to
	// 1. A worker whose gradients are wrong is put out, and all that it took part in
	// is dropped. 0: none.
	Verify float64
	Record Record // kept by coordinators before this one
}
