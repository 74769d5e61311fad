package natsbus

import "sync"

// framePool keeps the buffers of frames that the ring has given back. Those
// given back last are the first to be used again: they may still be in a cache.
type framePool struct {
	mu      sync.Mutex
	small   [][]byte // of smallFrame bytes: acknowledgements
	large   [][]byte // of the longest frame so far, or less
	longest int
	bytes   int // of large
}

const (
	smallFrame = 512
	poolSmall  = 1024     // buffers
	poolBytes  = 64 << 20 // of large buffers: what both passes of a window of 32 MiB hold at most
	poolRound  = 4 << 10
)

// get returns a buffer of n bytes, at most allreduce.MaxFrame, with anything
// in it.
func (p *framePool) get(n int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= smallFrame {
		if last := len(p.small) - 1; last >= 0 {
			b := p.small[last]
			p.small = p.small[:last]
			return b[:n]
		}
		return make([]byte, n, smallFrame)
	}
	p.longest = max(p.longest, (n+poolRound-1)/poolRound*poolRound)
	for last := len(p.large) - 1; last >= 0; last-- {
		b := p.large[last]
		p.large[last] = nil
		p.large, p.bytes = p.large[:last], p.bytes-cap(b)
		if cap(b) >= n { // else it is of a time of shorter frames
			return b[:n]
		}
	}
	return make([]byte, n, p.longest)
}

// put takes a buffer back: one of get's, cut off at its end or not.
func (p *framePool) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch n := cap(b); {
	case n < smallFrame: // none of get's
	case n == smallFrame:
		if len(p.small) < poolSmall {
			p.small = append(p.small, b[:0])
		}
	case p.bytes+n <= poolBytes:
		p.large, p.bytes = append(p.large, b[:0]), p.bytes+n
	}
}
