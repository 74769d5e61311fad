package allreduce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Options tune a ring. None of them changes a bit of any sum.
type Options struct {
	ChunkBytes  int                      // payload of a message; a multiple of 4, at most MaxPayload; default 512 KiB
	WindowBytes int                      // in flight on a link and pass; default 8 MiB, at least two chunks
	Patience    time.Duration            // silence after which a frame is sent again; default 500 ms
	Deadline    time.Duration            // longest wait for one chunk or for credit; default 5 min
	Fold        func(dst, src []float32) // dst += src; default plain Go
	Event       func(*FaultError)        // told of each fault that a link mends, from any goroutine; must not block
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
	op     *Op    // the newest
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
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
	if g.Micro[1] == 0 {
		return nil, fmt.Errorf("group: rank 0 owns no micro-batch of bounds %v: the fold begins with one of its own", g.Micro)
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
			r.in[m.Pass] = &inbound{from: m.From, link: receiver{window: uint64(window)}, queue: make(chan message, window)}
		}
	}
	if world > 1 {
		r.wg.Add(1)
		go r.dispatch()
	}
	return r, nil
}

// Close ends the ring and waits for its goroutines. An operation in progress
// fails with ErrClosed. The network stays open. A member closes its ring when
// all others are done with theirs, or when the generation has failed: until
// then a neighbour may need a frame again.
func (r *Ring) Close() error {
	r.cancel(ErrClosed)
	r.mu.Lock()
	op := r.op
	r.mu.Unlock()
	if op != nil {
		op.wg.Wait()
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

// fault makes an error of a fault and counts it. peer is -1 if unknown.
func (r *Ring) fault(kind FaultKind, peer int, h header, detail string) *FaultError {
	r.mu.Lock()
	r.stats.ByKind[kind]++
	r.mu.Unlock()
	e := &FaultError{Kind: kind, Rank: -1, Generation: r.group.Generation, Step: h.step, Bucket: int(h.bucket), Pass: h.pass, Chunk: int(h.chunk), Detail: detail}
	if peer >= 0 && peer < len(r.group.Members) {
		e.Rank, e.Peer = peer, r.group.Members[peer]
	}
	return e
}

// mended reports a fault that the link deals with.
func (r *Ring) mended(kind FaultKind, peer int, h header, detail string) {
	e := r.fault(kind, peer, h, detail)
	if r.opt.Event != nil {
		r.opt.Event(e)
	}
}
