package allreduce

import "time"

// sender and receiver are the two ends of one pass between two neighbours:
// pure bookkeeping of sequence numbers and credit, without clock or network.
//
//	sent      0 … consumed … received … next        next - consumed ≤ window
//	                 │          └ sent again until acknowledged
//	                 └ before it slots are free
type sender struct {
	window   uint64
	next     uint64 // sequence of the next new frame
	received uint64 // the peer has all before it
	consumed uint64 // the peer has used all before it
	heard    time.Time
	tries    int // repetitions since the peer last made progress
}

// maxBackoff bounds how far repetitions thin out, which they do from the third
// on: 2^maxBackoff times patience. The first comes too early where a server has
// been restarted and the peer is not back yet.
const maxBackoff = 3

func (s *sender) room() bool { return s.next-s.consumed < s.window }

// ack takes an acknowledgement; old and impossible ones change nothing. It
// reports whether there is news.
func (s *sender) ack(received, consumed uint64, now time.Time) bool {
	if received > s.next || consumed > received || received < s.received || consumed < s.consumed {
		return false
	}
	if received == s.received && consumed == s.consumed {
		return false
	}
	s.received, s.consumed, s.heard, s.tries = received, consumed, now, 0
	return true
}

// nack says which frames [lo, hi) to send again when the peer asks for
// received: none if it has been overtaken.
func (s *sender) nack(received uint64, now time.Time) (lo, hi uint64) {
	if received != s.received {
		return 0, 0
	}
	s.heard = now
	return s.received, s.next
}

// due says what silence calls for: frames [lo, hi) are to be sent again, or
// the peer is to be asked for the credit that it may have sent in vain.
func (s *sender) due(now time.Time, patience time.Duration, blocked bool) (lo, hi uint64, probe bool) {
	quiet := now.Sub(s.heard)
	switch {
	case s.received < s.next && quiet >= patience<<min(s.tries/2, maxBackoff):
		s.heard = now
		s.tries++
		return s.received, s.next, false
	case s.received == s.next && blocked && quiet >= patience: // the peer may be computing: ask at an even pace, it costs little
		s.heard = now
		return 0, 0, true
	}
	return 0, 0, false
}

// receiver is the other end.
type receiver struct {
	window   uint64
	expected uint64 // sequence of the next frame in order
	consumed uint64

	// What the peer was last told. It is told again when a quarter of the
	// window has been consumed since, at the next tick, or when it asks.
	toldExpected, toldConsumed uint64

	asked    bool // a NACK for expected has gone out since the last tick
	answered bool // so has an answer to a duplicate
}

type verdict int

const (
	accept verdict = iota
	duplicate
	gap
)

func (r *receiver) take(seq uint64) verdict {
	switch {
	case seq == r.expected:
		r.expected++
		r.asked = false
		return accept
	case seq < r.expected:
		return duplicate
	}
	return gap
}

// ask reports whether the peer is to be asked for what is missing: once for
// each missing frame and tick, since it answers with all it has in flight and
// would be asked again for each of them.
func (r *receiver) ask() bool {
	first := !r.asked
	r.asked = true
	return first
}

// answer reports whether a duplicate is to be acknowledged: once a tick. Its
// sender missed an acknowledgement and repeats all that was in flight.
func (r *receiver) answer() bool {
	first := !r.answered
	r.answered = true
	return first
}

// consume counts one chunk as used and reports whether it is time to give
// credit back.
func (r *receiver) consume() bool {
	r.consumed++
	return r.consumed-r.toldConsumed >= max(r.window/4, 1)
}

// tell returns what an acknowledgement says now.
func (r *receiver) tell() (expected, consumed uint64) {
	r.toldExpected, r.toldConsumed = r.expected, r.consumed
	return r.expected, r.consumed
}

// tick begins a new interval and reports whether the peer has news to be told:
// the tail of what came in, less than a quarter of the window.
func (r *receiver) tick() bool {
	r.asked, r.answered = false, false
	return r.expected != r.toldExpected || r.consumed != r.toldConsumed
}
