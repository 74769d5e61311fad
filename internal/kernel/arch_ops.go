package kernel

// tileArgs is one call of a GEMM micro-kernel; see gemm.go. Strides are in bytes. The assembly reads it by offset.
type tileArgs struct {
	a, b, c, bias *float32
	aRow, aCol    uintptr // from A[i,k] to A[i+1,k] and A[i,k+1]
	bRow, cRow    uintptr // from B[k,j] to B[k+1,j] and C[i,j] to C[i+1,j]
	k             uintptr
	mode          uintptr  // how the chains begin, and bit modeReLU
	cols          uintptr  // columns of the tile that exist, for the masked kernels
	next          *float32 // tile of C to prefetch; any address will do
	ahead         *float32 // what to fetch meanwhile: two lines aheadRow apart for every four steps, moving on by aheadStep
	aheadRow      uintptr
	aheadStep     uintptr
}

// fetch sets what the micro-kernel fetches into L2 while it runs. It may lie beyond an operand: fetching never faults.
func (t *tileArgs) fetch(p *float32, row, step uintptr) {
	t.ahead, t.aheadRow, t.aheadStep = p, row, step
}

// packArgs is one call of a packing kernel: it lays n steps of up to one vector's worth of lanes side by side.
// Strides are in bytes.
type packArgs struct {
	src    *float32
	stride uintptr // between lanes (transposing kernel) or between steps (copying kernel)
	lanes  uintptr // lanes that exist; the others become zero
	steps  uintptr
	dst    *float32
	pitch  uintptr // from one step to the next in dst
	groups uintptr // for kernels that pack many groups of neighbouring lanes
	hop    uintptr // from one group to the next in dst
}

const (
	modeZero = 0 // chains begin at 0
	modeBias = 1 // … at the bias of their column
	modeLoad = 2 // … at what C holds: the old value, or the chain so far
	modeReLU = 4 // added on the last block of k: negative results become 0

	modeRowBias = 8 // chains begin at the bias of their row
)

// vectorOps is the code of one level.
type vectorOps struct {
	mr, lanes   int               // rows of the largest micro-kernel; float32 in a vector. A tile is two vectors wide.
	full        []func(*tileArgs) // [rows-1]: all columns
	mask        []func(*tileArgs) // [rows-1]: lanes < cols ≤ 2·lanes
	half        []func(*tileArgs) // [rows-1]: cols ≤ lanes
	transpose   func(*packArgs)   // lanes lie stride apart, steps are neighbours
	untranspose func(*packArgs)   // transpose that stores only the lanes that exist
	copy        func(*packArgs)   // lanes are neighbours, steps lie stride apart
	panels      func(*packArgs)   // groups of 2·lanes neighbours, steps lie stride apart
	strips      func(*packArgs)   // groups of mr neighbours
	peak        func(rounds int)  // 2·mr independent vector multiply-adds a round

	// Conversions of n values, a multiple of 16; nil: plain Go.
	narrow func(dst *uint16, src *float32, n int)
	widen  func(dst *float32, src *uint16, n int)
}

// tile returns the micro-kernel for a tile of rows × cols.
func (v *vectorOps) tile(rows, cols int) func(*tileArgs) {
	switch {
	case cols == 2*v.lanes:
		return v.full[rows-1]
	case cols > v.lanes:
		return v.mask[rows-1]
	}
	return v.half[rows-1]
}
