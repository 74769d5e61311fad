package allreduce

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// leastLane is how many floats of the gradient are worth a lane of one host: to
// wake a rank takes about as long as to fold them.
const leastLane = 16 << 10

// lanesFor is how many of a host's lanes fold these buckets, where no other host
// takes part: all that have enough to do.
func lanesFor(buckets []Range, lanes int) int {
	n := 0
	for _, b := range buckets {
		n += b.Hi - b.Lo
	}
	return min(lanes, max(1, n/leastLane))
}

// foldChunk is how many floats are folded at a time: what a core's nearest cache
// holds of a sum while one micro-gradient after the other is added to it.
const foldChunk = 4 << 10

// foldAtOnce is how many floats of a sum are folded by whoever has come to it, in
// the middle of backward, even where another core is idle: to have one woken for
// it costs about as much.
const foldAtOnce = 64 << 10

// looks is how often a rank that waits looks whether it may go on before it
// sleeps: for about as long as it takes to be woken, on the way through the kernel
// and the scheduler. It does not look for longer, for others may need the core:
// this rank's next batch, its host's other ranks, the coordinator.
const looks = 1000

// HostRing reduces where all ranks are of one host. No network is needed, and
// nobody but the ranks: whoever of this one's goroutines comes to it takes the
// fold as far as the others' gradients allow. While backward goes on that is the
// goroutine that writes the gradient, or where cores are idle and the bucket is
// large one beside it. Afterwards it is the step loop, which alone sleeps until
// the bell rings.
type HostRing struct {
	team  Team
	group Group
	opt   Options
	look  bool // each rank may have a core to itself, of those that its container may use
	spare bool // and there are more than all of them compute on

	ctx    context.Context
	cancel context.CancelCauseFunc
	kick   chan struct{}
	served chan struct{} // closed when serve has ended

	mu    sync.Mutex
	op    *hostOp // the newest
	whole []Range // the newest buckets
	plan  []Range // this rank's pieces of them
	lanes int     // that have a piece
}

func newHostRing(team Team, g Group, opt Options) *HostRing {
	r := &HostRing{team: team, group: g, opt: opt, look: team.Len() <= opt.Cores, spare: team.Len()*opt.Threads < opt.Cores, kick: make(chan struct{}, 1), served: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	go r.serve()
	return r
}

// serve takes the operation on whenever it is told to, and ends it with the ring.
func (r *HostRing) serve() {
	defer close(r.served)
	for {
		select {
		case <-r.kick:
			if op := r.newest(); op != nil {
				op.drive()
			}
		case <-r.ctx.Done():
			if op := r.newest(); op != nil {
				op.finish(0, context.Cause(r.ctx))
			}
			return
		}
	}
}

func (r *HostRing) newest() *hostOp {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.op
}

// Close ends the ring as Ring.Close does, and its team.
func (r *HostRing) Close() error {
	r.cancel(ErrClosed)
	<-r.served
	return r.team.Close()
}

// KeepsSum is true: the sum is the team's.
func (r *HostRing) KeepsSum() bool { return true }

// Stats are zero: nothing is sent.
func (r *HostRing) Stats() Stats { return Stats{} }

// Waiting says which rank the operation waits for, and since when.
func (r *HostRing) Waiting() (*FaultError, time.Time) {
	o := r.newest()
	if o == nil {
		return nil, time.Time{}
	}
	if f, since := o.waiting(""); f != nil {
		return f, since
	}
	return nil, time.Time{}
}

// hostOp is one step's reduction.
type hostOp struct {
	teamStep
	ring  *HostRing
	plan  []Range // this rank's pieces of the buckets
	flags func() Flags
	late  *time.Timer

	marks sync.Mutex
	list  checklist

	mu    sync.Mutex // held by whoever folds
	micro [][]float32
	at    int  // buckets whose piece is folded
	told  bool // that all are

	// When this rank last came a step further, or wrote a bucket: before that,
	// nobody else is to blame for the time.
	moved atomic.Pointer[time.Time]

	over   bool
	done   chan struct{} // closed when result and err are set
	result Flags
	err    error
}

// Begin starts the reduction of a step. micro must be slabs of the team, and the
// sum is the team's: out is not used.
func (r *HostRing) Begin(step uint64, buckets []Range, micro [][]float32, _ []float32, flags func() Flags) Reduction {
	r.mu.Lock()
	if !slices.Equal(r.whole, buckets) {
		r.lanes = lanesFor(buckets, r.team.Len())
		r.whole, r.plan = slices.Clone(buckets), pieces(buckets, min(r.team.Self(), r.lanes-1), r.lanes)
	}
	plan, lanes := r.plan, r.lanes
	r.mu.Unlock()
	return r.begin(&hostOp{teamStep: teamStep{r.team, r.group, 0, lanes, step, buckets, nil}, ring: r, plan: plan, flags: flags, list: newChecklist(len(buckets)), done: make(chan struct{})}, micro)
}

// Gather exchanges the shards: see Reducer. own must be a slab of the team.
func (r *HostRing) Gather(step uint64, shards []Shard, own, _ []float32) Reduction {
	buckets := ranges(shards)
	lanes := lanesFor(buckets, r.team.Len())
	o := r.begin(&hostOp{teamStep: teamStep{r.team, r.group, 0, lanes, step, buckets, shards}, ring: r,
		plan: pieces(buckets, min(r.team.Self(), lanes-1), lanes), done: make(chan struct{})}, [][]float32{own})
	o.raise(nil)
	o.reach(o.written(0))
	return o
}

func (r *HostRing) begin(o *hostOp, slabs [][]float32) *hostOp {
	r.mu.Lock()
	if last := r.op; last != nil {
		select {
		case <-last.done:
		default:
			r.mu.Unlock()
			panic(fmt.Sprintf("allreduce: step %d begins while step %d is in progress", o.step+1, last.step+1))
		}
	}
	o.moves()
	o.publish(slabs) // seen by whoever sees that a bucket is written
	r.op = o
	r.mu.Unlock()
	o.mu.Lock()
	o.late = time.AfterFunc(r.opt.Deadline, o.expire)
	o.mu.Unlock()
	if r.ctx.Err() != nil {
		o.finish(0, context.Cause(r.ctx))
	}
	return o
}

func (o *hostOp) moves() {
	now := time.Now()
	o.moved.Store(&now)
}

// waiting says which other rank is waited for, and since when; nil: none is.
func (o *hostOp) waiting(detail string) (*FaultError, time.Time) {
	o.mu.Lock()
	b, over := o.folded(), o.over
	if o.team.Self() < o.lanes {
		for i := o.at; i < len(o.buckets); i++ { // what is written waits for nobody but this rank
			if b = o.written(i); b.missing() >= 0 {
				break
			}
			b = o.folded()
		}
	}
	o.mu.Unlock()
	if over {
		return nil, time.Time{}
	}
	return b.fault(detail), *o.moved.Load()
}

// expire fails the operation where it has waited for the deadline.
func (o *hostOp) expire() {
	limit := o.ring.opt.Deadline
	f, since := o.waiting(fmt.Sprintf(" within %v", limit))
	left := limit // where it waits for nobody: its own backward takes long
	if f != nil {
		if left -= time.Since(since); left <= 0 {
			o.finish(0, f)
			return
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.over {
		o.late.Reset(left)
	}
}

// Ready says that all of this rank's micro-gradients of a bucket are written.
func (o *hostOp) Ready(bucket int) {
	o.marks.Lock()
	news, last := o.list.tick(bucket)
	o.marks.Unlock()
	if last {
		o.raise(o.flags)
	}
	if !news {
		return
	}
	o.moves()
	o.reach(o.written(bucket))
	if p := o.ring.plan[bucket]; !o.ring.spare || p.Hi-p.Lo <= foldAtOnce {
		o.drive()
		return
	}
	select {
	case o.ring.kick <- struct{}{}:
	default:
	}
}

// drive takes the operation as far as it can come, and reports whether it is over.
func (o *hostOp) drive() bool {
	more, err := o.advance()
	if err != nil {
		o.finish(0, err)
	} else if !more {
		o.finish(Flags(o.team.Load(0, wordResult)), nil)
	}
	return err != nil || !more
}

func (o *hostOp) advance() (more bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return false, o.err
	}
	if o.team.Self() < o.lanes {
		for ; o.at < len(o.buckets); o.at++ {
			if o.written(o.at).missing() >= 0 {
				return true, nil
			}
			if o.micro == nil {
				if o.micro, err = o.slabs(); err != nil {
					return false, err
				}
			}
			if o.shards == nil {
				o.ring.opt.mark(o.step, o.at, Together)
			}
			o.fold(o.at)
			o.moves()
			if o.shards == nil {
				o.ring.opt.mark(o.step, o.at, Folded)
			}
		}
		if !o.told {
			o.told = true
			o.team.Store(wordResult, uint64(o.raised()))
			o.reach(o.folded())
		}
	}
	return o.folded().missing() >= 0, nil
}

// fold makes the sum of this rank's piece of a bucket: the fold over all
// micro-gradients from the left, or the one shard that there is.
func (o *hostOp) fold(bucket int) {
	sum, piece := o.team.Sum(), o.plan[bucket]
	if o.shards != nil {
		copy(sum[piece.Lo:piece.Hi], o.micro[o.shards[bucket].Rank][piece.Lo:piece.Hi])
		return
	}
	for lo := piece.Lo; lo < piece.Hi; lo += foldChunk {
		hi := min(lo+foldChunk, piece.Hi)
		if len(o.micro) == 1 {
			copy(sum[lo:hi], o.micro[0][lo:hi])
			continue
		}
		o.ring.opt.Add(sum[lo:hi], o.micro[0][lo:hi], o.micro[1][lo:hi])
		for _, g := range o.micro[2:] {
			o.ring.opt.Fold(sum[lo:hi], g[lo:hi])
		}
	}
}

// finish ends the operation, once.
func (o *hostOp) finish(f Flags, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return
	}
	o.over, o.result, o.err = true, f, err
	if o.late != nil {
		o.late.Stop()
	}
	close(o.done)
	if err != nil {
		o.ring.cancel(err)
	}
}

// Wait is Op.Wait. The caller has written all it has: it folds what is left
// itself.
func (o *hostOp) Wait(ctx context.Context) (Flags, error) {
	r := o.ring
	defer context.AfterFunc(ctx, func() { r.cancel(context.Cause(ctx)) })()
	for !o.drive() && !o.sleep() {
	}
	<-o.done
	return o.result, o.err
}

// sleep waits until there may be something to do, or returns true where the ring
// is over.
func (o *hostOp) sleep() (over bool) {
	if r := o.ring; r.look {
		for i := 0; i < looks && r.ctx.Err() == nil; i++ {
			if o.may() {
				return false
			}
		}
	}
	o.team.Store(wordAsleep, 1) // before it looks: whoever comes after that rings
	defer o.team.Store(wordAsleep, 0)
	return !o.may() && o.team.Wait(o.ring.ctx) != nil
}

// may says whether drive can come further.
func (o *hostOp) may() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.team.Self() < o.lanes && o.at < len(o.buckets) {
		return o.over || o.written(o.at).missing() < 0
	}
	return o.over || o.folded().missing() < 0
}

// Abort is Op.Abort.
func (o *hostOp) Abort() {
	select {
	case <-o.done:
	default:
		o.ring.cancel(ErrAborted)
		<-o.done
	}
}

// Sum is the team's: it is the same memory for all ranks of the host, which
// none of them may write, and valid until this rank begins the next step.
func (o *hostOp) Sum() ([]float32, bool) { return o.team.Sum(), false }
