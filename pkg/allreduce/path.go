package allreduce

import "time"

// path is what a sender knows of the way to its peer, from acknowledgements
// alone: how long a round trip takes, how fast frames come out at the other
// end, and how much to have under way because of it.
//
// Every transmission has a number of its own, which its acknowledgement echoes.
// So a sample always belongs to one transmission, repeated frames included:
// Karn's rule (RFC 6298, section 3) without what it throws away.
type path struct {
	grain    time.Duration // of ticks, here and at the peer
	patience time.Duration // before anything is measured

	srtt, rttvar time.Duration // RFC 6298
	last         time.Duration // the newest sample
	least        time.Duration // the shortest: the way without queues
	measured     bool

	// Bytes a second: the best of the last one to two periods, since most of
	// the time a link waits for its own rank and not for the way.
	best, before float64
	period       time.Time // since when best is

	delivered   uint64    // bytes that the peer has said to have
	deliveredAt time.Time // when it last said so
	firstSent   time.Time // when the newest of them was sent
}

// sending is one transmission.
type sending struct {
	number      uint32
	at          time.Time
	delivered   uint64 // of the path when it was sent, like the times
	deliveredAt time.Time
	firstSent   time.Time
	full        bool // it filled the window
}

const (
	// grains is how many ticks a patience has.
	grains = 8

	// maxTimeout bounds the time-out: a peer behind a queue of many seconds is
	// asked that often, which costs a header.
	maxTimeout = 8 * time.Second

	// queueing is how much of a link's time may lie in queues on the way beyond
	// the shortest round trip, so that there is always something to carry. On a
	// fast link it is more than any window: there the window is the bound.
	queueing = 100 * time.Millisecond

	// minPeriod and four round trips bound how long the best rate counts.
	minPeriod = time.Second
)

// timeout is the silence that calls for a question. Both ends act on ticks, so
// two of them come on top of any round trip.
func (p *path) timeout() time.Duration {
	if !p.measured {
		return p.patience
	}
	return min(p.srtt+max(2*p.grain, 4*p.rttvar), maxTimeout)
}

// late is how long after its transmission a frame is late, once something sent
// after it has come: that far apart two frames seldom overtake each other.
func (p *path) late() time.Duration {
	return max(max(p.srtt, p.last)*9/8, time.Millisecond)
}

// idle says that nothing is under way before a transmission: rates are
// measured from here.
func (p *path) idle(now time.Time) { p.deliveredAt, p.firstSent = now, now }

// send is the record of a transmission.
func (p *path) send(number uint32, now time.Time, full bool) sending {
	return sending{number: number, at: now, delivered: p.delivered, deliveredAt: p.deliveredAt, firstSent: p.firstSent, full: full}
}

// came counts bytes that the peer has said to have.
func (p *path) came(bytes int, now time.Time) {
	p.delivered += uint64(bytes)
	p.deliveredAt = now
}

// sample takes the echo of the newest transmission, which the peer held back
// for delay before it answered.
func (p *path) sample(s sending, now time.Time, delay time.Duration) {
	rtt := max(now.Sub(s.at)-delay, 0)
	if p.last = rtt; !p.measured {
		p.srtt, p.rttvar, p.least, p.measured = rtt, rtt/2, rtt, true
	} else {
		p.rttvar += ((p.srtt - rtt).Abs() - p.rttvar) / 4
		p.srtt += (rtt - p.srtt) / 8
		p.least = min(p.least, rtt)
	}
	bytes := p.delivered - s.delivered
	if bytes == 0 {
		return
	}
	// What was sent together may be told of together: neither the time of
	// sending nor that of hearing alone says how fast it went.
	took := max(now.Sub(s.deliveredAt), s.at.Sub(s.firstSent), time.Microsecond)
	p.firstSent = s.at
	rate := float64(bytes) / took.Seconds()
	if !s.full && rate <= p.rate() {
		return // this rank had no more to send: it says nothing about the way
	}
	if now.Sub(p.period) > max(minPeriod, 4*p.srtt) {
		p.before, p.best, p.period = p.best, 0, now
	}
	p.best = max(p.best, rate)
}

func (p *path) rate() float64 { return max(p.best, p.before) }

// window is how many bytes keep the way busy, and not much more: rate times
// round trip and what may wait in queues. Each window fills the next by at least
// a half, so that a link finds its rate in a few round trips, and a way that
// others leave is used as soon as they do. The shortest round trip never ages:
// on a way that is always full there is no other that has no queue in it.
func (p *path) window() float64 {
	return p.rate() * (p.least + p.least/2 + queueing).Seconds()
}
