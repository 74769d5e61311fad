package shm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The head of a segment, in words of 8 bytes; the published words follow it.
const (
	headMagic  = iota // magic
	headWords         // Layout.Words
	headFloats        // Layout.Floats
	headLength        // words of the head
)

// magic is "VLRSHM01", little-endian.
const magic = 0x31304d4853524c56

// mapping is a mapped file, or the start of one.
type mapping struct {
	bytes []byte
}

func mapFile(fd int, offset, size int64, prot int) (mapping, error) {
	b, err := unix.Mmap(fd, offset, int(size), prot, unix.MAP_SHARED)
	if err != nil {
		return mapping{}, fmt.Errorf("mapping %d bytes of shared memory: %w", size, err)
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // a kernel that gives none of shared memory loses nothing
	return mapping{b}, nil
}

func (m mapping) close() {
	if m.bytes != nil {
		unix.Munmap(m.bytes)
	}
}

func (m mapping) words(from, n int) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(m.bytes))), from+n)[from:]
}

func (m mapping) floats(n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(m.bytes))), n)
}

// pages rounds a size up to whole pages.
func pages(n int64) int64 {
	p := int64(os.Getpagesize())
	return (n + p - 1) / p * p
}

func (l Layout) headBytes() int64 { return pages(8 * int64(headLength+l.Words)) }
func (l Layout) slabBytes() int64 { return pages(4 * int64(l.Floats)) }

// file makes an anonymous file that can grow and not shrink.
func file(name string, size int64) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("shared memory of %d bytes: %w", size, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("sealing shared memory: %w", err)
	}
	return fd, nil
}

// length is the size of a peer's file, which must be sealed against shrinking:
// a page beyond the end of a file kills whoever reads it.
func length(fd int) (int64, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return 0, errors.New("the file that a peer shares is not sealed against shrinking")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("the file that a peer shares: %w", err)
	}
	return st.Size, nil
}

// Segment is this process's shared memory. Its methods may be called from any
// goroutine.
type Segment struct {
	layout  Layout
	fd      int
	head    mapping
	bell    *os.File // eventfd: peers ring it
	bellFD  int
	rang    chan struct{} // the bell has rung since it was last heard
	address string
	server  *net.UnixListener
	serving sync.WaitGroup

	mu     sync.Mutex
	slabs  []mapping
	sums   map[uint64]*sum // by generation, of teams that this process is the first of
	more   chan struct{}   // closed and replaced when sums has grown
	peers  map[string]*peer
	closed bool
}

// sum is the total of a generation. Several hold it: its file is closed with
// the last of them.
type sum struct{ fd int }

// Open makes this process's segment, and at address the socket where peers ask
// for it.
func Open(address string, l Layout) (*Segment, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	if !validAddress(address) {
		return nil, fmt.Errorf("%q is no address of shared memory", address)
	}
	s := &Segment{layout: l, address: address, fd: -1, bellFD: -1, sums: map[uint64]*sum{}, more: make(chan struct{}), rang: make(chan struct{}, 1), peers: map[string]*peer{}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Segment) open() (err error) {
	if s.fd, err = file("vlaring", s.layout.headBytes()); err != nil {
		return err
	}
	if s.head, err = mapFile(s.fd, 0, s.layout.headBytes(), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	h := s.head.words(0, headLength)
	h[headWords], h[headFloats], h[headMagic] = uint64(s.layout.Words), uint64(s.layout.Floats), magic
	if s.bellFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	s.bell = os.NewFile(uintptr(s.bellFD), "bell")
	s.serving.Go(func() { // ends when the bell is closed
		var count [8]byte
		for {
			if _, err := s.bell.Read(count[:]); err != nil {
				return
			}
			select {
			case s.rang <- struct{}{}:
			default:
			}
		}
	})
	return s.listen()
}

// Slab returns another slab of Layout.Floats zero floats. It is valid until Close.
func (s *Segment) Slab() ([]float32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(len(s.slabs))
	if s.closed || n >= maxSlabs {
		return nil, fmt.Errorf("no slab %d of shared memory", n)
	}
	at := s.layout.headBytes() + n*s.layout.slabBytes()
	if err := unix.Ftruncate(s.fd, at+s.layout.slabBytes()); err != nil {
		return nil, fmt.Errorf("shared memory of %d bytes: %w", at+s.layout.slabBytes(), err)
	}
	m, err := mapFile(s.fd, at, s.layout.slabBytes(), unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	s.slabs = append(s.slabs, m)
	return m.floats(s.layout.Floats), nil
}

// index is the number of a slab that Slab has returned.
func (s *Segment) index(slab []float32) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.slabs {
		if len(slab) > 0 && unsafe.Pointer(unsafe.SliceData(m.bytes)) == unsafe.Pointer(&slab[0]) {
			return uint64(i), true
		}
	}
	return 0, false
}

// Address is where peers of this host ask for the segment.
func (s *Segment) Address() string { return s.address }

// Close takes the memory away: nothing that Slab returned may be used any more.
// Peers that map it keep what they have.
func (s *Segment) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.more)
	s.mu.Unlock()
	if s.server != nil {
		s.server.Close()
	}
	if s.bell != nil {
		s.bell.Close()
	}
	s.serving.Wait()
	for _, p := range s.peers {
		p.close()
	}
	for _, t := range s.sums {
		unix.Close(t.fd)
	}
	for _, m := range s.slabs {
		m.close()
	}
	s.head.close()
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	return nil
}

// Host names the place whose processes can share memory with this one: the
// running kernel, the network name space, in which sockets without a file are
// found, and the user. It is a claim that saves vain attempts; what counts is
// whether the attempt succeeds. Empty where even that cannot be told.
func Host() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", strings.TrimSpace(string(boot)), network, os.Getuid()))
	return hex.EncodeToString(sum[:8])
}
