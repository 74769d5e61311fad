package allreduce

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// ErrNetworkClosed is returned by Send of a network that has been closed.
var ErrNetworkClosed = errors.New("the network is closed")

// ErrUnsendable says that a frame can never be sent, however often it is tried:
// the network does not take its size, or forbids it. All members would fail
// alike.
var ErrUnsendable = errors.New("trying again is of no use")

// Faults are what a MemNetwork does to frames, as chances of 0 to 1 drawn for
// each frame. The draws of one direction between two members are a function of
// Seed, the two names and the frame's number alone.
type Faults struct {
	Seed      uint64
	Drop      float64 // it does not arrive
	Duplicate float64 // it arrives twice
	Corrupt   float64 // it arrives with one bit flipped
	Delay     float64 // it arrives after 1 to Hold later frames between the same two members; lost if they do not come
	Hold      int     // default 4
}

// Injected counts what a MemNetwork did.
type Injected struct {
	Frames     uint64 // given to Send
	Dropped    uint64
	Duplicated uint64
	Corrupted  uint64
	Delayed    uint64
	Cut        uint64 // dropped by a partition
	Overflowed uint64 // dropped because the receiver had memBacklog unread
	Nowhere    uint64 // for a member that is not there

	Queued time.Duration // longest wait of a frame for its turn on a Wire
}

// memBacklog is how many frames a member may leave unread.
const memBacklog = 1024

// MemNetwork joins members in one process. Its zero faults make it perfect: it
// keeps order and loses nothing below memBacklog unread frames. Without a Wire it
// starts no goroutine and reads no clock.
type MemNetwork struct {
	mu     sync.Mutex
	ports  map[string]*memPort
	links  map[[2]string]*memLink
	apart  map[string]bool
	faults Faults
	wire   wire
	count  Injected
}

// memLink is one direction between two members.
type memLink struct {
	from   string
	random *rand.Rand
	held   []heldFrame
}

type heldFrame struct {
	frame []byte
	after int // frames that still go before it
}

type memPort struct {
	hub    *MemNetwork
	name   string
	frames chan []byte
	closed bool // under hub.mu
}

var _ Network = (*memPort)(nil)

// NewMemNetwork returns a network without members.
func NewMemNetwork(f Faults) *MemNetwork {
	n := &MemNetwork{ports: map[string]*memPort{}, links: map[[2]string]*memLink{}, apart: map[string]bool{}}
	n.SetFaults(f)
	return n
}

// Join adds a member. One of the same name that is there already hears nothing
// more, as after a restart.
func (n *MemNetwork) Join(name string) Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := &memPort{hub: n, name: name, frames: make(chan []byte, memBacklog)}
	n.ports[name] = p
	return p
}

// SetFaults changes what happens to frames from now on. Draws begin anew.
func (n *MemNetwork) SetFaults(f Faults) {
	for _, p := range []float64{f.Drop, f.Duplicate, f.Corrupt, f.Delay} {
		if !(p >= 0 && p <= 1) {
			panic(fmt.Sprintf("allreduce: faults %+v: want chances of 0 to 1", f))
		}
	}
	if f.Hold == 0 {
		f.Hold = 4
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
	for _, l := range n.links {
		l.random = nil
	}
}

// Partition cuts the named members off from the others, in place of an earlier
// partition; those of one side still reach each other. No name heals.
func (n *MemNetwork) Partition(names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.apart)
	for _, name := range names {
		n.apart[name] = true
	}
}

// Injected returns the counts so far.
func (n *MemNetwork) Injected() Injected {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

// Send implements Network. It never blocks: a frame that does not fit is lost.
func (p *memPort) Send(ctx context.Context, peer string, frame []byte) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	n := p.hub
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.closed {
		return ErrNetworkClosed
	}
	n.count.Frames++
	if n.apart[p.name] != n.apart[peer] {
		n.count.Cut++
		return nil
	}
	key := [2]string{p.name, peer}
	l := n.links[key]
	if l == nil {
		l = &memLink{from: p.name}
		n.links[key] = l
	}
	if l.random == nil {
		h := fnv.New64a()
		fmt.Fprintf(h, "%q %q", p.name, peer)
		l.random = rand.New(rand.NewPCG(n.faults.Seed, h.Sum64()))
	}
	n.pass(l, peer, frame)
	return nil
}

// pass decides over one frame and delivers what is due.
func (n *MemNetwork) pass(l *memLink, peer string, frame []byte) {
	f := &n.faults
	// All draws are made for every frame, so that one chance does not move the others.
	drop, twice, corrupt, delay := l.random.Float64() < f.Drop, l.random.Float64() < f.Duplicate, l.random.Float64() < f.Corrupt, l.random.Float64() < f.Delay
	bit, hold := l.random.Uint64(), 1+l.random.IntN(f.Hold)
	mine := append([]byte(nil), frame...)
	if corrupt && !drop && len(mine) > 0 {
		bit %= uint64(8 * len(mine))
		mine[bit/8] ^= 1 << (bit % 8)
		n.count.Corrupted++
	}
	var copied []byte // before the first is the receiver's, who may write to it
	if twice && !drop {
		copied = append(copied, mine...)
	}
	switch {
	case drop:
		n.count.Dropped++
	case delay:
		n.count.Delayed++
		l.held = append(l.held, heldFrame{mine, hold + 1}) // + 1: the loop below counts this call too
	default:
		n.carry(l, peer, mine)
	}
	if twice && !drop {
		n.count.Duplicated++
		n.carry(l, peer, copied)
	}
	rest := l.held[:0]
	for _, h := range l.held {
		if h.after--; h.after > 0 {
			rest = append(rest, h)
		} else {
			n.carry(l, peer, h.frame)
		}
	}
	clear(l.held[len(rest):])
	l.held = rest
}

func (n *MemNetwork) deliver(peer string, frame []byte) {
	to := n.ports[peer]
	if to == nil || to.closed {
		n.count.Nowhere++
		return
	}
	select {
	case to.frames <- frame:
	default:
		n.count.Overflowed++
	}
}

// Release implements Network. Frames of this network are garbage.
func (p *memPort) Release([]byte) {}

// Frames implements Network.
func (p *memPort) Frames() <-chan []byte { return p.frames }

// Close implements Network.
func (p *memPort) Close() error {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.frames)
	}
	return nil
}
