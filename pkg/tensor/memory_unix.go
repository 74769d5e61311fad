//go:build unix

package tensor

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vlaring/vlaring/internal/kernel"
)

// mapFrom is the size from which memory is mapped rather than taken from the
// heap: the collector never looks at it, and large pages save TLB misses.
const mapFrom = 1 << 20

// region is memory that release gives back.
type region struct{ mapped []byte }

func (r *region) release() {
	if r.mapped != nil {
		unix.Munmap(r.mapped)
		r.mapped = nil
	}
}

// floats returns n zero floats on a cache line, and the region they live in.
func floats(n int) ([]float32, *region) {
	if 4*n < mapFrom {
		return kernel.AlignedFloats(n), &region{}
	}
	b, err := unix.Mmap(-1, 0, 4*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil { // out of address space or of mappings: the heap may still have room
		return kernel.AlignedFloats(n), &region{}
	}
	advise(b)
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n), &region{mapped: b}
}
