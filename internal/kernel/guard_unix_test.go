//go:build unix

package kernel

import (
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guarded returns n floats that end where a page begins that faults when it is touched.
func guarded(t testing.TB, n int) []float32 {
	page := unix.Getpagesize()
	bytes := (4*n + page - 1) / page * page
	m := idle.take(bytes + page)
	if m == nil {
		var err error
		if m, err = unix.Mmap(-1, 0, bytes+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mprotect(m[bytes:], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { idle.give(m) })
	return unsafe.Slice((*float32)(unsafe.Pointer(&m[bytes-4*n])), n)
}

// idle are the mappings that tests have done with, by length: making them anew took as long as what the tests compute.
var idle mappings

type mappings struct {
	mu sync.Mutex
	of map[int][][]byte
}

func (p *mappings) take(n int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.of[n]
	if len(free) == 0 {
		return nil
	}
	p.of[n] = free[:len(free)-1]
	return free[len(free)-1]
}

func (p *mappings) give(m []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[int][][]byte{}
	}
	p.of[len(m)] = append(p.of[len(m)], m)
}
