package allreduce

import "time"

// sender and receiver are the two ends of one pass between two neighbours:
// pure bookkeeping of sequence numbers and credit, without clock or network.
//
//	sent      0 … received … next            next - consumed ≤ window
//	               │    └ sent again until acknowledged
//	               └ consumed: its slot is free
type sender struct {
	window   uint64
	next     uint64 // sequence of the next new frame
	received uint64 // the peer has all before it
	consumed uint64 // the peer has used all before it
	heard    time.Time
	tries    int // repetitions since the peer last made progress
}

func (s *sender) room() bool { return s.next-s.consumed < s.window }

// ack takes an acknowledgement; old and impossible ones change nothing. It
// reports whether there is news.
func (s *sender) ack(received, consumed uint64, now time.Time) bool {
	if received > s.next || consumed > received || received < s.received || consumed < s.consumed {
		return false
	}
	news := received > s.received || consumed > s.consumed
	s.received, s.consumed, s.heard = received, consumed, now
	if news {
		s.tries = 0
	}
	return news
}

// due says what silence calls for: frames [lo, hi) are to be sent again, or
// the peer is to be asked for the credit that it may have sent in vain.
func (s *sender) due(now time.Time, patience time.Duration, blocked bool) (lo, hi uint64, probe bool) {
	wait := patience << min(s.tries, 5)
	if now.Sub(s.heard) < wait || s.received == s.next && !blocked {
		return 0, 0, false
	}
	s.heard = now
	s.tries++
	if s.received == s.next {
		return 0, 0, true
	}
	return s.received, s.next, false
}

// receiver is the other end.
type receiver struct {
	expected uint64 // sequence of the next frame in order
	consumed uint64
	nacked   uint64 // 1 + the expected sequence of the last NACK
}

type verdict int

const (
	accept verdict = iota
	duplicate
	gap      // ask for what is missing
	gapAgain // it has been asked for
)

func (r *receiver) take(seq uint64) verdict {
	switch {
	case seq == r.expected:
		r.expected++
		return accept
	case seq < r.expected:
		return duplicate
	case r.nacked == r.expected+1:
		return gapAgain
	}
	r.nacked = r.expected + 1
	return gap
}
