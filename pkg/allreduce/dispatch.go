package allreduce

import (
	"errors"
	"fmt"
	"time"
)

// dispatch reads the network for as long as the ring lives: it sorts frames to
// their passes, acknowledges, and sends again what was lost.
func (r *Ring) dispatch() {
	defer r.wg.Done()
	tick := time.NewTicker(max(r.opt.Patience/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case frame, ok := <-r.net.Frames():
			if !ok {
				r.cancel(fmt.Errorf("under the ring: %w", ErrNetworkClosed))
				return
			}
			r.frame(frame)
		case now := <-tick.C:
			r.overdue(now)
		}
	}
}

func (r *Ring) frame(frame []byte) {
	h, payload, err := parse(frame)
	if err != nil { // nothing in it can be trusted: ask both passes for what is missing
		from := -1
		if errors.Is(err, errCRC) {
			from = int(h.from) // most likely
		}
		r.mended(FaultCorrupt, from, h, err.Error())
		for p, in := range r.in {
			if in != nil {
				r.ask(Pass(p), in)
			}
		}
		return
	}
	if h.generation != r.group.Generation {
		r.mended(FaultStale, int(h.from), h, fmt.Sprintf("it is of generation %d", h.generation))
		return
	}
	switch h.kind {
	case kindData, kindProbe:
		in := r.in[h.pass]
		if in == nil || int(h.from) != in.from {
			r.mended(FaultStale, int(h.from), h, "it is not of this rank's neighbour")
		} else if h.kind == kindProbe {
			r.acknowledge(h.pass, kindAck)
		} else {
			r.data(in, h, payload)
		}
	case kindAck, kindNack:
		out := r.out[h.pass]
		if out == nil || int(h.from) != out.to {
			r.mended(FaultStale, int(h.from), h, "it is not of this rank's neighbour")
		} else {
			r.acked(out, h)
		}
	}
}

func (r *Ring) acked(out *outbound, h header) {
	now := time.Now()
	var lo, hi uint64
	r.mu.Lock()
	news := out.link.ack(h.seq, h.offset, now)
	if h.kind == kindNack {
		lo, hi = out.link.nack(h.seq, now)
	}
	r.mu.Unlock()
	if news {
		select {
		case out.credit <- struct{}{}:
		default:
		}
	}
	r.again(out, lo, hi)
}

func (r *Ring) data(in *inbound, h header, payload []byte) {
	r.mu.Lock()
	expected := in.link.expected
	v := in.link.take(h.seq)
	answer := v == duplicate && in.link.answer()
	r.mu.Unlock()
	switch v {
	case accept: // acknowledged when it has been consumed, or at the next tick
		select {
		case in.queue <- message{h, payload}:
		default: // more than the window: the peer does not keep to the protocol
			r.cancel(r.fault(FaultProtocol, in.from, h, "it sent more than it had credit for: all members need the same chunk and window"))
		}
	case duplicate:
		r.mended(FaultDuplicate, in.from, h, fmt.Sprintf("frame %d came again", h.seq))
		if answer {
			r.acknowledge(h.pass, kindAck)
		}
	case gap:
		if r.ask(h.pass, in) {
			r.mended(FaultLost, in.from, h, fmt.Sprintf("frames %d to %d are missing before it", expected, h.seq-1))
		}
	}
}

// ask sends a negative acknowledgement, unless that has just been done.
func (r *Ring) ask(pass Pass, in *inbound) bool {
	r.mu.Lock()
	first := in.link.ask()
	r.mu.Unlock()
	if first {
		r.acknowledge(pass, kindNack)
	}
	return first
}

// overdue acknowledges the tail of what came in, and sends again what has not
// been acknowledged for too long.
func (r *Ring) overdue(now time.Time) {
	for p, in := range r.in {
		if in == nil {
			continue
		}
		r.mu.Lock()
		tell := in.link.tick()
		r.mu.Unlock()
		if tell {
			r.acknowledge(Pass(p), kindAck)
		}
	}
	for p, out := range r.out {
		if out == nil {
			continue
		}
		r.mu.Lock()
		lo, hi, probe := out.link.due(now, r.opt.Patience, out.blocked)
		r.mu.Unlock()
		r.again(out, lo, hi)
		if probe {
			h := header{kind: kindProbe, pass: Pass(p), generation: r.group.Generation, from: uint16(r.group.Rank)}
			var frame [headerBytes]byte
			h.put(frame[:])
			r.transmit(r.ctx, out.to, h, frame[:])
		}
	}
}

// again repeats frames [lo, hi). Only this goroutine learns that slots have
// become free, so theirs are not filled anew meanwhile.
func (r *Ring) again(out *outbound, lo, hi uint64) {
	for seq := lo; seq < hi; seq++ {
		r.mu.Lock()
		frame := out.slots[seq%out.link.window]
		r.stats.Retransmits++
		r.mu.Unlock()
		h, n := frameLength(frame)
		if !r.transmit(r.ctx, out.to, h, frame[:n]) {
			return // the rest would only fail too, and the next tick tries anew
		}
	}
}
