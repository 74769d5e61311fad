package allreduce

import (
	"errors"
	"fmt"
	"time"
)

// Frame takes what arrived from anyone: it sorts it to its pass, acknowledges,
// and has sent again what was lost. The frame becomes the Core's.
func (c *Core) Frame(now time.Time, frame []byte) {
	h, payload, err := parse(frame)
	if err != nil { // nothing in it can be trusted: ask both passes for what is missing
		from := -1
		if errors.Is(err, errCRC) {
			from = int(h.from) // most likely
		}
		c.mended(FaultCorrupt, from, h, err.Error())
		for p, in := range c.in {
			if in != nil {
				c.ask(Pass(p), in)
			}
		}
		return
	}
	if h.generation != c.group.Generation {
		c.mended(FaultStale, int(h.from), h, fmt.Sprintf("it is of generation %d", h.generation))
		return
	}
	switch h.kind {
	case kindData, kindProbe:
		in := c.in[h.pass]
		if in == nil || int(h.from) != in.from {
			c.mended(FaultStale, int(h.from), h, "it is not of this rank's neighbour")
		} else if h.kind == kindProbe {
			c.acknowledge(h.pass, kindAck)
		} else {
			c.data(in, h, payload)
		}
	case kindAck, kindNack:
		out := c.out[h.pass]
		if out == nil || int(h.from) != out.to {
			c.mended(FaultStale, int(h.from), h, "it is not of this rank's neighbour")
			return
		}
		out.link.ack(h.seq, h.offset, now)
		if h.kind == kindNack {
			lo, hi := out.link.nack(h.seq, now)
			c.again(out, lo, hi)
		}
	}
}

func (c *Core) data(in *inbound, h header, payload []byte) {
	expected := in.link.expected
	switch in.link.take(h.seq) {
	case accept: // acknowledged when it has been consumed, or at the next tick
		if in.n >= in.link.window {
			c.Break(c.fault(FaultProtocol, in.from, h, "it sent more than it had credit for: all members need the same chunk and window"))
			return
		}
		in.queue[(in.first+in.n)%in.link.window] = message{h, payload}
		in.n++
	case duplicate:
		c.mended(FaultDuplicate, in.from, h, fmt.Sprintf("frame %d came again", h.seq))
		if in.link.answer() {
			c.acknowledge(h.pass, kindAck)
		}
	case gap:
		if c.ask(h.pass, in) {
			c.mended(FaultLost, in.from, h, fmt.Sprintf("frames %d to %d are missing before it", expected, h.seq-1))
		}
	}
}

// ask sends a negative acknowledgement, unless that has just been done.
func (c *Core) ask(pass Pass, in *inbound) bool {
	first := in.link.ask()
	if first {
		c.acknowledge(pass, kindNack)
	}
	return first
}

// acknowledge tells the peer of a pass how far its frames have come. A lost
// acknowledgement is made good by the next, or by a probe.
func (c *Core) acknowledge(pass Pass, kind frameKind) {
	in := c.in[pass]
	h := header{kind: kind, pass: pass, generation: c.group.Generation, from: uint16(c.group.Rank)}
	h.seq, h.offset = in.link.tell()
	c.sendBare(in.from, h)
}

// Tick acknowledges the tail of what came in, has sent again what has not been
// acknowledged for too long, and breaks the ring where the deadline has passed.
// Four times a patience is often enough.
func (c *Core) Tick(now time.Time) {
	for p, in := range c.in {
		if in != nil && in.link.tick() {
			c.acknowledge(Pass(p), kindAck)
		}
	}
	for p, out := range c.out {
		if out == nil {
			continue
		}
		lo, hi, probe := out.link.due(now, c.opt.Patience, out.blocked)
		c.again(out, lo, hi)
		if probe {
			c.sendBare(out.to, header{kind: kindProbe, pass: Pass(p), generation: c.group.Generation, from: uint16(c.group.Rank)})
		}
	}
	if f, since := c.Waiting(); f != nil && now.Sub(since) >= c.opt.Deadline {
		f.Detail = fmt.Sprintf("%s within %v", f.Detail, c.opt.Deadline)
		c.stats.ByKind[FaultTimeout]++
		c.Break(f)
	}
}

// again repeats frames [lo, hi).
func (c *Core) again(out *outbound, lo, hi uint64) {
	for seq := lo; seq < hi; seq++ {
		frame := out.slots[seq%out.link.window]
		c.stats.Retransmits++
		h, n := frameLength(frame)
		c.send(out.to, h, frame[:n])
	}
}
