package shm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// peer is another process's segment, mapped to be read.
type peer struct {
	fd, bell int
	head     mapping
	slabs    []mapping
	layout   Layout
}

func (p *peer) close() {
	for _, m := range p.slabs {
		m.close()
	}
	p.head.close()
	closeAll([]int{p.fd, p.bell})
}

// open maps the segment at an address, which must be of the same layout.
func (s *Segment) openPeer(ctx context.Context, address string) (*peer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	files, err := ask(ctx, address, askSegment, 0, 2)
	if err != nil {
		return nil, err
	}
	p := &peer{fd: files[0], bell: files[1], layout: s.layout}
	size, err := length(p.fd)
	if err == nil && size < s.layout.headBytes() {
		err = fmt.Errorf("its shared memory has %d bytes, want %d at least", size, s.layout.headBytes())
	}
	if err == nil {
		p.head, err = mapFile(p.fd, 0, s.layout.headBytes(), unix.PROT_READ)
	}
	if err == nil {
		h := p.head.words(0, headLength)
		if h[headMagic] != magic || h[headWords] != uint64(s.layout.Words) || h[headFloats] != uint64(s.layout.Floats) {
			err = fmt.Errorf("its shared memory has %d words and slabs of %d floats, want %d and %d: it does not run the same job", h[headWords], h[headFloats], s.layout.Words, s.layout.Floats)
		}
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// slab maps slab i, if its owner has made it.
func (p *peer) slab(i uint64) ([]float32, error) {
	if i >= maxSlabs {
		return nil, fmt.Errorf("slab %d", i)
	}
	for uint64(len(p.slabs)) <= i {
		p.slabs = append(p.slabs, mapping{})
	}
	if p.slabs[i].bytes == nil {
		at := p.layout.headBytes() + int64(i)*p.layout.slabBytes()
		size, err := length(p.fd)
		if err != nil {
			return nil, err
		}
		if size < at+p.layout.slabBytes() {
			return nil, fmt.Errorf("slab %d ends beyond its shared memory of %d bytes", i, size)
		}
		if p.slabs[i], err = mapFile(p.fd, at, p.layout.slabBytes(), unix.PROT_READ); err != nil {
			return nil, err
		}
	}
	return p.slabs[i].floats(p.layout.Floats), nil
}

// Join makes the team of a generation with the segments at addresses, of which
// self is this one's place. It waits for the others to make theirs. What this
// rank has published is zero when it returns. A process has one team at a time.
func (s *Segment) Join(ctx context.Context, generation uint64, addresses []string, self int) (allreduce.Team, error) {
	if self < 0 || self >= len(addresses) || addresses[self] != s.address {
		return nil, fmt.Errorf("place %d of a team of %d is not this process's", self, len(addresses))
	}
	words := s.head.words(headLength, s.layout.Words)
	for i := range words {
		atomic.StoreUint64(&words[i], 0)
	}
	t := &team{seg: s, self: self, generation: generation, own: words}
	peers := map[string]*peer{}
	for i, a := range addresses {
		if i == self {
			t.peers = append(t.peers, nil)
			continue
		}
		p := s.peers[a]
		if p == nil {
			var err error
			if p, err = s.openPeer(ctx, a); err != nil {
				return nil, &PeerError{i, err}
			}
			s.peers[a] = p
		}
		peers[a] = p
		t.peers = append(t.peers, p)
	}
	for a, p := range s.peers { // of earlier teams
		if peers[a] == nil {
			p.close()
			delete(s.peers, a)
		}
	}
	if err := t.openSum(ctx, addresses[0]); err != nil {
		return nil, err
	}
	return t, nil
}

// openSum makes the team's sum, or gets it from the first rank.
func (t *team) openSum(ctx context.Context, first string) (err error) {
	s := t.seg
	size := s.layout.slabBytes()
	var fd int
	if t.self == 0 {
		if fd, err = file("vlaring-sum", size); err != nil {
			return err
		}
		s.mu.Lock()
		for g, old := range s.sums { // nobody asks for one before
			unix.Close(old.fd)
			delete(s.sums, g)
		}
		s.sums[t.generation] = &sum{fd}
		close(s.more)
		s.more = make(chan struct{})
		s.mu.Unlock()
	} else {
		files, err := ask(ctx, first, askSum, t.generation, 1)
		if err != nil {
			return &PeerError{0, err}
		}
		fd = files[0]
		defer unix.Close(fd)
		if n, err := length(fd); err != nil || n < size {
			return &PeerError{0, errors.Join(err, fmt.Errorf("its sum has %d bytes, want %d", n, size))}
		}
	}
	t.sum, err = mapFile(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE)
	return err
}

// team is an allreduce.Team.
type team struct {
	seg        *Segment
	generation uint64
	self       int
	own        []uint64
	peers      []*peer // nil: this rank
	sum        mapping
}

var _ allreduce.Team = (*team)(nil)

func (t *team) Len() int                 { return len(t.peers) }
func (t *team) Self() int                { return t.self }
func (t *team) Words() int               { return len(t.own) }
func (t *team) Sum() []float32           { return t.sum.floats(t.seg.layout.Floats) }
func (t *team) Store(word int, v uint64) { atomic.StoreUint64(&t.own[word], v) }

func (t *team) Load(rank, word int) uint64 {
	if rank == t.self {
		return atomic.LoadUint64(&t.own[word])
	}
	return atomic.LoadUint64(&t.peers[rank].head.words(headLength, len(t.own))[word])
}

func (t *team) Index(slab []float32) (uint64, bool) { return t.seg.index(slab) }

func (t *team) Slab(rank int, i uint64) ([]float32, error) {
	if rank != t.self {
		return t.peers[rank].slab(i)
	}
	t.seg.mu.Lock()
	defer t.seg.mu.Unlock()
	if i >= uint64(len(t.seg.slabs)) {
		return nil, fmt.Errorf("slab %d of %d", i, len(t.seg.slabs))
	}
	return t.seg.slabs[i].floats(t.seg.layout.Floats), nil
}

// one is what is added to a bell.
var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// Bell wakes a rank, perhaps this one. A bell that is full rings already.
func (t *team) Bell(rank int) {
	bell := t.seg.bellFD
	if p := t.peers[rank]; p != nil {
		bell = p.bell
	}
	unix.Write(bell, one)
}

func (t *team) Wait(ctx context.Context) error {
	select {
	case <-t.seg.rang:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *team) Close() error {
	t.sum.close()
	return nil
}
