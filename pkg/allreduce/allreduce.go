package allreduce

import "context"

// Network carries frames between peers as a datagram service: a frame arrives
// at most once, whole, and frames of one sender to one receiver in order, or
// not at all; a network may also, in faults and reconnects, duplicate, delay,
// reorder or corrupt. Link turns that into exactly-once, in-order chunks.
type Network interface {
	// Send passes one frame to peer. It may block on a congested path; frame
	// may be reused once it returns.
	Send(ctx context.Context, peer string, frame []byte) error
	// Frames yields what arrives for this member from anyone. A received
	// slice belongs to the receiver. Closed by Close.
	Frames() <-chan []byte
	Close() error
}

// Group is one generation's ring: who takes part and where this member stands.
type Group struct {
	Generation uint64
	Rank       int
	Members    []string // peer name by rank; its length is the world size
	Micro      []int    // len(Members)+1 bounds: rank r owns micro-batches [Micro[r], Micro[r+1])
}

// Flags travel along the reduce chain with the step's last chunk, or-ed by each
// rank, and come back to all with its total: a decision that every rank learns
// at the same step without asking anyone.
type Flags uint16

const (
	FlagStop       Flags = 1 << iota // finish this step, checkpoint, leave
	FlagCheckpoint                   // checkpoint after this step
	FlagReform                       // pause after this step for a new generation
)

// Range is a half-open range of elements of the flat gradient.
type Range struct{ Lo, Hi int }
