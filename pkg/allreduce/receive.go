package allreduce

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Frame takes what arrived from anyone: it sorts it to its pass, and sends again
// what it shows to be lost. The frame is the Core's until Used returns it. What
// Used was not asked for before is forgotten.
func (c *Core) Frame(now time.Time, frame []byte) {
	c.used = c.used[:0]
	if !c.keep(now, frame) {
		c.used = append(c.used, frame)
	}
}

// keep reports whether the frame waits in a queue now.
func (c *Core) keep(now time.Time, frame []byte) bool {
	h, payload, err := parse(frame)
	if err != nil { // nothing in it can be trusted: ask both passes for what is missing
		from := -1
		if errors.Is(err, errCRC) {
			from = int(h.from) // most likely
		}
		c.mended(FaultCorrupt, from, h, err.Error())
		for p, in := range c.in {
			if in != nil {
				c.ask(Pass(p), in, now)
			}
		}
		return false
	}
	if h.generation != c.group.Generation {
		c.mended(FaultStale, int(h.from), h, fmt.Sprintf("it is of generation %d", h.generation))
		return false
	}
	switch h.kind {
	case kindData, kindProbe:
		in := c.in[h.pass]
		if in == nil || int(h.from) != in.from {
			c.mended(FaultStale, int(h.from), h, "it is not of this rank's neighbour")
		} else if h.kind == kindProbe {
			in.link.came(h.number, now)
			c.acknowledge(h.pass, kindAck, now)
		} else {
			return c.data(in, h, frame, now)
		}
	case kindAck, kindNack:
		out := c.out[h.pass]
		if out == nil || int(h.from) != out.to {
			c.mended(FaultStale, int(h.from), h, "it is not of this rank's neighbour")
			return false
		}
		c.spans = spans(c.spans[:0], h.seq, payload)
		out.link.ack(report{received: h.seq, consumed: h.offset, newest: h.number, delay: time.Duration(h.bucket) * time.Microsecond,
			again: h.chunk, ranges: c.spans, all: len(c.spans) < maxRanges}, now)
		c.mend(out, now)
		if h.kind == kindNack {
			if number, probe := out.link.ask(now); probe {
				c.probe(h.pass, out, number)
			}
		}
	}
	return false
}

// data takes a frame of a pass and reports whether it keeps it.
func (c *Core) data(in *inbound, h header, frame []byte, now time.Time) bool {
	expected, again := in.link.expected, in.link.again
	switch v := in.link.take(h.seq, h.number, h.ask, now); v {
	case accept, ahead: // kept until it is its turn
		in.queue[h.seq%in.link.window] = message{h, frame}
		if v == ahead {
			c.mended(FaultLost, in.from, h, fmt.Sprintf("of frames %d to %d some are missing before it", expected, h.seq-1))
		}
		return true
	case duplicate:
		c.stats.Spurious += uint64(in.link.again - again)
		c.mended(FaultDuplicate, in.from, h, fmt.Sprintf("frame %d came again", h.seq))
		if in.link.answer() {
			in.link.owed = true
		}
	case excess:
		c.Break(c.fault(FaultProtocol, in.from, h, "it sent more than it had credit for: all members need the same chunk and window"))
	}
	return false
}

// ask tells the peer that something damaged came, which may have been its own,
// unless that has just been done. The peer asks back what is there.
func (c *Core) ask(pass Pass, in *inbound, now time.Time) {
	if in.link.ask() {
		c.acknowledge(pass, kindNack, now)
	}
}

// settle gives the answers that are owed, and reports whether there were any.
func (c *Core) settle(now time.Time) (any bool) {
	for p, in := range c.in {
		if in != nil && in.link.owed {
			c.acknowledge(Pass(p), kindAck, now)
			any = true
		}
	}
	return any
}

// acknowledge tells the peer of a pass which of its frames have come. A lost
// acknowledgement is made good by the next, or by a probe.
func (c *Core) acknowledge(pass Pass, kind frameKind, now time.Time) {
	in := c.in[pass]
	a := in.link.tell(now, c.spans[:0])
	c.spans = a.ranges
	c.sendBare(in.from, header{kind: kind, pass: pass, generation: c.group.Generation, from: uint16(c.group.Rank), seq: a.received, offset: a.consumed,
		number: a.newest, bucket: uint32(min(a.delay.Microseconds(), math.MaxUint32)), chunk: a.again}, a.ranges)
}

// Tick acknowledges the tail of what came in, asks those who have been silent
// for too long, and breaks the ring where the deadline has passed. Eight times a
// patience is often enough.
func (c *Core) Tick(now time.Time) {
	for p, in := range c.in {
		if in != nil && in.link.tick() {
			c.acknowledge(Pass(p), kindAck, now)
		}
	}
	for p, out := range c.out {
		if out == nil {
			continue
		}
		out.link.judge(now)
		c.mend(out, now)
		if number, probe := out.link.due(now, out.blocked); probe {
			c.probe(Pass(p), out, number)
		}
	}
	if f, since := c.Waiting(); f != nil && now.Sub(since) >= c.opt.Deadline {
		f.Detail = fmt.Sprintf("%s within %v", f.Detail, c.opt.Deadline)
		c.stats.ByKind[FaultTimeout]++
		c.Break(f)
	}
}

// probe asks a peer what has come.
func (c *Core) probe(pass Pass, out *outbound, number uint32) {
	c.sendBare(out.to, header{kind: kindProbe, pass: pass, generation: c.group.Generation, from: uint16(c.group.Rank), number: number}, nil)
}

// mend sends again what has been lost, as far as the way takes it.
func (c *Core) mend(out *outbound, now time.Time) {
	for {
		seq, number, ok := out.link.repeat(now)
		if !ok {
			return
		}
		c.stats.Retransmits++
		frame := out.slots[seq%out.link.slots]
		h, n := frameLength(frame)
		h.number, h.ask = number, true
		h.put(frame[:n])
		c.send(out.to, h, frame[:n])
	}
}
