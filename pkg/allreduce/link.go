package allreduce

import "time"

// sender and receiver are the two ends of one pass between two neighbours:
// pure bookkeeping of sequence numbers, credit and what is under way, without
// clock or network.
//
//	sent      0 … consumed … received … next        next - consumed ≤ slots
//	                 │          └ kept until acknowledged, one by one
//	                 └ before it slots are free
//
// Nothing is sent again because of time alone. Each transmission has a number,
// in the order of sending, and an acknowledgement names the newest that came:
// what was sent well before that one and is not there has been lost. Silence
// only makes the sender ask, with a probe of 64 bytes that has a number too.
// So a queue on the way, however long, costs no repetition.
type sender struct {
	slots    uint64 // frames that may be kept: the peer's credit
	largest  int    // bytes of a full frame
	next     uint64 // sequence of the next new frame
	received uint64 // the peer has all before it
	consumed uint64 // the peer has used all before it
	heard    time.Time
	tries    int // questions since something sent has last come to the peer

	flights []flight  // by sequence modulo slots
	log     []sending // by transmission modulo its length
	number  uint32    // of the last transmission; they count from 1
	newest  uint32    // of those that the peer has
	horizon uint64    // the peer's last word is of frames before it
	reorder int32     // transmissions by which one may overtake another
	again   uint32    // frames that the peer had twice by our doing

	under int // bytes under way
	many  int // frames under way
	lost  int // frames that are to be sent again

	mend    uint64 // none before it is lost
	unasked int    // bytes since the last frame that asked for an answer
	path    path
}

// flight is a frame that the peer has not acknowledged together with all
// before it.
type flight struct {
	number uint32 // of its last transmission
	bytes  int
	at     time.Time
	state  flightState
}

type flightState uint8

const (
	underWay flightState = iota
	arrived
	missing
)

const (
	// maxBackoff bounds how far questions thin out: 2^maxBackoff times the
	// time-out. The first evenPace of them come at an even pace: they cost little,
	// may be lost themselves, and come too early where a server has been
	// restarted and the peer is not back yet.
	maxBackoff, evenPace = 3, 4

	// minReorder and maxReorder bound how much overtaking is taken for that: it
	// doubles with each frame that was sent again in vain.
	minReorder, maxReorder = 3, 96
)

func newSender(slots uint64, largest int, patience time.Duration, now time.Time) sender {
	return sender{slots: slots, largest: largest, heard: now, reorder: minReorder, horizon: 1<<64 - 1,
		flights: make([]flight, slots), log: make([]sending, 2*slots+8),
		path: path{grain: patience / grains, patience: patience}}
}

// window is what may be under way, in bytes: what keeps the way busy, and two
// frames, one being worked on at either end.
func (s *sender) window() int {
	return int(min(s.path.window()+float64(2*s.largest), float64(s.largest*int(s.slots))))
}

// fits says whether the way takes one more frame. It always takes two.
func (s *sender) fits(bytes int) bool { return s.many < 2 || s.under+bytes <= s.window() }

// room says whether there is credit and a place on the way for a new frame.
// What was lost goes first.
func (s *sender) room() bool {
	return s.next-s.consumed < s.slots && s.lost == 0 && s.fits(s.largest)
}

// push sends a new frame: its sequence and transmission, and whether the peer
// is to answer at once: four times a window, and where the window is full.
func (s *sender) push(bytes int, now time.Time) (seq uint64, number uint32, ask bool) {
	if s.received == s.next {
		s.heard = now // patience begins with the oldest frame under way
	}
	seq = s.next
	s.next++
	number = s.transmit(seq, bytes, now)
	s.unasked += bytes
	if ask = s.unasked >= s.window()/4 || !s.room(); ask {
		s.unasked = 0
	}
	return seq, number, ask
}

func (s *sender) transmit(seq uint64, bytes int, now time.Time) uint32 {
	if s.many == 0 {
		s.path.idle(now)
	}
	s.under += bytes
	s.many++
	n := s.record(now, !s.fits(s.largest))
	s.flights[seq%s.slots] = flight{number: n, bytes: bytes, at: now}
	return n
}

// record gives a transmission its number.
func (s *sender) record(now time.Time, full bool) uint32 {
	s.number++
	s.log[s.number%uint32(len(s.log))] = s.path.send(s.number, now, full)
	return s.number
}

// report is what an acknowledgement says.
type report struct {
	received, consumed uint64
	newest             uint32        // transmission that came, of all; 0: none yet
	delay              time.Duration // since it came
	again              uint32        // frames that came in two transmissions
	ranges             []span        // that came beyond received, ascending
	all                bool          // these are all
}

// span is a half-open range of sequences.
type span struct{ lo, hi uint64 }

// ack takes an acknowledgement; old and impossible ones change nothing. It
// reports whether there is news. Then some frames may be lost: see repeat.
func (s *sender) ack(a report, now time.Time) bool {
	if a.received > s.next || a.consumed > a.received || a.received < s.received || a.consumed < s.consumed || int32(a.newest-s.number) > 0 {
		return false
	}
	news := a.received > s.received || a.consumed > s.consumed
	for ; s.received < a.received; s.received++ {
		s.arrive(s.received, now)
	}
	for _, r := range a.ranges {
		for seq := max(r.lo, s.received); seq < min(r.hi, s.next); seq++ {
			news = s.arrive(seq, now) || news
		}
	}
	s.consumed = a.consumed
	if int32(a.newest-s.newest) > 0 {
		s.newest, s.tries = a.newest, 0 // the way is open
		if e := s.log[a.newest%uint32(len(s.log))]; e.number == a.newest {
			s.path.sample(e, now, a.delay)
		}
	}
	if s.horizon = 1<<64 - 1; !a.all && len(a.ranges) > 0 {
		s.horizon = a.ranges[len(a.ranges)-1].hi
	}
	if int32(a.again-s.again) > 0 {
		s.again, s.reorder = a.again, min(2*s.reorder, maxReorder)
	}
	if news {
		s.heard = now
	}
	s.judge(now)
	return news
}

// arrive notes that the peer has a frame; false: it was known.
func (s *sender) arrive(seq uint64, now time.Time) bool {
	f := &s.flights[seq%s.slots]
	switch f.state {
	case arrived:
		return false
	case missing:
		s.lost--
	case underWay:
		s.under -= f.bytes
		s.many--
	}
	f.state = arrived
	s.path.came(f.bytes, now)
	return true
}

// judge finds what has been lost: something sent after it has come, by more
// transmissions or more time than frames overtake each other.
func (s *sender) judge(now time.Time) {
	late := s.path.late() * time.Duration(s.reorder) / minReorder
	for seq := s.received; seq < min(s.next, s.horizon); seq++ {
		f := &s.flights[seq%s.slots]
		ahead := int32(s.newest - f.number)
		if f.state != underWay || ahead <= 0 || ahead < s.reorder && now.Sub(f.at) < late {
			continue
		}
		f.state = missing
		s.under -= f.bytes
		s.many--
		s.lost++
		s.mend = min(s.mend, seq)
	}
}

// repeat says which frame to send again now, as which transmission; false if
// none is lost or the way is full.
func (s *sender) repeat(now time.Time) (seq uint64, number uint32, ok bool) {
	if s.lost == 0 {
		s.mend = s.next
		return 0, 0, false
	}
	for seq = max(s.mend, s.received); s.flights[seq%s.slots].state != missing; seq++ {
	}
	s.mend = seq
	bytes := s.flights[seq%s.slots].bytes
	if !s.fits(bytes) {
		return 0, 0, false
	}
	s.lost--
	return seq, s.transmit(seq, bytes, now), true
}

// due says that silence calls for a question, and gives it a number: frames
// under way have not been heard of for a time-out, or the credit that a blocked
// link waits for may have been sent in vain.
func (s *sender) due(now time.Time, blocked bool) (number uint32, probe bool) {
	quiet, wait := now.Sub(s.heard), s.path.timeout()
	switch {
	case s.received < s.next && quiet >= min(wait<<min(s.tries/evenPace, maxBackoff), maxTimeout):
		s.tries++
	case s.received == s.next && blocked && quiet >= wait: // the peer may be computing: ask at an even pace, it costs little
	default:
		return 0, false
	}
	s.heard = now
	return s.record(now, false), true
}

// ask gives a question a number that is put without waiting: something damaged
// came to the peer. False if nothing is under way.
func (s *sender) ask(now time.Time) (number uint32, probe bool) {
	if s.many == 0 {
		return 0, false
	}
	return s.record(now, false), true
}

// receiver is the other end. It keeps what comes out of order, within the
// window.
type receiver struct {
	window   uint64
	expected uint64 // sequence of the next frame in order
	consumed uint64
	top      uint64 // nothing from it on has come

	seen   []seen    // by sequence modulo window
	newest uint32    // transmission that came
	at     time.Time // when it did
	again  uint32    // frames that came in two transmissions

	// What the peer was last told. It is told again when it asks, when a
	// quarter of the window has been consumed since, or at the next tick; and
	// while frames are missing, with each that comes.
	toldExpected, toldConsumed, toldTop uint64
	toldNewest                          uint32

	owed     bool   // an answer
	beyond   uint64 // frames out of order since the last one
	asked    bool   // a NACK has gone out since the last tick
	answered bool   // so has an answer to a duplicate
}

// seen is the newest frame of a slot.
type seen struct {
	seq    uint64 // plus one
	number uint32
}

type verdict int

const (
	accept    verdict = iota
	ahead             // accepted, with the first gap before it
	duplicate         // it was there
	excess            // beyond the window
)

func newReceiver(window uint64) receiver { return receiver{window: window, seen: make([]seen, window)} }

// waiting is how many frames can be consumed.
func (r *receiver) waiting() uint64 { return r.expected - r.consumed }

func (r *receiver) has(seq uint64) bool { return r.seen[seq%r.window].seq == seq+1 }

// came notes a transmission, of a frame or a probe.
func (r *receiver) came(number uint32, now time.Time) {
	if int32(number-r.newest) > 0 {
		r.newest, r.at = number, now
	}
}

func (r *receiver) take(seq uint64, number uint32, ask bool, now time.Time) verdict {
	if seq >= r.consumed+r.window {
		return excess
	}
	r.came(number, now)
	r.owed = r.owed || ask
	if slot := &r.seen[seq%r.window]; seq < r.expected || r.has(seq) {
		if r.has(seq) && slot.number != number {
			r.again++
			r.owed = true
		}
		return duplicate
	}
	r.seen[seq%r.window] = seen{seq + 1, number}
	v := accept
	if seq > r.top {
		v = ahead
		r.owed = true
	}
	r.owed = r.owed || seq+1 < r.top // a gap is closed, or split
	r.top = max(r.top, seq+1)
	for r.expected < r.top && r.has(r.expected) {
		r.expected++
	}
	if r.expected < r.top {
		if r.beyond++; r.beyond >= max(r.window/16, 1) {
			r.owed = true
		}
	}
	return v
}

// ask reports whether the peer is to be told of something damaged: once a tick.
func (r *receiver) ask() bool {
	first := !r.asked
	r.asked = true
	return first
}

// answer reports whether a duplicate is to be acknowledged: once a tick.
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

// maxRanges is how many ranges an acknowledgement carries.
const maxRanges = 32

// tell returns what an acknowledgement says now. Its ranges are appended to
// ranges.
func (r *receiver) tell(now time.Time, ranges []span) report {
	r.toldExpected, r.toldConsumed, r.toldTop, r.toldNewest = r.expected, r.consumed, r.top, r.newest
	r.owed, r.beyond = false, 0
	a := report{received: r.expected, consumed: r.consumed, newest: r.newest, again: r.again, all: true}
	if r.newest != 0 {
		a.delay = max(now.Sub(r.at), 0)
	}
	for seq := r.expected; seq < r.top; seq++ {
		switch n := len(ranges); {
		case !r.has(seq):
		case n > 0 && ranges[n-1].hi == seq:
			ranges[n-1].hi++
		case n == maxRanges:
			a.all, a.ranges = false, ranges
			return a
		default:
			ranges = append(ranges, span{seq, seq + 1})
		}
	}
	a.ranges = ranges
	return a
}

// tick begins a new interval and reports whether the peer has news to be told:
// the tail of what came in.
func (r *receiver) tick() bool {
	r.asked, r.answered = false, false
	return r.expected != r.toldExpected || r.consumed != r.toldConsumed || r.top != r.toldTop || r.newest != r.toldNewest
}
