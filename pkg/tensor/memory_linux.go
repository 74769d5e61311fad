package tensor

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// advise asks for huge pages; a kernel without them says no, which is no harm.
func advise(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }

// discardPages gives the whole pages within x back; they read as zeros from then
// on. It returns which elements these are.
func discardPages(x []float32) (lo, hi int) {
	if 4*len(x) < mapFrom { // it may be the heap's
		return 0, 0
	}
	page := os.Getpagesize()
	at := int(uintptr(unsafe.Pointer(unsafe.SliceData(x))) % uintptr(page))
	lo = (page - at) % page / 4
	hi = lo + (len(x)-lo)*4/page*page/4
	b := unsafe.Slice((*byte)(unsafe.Pointer(&x[lo])), 4*(hi-lo))
	if unix.Madvise(b, unix.MADV_DONTNEED) != nil {
		return 0, 0
	}
	return lo, hi
}
