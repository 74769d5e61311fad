package allreduce

import (
	"context"
	"time"
)

// Reducer is a member's part of a generation: it sums the micro-gradients of
// one step after the other. Whatever roads the gradients take, the sum has the
// same bits. Ring is the one over a Network, HostRing the one of ranks that
// share memory, TeamRing both, Solo that of a world of one.
type Reducer interface {
	// Begin starts the reduction of a step: see Core.Begin. The sum is written
	// to out, or to memory of the Reducer's own: Reduction.Sum says where.
	Begin(step uint64, buckets []Range, micro [][]float32, out []float32, flags func() Flags) Reduction
	// Gather exchanges what each rank has made of its part of a step's sum, after
	// its reduction: this rank's shards stand in own, which may be what
	// Reduction.Sum has given where that is this rank's own, and is a slab of the
	// team where there is one. In the end all ranks have all shards, with the bits
	// that they had: in out, or in memory of the Reducer's own. shards ascend and
	// are the same on all ranks; a rank may have any number of them.
	Gather(step uint64, shards []Shard, own, out []float32) Reduction
	// KeepsSum says that the Reducer has memory for the sum: out may be nil.
	KeepsSum() bool
	// Stats returns what went over the network so far.
	Stats() Stats
	// Waiting says what is waited for, and since when; nil for nothing.
	Waiting() (*FaultError, time.Time)
	// Close ends the generation here. An operation in progress fails with ErrClosed.
	Close() error
}

// Shard is a part of the sum that one rank has made something of.
type Shard struct {
	Range
	Rank int
}

// ranges are where shards lie.
func ranges(shards []Shard) []Range {
	l := make([]Range, len(shards))
	for i, s := range shards {
		l[i] = s.Range
	}
	return l
}

// Reduction is one step's. Until Wait or Abort has returned, the
// micro-gradients belong to it.
type Reduction interface {
	// Ready says that all of this rank's micro-gradients of a bucket are
	// written. It may be said from any goroutine, and more than once.
	Ready(bucket int)
	// Wait returns once the sum over all of the job's micro-batches is there,
	// or the reduction has failed. The flags are those that any rank raised,
	// the same on all ranks. The end of ctx aborts.
	Wait(ctx context.Context) (Flags, error)
	// Abort ends the reduction, and with it the use of its Reducer. One that
	// is complete stays so.
	Abort()
	// Sum is where the sum stands once Wait has returned without an error. It
	// may be read until the next step begins, and overwritten where it is this
	// rank's own.
	Sum() (sum []float32, own bool)
}

var (
	_ Reducer   = (*Ring)(nil)
	_ Reducer   = (*TeamRing)(nil)
	_ Reducer   = (*HostRing)(nil)
	_ Reducer   = (*Solo)(nil)
	_ Reduction = (*Op)(nil)
	_ Reduction = (*teamOp)(nil)
	_ Reduction = (*hostOp)(nil)
	_ Reduction = (*soloOp)(nil)
)
