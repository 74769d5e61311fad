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
				r.cancel(errors.New("the network was closed under the ring"))
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
	if errors.Is(err, errCRC) {
		h.pass %= passes
		r.mended(FaultCorrupt, h, err.Error())
		for p := Reduce; p < passes; p++ { // its header cannot be trusted: ask both for what is missing
			if r.in[p] != nil {
				r.acknowledge(p, kindNack)
			}
		}
		return
	}
	if err != nil {
		return // not ours
	}
	if h.generation != r.group.Generation {
		r.mended(FaultStale, h, fmt.Sprintf("it is of generation %d", h.generation))
		return
	}
	if h.kind == kindData || h.kind == kindProbe {
		in := r.in[h.pass]
		if in == nil || int(h.from) != in.from {
			r.mended(FaultStale, h, "it is not of this rank's neighbour")
			return
		}
		if h.kind == kindProbe {
			r.acknowledge(h.pass, kindAck)
			return
		}
		r.data(in, h, payload)
		return
	}
	out := r.out[h.pass]
	if out == nil || int(h.from) != out.to {
		r.mended(FaultStale, h, "it is not of this rank's neighbour")
		return
	}
	now := time.Now()
	r.mu.Lock()
	news := out.link.ack(h.seq, h.offset, now)
	lo, hi := out.link.received, out.link.next
	r.mu.Unlock()
	if news {
		select {
		case out.credit <- struct{}{}:
		default:
		}
	}
	if h.kind == kindNack {
		r.again(out, lo, hi)
	}
}

func (r *Ring) data(in *inbound, h header, payload []byte) {
	r.mu.Lock()
	v := in.link.take(h.seq)
	expected := in.link.expected
	if v == accept {
		in.last = h
	}
	r.mu.Unlock()
	switch v {
	case accept:
		select {
		case in.queue <- message{h, payload}:
		default: // more than the window: the peer does not keep to the protocol
			r.cancel(r.fault(FaultProtocol, h.pass, in.from, h, "it sent more than it had credit for"))
		}
		r.acknowledge(h.pass, kindAck)
	case duplicate:
		r.mended(FaultDuplicate, h, fmt.Sprintf("frame %d came again", h.seq))
		r.acknowledge(h.pass, kindAck)
	case gap:
		r.mended(FaultLost, h, fmt.Sprintf("frames %d to %d are missing before it", expected, h.seq-1))
		r.acknowledge(h.pass, kindNack)
	}
}

// overdue sends again what has not been acknowledged for too long.
func (r *Ring) overdue(now time.Time) {
	for p := Reduce; p < passes; p++ {
		out := r.out[p]
		if out == nil {
			continue
		}
		r.mu.Lock()
		lo, hi, probe := out.link.due(now, r.opt.Patience, out.blocked)
		r.mu.Unlock()
		r.again(out, lo, hi)
		if probe {
			h := header{kind: kindProbe, pass: p, generation: r.group.Generation, from: uint16(r.group.Rank)}
			var frame [headerBytes]byte
			h.put(frame[:])
			r.net.Send(r.ctx, r.group.Members[out.to], frame[:])
		}
	}
	for p := Reduce; p < passes; p++ { // a gap whose NACK or repetition was lost may be asked for again
		if in := r.in[p]; in != nil {
			r.mu.Lock()
			in.link.nacked = 0
			r.mu.Unlock()
		}
	}
}

// again repeats frames [lo, hi). Only this goroutine learns that slots have
// become free, so theirs are not filled anew meanwhile.
func (r *Ring) again(out *outbound, lo, hi uint64) {
	for seq := lo; seq < hi; seq++ {
		frame := out.slots[seq%out.link.window]
		n := headerBytes + int(uint32(frame[40])|uint32(frame[41])<<8|uint32(frame[42])<<16|uint32(frame[43])<<24)
		r.mu.Lock()
		r.stats.Retransmits++
		r.mu.Unlock()
		if r.net.Send(r.ctx, r.group.Members[out.to], frame[:n]) != nil {
			return
		}
	}
}
