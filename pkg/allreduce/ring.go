package allreduce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options tune a ring. None of them changes a bit of any sum.
type Options struct {
	ChunkBytes  int                      // payload of a message; a multiple of 4, at most MaxPayload; default 512 KiB
	WindowBytes int                      // in flight on a link and pass; default 8 MiB, at least two chunks
	Patience    time.Duration            // silence after which a frame is sent again; default 500 ms
	Deadline    time.Duration            // longest wait for one chunk or for credit; default 5 min
	Fold        func(dst, src []float32) // dst += src; default plain Go
	Event       func(*FaultError)        // told of each fault that a link mends; must not block
}

func (o *Options) defaults() error {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.ChunkBytes, 512<<10)
	set(&o.WindowBytes, 8<<20)
	if o.ChunkBytes < 4 || o.ChunkBytes > MaxPayload || o.ChunkBytes%4 != 0 {
		return fmt.Errorf("chunk of %d bytes: want a multiple of 4, at most %d", o.ChunkBytes, MaxPayload)
	}
	if o.Patience == 0 {
		o.Patience = 500 * time.Millisecond
	}
	if o.Deadline == 0 {
		o.Deadline = 5 * time.Minute
	}
	if o.Fold == nil {
		o.Fold = func(dst, src []float32) {
			src = src[:len(dst)]
			for i := range dst {
				dst[i] += src[i]
			}
		}
	}
	return nil
}

// ErrClosed is returned by operations of a ring that has been closed.
var ErrClosed = errors.New("the ring is closed")

// Ring executes operations for one member of one generation.
type Ring struct {
	net   Network
	group Group
	opt   Options
	chunk int // elements

	mu    sync.Mutex
	out   [passes]*outbound // nil where this rank sends nothing in a pass
	in    [passes]*inbound
	stats Stats

	plans  []plan // of the buckets of the last operation
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	op     *Op
}

type outbound struct {
	to      int
	link    sender
	slots   [][]byte // frames by sequence modulo window
	blocked bool
	credit  chan struct{} // signals news to the one who waits for room
}

type inbound struct {
	from  int
	link  receiver
	queue chan message
	free  uint64 // consumed count that the peer knows
	last  header // of the newest accepted frame, to place faults
}

type message struct {
	header
	payload []byte
}

type plan struct {
	Range
	moves [passes][]Move
}

// NewRing starts a member's part of a generation on net, which it reads until
// Close. Whatever the group's shape, the fold is the same.
func NewRing(net Network, g Group, opt Options) (*Ring, error) {
	if err := opt.defaults(); err != nil {
		return nil, err
	}
	world := len(g.Members)
	if world < 1 || world > 1<<16-1 || g.Rank < 0 || g.Rank >= world || len(g.Micro) != world+1 || g.Micro[0] != 0 {
		return nil, fmt.Errorf("group: rank %d of %d members with micro-batch bounds %v", g.Rank, world, g.Micro)
	}
	for r := range world {
		if g.Micro[r+1] < g.Micro[r] {
			return nil, fmt.Errorf("group: micro-batch bounds %v fall at rank %d", g.Micro, r)
		}
	}
	r := &Ring{net: net, group: g, opt: opt, chunk: opt.ChunkBytes / 4}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	window := max(2, opt.WindowBytes/opt.ChunkBytes)
	reduce, broadcast := Schedule(g.Rank, world, 1, 1)
	for _, m := range append(reduce, broadcast...) {
		if m.To >= 0 {
			o := &outbound{to: m.To, link: sender{window: uint64(window), heard: time.Now()}, credit: make(chan struct{}, 1)}
			o.slots = make([][]byte, window)
			r.out[m.Pass] = o
		}
		if m.From >= 0 {
			r.in[m.Pass] = &inbound{from: m.From, queue: make(chan message, window)}
		}
	}
	if world > 1 {
		r.wg.Add(1)
		go r.dispatch()
	}
	return r, nil
}

// Close ends the ring and waits for its goroutines. An operation in progress
// fails with ErrClosed. The network stays open.
func (r *Ring) Close() error {
	r.cancel(ErrClosed)
	if r.op != nil {
		r.op.wg.Wait()
	}
	r.wg.Wait()
	return nil
}

// Stats returns what the ring did so far.
func (r *Ring) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

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
}

// Begin starts the reduction of a step. buckets are consecutive ranges of the
// flat gradient, the same on all ranks; micro are this rank's micro-gradients
// in order, each the whole flat gradient; out receives the fold and must not
// overlap them. flags, which may be nil, is asked once, as late as possible.
// Until Wait or Abort has returned, micro and out belong to the operation, and
// a bucket's micro-gradients may be written only before Ready of it.
func (r *Ring) Begin(step uint64, buckets []Range, micro [][]float32, out []float32, flags func() Flags) *Op {
	if want := r.group.Micro[r.group.Rank+1] - r.group.Micro[r.group.Rank]; len(micro) != want {
		panic(fmt.Sprintf("allreduce: rank %d owns %d micro-batches and was given %d", r.group.Rank, want, len(micro)))
	}
	r.plan(buckets)
	o := &Op{ring: r, step: step, micro: micro, out: out, flags: flags, ready: make([]chan struct{}, len(buckets)), once: make([]sync.Once, len(buckets))}
	for i := range o.ready {
		o.ready[i] = make(chan struct{})
	}
	o.ctx, o.cancel = context.WithCancelCause(r.ctx)
	r.op = o
	o.wg.Add(1)
	go o.pass(o.reduce)
	if r.group.Rank < len(r.group.Members)-1 {
		o.wg.Add(1)
		go o.pass(o.broadcast)
	}
	return o
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
// on all ranks.
func (o *Op) Wait(ctx context.Context) (Flags, error) {
	stop := context.AfterFunc(ctx, func() { o.cancel(context.Cause(ctx)) })
	o.wg.Wait()
	stop()
	if err := context.Cause(o.ctx); err != nil {
		return 0, err
	}
	o.cancel(nil)
	return o.result, nil
}

// Abort ends the operation, and with it the use of the ring: what was sent
// cannot be called back.
func (o *Op) Abort() {
	o.cancel(errors.New("aborted"))
	o.wg.Wait()
}

func (o *Op) pass(f func() error) {
	defer o.wg.Done()
	if err := f(); err != nil {
		o.cancel(err)
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
			if to >= 0 {
				if err := r.send(o, b, p, m, pass, flags, dst); err != nil {
					return err
				}
			}
			if final && m.To < 0 {
				o.result = flags
			}
			o.reduced.Add(1)
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
				return r.fault(FaultProtocol, Broadcast, m.From, msg.header, "its total came before this rank's part was sent")
			}
			dst := o.out[p.Lo+m.Lo : p.Lo+m.Hi]
			decode(dst, msg.payload)
			r.consumed(Broadcast)
			if m.To >= 0 {
				if err := r.send(o, b, p, m, Broadcast, msg.flags, dst); err != nil {
					return err
				}
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

// receive waits for the chunk of a move and checks that it is the one.
func (r *Ring) receive(o *Op, bucket int, p plan, m Move) (message, error) {
	in := r.in[m.Pass]
	want := header{step: o.step, bucket: uint32(bucket), chunk: uint32(m.Chunk), offset: uint64(p.Lo + m.Lo), length: uint32(4 * (m.Hi - m.Lo)), pass: m.Pass}
	var msg message
	select {
	case msg = <-in.queue:
	default:
		late := time.NewTimer(r.opt.Deadline)
		defer late.Stop()
		select {
		case msg = <-in.queue:
		case <-late.C:
			return msg, r.fault(FaultTimeout, m.Pass, m.From, want, fmt.Sprintf("nothing came within %v", r.opt.Deadline))
		case <-o.ctx.Done():
			return msg, context.Cause(o.ctx)
		}
	}
	if h := msg.header; h.step != want.step || h.bucket != want.bucket || h.chunk != want.chunk || h.offset != want.offset || h.length != want.length {
		return msg, r.fault(FaultProtocol, m.Pass, m.From, want, fmt.Sprintf("got step %d, bucket %d, chunk %d, %d bytes at %d instead: the members do not run the same job", h.step+1, h.bucket, h.chunk, h.length, h.offset))
	}
	return msg, nil
}

// send copies a chunk into a slot of its link and sends it, waiting for credit.
func (r *Ring) send(o *Op, bucket int, p plan, m Move, pass Pass, flags Flags, data []float32) error {
	out := r.out[pass]
	h := header{kind: kindData, pass: pass, generation: r.group.Generation, step: o.step, bucket: uint32(bucket), chunk: uint32(m.Chunk),
		offset: uint64(p.Lo + m.Lo), length: uint32(4 * len(data)), flags: flags, from: uint16(r.group.Rank)}
	r.mu.Lock()
	for !out.link.room() {
		out.blocked = true
		r.mu.Unlock()
		late := time.NewTimer(r.opt.Deadline)
		select {
		case <-out.credit:
			late.Stop()
		case <-late.C:
			return r.fault(FaultTimeout, pass, out.to, h, fmt.Sprintf("it took nothing for %v", r.opt.Deadline))
		case <-o.ctx.Done():
			late.Stop()
			return context.Cause(o.ctx)
		}
		r.mu.Lock()
	}
	out.blocked = false
	h.seq = out.link.next
	i := int(h.seq % out.link.window)
	if out.slots[i] == nil {
		out.slots[i] = make([]byte, headerBytes+r.opt.ChunkBytes)
	}
	frame := out.slots[i][:headerBytes+4*len(data)]
	r.mu.Unlock()

	encode(frame[headerBytes:], data) // the slot is free, and nobody else fills it
	h.put(frame)

	r.mu.Lock()
	if out.link.received == out.link.next {
		out.link.heard = time.Now() // patience begins with the oldest frame in flight
	}
	out.link.next++
	r.stats.Frames++
	r.stats.BytesSent += uint64(h.length)
	r.mu.Unlock()
	return r.net.Send(o.ctx, r.group.Members[out.to], frame)
}

// consumed gives the credit of one chunk back.
func (r *Ring) consumed(pass Pass) {
	in := r.in[pass]
	r.mu.Lock()
	in.link.consumed++
	tell := in.link.consumed-in.free >= uint64(max(cap(in.queue)/4, 1))
	r.mu.Unlock()
	if tell {
		r.acknowledge(pass, kindAck)
	}
}

// acknowledge tells the peer of a pass how far its frames have come. A lost
// one is made good by the next, or by a probe.
func (r *Ring) acknowledge(pass Pass, kind frameKind) {
	in := r.in[pass]
	r.mu.Lock()
	h := header{kind: kind, pass: pass, generation: r.group.Generation, from: uint16(r.group.Rank), seq: in.link.expected, offset: in.link.consumed}
	in.free = in.link.consumed
	r.mu.Unlock()
	var frame [headerBytes]byte
	h.put(frame[:])
	r.net.Send(r.ctx, r.group.Members[in.from], frame[:])
}

// fault makes an error of a fault that ends an operation, and counts it.
func (r *Ring) fault(kind FaultKind, pass Pass, peer int, h header, detail string) *FaultError {
	r.mu.Lock()
	r.stats.ByKind[kind]++
	r.mu.Unlock()
	name := ""
	if peer >= 0 && peer < len(r.group.Members) {
		name = r.group.Members[peer]
	}
	return &FaultError{Kind: kind, Peer: name, Rank: peer, Generation: r.group.Generation, Step: h.step, Bucket: int(h.bucket), Pass: pass, Chunk: int(h.chunk), Detail: detail}
}

// mended reports a fault that the link deals with.
func (r *Ring) mended(kind FaultKind, h header, detail string) {
	e := r.fault(kind, h.pass, int(h.from), h, detail)
	if r.opt.Event != nil {
		r.opt.Event(e)
	}
}
