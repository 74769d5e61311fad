package allreduce

import (
	"context"
	"encoding/binary"
)

// Network carries frames between members as a datagram service: a frame of 1
// to MaxFrame bytes arrives at most once, whole, and frames of one sender to
// one receiver in order, or not at all; a network may also, in faults and
// reconnects, duplicate, delay, reorder or corrupt. A ring turns that into
// exactly-once, in-order chunks. Package nettest holds what every
// implementation must do.
//
// All methods may be called from any goroutine.
type Network interface {
	// Send passes one frame to peer. It may block on a congested path until
	// ctx is done, but never for the receiver to read: a frame that has no
	// room is lost. frame may be reused once it returns. An error says that
	// the frame may not have gone; the ring sends it again after a while,
	// but ErrUnsendable and ErrNetworkClosed end it. That peer is not there is no error that a network must notice.
	Send(ctx context.Context, peer string, frame []byte) error
	// Frames yields what arrives for this member from anyone. A received
	// slice belongs to the receiver until it gives it back, if it does. Closed
	// by Close.
	Frames() <-chan []byte
	// Release gives a received slice back, whole or cut off at its end, once:
	// the network may put another frame into it, so that a steady ring makes
	// no garbage. One that is kept is left to the garbage collector. A slice
	// may be given back after Close.
	Release(frame []byte)
	// Close ends the membership. Sends fail with ErrNetworkClosed from then
	// on. Closing twice is fine.
	Close() error
}

// Group is one generation's ring: who takes part and where this member stands.
type Group struct {
	Generation uint64
	Rank       int
	Members    []string // peer name by rank; its length is the world size
	Micro      []int    // len(Members)+1 bounds: rank r owns micro-batches [Micro[r], Micro[r+1])
}

// Doorkeeper is a Network that knows who has sent a frame, whatever the frame says:
// between servers and hosts it does, by what its members prove.
type Doorkeeper interface {
	Network
	// Only has frames of a generation's ring dropped that one member has sent in
	// another one's name. A ring says so before it is made.
	Only(g Group)
}

// Sent says whether a frame can be a member's: it has the rank of that member, or
// it is of another generation, and nobody will read it.
func (g *Group) Sent(frame, member []byte) bool {
	if len(frame) < headerBytes || binary.LittleEndian.Uint64(frame[8:]) != g.Generation {
		return true
	}
	rank := int(binary.LittleEndian.Uint16(frame[46:]))
	return rank < len(g.Members) && g.Members[rank] == string(member)
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
