package allreduce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Op is one step's reduction.
type Op struct {
	ring    *Ring
	step    uint64
	micro   [][]float32
	out     []float32
	flags   func() Flags
	ready   []chan struct{}
	once    []sync.Once
	reduced atomic.Int64 // chunks that this rank's reduce pass has finished
	result  Flags
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	running atomic.Int32 // passes
	mu      sync.Mutex
	err     error // the first of a pass
}

// Begin starts the reduction of a step. buckets are consecutive ranges of the
// flat gradient, the same on all ranks; micro are this rank's micro-gradients
// in order, each the whole flat gradient; out receives the fold and must not
// overlap them. flags, which may be nil, is asked once, as late as possible,
// from another goroutine. Until Wait or Abort has returned, micro and out
// belong to the operation, and a bucket's micro-gradients may be written only
// before Ready of it. A job whose gradient is empty carries no flags.
func (r *Ring) Begin(step uint64, buckets []Range, micro [][]float32, out []float32, flags func() Flags) *Op {
	r.check(step, buckets, micro, out)
	r.plan(buckets)
	o := &Op{ring: r, step: step, micro: micro, out: out, flags: flags, ready: make([]chan struct{}, len(buckets)), once: make([]sync.Once, len(buckets))}
	for i := range o.ready {
		o.ready[i] = make(chan struct{})
	}
	o.ctx, o.cancel = context.WithCancelCause(r.ctx)
	passes := []func() error{o.reduce}
	if r.group.Rank < len(r.group.Members)-1 {
		passes = append(passes, o.broadcast)
	}
	o.running.Store(int32(len(passes)))
	o.wg.Add(len(passes))
	r.mu.Lock()
	r.op = o
	r.mu.Unlock()
	for _, p := range passes {
		go o.pass(p)
	}
	return o
}

// check panics where the caller broke its duties: in its goroutine, and before
// a frame has gone.
func (r *Ring) check(step uint64, buckets []Range, micro [][]float32, out []float32) {
	if want := r.group.Micro[r.group.Rank+1] - r.group.Micro[r.group.Rank]; len(micro) != want {
		panic(fmt.Sprintf("allreduce: rank %d owns %d micro-batches and was given %d", r.group.Rank, want, len(micro)))
	}
	end := 0
	for i, b := range buckets {
		if b.Hi < b.Lo || b.Lo != end && i > 0 || b.Lo < 0 {
			panic(fmt.Sprintf("allreduce: bucket %d is %v and the one before it ends at %d: want consecutive ranges", i, b, end))
		}
		end = b.Hi
	}
	if len(out) < end {
		panic(fmt.Sprintf("allreduce: the output has %d elements, the buckets end at %d", len(out), end))
	}
	for i, g := range micro {
		if len(g) < end {
			panic(fmt.Sprintf("allreduce: micro-gradient %d has %d elements, the buckets end at %d", i, len(g), end))
		}
	}
	r.mu.Lock()
	last := r.op
	r.mu.Unlock()
	if last != nil && last.running.Load() > 0 {
		panic(fmt.Sprintf("allreduce: step %d begins while step %d is in progress", step+1, last.step+1))
	}
}

func (r *Ring) plan(buckets []Range) {
	same := len(r.plans) == len(buckets)
	for i := 0; same && i < len(buckets); i++ {
		same = r.plans[i].Range == buckets[i]
	}
	if same {
		return
	}
	r.plans = r.plans[:0]
	for _, b := range buckets {
		p := plan{Range: b}
		p.moves[Reduce], p.moves[Broadcast] = Schedule(r.group.Rank, len(r.group.Members), b.Hi-b.Lo, r.chunk)
		r.plans = append(r.plans, p)
	}
}

// Ready says that all of this rank's micro-gradients of a bucket are written.
// It may be called from any goroutine, and more than once.
func (o *Op) Ready(bucket int) { o.once[bucket].Do(func() { close(o.ready[bucket]) }) }

// Wait returns once out holds the fold over all of the job's micro-batches, or
// the operation has failed. The flags are those that any rank raised, the same
// on all ranks. The end of ctx aborts the operation.
func (o *Op) Wait(ctx context.Context) (Flags, error) {
	stop := context.AfterFunc(ctx, func() { o.cancel(context.Cause(ctx)) })
	defer stop()
	o.wg.Wait()
	if o.err != nil {
		return 0, o.err
	}
	return o.result, nil
}

// ErrAborted is what Wait returns after Abort.
var ErrAborted = errors.New("the operation was aborted")

// Abort ends the operation, and with it the use of the ring: what was sent
// cannot be called back. One that is complete stays so.
func (o *Op) Abort() {
	o.cancel(ErrAborted)
	o.wg.Wait()
}

// pass runs one pass. If it fails the other is of no use, nor is the ring:
// its links are in the middle of something.
func (o *Op) pass(f func() error) {
	defer o.wg.Done()
	err := f()
	if err != nil {
		o.mu.Lock()
		if o.err == nil {
			o.err = err
		}
		o.mu.Unlock()
		o.cancel(err)
		o.ring.cancel(err)
	}
	if o.running.Add(-1) == 0 {
		o.cancel(nil)
	}
}

func (o *Op) reduce() error {
	r := o.ring
	world := len(r.group.Members)
	last := lastBucket(r.plans)
	if last < 0 { // nothing to carry the flags; every rank decides alike only if nobody raises one
		return nil
	}
	for b, p := range r.plans {
		select {
		case <-o.ready[b]:
		case <-o.ctx.Done():
			return context.Cause(o.ctx)
		}
		for i, m := range p.moves[Reduce] {
			if o.ctx.Err() != nil {
				return context.Cause(o.ctx)
			}
			dst := o.out[p.Lo+m.Lo : p.Lo+m.Hi]
			var flags Flags
			final := b == last && i == len(p.moves[Reduce])-1
			own := o.micro
			if m.From >= 0 {
				msg, err := r.receive(o, b, p, m)
				if err != nil {
					return err
				}
				decode(dst, msg.payload)
				flags = msg.flags
				r.consumed(Reduce)
			} else {
				copy(dst, own[0][p.Lo+m.Lo:p.Lo+m.Hi])
				own = own[1:]
			}
			for _, g := range own {
				r.opt.Fold(dst, g[p.Lo+m.Lo:p.Lo+m.Hi])
			}
			if final && o.flags != nil {
				flags |= o.flags()
			}
			to, pass := m.To, Reduce
			if m.To < 0 && world > 1 { // the total
				to, pass = p.moves[Broadcast][i].To, Broadcast
			}
			if to < 0 {
				o.reduced.Add(1)
			} else {
				h, frame, err := r.stage(o, b, p, m, pass, flags, dst)
				if err != nil {
					return err
				}
				o.reduced.Add(1) // before it is on its way: the total may be back before Send returns
				r.transmit(o.ctx, to, h, frame)
			}
			if final && m.To < 0 {
				o.result = flags
			}
		}
	}
	return nil
}

func (o *Op) broadcast() error {
	r := o.ring
	last := lastBucket(r.plans)
	n := int64(0)
	for b, p := range r.plans {
		for i, m := range p.moves[Broadcast] {
			msg, err := r.receive(o, b, p, m)
			if err != nil {
				return err
			}
			if o.reduced.Load() <= n { // a total of what this rank has not added to
				return r.fault(FaultProtocol, m.From, msg.header, "its total came before this rank's part was sent")
			}
			dst := o.out[p.Lo+m.Lo : p.Lo+m.Hi]
			decode(dst, msg.payload)
			r.consumed(Broadcast)
			if m.To >= 0 {
				h, frame, err := r.stage(o, b, p, m, Broadcast, msg.flags, dst)
				if err != nil {
					return err
				}
				r.transmit(o.ctx, m.To, h, frame)
			}
			if b == last && i == len(p.moves[Broadcast])-1 {
				o.result = msg.flags
			}
			n++
		}
	}
	return nil
}

// lastBucket is the last bucket that is not empty, -1 for none.
func lastBucket(p []plan) int {
	for i := len(p) - 1; i >= 0; i-- {
		if len(p[i].moves[Reduce]) > 0 {
			return i
		}
	}
	return -1
}
