package allreduce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Ring drives a Core over a Network in a goroutine of its own.
type Ring struct {
	net   Network
	core  *Core // of the goroutine
	world Group // whose rank has this ring: the ring's own, but for a lane
	hosts Hosts

	mu    sync.Mutex // of what callers and the goroutine share
	next  *Op        // begun, not taken up yet
	op    *Op        // the newest
	ready []int      // buckets of the newest operation that became ready
	stats Stats
	wait  *FaultError
	since time.Time

	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// NewRing starts a member's part of a generation on net, which it reads until
// Close.
func NewRing(net Network, g Group, opt Options) (*Ring, error) {
	core, err := NewCore(g, opt, time.Now())
	if err != nil {
		return nil, err
	}
	if d, ok := net.(Doorkeeper); ok {
		d.Only(g)
	}
	r := &Ring{net: net, core: core, world: g, wake: make(chan struct{}, 1), done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	go r.run()
	return r, nil
}

// NewLane is NewRing for a rank that is alone on its host, where others share
// theirs: it is the whole of its host's lane.
func NewLane(net Network, g Group, hosts Hosts, opt Options) (*Ring, error) {
	lane, _, _ := hosts.Lane(g)
	r, err := NewRing(net, lane, opt)
	if err != nil {
		return nil, err
	}
	r.world, r.hosts = g, hosts
	return r, nil
}

// Close ends the ring and waits for its goroutine. An operation in progress
// fails with ErrClosed. The network stays open. A member closes its ring when
// all others are done with theirs, or when the generation has failed: until
// then a neighbour may need a frame again.
func (r *Ring) Close() error {
	r.cancel(ErrClosed)
	<-r.done
	return nil
}

// KeepsSum is false: the sum is in the memory that Begin is given.
func (r *Ring) KeepsSum() bool { return false }

// Stats returns what the ring did so far.
func (r *Ring) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Waiting says what the ring had waited for at its last tick, and since when;
// nil for nothing.
func (r *Ring) Waiting() (*FaultError, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wait, r.since
}

// run is the goroutine: it passes in what happens and sends what comes out.
func (r *Ring) run() {
	defer close(r.done)
	tick := time.NewTicker(max(r.core.opt.Patience/grains, time.Millisecond))
	defer tick.Stop()
	var frames <-chan []byte
	if len(r.core.group.Members) > 1 { // a ring of one leaves its network alone
		frames = r.net.Frames()
	}
	for {
		select {
		case <-r.ctx.Done():
			r.core.Break(context.Cause(r.ctx))
		case frame, ok := <-frames:
			if ok {
				r.core.Frame(time.Now(), frame)
			} else {
				r.core.Break(fmt.Errorf("under the ring: %w", ErrNetworkClosed))
			}
		case now := <-tick.C:
			r.core.Tick(now)
		case <-r.wake:
		}
		r.take()
		for {
			r.transmit()
			for _, f := range r.core.Used() {
				r.net.Release(f)
			}
			if !r.core.Work(time.Now()) {
				break
			}
		}
		if r.publish() {
			return
		}
	}
}

// take passes in what callers have said.
func (r *Ring) take() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if o := r.next; o != nil {
		r.next = nil
		if o.roots != nil {
			r.core.Gather(now, o.step, o.buckets, o.roots, o.from, o.out)
		} else {
			r.core.Begin(now, o.step, o.buckets, o.micro, o.out, o.flags)
		}
	}
	for _, b := range r.ready {
		r.core.Ready(now, b)
	}
	r.ready = r.ready[:0]
}

// transmit hands frames to the network. One that does not go is a lost one,
// which the link mends, and so will be those after it: the next question finds
// them missing. A closed network ends the ring, and so does a frame that can never go.
func (r *Ring) transmit() {
	for _, o := range r.core.Outgoing() {
		err := r.net.Send(r.ctx, o.To, o.Frame)
		switch {
		case err == nil:
			continue
		case r.ctx.Err() != nil:
		case errors.Is(err, ErrNetworkClosed):
			r.core.Break(fmt.Errorf("under the ring: %w", err))
		case errors.Is(err, ErrUnsendable):
			r.core.Break(err)
		default:
			r.core.Unsent(o, err)
		}
		return
	}
}

// publish shows callers what has become of the core, and reports whether it is
// broken: then the goroutine ends.
func (r *Ring) publish() bool {
	over, flags, err := r.core.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats = r.core.Stats()
	r.wait, r.since = r.core.Waiting()
	if err != nil {
		r.cancel(err)
	}
	if o := r.op; o != nil && over && r.next == nil && !o.over {
		o.over, o.result, o.err = true, flags, err
		close(o.done)
	}
	return err != nil
}

// Op is one step's reduction.
type Op struct {
	ring    *Ring
	step    uint64
	buckets []Range
	micro   [][]float32
	out     []float32
	flags   func() Flags
	roots   []int // of a Gather, with from
	from    [][]float32
	done    chan struct{}

	over   bool // with the rest, of the ring's mu
	result Flags
	err    error
}

// Begin starts the reduction of a step: see Core.Begin. flags is asked from the
// ring's goroutine. Until Wait or Abort has returned, micro and out belong to
// the operation. Operations of a broken ring fail at once.
func (r *Ring) Begin(step uint64, buckets []Range, micro [][]float32, out []float32, flags func() Flags) Reduction {
	check(r.core.group, buckets, micro, out)
	return r.begin(&Op{ring: r, step: step, buckets: buckets, micro: micro, out: out, flags: flags, done: make(chan struct{})})
}

// Gather exchanges the shards: see Reducer. out may be own.
func (r *Ring) Gather(step uint64, shards []Shard, own, out []float32) Reduction {
	roots, from := make([]int, len(shards)), make([][]float32, len(shards))
	for i, s := range shards {
		if roots[i], _, _ = r.hosts.of(s.Rank); s.Rank == r.world.Rank {
			from[i] = own
		}
	}
	o := r.gather(step, ranges(shards), roots, from, out)
	for i := range shards {
		o.Ready(i)
	}
	return o
}

// gather is Core.Gather.
func (r *Ring) gather(step uint64, buckets []Range, roots []int, from [][]float32, out []float32) *Op {
	checkGather(r.core.group, buckets, roots, from, out)
	return r.begin(&Op{ring: r, step: step, buckets: buckets, roots: roots, from: from, out: out, done: make(chan struct{})})
}

func (r *Ring) begin(o *Op) *Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.op; last != nil && !last.over {
		panic(fmt.Sprintf("allreduce: step %d begins while step %d is in progress", o.step+1, last.step+1))
	}
	r.op = o
	if r.ctx.Err() != nil {
		o.over, o.err = true, context.Cause(r.ctx)
		close(o.done)
		return o
	}
	r.next, r.ready = o, r.ready[:0]
	r.nudge()
	return o
}

func (r *Ring) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Ready says that all of this rank's micro-gradients of a bucket are written.
// It may be called from any goroutine, and more than once.
func (o *Op) Ready(bucket int) {
	r := o.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.op == o && !o.over {
		r.ready = append(r.ready, bucket)
		r.nudge()
	}
}

// Wait returns once out holds the fold over all of the job's micro-batches, or
// the operation has failed. The flags are those that any rank raised, the same
// on all ranks. The end of ctx aborts the operation.
func (o *Op) Wait(ctx context.Context) (Flags, error) {
	select {
	case <-o.done:
	default:
		select {
		case <-o.done:
		case <-ctx.Done():
			o.ring.cancel(context.Cause(ctx))
			<-o.done
		}
	}
	return o.result, o.err
}

// Sum is the out that Begin was given.
func (o *Op) Sum() ([]float32, bool) { return o.out, true }

// Abort ends the operation, and with it the use of the ring: what was sent
// cannot be called back. One that is complete stays so.
func (o *Op) Abort() {
	select {
	case <-o.done:
	default:
		o.ring.cancel(ErrAborted)
		<-o.done
	}
}
