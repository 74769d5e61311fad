package allreduce

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Team is what the ranks of one host share in one generation: words that each
// publishes, slabs that each writes and all read, and one sum. Package shm has
// the one between processes.
//
// All methods may be called from any goroutine, but for Wait, which one
// goroutine at a time may call.
type Team interface {
	// Len is the number of ranks, Self this one's place among them.
	Len() int
	Self() int
	// Words is the number of words that each rank publishes. They are zero
	// when the generation begins.
	Words() int
	// Store publishes a word of this rank. What was written to memory before
	// is seen by whoever loads the word.
	Store(word int, v uint64)
	// Load is a word of any rank.
	Load(rank, word int) uint64
	// Index is the number of a slab of this rank; false: it is not shared.
	Index(slab []float32) (uint64, bool)
	// Slab is a slab of any rank by its number. Only its owner writes it.
	Slab(rank int, index uint64) ([]float32, error)
	// Sum is the memory for the total of the generation. The ranks of
	// different lanes write different parts of it.
	Sum() []float32
	// Bell wakes a rank: it returns from Wait, or from the next one.
	Bell(rank int)
	// Wait returns once the bell has rung, perhaps for nothing, or with the
	// cause of ctx's end.
	Wait(ctx context.Context) error
	// Close gives the sum back.
	Close() error
}

// The words of a rank. A turn is a step's reduction or gathering (see teamStep);
// turns of a generation ascend.
const (
	wordBegun  = iota // turn whose slabs the table below lists
	wordSlabs         // how many
	wordFlags         // of the turn
	wordDone          // turn whose lane is done
	wordResult        // its flags
	wordAsleep        // 1 while it wants to be woken
	wordReady         // first of a word a bucket: turn in which it is written
)

// TeamWords is how many words a rank of a job publishes.
func TeamWords(buckets, micros int) int { return wordReady + buckets + micros }

// Hosts are the bounds of runs of ranks that share a host: run h is ranks
// [Hosts[h], Hosts[h+1]). Nil: no two ranks share one.
type Hosts []int

// of is the run of a rank, as a half-open range of ranks.
func (h Hosts) of(rank int) (run, lo, hi int) {
	for i := 0; i+1 < len(h); i++ {
		if rank < h[i+1] {
			return i, h[i], h[i+1]
		}
	}
	return rank, rank, rank + 1
}

// Run is the range [lo, hi) of ranks that share memory with rank.
func (h Hosts) Run(rank int) (lo, hi int) {
	_, lo, hi = h.of(rank)
	return lo, hi
}

// Check says whether h divides world ranks.
func (h Hosts) Check(world int) error {
	if h == nil {
		return nil
	}
	if len(h) < 2 || h[0] != 0 || h[len(h)-1] != world {
		return fmt.Errorf("hosts %v do not divide %d ranks", h, world)
	}
	for i := 1; i < len(h); i++ {
		if h[i] <= h[i-1] {
			return fmt.Errorf("hosts %v: one without ranks", h)
		}
	}
	return nil
}

// lanes is how many rings run beside each other: as many as the smallest host
// has ranks. Lane j is a ring of the j-th rank of each host, and reduces piece
// j of every bucket; so the bytes on a link are a host's and not a rank's, and
// all ranks of a host share the work of folding.
//
//	host 0: ranks 0 1 2    host 1: ranks 3 4
//	lane 0: 0 ──> 3        first half of every bucket
//	lane 1: 1 ──> 4        second half
//	rank 2 only writes gradients, and reads the sum
func (h Hosts) lanes() int {
	n := h[1] - h[0]
	for i := 1; i+1 < len(h); i++ {
		n = min(n, h[i+1]-h[i])
	}
	return n
}

// Lane is the ring that g's rank is in, of one member a host, and its number. It
// is false for a rank that is in none.
func (h Hosts) Lane(g Group) (Group, int, bool) {
	run, lo, _ := h.of(g.Rank)
	j := g.Rank - lo
	if j >= h.lanes() {
		return Group{}, j, false
	}
	l := Group{Generation: g.Generation, Rank: run}
	for i := 0; i+1 < len(h); i++ {
		l.Members = append(l.Members, g.Members[h[i]+j])
		l.Micro = append(l.Micro, g.Micro[h[i]])
	}
	l.Micro = append(l.Micro, g.Micro[len(g.Members)])
	return l, j, true
}

// piece is lane j's part of a bucket, cut between cache lines.
func piece(b Range, j, lanes int) Range {
	const line = 16 // floats
	cut := func(k int) int {
		if k == lanes {
			return b.Hi
		}
		return min(b.Hi, b.Lo+((b.Hi-b.Lo)*k/lanes+line-1)/line*line)
	}
	return Range{cut(j), cut(j + 1)}
}

// pieces are lane j's parts of buckets.
func pieces(buckets []Range, j, lanes int) (l []Range) {
	for _, b := range buckets {
		l = append(l, piece(b, j, lanes))
	}
	return l
}

// TeamRing reduces for a rank that shares its host's memory with others, where
// there are other hosts. Each writes its micro-gradients where all can read
// them. As soon as all have written a bucket, each lane folds its piece of it: in
// the job's order, every micro-gradient of the host from where it stands, onto
// what came from the host before, into the sum that all read. So the fold is that
// of a ring of all ranks, bit for bit.
type TeamRing struct {
	team  Team
	group Group
	first int // rank of the team's first
	hosts Hosts
	lanes int
	lane  int   // this rank's
	ring  *Ring // of the lane; nil: this rank is in none
	opt   Options

	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	op    *teamOp // the newest
	wait  *barrier
	since time.Time // when it began
	plan  []Range   // the lane's pieces of the buckets of op
	whole []Range   // which these are
}

// NewTeamRing starts a member's part of a generation of which team is its host's:
// a HostRing where all ranks are of one host. net is read for its lane until
// Close, which closes team too.
func NewTeamRing(net Network, team Team, g Group, hosts Hosts, opt Options) (Reducer, error) {
	if err := opt.defaults(); err != nil {
		return nil, err
	}
	if err := hosts.Check(len(g.Members)); err != nil {
		return nil, err
	}
	if len(g.Micro) != len(g.Members)+1 || g.Rank < 0 || g.Rank >= len(g.Members) {
		return nil, fmt.Errorf("group: rank %d of %d members with micro-batch bounds %v", g.Rank, len(g.Members), g.Micro)
	}
	_, lo, hi := hosts.of(g.Rank)
	if team.Len() != hi-lo || team.Self() != g.Rank-lo {
		return nil, fmt.Errorf("rank %d is place %d of a team of %d, but of hosts %v", g.Rank, team.Self(), team.Len(), hosts)
	}
	if len(hosts) == 2 {
		return newHostRing(team, g, opt), nil
	}
	r := &TeamRing{team: team, group: g, first: lo, hosts: hosts, lanes: hosts.lanes(), opt: opt}
	lane, j, ok := hosts.Lane(g)
	r.lane = j
	if ok {
		var err error
		if r.ring, err = NewRing(net, lane, opt); err != nil {
			return nil, err
		}
	}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	return r, nil
}

// Close ends the ring as Ring.Close does, and its team.
func (r *TeamRing) Close() error {
	r.cancel(ErrClosed)
	r.mu.Lock()
	op := r.op
	r.mu.Unlock()
	if op != nil {
		<-op.done
	}
	if r.ring != nil {
		r.ring.Close()
	}
	return r.team.Close()
}

// KeepsSum is true: the sum is the team's.
func (r *TeamRing) KeepsSum() bool { return true }

// Stats returns what the ring did so far on the network.
func (r *TeamRing) Stats() Stats {
	if r.ring == nil {
		return Stats{}
	}
	return r.ring.Stats()
}

// Waiting says what the operation waits for, and since when: another rank of
// this host, or what the lane waits for.
func (r *TeamRing) Waiting() (*FaultError, time.Time) {
	r.mu.Lock()
	b, since := r.wait, r.since
	r.mu.Unlock()
	switch {
	case b == nil && r.ring != nil:
		return r.ring.Waiting()
	case b == nil:
		return nil, time.Time{}
	}
	if f := b.fault(""); f != nil {
		return f, since
	}
	return nil, time.Time{}
}

// teamOp is one step's reduction.
type teamOp struct {
	teamStep
	ring   *TeamRing
	flags  func() Flags
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu   sync.Mutex
	list checklist

	done   chan struct{} // closed when result and err are set
	result Flags
	err    error
}

// Begin starts the reduction of a step. micro must be slabs of the team, and the
// sum is the team's: out is not used.
func (r *TeamRing) Begin(step uint64, buckets []Range, micro [][]float32, _ []float32, flags func() Flags) Reduction {
	o := &teamOp{teamStep: teamStep{r.team, r.group, r.first, r.lanes, step, buckets, nil}, ring: r, flags: flags, list: newChecklist(len(buckets)), done: make(chan struct{})}
	r.begin(o)
	r.mu.Lock()
	if !slices.Equal(r.whole, buckets) {
		r.whole, r.plan = slices.Clone(buckets), pieces(buckets, r.lane, r.lanes)
	}
	r.mu.Unlock()
	o.publish(micro)
	o.reach(o.begun())
	go o.run()
	return o
}

// Gather exchanges the shards: see Reducer. own must be a slab of the team.
func (r *TeamRing) Gather(step uint64, shards []Shard, own, _ []float32) Reduction {
	o := &teamOp{teamStep: teamStep{r.team, r.group, r.first, r.lanes, step, ranges(shards), shards}, ring: r, done: make(chan struct{})}
	r.begin(o)
	o.publish([][]float32{own})
	o.reach(o.begun())
	o.reach(o.written(0))
	go o.run()
	return o
}

func (r *TeamRing) begin(o *teamOp) {
	o.ctx, o.cancel = context.WithCancelCause(r.ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.op; last != nil {
		select {
		case <-last.done:
		default:
			panic(fmt.Sprintf("allreduce: step %d begins while step %d is in progress", o.step+1, last.step+1))
		}
	}
	r.op = o
}

// Ready says that all of this rank's micro-gradients of a bucket are written.
func (o *teamOp) Ready(bucket int) {
	o.mu.Lock()
	news, last := o.list.tick(bucket)
	o.mu.Unlock()
	if last {
		o.raise(o.flags)
	}
	if news {
		o.reach(o.written(bucket))
	}
}

// Wait is Op.Wait.
func (o *teamOp) Wait(ctx context.Context) (Flags, error) {
	select {
	case <-o.done:
	case <-ctx.Done():
		o.ring.cancel(context.Cause(ctx))
		<-o.done
	}
	return o.result, o.err
}

// Abort is Op.Abort.
func (o *teamOp) Abort() {
	select {
	case <-o.done:
	default:
		o.ring.cancel(ErrAborted)
		<-o.done
	}
}

// Sum is the team's: it is the same memory for all ranks of the host, which
// none of them may write, and valid until this rank begins the next step.
func (o *teamOp) Sum() ([]float32, bool) { return o.team.Sum(), false }

// run takes one step through: the lane's part, then the wait for the others'.
func (o *teamOp) run() {
	defer close(o.done)
	defer o.cancel(nil)
	o.result, o.err = o.reduce()
	if o.err != nil {
		o.ring.cancel(o.err)
	}
}

func (o *teamOp) reduce() (Flags, error) {
	r := o.ring
	if r.ring != nil {
		if err := o.await(o.begun()); err != nil {
			return 0, err
		}
		micro, err := o.slabs()
		if err != nil {
			return 0, err
		}
		lane := o.lane(micro)
		for b := range o.buckets {
			if err := o.await(o.written(b)); err != nil {
				lane.Abort()
				return 0, err
			}
			if o.shards == nil {
				r.opt.mark(o.step, b, Together)
			}
			lane.Ready(b)
		}
		f, err := lane.Wait(o.ctx)
		if err != nil {
			return 0, err
		}
		o.team.Store(wordResult, uint64(f))
		o.reach(o.folded())
	}
	if err := o.await(o.folded()); err != nil {
		return 0, err
	}
	return Flags(o.team.Load(0, wordResult)), nil
}

// lane begins this rank's part on the network.
func (o *teamOp) lane(slabs [][]float32) Reduction {
	r := o.ring
	if o.shards == nil {
		return r.ring.Begin(o.step, r.plan, slabs, o.team.Sum(), o.raised)
	}
	roots, from := make([]int, len(o.shards)), make([][]float32, len(o.shards))
	for i, s := range o.shards {
		roots[i], _, _ = r.hosts.of(s.Rank)
		if local := s.Rank - r.first; local >= 0 && local < len(slabs) {
			from[i] = slabs[local]
		}
	}
	return r.ring.gather(o.step, pieces(o.buckets, r.lane, r.lanes), roots, from, o.team.Sum())
}

// await waits until every rank of the host has done what b says.
func (o *teamOp) await(b barrier) error {
	if b.missing() < 0 {
		return nil
	}
	r := o.ring
	o.team.Store(wordAsleep, 1) // before it looks: whoever comes after that rings
	defer o.team.Store(wordAsleep, 0)
	set := func(b *barrier) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.wait, r.since = b, time.Now()
	}
	set(&b)
	defer set(nil)
	ctx, cancel := context.WithTimeout(o.ctx, r.opt.Deadline)
	defer cancel()
	for {
		rank := b.missing()
		if rank < 0 {
			return nil
		}
		if err := r.team.Wait(ctx); err == nil {
			continue
		}
		if o.ctx.Err() != nil {
			return context.Cause(o.ctx)
		}
		return o.fault(FaultTimeout, rank, b.bucket, fmt.Sprintf("it %s within %v", b.what, r.opt.Deadline))
	}
}
