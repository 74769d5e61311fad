package worker

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/shm"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// roads are the ways by which this worker's gradients reach the other ranks:
// the network, and memory that it can share with workers of its host.
type roads struct {
	net     allreduce.Network
	offer   *cluster.Memory          // what this worker says of its memory; nil: it shares none
	segment *shm.Segment             // nil: it could not be had
	why     error                    // why not
	moved   bool                     // the trainer's micro-gradients live in it
	between allreduce.HostNetwork    // net, where the job's road has one of its own; nil: the job's is all there is
	fold    func(dst, src []float32) // of a world of one, by all threads
	sent    *atomic.Uint64           // over between, what fell back included
	log     *zap.Logger
}

// ringRoad is a Reducer that can be swapped for another.
type ringRoad struct{ allreduce.Reducer }

// offerMemory is what a worker says of its memory before it knows its job.
func offerMemory() *cluster.Memory {
	host := shm.Host()
	if host == "" {
		return nil
	}
	return &cluster.Memory{Host: host, Address: shm.NewAddress()}
}

// open makes the memory that was offered, for the micro-gradients of t. A
// worker that cannot have it says so when it is assigned a place that needs it.
func (r *roads) open(t *train.Trainer) {
	if r.why = errors.New("this worker offers no memory to share"); r.offer == nil {
		return
	}
	shape := t.Shape()
	r.segment, r.why = shm.Open(r.offer.Address, shm.Layout{Words: allreduce.TeamWords(shape.Buckets, shape.Micros), Floats: shape.Floats})
	if r.why != nil {
		r.log.Debug("no memory to share", zap.Error(r.why))
	}
}

func (r *roads) close() {
	if r.between != nil {
		r.between.Close()
	}
	if r.segment != nil {
		r.segment.Close()
	}
}

// listen opens the place where other hosts reach this worker, if the job's road wants
// that; it says where it is. Without one the job goes over NATS.
func listen(address string, log *zap.Logger) (net.Listener, string) {
	if address == "" {
		return nil, ""
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		log.Warn("no direct connections", zap.Error(err))
		return nil, ""
	}
	return l, l.Addr().String()
}

// openBetween has frames to other hosts take the network of the job's road, which is
// reached at l.
func (r *roads) openBetween(road train.Road, l net.Listener, member string, encrypt bool) error {
	n, err := road.Open(allreduce.End{Member: member, Listener: l, Fallback: r.net, Encrypt: encrypt,
		Event: func(text string) { r.log.Warn(text) }})
	if err != nil {
		return err
	}
	r.net, r.between = counting{n, r.sent}, n
	return nil
}

// connect reaches out for the neighbours in a ring of g, where the road has a network
// of its own. To those that cannot be reached frames go over NATS.
func (r *roads) connect(ctx context.Context, a *cluster.Assign, g allreduce.Group) {
	if r.between == nil || len(a.Streams) == 0 {
		return
	}
	at := map[string]allreduce.Peer{}
	for i, m := range a.Group.Members {
		if at[m] = (allreduce.Peer{Address: a.Streams[i]}); i < len(a.Secrets) && a.Secrets[i] != "" {
			at[m] = allreduce.Peer{Address: a.Streams[i], Secret: []byte(a.Secrets[i])}
		}
	}
	n, peers := len(g.Members), map[string]allreduce.Peer{}
	for _, k := range []int{g.Rank - 1, g.Rank + 1, g.Rank + n - 1, g.Rank + 1 - n} { // the last rank's total goes to the first
		if k >= 0 && k < n && k != g.Rank && at[g.Members[k]].Secret != nil {
			peers[g.Members[k]] = at[g.Members[k]]
		}
	}
	for peer, err := range r.between.Form(ctx, g.Generation, peers) {
		r.log.Warn("no direct connection: its frames go over NATS", zap.String("peer", peer),
			zap.String("address", peers[peer].Address), zap.Error(err))
	}
}

// memoryError says that a worker cannot take part in its host's memory.
type memoryError struct {
	peer string
	err  error
}

func (e *memoryError) Error() string { return e.err.Error() }

// formTimeout bounds the wait for the others of a host to open their memory. An
// assignment that is over is recalled long before.
const formTimeout = 30 * time.Second

// ring makes this member's part of a generation.
func (r *roads) ring(ctx context.Context, a *cluster.Assign, t *train.Trainer, opt allreduce.Options) (allreduce.Reducer, error) {
	lo, hi := a.Hosts.Run(a.Group.Rank)
	switch {
	case len(a.Group.Members) == 1:
		return allreduce.NewSolo(r.fold), nil
	case a.Hosts == nil:
		r.connect(ctx, a, a.Group)
		return allreduce.NewRing(r.net, a.Group, opt)
	case hi-lo == 1: // alone on its host, it is the whole of that host's lane
		g, _, _ := a.Hosts.Lane(a.Group)
		r.connect(ctx, a, g)
		return allreduce.NewLane(r.net, a.Group, a.Hosts, opt)
	case r.segment == nil:
		return nil, &memoryError{"", r.why}
	}
	if !r.moved {
		if err := t.MoveTo(r.segment.Slab); err != nil {
			return nil, &memoryError{"", err}
		}
		r.moved = true
	}
	ctx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	team, err := r.segment.Join(ctx, a.Group.Generation, a.Memory[lo:hi], a.Group.Rank-lo)
	if err != nil {
		var p *shm.PeerError
		if errors.As(err, &p) {
			return nil, &memoryError{a.Group.Members[lo+p.Local], err}
		}
		return nil, &memoryError{"", err}
	}
	if g, _, ok := a.Hosts.Lane(a.Group); ok && len(g.Members) > 1 {
		r.connect(ctx, a, g)
	}
	ring, err := allreduce.NewTeamRing(r.net, team, a.Group, a.Hosts, opt)
	if err != nil {
		team.Close()
		return nil, err
	}
	return ring, nil
}

// ringOptions are the job's.
func (w *Worker) ringOptions() allreduce.Options {
	k := w.knobs.Load().Cluster // of one computation: the same chunks
	coding := allreduce.Float32
	if k.Wire == "bf16" {
		coding = allreduce.BFloat16
	}
	o := allreduce.Options{Coding: coding, ChunkBytes: k.ChunkBytes, WindowBytes: k.WindowBytes,
		Deadline: ringDeadline, Fold: tensor.Fold, Add: tensor.Add, Threads: w.Threads, Cores: machine.Cores()}
	if w.spans.wanted() {
		o.Marked = w.spans.marked
	}
	return o
}
