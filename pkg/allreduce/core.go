package allreduce

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/octets"
)

// Core is one member's part of a ring as a state machine: no clock, no network,
// no goroutine. Whoever drives it passes in what happened, lets it work, and
// sends what it asks for:
//
//	c.Frame(now, f), c.Ready(now, bucket), c.Tick(now), …
//	for {
//		for _, o := range c.Outgoing() { send(o) }   // before anything else is passed in
//		if !c.Work(now) { break }
//		for _, f := range c.Used() { release(f) }
//	}
//
// Ring is the driver for processes; a simulation drives many in one loop. A
// Core serves one operation at a time and is not safe for concurrent use.
type Core struct {
	group Group
	opt   Options
	chunk int // elements

	out   [passes]*outbound // nil where this rank sends nothing in a pass
	in    [passes]*inbound
	stats Stats
	spans []span
	used  [][]byte // frames that nothing reads any more
	now   batch    // to be sent
	idle  batch    // that has been
	err   error    // the ring is over

	plans   []plan      // of the operation
	kept    plans       // of the last ones of each kind
	gather  bool        // it is a Gather
	from    [][]float32 // of a Gather: where each of this rank's buckets stands
	step    uint64
	micro   [][]float32
	sum     []float32
	rest    []float32 // what rounding for the wire has left, by element of sum; nil: nothing
	flags   func() Flags
	ready   []bool
	at      [passes]cursor
	reduced int         // chunks that this rank's reduce pass has finished
	total   [passes]int // moves of the operation
	busy    bool
	result  Flags
}

// Outgoing is a frame for a peer. It is valid until anything is passed in.
type Outgoing struct {
	To    string
	Frame []byte

	rank   int
	header header
}

// batch is what one round of inputs has given to send. Two of them take turns,
// so that a steady ring allocates nothing for sending.
type batch struct {
	sends  []Outgoing
	frames [][maxBare]byte // those without data
}

// cursor is the next move of a pass.
type cursor struct {
	bucket, move int
	moves        int       // done
	since        time.Time // when it became the next
}

type outbound struct {
	to      int
	link    sender
	slots   [][]byte // frames by sequence modulo window
	blocked bool     // something waits for room
}

type inbound struct {
	from  int
	link  receiver
	queue []message // by sequence modulo window
}

// waits reports whether a chunk can be taken.
func (in *inbound) waits() bool { return in.link.waiting() > 0 }

// head is the place of the next chunk.
func (in *inbound) head() *message { return &in.queue[in.link.consumed%in.link.window] }

type message struct {
	header
	frame []byte
}

func (m message) payload() []byte { return m.frame[headerBytes:] }

type plan struct {
	Range
	moves [passes][]Move
}

// plans are kept from step to step: of reductions, and of gatherings.
type plans struct {
	reduce, gather []plan
	roots          []int
}

// NewCore returns a member's part of a generation. Whatever the group's shape,
// the fold is the same.
func NewCore(g Group, opt Options, now time.Time) (*Core, error) {
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
	c := &Core{group: g, opt: opt, chunk: opt.ChunkBytes / 4}
	window := uint64(max(2, opt.WindowBytes/opt.ChunkBytes))
	reduce, broadcast := Schedule(g.Rank, world, 1, 1)
	for _, m := range append(reduce, broadcast...) {
		if m.To >= 0 {
			c.out[m.Pass] = &outbound{to: m.To, link: newSender(window, headerBytes+opt.ChunkBytes, opt.Patience, now), slots: make([][]byte, window)}
		}
		if m.From >= 0 {
			c.in[m.Pass] = &inbound{from: m.From, link: newReceiver(window), queue: make([]message, window)}
		}
	}
	return c, nil
}

// Begin starts the reduction of a step. buckets are ranges of the flat
// gradient, ascending, with gaps or without, the same on all ranks; micro are this rank's micro-gradients
// in order, each the whole flat gradient, at least one on rank 0; out receives
// the fold and must not overlap them. flags, which may be nil, is asked once,
// as late as possible. Until Done, micro and out belong to the operation, and a
// bucket's micro-gradients may be written only before Ready of it. A job whose
// gradient is empty carries no flags. It panics where the caller broke its
// duties.
func (c *Core) Begin(now time.Time, step uint64, buckets []Range, micro [][]float32, out []float32, flags func() Flags) {
	if c.busy {
		panic(fmt.Sprintf("allreduce: step %d begins while step %d is in progress", step+1, c.step+1))
	}
	check(c.group, buckets, micro, out)
	if !covers(c.kept.reduce, buckets) {
		c.kept.reduce = c.plan(buckets, nil)
	}
	c.gather, c.plans, c.micro, c.from = false, c.kept.reduce, micro, nil
	c.begin(now, step, out, flags)
}

// Gather starts the exchange of what each rank has made of its part: bucket b is
// rank roots[b]'s alone, who has it in from[b] once Ready says so; nobody else
// has one. Each rank's out receives all buckets, and may be the
// memory that from lies in. The rest is as for Begin; no flags are carried.
//
//	a bucket of rank 1   r1 ──> r2 ──> r3 ──> r0      each link carries a bucket once at most
func (c *Core) Gather(now time.Time, step uint64, buckets []Range, roots []int, from [][]float32, out []float32) {
	if c.busy {
		panic(fmt.Sprintf("allreduce: step %d is gathered while step %d is in progress", step+1, c.step+1))
	}
	checkGather(c.group, buckets, roots, from, out)
	if !covers(c.kept.gather, buckets) || !slices.Equal(c.kept.roots, roots) {
		c.kept.gather, c.kept.roots = c.plan(buckets, roots), slices.Clone(roots)
	}
	c.gather, c.plans, c.micro, c.from = true, c.kept.gather, nil, from
	c.begin(now, step, out, nil)
	for b, root := range roots {
		c.ready[b] = root != c.group.Rank
	}
}

func (c *Core) begin(now time.Time, step uint64, out []float32, flags func() Flags) {
	c.step, c.sum, c.flags, c.result = step, out, flags, 0
	c.ready = append(c.ready[:0], make([]bool, len(c.plans))...)
	c.reduced, c.total, c.busy = 0, [passes]int{}, true
	for p := range c.at {
		c.at[p] = cursor{since: now}
	}
	for _, pl := range c.plans {
		for p := range c.total {
			c.total[p] += len(pl.moves[p])
		}
	}
}

func check(g Group, buckets []Range, micro [][]float32, out []float32) {
	if g.Rank == 0 && len(micro) == 0 {
		panic("allreduce: rank 0 was given no micro-gradient: the fold begins with one of its own")
	}
	end := 0
	for i, b := range buckets {
		if b.Hi < b.Lo || b.Lo < end {
			panic(fmt.Sprintf("allreduce: bucket %d is %v and the one before it ends at %d: want ranges in ascending order, none over another", i, b, end))
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
}

func checkGather(g Group, buckets []Range, roots []int, from [][]float32, out []float32) {
	if len(roots) != len(buckets) || len(from) != len(buckets) {
		panic(fmt.Sprintf("allreduce: %d buckets with %d roots and %d places", len(buckets), len(roots), len(from)))
	}
	end := 0
	for i, b := range buckets {
		if b.Hi < b.Lo || b.Lo < end || roots[i] < 0 || roots[i] >= len(g.Members) {
			panic(fmt.Sprintf("allreduce: bucket %d of rank %d is %v, and the one before it ends at %d: want ranges in ascending order, of %d ranks", i, roots[i], b, end, len(g.Members)))
		}
		if end = b.Hi; roots[i] == g.Rank && len(from[i]) < end {
			panic(fmt.Sprintf("allreduce: bucket %d has %d elements, it ends at %d", i, len(from[i]), end))
		}
	}
	if len(out) < end {
		panic(fmt.Sprintf("allreduce: the output has %d elements, the buckets end at %d", len(out), end))
	}
}

// covers says whether plans are those of buckets.
func covers(plans []plan, buckets []Range) bool {
	return slices.EqualFunc(plans, buckets, func(p plan, b Range) bool { return p.Range == b })
}

// plan is what this rank does with each bucket: of a reduction, or where there
// are roots of a Gather.
func (c *Core) plan(buckets []Range, roots []int) (l []plan) {
	rank, world := c.group.Rank, len(c.group.Members)
	for i, b := range buckets {
		p := plan{Range: b}
		p.moves[Reduce], p.moves[Broadcast] = Schedule(rank, world, b.Hi-b.Lo, c.chunk)
		if roots != nil {
			p.moves[Reduce], p.moves[Broadcast] = cut(p.moves[Reduce], p.moves[Broadcast], rank, roots[i])
		}
		l = append(l, p)
	}
	return l
}

// Ready says that all of this rank's micro-gradients of a bucket are written.
// It may be said more than once.
func (c *Core) Ready(now time.Time, bucket int) {
	if bucket == c.at[Reduce].bucket && !c.ready[bucket] {
		c.at[Reduce].since = now // nobody is to blame for the time until now
	}
	c.ready[bucket] = true
}

// Done reports whether the operation is over: out holds the fold over all of
// the job's micro-batches, and the flags are those that any rank raised, the
// same on all ranks; or the ring is broken, and of no more use.
func (c *Core) Done() (over bool, f Flags, err error) {
	if c.err != nil {
		return true, 0, c.err
	}
	if c.busy && c.at[Reduce].moves == c.total[Reduce] && (c.in[Broadcast] == nil || c.at[Broadcast].moves == c.total[Broadcast]) {
		c.busy = false
	}
	return !c.busy, c.result, nil
}

// Break ends the ring, and an operation in progress with err.
func (c *Core) Break(err error) {
	if c.err == nil {
		c.err = err
	}
	c.busy = false
}

// Outgoing returns the frames to be sent now, in order, and forgets them.
func (c *Core) Outgoing() []Outgoing {
	c.now, c.idle = batch{c.idle.sends[:0], c.idle.frames[:0]}, c.now
	return c.idle.sends
}

// Used returns the frames that were passed in and are of no more use, and
// forgets them. The result is valid until anything is passed in.
func (c *Core) Used() [][]byte {
	used := c.used
	c.used = c.used[:0]
	return used
}

// Stats returns what the ring did so far.
func (c *Core) Stats() Stats { return c.stats }

// Work moves one chunk one step on, if it can; else it gives the answers that
// peers wait for, which then say what has been consumed too.
func (c *Core) Work(now time.Time) bool {
	if c.err != nil {
		return false
	}
	return c.busy && (c.reduceOne(now) || c.broadcastOne(now)) || c.settle(now)
}

// next is the move that a pass stands before, past empty buckets; false at its end.
func (c *Core) next(p Pass) (plan, Move, bool) {
	at := &c.at[p]
	for at.bucket < len(c.plans) {
		pl := c.plans[at.bucket]
		if at.move < len(pl.moves[p]) {
			return pl, pl.moves[p][at.move], true
		}
		at.bucket, at.move = at.bucket+1, 0
	}
	return plan{}, Move{}, false
}

func (c *Core) moved(p Pass, now time.Time) {
	at := &c.at[p]
	at.move, at.moves, at.since = at.move+1, at.moves+1, now
	if !c.gather && at.move == len(c.plans[at.bucket].moves[p]) {
		c.opt.mark(c.step, at.bucket, marks[p])
	}
}

// marks are what the end of a bucket's pass is.
var marks = [passes]Mark{Reduce: Folded, Broadcast: Total}

func (c *Core) reduceOne(now time.Time) bool {
	p, m, ok := c.next(Reduce)
	if !ok || !c.ready[c.at[Reduce].bucket] {
		return false
	}
	bucket := c.at[Reduce].bucket
	to, pass := m.To, Reduce
	if l := p.moves[Broadcast]; m.To < 0 && len(l) > 0 { // the total
		to, pass = l[c.at[Reduce].move].To, Broadcast
	}
	if m.From >= 0 && !c.in[Reduce].waits() || to >= 0 && !c.room(pass) {
		return false
	}
	dst := c.sum[p.Lo+m.Lo : p.Lo+m.Hi]
	var flags Flags
	own := c.micro
	if m.From >= 0 {
		msg, ok := c.take(bucket, p, m, now)
		if !ok {
			return true
		}
		c.decode(bucket, dst, msg.payload())
		flags = msg.flags
	} else if c.gather {
		copy(dst, c.from[bucket][p.Lo+m.Lo:p.Lo+m.Hi])
	} else {
		copy(dst, own[0][p.Lo+m.Lo:p.Lo+m.Hi])
		own = own[1:]
	}
	for _, g := range own {
		c.opt.Fold(dst, g[p.Lo+m.Lo:p.Lo+m.Hi])
	}
	final := c.at[Reduce].moves == c.total[Reduce]-1
	if final && c.flags != nil {
		flags |= c.flags()
	}
	if to >= 0 {
		if c.narrow(bucket) {
			c.round(dst, p.Lo+m.Lo)
		}
		c.stage(bucket, p, m, pass, flags, dst, now)
	}
	if final && m.To < 0 {
		c.result = flags
	}
	if c.reduced++; c.reduced == c.at[Broadcast].moves+1 {
		c.at[Broadcast].since = now // only from now on can a total come
	}
	c.moved(Reduce, now)
	return true
}

func (c *Core) broadcastOne(now time.Time) bool {
	in := c.in[Broadcast]
	if in == nil || !in.waits() {
		return false
	}
	p, m, ok := c.next(Broadcast)
	if !ok || m.To >= 0 && !c.room(Broadcast) {
		return false
	}
	bucket := c.at[Broadcast].bucket
	if !c.gather && c.reduced <= c.at[Broadcast].moves { // a total of what this rank has not added to
		c.Break(c.fault(FaultProtocol, m.From, in.head().header, "its total came before this rank's part was sent"))
		return true
	}
	msg, ok := c.take(bucket, p, m, now)
	if !ok {
		return true
	}
	dst := c.sum[p.Lo+m.Lo : p.Lo+m.Hi]
	c.decode(bucket, dst, msg.payload())
	if m.To >= 0 {
		c.stage(bucket, p, m, Broadcast, msg.flags, dst, now)
	}
	if c.at[Broadcast].moves == c.total[Broadcast]-1 {
		c.result = msg.flags
	}
	c.moved(Broadcast, now)
	return true
}

// take takes the chunk of a move out of its queue, if it is the one; else the
// ring breaks.
func (c *Core) take(bucket int, p plan, m Move, now time.Time) (message, bool) {
	in := c.in[m.Pass]
	msg := *in.head()
	*in.head() = message{}
	c.used = append(c.used, msg.frame) // read for the last time before Used can be asked for
	credit := in.link.consume()
	want := c.header(bucket, p, m, m.Pass)
	if h := msg.header; h.step != want.step || h.bucket != want.bucket || h.chunk != want.chunk || h.offset != want.offset || h.length != want.length {
		c.Break(c.fault(FaultProtocol, m.From, want, fmt.Sprintf("got step %d, bucket %d, chunk %d, %d bytes at %d instead: the members do not run the same job", h.step+1, h.bucket, h.chunk, h.length, h.offset)))
		return msg, false
	}
	if credit {
		c.acknowledge(m.Pass, kindAck, now)
	}
	return msg, true
}

func (c *Core) header(bucket int, p plan, m Move, pass Pass) header {
	return header{kind: kindData, pass: pass, generation: c.group.Generation, step: c.step, bucket: uint32(bucket), chunk: uint32(m.Chunk),
		offset: uint64(p.Lo + m.Lo), length: uint32(c.float(bucket) * (m.Hi - m.Lo)), from: uint16(c.group.Rank)}
}

// room says whether a pass has credit for one more frame.
func (c *Core) room(pass Pass) bool {
	o := c.out[pass]
	o.blocked = !o.link.room()
	return !o.blocked
}

// stage copies a chunk into a slot of its link, where it stays until the peer
// has consumed it, and sends it. data may change at once.
func (c *Core) stage(bucket int, p plan, m Move, pass Pass, flags Flags, data []float32, now time.Time) {
	o := c.out[pass]
	h := c.header(bucket, p, m, pass)
	h.flags = flags
	h.seq, h.number, h.ask = o.link.push(headerBytes+int(h.length), now)
	i := int(h.seq % o.link.slots)
	if o.slots[i] == nil {
		o.slots[i] = make([]byte, headerBytes+c.opt.ChunkBytes)
	}
	frame := o.slots[i][:headerBytes+int(h.length)]
	if c.narrow(bucket) {
		encodeBF16(frame[headerBytes:], data)
	} else {
		octets.Put(frame[headerBytes:], data)
	}
	h.put(frame)
	c.stats.Frames++
	c.stats.BytesSent += uint64(h.length)
	c.send(o.to, h, frame)
}

func (c *Core) decode(bucket int, dst []float32, payload []byte) {
	if c.narrow(bucket) {
		decodeBF16(dst, payload)
	} else {
		octets.Get(dst, payload)
	}
}

func (c *Core) send(rank int, h header, frame []byte) {
	c.now.sends = append(c.now.sends, Outgoing{To: c.group.Members[rank], Frame: frame, rank: rank, header: h})
}

// maxBare is the longest frame without data.
const maxBare = headerBytes + maxRanges*spanBytes

// sendBare sends a frame without data: an acknowledgement has ranges.
func (c *Core) sendBare(rank int, h header, ranges []span) {
	h.length = uint32(len(ranges) * spanBytes)
	c.now.frames = append(c.now.frames, [maxBare]byte{})
	frame := c.now.frames[len(c.now.frames)-1][:headerBytes+h.length]
	putSpans(frame[headerBytes:], h.seq, ranges)
	h.put(frame)
	c.send(rank, h, frame)
}

// Unsent tells that a frame could not be sent: it counts as lost, and the link
// mends it.
func (c *Core) Unsent(o Outgoing, err error) { c.mended(FaultLost, o.rank, o.header, err.Error()) }

// fault makes an error of a fault and counts it. peer is -1 if unknown.
func (c *Core) fault(kind FaultKind, peer int, h header, detail string) *FaultError {
	c.stats.ByKind[kind]++
	e := &FaultError{Kind: kind, Rank: -1, Generation: c.group.Generation, Step: h.step, Bucket: int(h.bucket), Pass: h.pass, Chunk: int(h.chunk), Detail: detail}
	if peer >= 0 && peer < len(c.group.Members) {
		e.Rank, e.Peer = peer, c.group.Members[peer]
	}
	return e
}

// mended reports a fault that the link deals with.
func (c *Core) mended(kind FaultKind, peer int, h header, detail string) {
	e := c.fault(kind, peer, h, detail)
	if c.opt.Event != nil {
		c.opt.Event(e)
	}
}

// Waiting says what the operation has waited for the longest, and since when;
// nil where it waits for nobody but its own caller.
func (c *Core) Waiting() (*FaultError, time.Time) {
	if c.err != nil || !c.busy {
		return nil, time.Time{}
	}
	var worst *FaultError
	var since time.Time
	for p := Reduce; p < passes; p++ {
		pl, m, ok := c.next(p)
		if !ok || p == Reduce && !c.ready[c.at[p].bucket] || p == Broadcast && (c.in[p] == nil || !c.gather && c.reduced <= c.at[p].moves) {
			continue
		}
		h := c.header(c.at[p].bucket, pl, m, p)
		peer, detail := m.From, "nothing came"
		if m.From < 0 || c.in[p].waits() { // so it waits for credit
			peer, detail = m.To, "it took nothing"
			if m.To < 0 && p == Reduce && len(pl.moves[Broadcast]) > 0 {
				h.pass, peer = Broadcast, pl.moves[Broadcast][c.at[p].move].To
			}
		}
		if peer < 0 || worst != nil && !c.at[p].since.Before(since) {
			continue
		}
		since = c.at[p].since
		worst = &FaultError{Kind: FaultTimeout, Peer: c.group.Members[peer], Rank: peer, Generation: c.group.Generation, Step: h.step,
			Bucket: int(h.bucket), Pass: h.pass, Chunk: int(h.chunk), Detail: detail}
	}
	return worst, since
}

// ErrClosed is returned by operations of a ring that has been closed.
var ErrClosed = errors.New("the ring is closed")

// ErrAborted is what Wait returns after Abort.
var ErrAborted = errors.New("the operation was aborted")
