package kernel

import "unsafe"

// lineBytes is the cache line that packed operands are aligned to, and the width of the widest vector.
const lineBytes = 64

// AlignedFloats returns n zeroed floats that start on a 64-byte boundary.
func AlignedFloats(n int) []float32 {
	const per = lineBytes / 4
	s := make([]float32, n+per-1)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(s)))&(lineBytes-1)) / 4
	return s[off : off+n : off+n]
}

// Workspace is the memory one thread's kernels need beside their operands: packed panels of a Gemm, and a scratch area for
// whoever calls the kernels. It grows to the largest demand and then never allocates again. It must not be used by
// two goroutines at once.
type Workspace struct {
	packA, packB []float32
	scratch      []float32
	tile         tileArgs // lives here, not on the stack, because a call through a table makes its argument escape
	pack         packArgs
	turned       Gemm

	tilesA, tilesB []uint16 // packed operands of a product of bfloat16
	wide, out      []float32
	bf             bfArgs
	bfPack         bfPack
}

// NewWorkspace returns an empty workspace.
func NewWorkspace() *Workspace { return new(Workspace) }

// Floats returns n floats of scratch, 64-byte aligned, with arbitrary contents. They are the caller's until its next call
// of Floats; kernels of this package leave them alone.
func (ws *Workspace) Floats(n int) []float32 { return grow(&ws.scratch, n) }

func grow(buf *[]float32, n int) []float32 {
	if len(*buf) < n {
		*buf = AlignedFloats((n + 1023) &^ 1023)
	}
	return (*buf)[:n]
}

func growWords(buf *[]uint16, n int) []uint16 {
	if len(*buf) < n {
		f := AlignedFloats((n/2 + 1023) &^ 1023)
		*buf = unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(f))), 2*len(f))
	}
	return (*buf)[:n]
}
