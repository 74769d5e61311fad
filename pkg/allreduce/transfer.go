package allreduce

import (
	"context"
	"errors"
	"fmt"
	"time"
)

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
			return msg, r.fault(FaultTimeout, m.From, want, fmt.Sprintf("nothing came within %v", r.opt.Deadline))
		case <-o.ctx.Done():
			return msg, context.Cause(o.ctx)
		}
	}
	if h := msg.header; h.step != want.step || h.bucket != want.bucket || h.chunk != want.chunk || h.offset != want.offset || h.length != want.length {
		return msg, r.fault(FaultProtocol, m.From, want, fmt.Sprintf("got step %d, bucket %d, chunk %d, %d bytes at %d instead: the members do not run the same job", h.step+1, h.bucket, h.chunk, h.length, h.offset))
	}
	return msg, nil
}

// stage waits for credit and copies a chunk into a slot of its link. The
// frame that it returns stays there until the peer has consumed it; data may
// change at once.
func (r *Ring) stage(o *Op, bucket int, p plan, m Move, pass Pass, flags Flags, data []float32) (header, []byte, error) {
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
			return h, nil, r.fault(FaultTimeout, out.to, h, fmt.Sprintf("it took nothing for %v", r.opt.Deadline))
		case <-o.ctx.Done():
			late.Stop()
			return h, nil, context.Cause(o.ctx)
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
	return h, frame, nil
}

// transmit hands a frame to the network and reports whether it went. One that
// did not is a lost one, which the link mends; a closed network ends the ring.
func (r *Ring) transmit(ctx context.Context, peer int, h header, frame []byte) bool {
	err := r.net.Send(ctx, r.group.Members[peer], frame)
	switch {
	case err == nil:
		return true
	case ctx.Err() != nil:
	case errors.Is(err, ErrNetworkClosed):
		r.cancel(fmt.Errorf("under the ring: %w", err))
	default:
		r.mended(FaultLost, peer, h, err.Error())
	}
	return false
}

// consumed gives the credit of one chunk back, in portions.
func (r *Ring) consumed(pass Pass) {
	r.mu.Lock()
	tell := r.in[pass].link.consume()
	r.mu.Unlock()
	if tell {
		r.acknowledge(pass, kindAck)
	}
}

// acknowledge tells the peer of a pass how far its frames have come. A lost
// acknowledgement is made good by the next, or by a probe.
func (r *Ring) acknowledge(pass Pass, kind frameKind) {
	in := r.in[pass]
	h := header{kind: kind, pass: pass, generation: r.group.Generation, from: uint16(r.group.Rank)}
	r.mu.Lock()
	h.seq, h.offset = in.link.tell()
	r.mu.Unlock()
	var frame [headerBytes]byte
	h.put(frame[:])
	r.transmit(r.ctx, in.from, h, frame[:])
}
