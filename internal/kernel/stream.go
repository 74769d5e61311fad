package kernel

import "unsafe"

// CopyRows copies rows of cols floats. With past it writes them past the caches, where the level in use can: that is for what
// is read again when the caches hold something else, and three times as fast there (BenchmarkCopyRows), for its lines are not
// read first.
func CopyRows(dst []float32, dstRow int, src []float32, srcRow, rows, cols int, past bool) {
	if rows == 0 || cols == 0 {
		return
	}
	_, _ = dst[(rows-1)*dstRow+cols-1], src[(rows-1)*srcRow+cols-1]
	if past && til != nil && til.stream != nil && streams(dst, dstRow) && cols%lineFloats == 0 {
		til.stream(&dst[0], uintptr(dstRow)*4, &src[0], uintptr(srcRow)*4, rows, cols)
		return
	}
	for r := range rows {
		copy(dst[r*dstRow:r*dstRow+cols], src[r*srcRow:])
	}
}

// streams says whether rows of dst begin cache lines.
func streams(dst []float32, row int) bool {
	return uintptr(unsafe.Pointer(&dst[0]))%lineBytes == 0 && row%lineFloats == 0
}

// FetchRows is how many rows ahead of its work a pass over a tile of a matrix fetches.
const FetchRows = 6

// FetchFloats begins to read x, which is read or written soon, where the level in use has a way: of rows that lie apart
// the CPU does not see which is next.
func FetchFloats(x []float32) {
	if til != nil && til.fetch != nil && len(x) > 0 {
		til.fetch((*uint8)(unsafe.Pointer(&x[0])), 4*len(x))
	}
}

// FetchWords is FetchFloats of words.
func FetchWords(x []uint16) {
	if til != nil && til.fetch != nil && len(x) > 0 {
		til.fetch((*uint8)(unsafe.Pointer(&x[0])), 2*len(x))
	}
}
