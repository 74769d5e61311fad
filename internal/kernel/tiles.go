package kernel

import (
	"math"
	"unsafe"
)

// Products of bfloat16. Both operands are rounded to bfloat16 (to nearest, ties to even; a denormal counts as zero) and laid out in tiles of
// 16 lanes by 32 steps of k, a kibibyte each. Lanes are rows of A or columns of B; what is beyond the last step is zero.
//
//	A's tile   row of 64 bytes = lane, 32 steps            (a row of A)
//	B's tile   row of 64 bytes = pair of steps, 16 lanes   (two words a lane)
//	strip      the tiles of 16 lanes, step by step; strips follow one another
//
// Each element of C is, in blocks of 32 of k and with denormals read as zeros and flushed to zeros (tininess after rounding, as x86 has it),
//
//	t0, t1 := 0, 0
//	for k even in block { t0 = fma(A[i,k], B[k,j], t0); t1 = fma(A[i,k+1], B[k+1,j], t1) }
//	c = c + (t0 + t1)
//
// which is what TDPBF16PS computes. NaN payloads are the one exception.
const (
	tileLanes = 16
	tileSteps = 32
	tileWords = tileLanes * tileSteps
	tileBytes = 2 * tileWords
)

// bfArgs is one call of a micro-kernel of bfloat16. Strides are in bytes. The assembly reads it by offset.
type bfArgs struct {
	a       *uint16 // tiles of the first strip, or its rows as they are; for the emulations rows of float32
	b       *uint16 // tiles of the first column strip; the second one follows it
	c, bias *float32
	bStrip  uintptr // from strip to strip of B
	cRow    uintptr
	blocks  uintptr // of 32 steps
	strips  uintptr // calls' worth of strips, one below the other
	mode    uintptr // modeZero, modeBias or modeLoad
	rows    uintptr // of an emulation: that exist
	cols    uintptr // of an emulation: that exist
	aRow    uintptr // from row to row of A; of its tiles 64
	tiles   tileConfig
	flushed uintptr // NEON: something was flushed
	aStrip  uintptr // from strip to strip of A
	aStep   uintptr // from block to block of A
	shaped  [2]int  // the rows and columns that tiles is for; the assembly does not read it
}

// tileConfig is what LDTILECFG reads.
type tileConfig struct {
	palette  uint8
	_        [15]uint8
	colBytes [16]uint16
	rows     [16]uint8
}

// bfPack is one call of a packing kernel of tiles. Strides are in bytes. The assembly reads it by offset.
type bfPack struct {
	src    unsafe.Pointer // float32 or bfloat16
	stride uintptr        // between lanes whose steps are neighbours, or between steps whose lanes are
	lanes  uintptr        // that exist; where lanes are neighbours, of the last group
	steps  uintptr        // of k that exist
	dst    *uint16
	groups uintptr // of 16 neighbouring lanes
	hop    uintptr // from the tiles of one group to those of the next
}

// tileOps is the code of one level for products of bfloat16.
type tileOps struct {
	amx  [2][2]func(*bfArgs) // [strips of rows - 1][strips of columns - 1]; nil: emulated
	peak func(rounds int, config *uint8, data *uint16)

	// the emulation
	tile        func(*bfArgs)
	rows, lanes int  // of a tile
	strips      int  // of A that are widened at a time: whole tiles
	tells       bool // flushes by another rule than x86's, and says whether it flushed: then the tile is done again in plain Go
	widen       func(dst *float32, stride int, src *uint16, blocks int)
	flat        func(dst, src *float32, n int) // widen of what is not packed; nil: all is packed

	floats, words *tilePackers                                                                  // by what the operand is; nil: plain Go
	round         func(dst *uint16, dstRow uintptr, src *float32, srcRow uintptr, rows, n int)  // n is a multiple of tileSteps
	fetch         func(at *uint8, bytes int)                                                    // begins to read lines, for reading or for writing
	stream        func(dst *float32, dstRow uintptr, src *float32, srcRow uintptr, rows, n int) // nil: no way past the caches
}

// tilePackers lay operands out whose steps are neighbours, or whose lanes are; a tile's row is a lane, or a pair of steps.
type tilePackers struct {
	whole                                      bool // blocks of steps and groups of lanes alone: what is left is packed in plain Go
	stepsLane, stepsPair, lanesPair, lanesLane func(*bfPack)
}

// blocksOf is how many blocks k steps are.
func blocksOf(k int) int { return (k + tileSteps - 1) / tileSteps }

// stripWords is how many words a strip of k steps takes.
func stripWords(k int) int { return blocksOf(k) * tileWords }

// operand is a matrix that a product of bfloat16 reads: element (lane l, step s) is x[l·lane + s·step], of whichever slice there is.
type operand struct {
	x          []float32
	words      []uint16
	lane, step int
}

func (o operand) from(i int) operand {
	if o.words != nil {
		o.words = o.words[i:]
	} else {
		o.x = o.x[i:]
	}
	return o
}

// packTiles lays lanes × k elements out in strips. pairs says that a tile's row is a pair of steps (B), not a lane (A). dst holds
// stripWords(k) for each 16 lanes begun.
func packTiles(dst []uint16, o operand, lanes, k int, pairs bool, ws *Workspace) {
	hop := stripWords(k)
	var packers *tilePackers
	if til != nil {
		if packers = til.floats; o.words != nil {
			packers = til.words
		}
	}
	if packers == nil || o.lane != 1 && o.step != 1 {
		packPlain(dst, o, 0, lanes, 0, k, k, pairs)
		return
	}
	whole, steps := lanes, k
	if packers.whole {
		if steps = k &^ (tileSteps - 1); o.step != 1 {
			whole = lanes &^ (tileLanes - 1)
		}
		packPlain(dst, o, 0, lanes, steps, k, k, pairs)
		packPlain(dst, o, whole, lanes, 0, steps, k, pairs)
		if whole*steps == 0 {
			return
		}
	}
	p, size := &ws.bfPack, 4
	at := func(i int) unsafe.Pointer { return unsafe.Pointer(&o.x[i]) }
	if o.words != nil {
		size, at = 2, func(i int) unsafe.Pointer { return unsafe.Pointer(&o.words[i]) }
	}
	p.steps = uintptr(steps)
	if o.step == 1 { // and K = 1
		p.stride = uintptr(o.lane * size)
		f := packers.stepsLane
		if pairs {
			f = packers.stepsPair
		}
		for l := 0; l < lanes; l += tileLanes {
			p.src, p.dst, p.lanes = at(l*o.lane), &dst[l/tileLanes*hop], uintptr(min(tileLanes, lanes-l))
			f(p)
		}
		return
	}
	p.src, p.dst, p.stride = at(0), &dst[0], uintptr(o.step*size)
	p.groups, p.hop = uintptr((whole+tileLanes-1)/tileLanes), uintptr(hop)*2
	p.lanes = uintptr((whole-1)%tileLanes + 1)
	if !pairs {
		packers.lanesLane(p)
		return
	}
	if steps%tileSteps != 0 { // the packer writes pairs that exist
		for l := 0; l < lanes; l += tileLanes {
			clear(dst[l/tileLanes*hop+hop-tileWords:][:tileWords])
		}
	}
	packers.lanesPair(p)
}

// packPlain packs lanes [l0,l1) and steps [s0,s1) of k, both from whole tiles on, in plain Go.
func packPlain(dst []uint16, o operand, l0, l1, s0, s1, k int, pairs bool) {
	for l := l0; l < l1 && s0 < s1; l += tileLanes {
		packTilesPlain(dst[l/tileLanes*stripWords(k)+s0*tileLanes:], o.from(l*o.lane+s0*o.step), min(tileLanes, l1-l), s1-s0, pairs)
	}
}

// packTilesPlain packs one strip in plain Go.
func packTilesPlain(dst []uint16, o operand, lanes, k int, pairs bool) {
	if lanes < tileLanes || k%tileSteps != 0 {
		clear(dst[:stripWords(k)])
	}
	for l := range lanes {
		// where step 0 of this lane goes, and how far its successors are: of a pair, and from pair to pair
		to, odd, even := l*tileSteps, 1, 2
		if pairs {
			to, even = 2*l, 2*tileLanes
		}
		at := l * o.lane
		for s0 := 0; s0 < k; s0 += tileSteps {
			tile := dst[s0*tileLanes:][:tileWords]
			for s := range min(tileSteps, k-s0) {
				w := uint16(0)
				if o.words != nil {
					w = o.words[at]
				} else {
					w = roundBF16(o.x[at])
				}
				tile[to+s/2*even+s%2*odd] = w
				at += o.step
			}
		}
	}
}

// RoundBF16 rounds src to bfloat16 as a product of bfloat16 rounds what it reads: NarrowBF16, but for denormals, which become zeros.
func RoundBF16(dst []uint16, src []float32) { RoundRows(dst[:len(src)], 0, src, 0, 1, len(src)) }

// RoundRows rounds rows of cols floats as RoundBF16 does.
func RoundRows(dst []uint16, dstRow int, src []float32, srcRow, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	_, _ = dst[(rows-1)*dstRow+cols-1], src[(rows-1)*srcRow+cols-1]
	whole := 0
	if til != nil && til.round != nil {
		if whole = cols &^ (tileSteps - 1); whole > 0 {
			til.round(&dst[0], uintptr(dstRow)*2, &src[0], uintptr(srcRow)*4, rows, whole)
		}
	}
	for r := 0; r < rows && whole < cols; r++ {
		for i := whole; i < cols; i++ {
			dst[r*dstRow+i] = roundBF16(src[r*srcRow+i])
		}
	}
}

// roundBF16 rounds to bfloat16 for a product: as narrowBF16, but denormals become zeros.
func roundBF16(x float32) uint16 {
	u := math.Float32bits(x)
	switch e := u & 0x7f800000; {
	case e == 0:
		return uint16(u>>16) & 0x8000
	case e == 0x7f800000: // NaN becomes quiet, an infinity stays
		if u&0x7fffff != 0 {
			u |= 0x400000
		}
		return uint16(u >> 16)
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// least is the smallest magnitude that is not flushed: what rounds, with 24 bits and any exponent, to the smallest normal float32.
var least = math.Ldexp(1-0x1p-25, -126)

// leastBits are the bits of least, without the sign.
var leastBits = math.Float64bits(least) << 1

// What plainTile computes is p + t of the product p of two bfloat16 and a float32 t that is not denormal, rounded once to
// float32 and flushed. Both are kept as float64, which hold them exactly, and so is s, their sum there.
//
// closely says whether that is to be looked at closely before it is converted: where s lies half-way between two
// neighbouring float32, with a one and zeros in its lowest 29 bits, and where it is small and no zero.
func closely(s float64) bool {
	u := math.Float64bits(s)
	return u<<35 == 1<<63 || u<<1-1 < leastBits-1
}

// addClosely is p + t, which is converted to float32 and flushed by rounding it once.
//
//go:noinline
func addClosely(p, t float64) float64 {
	s := sumToOdd(p, float32(t))
	if math.Abs(s) < least {
		return math.Copysign(0, s)
	}
	return s
}

// addFlushed is x + y with denormals read as zeros and flushed.
func addFlushed(x, y float32) float32 { return flushed(flushed(x) + flushed(y)) }

// flushed replaces a denormal by a zero of its sign.
func flushed(x float32) float32 {
	if u := math.Float32bits(x); u&0x7f800000 == 0 {
		return math.Float32frombits(u & 0x80000000)
	}
	return x
}

// wide is a bfloat16 that is not denormal, exactly; a denormal is a zero.
func wide(w uint16) float64 { return float64(flushed(math.Float32frombits(uint32(w) << 16))) }

// plainTile computes rows × cols of C from the tiles of one strip of A and one of B.
func plainTile(c []float32, cRow int, bias []float32, a, b []uint16, rows, cols, blocks int, mode uintptr) {
	for i := range rows {
		row := c[i*cRow:][:cols]
		switch mode {
		case modeBias:
			copy(row, bias)
		case modeZero:
			clear(row)
		}
	}
	var x [tileSteps]float64            // of a row
	var y [tileLanes][tileSteps]float64 // of each column
	for n := range blocks {
		for k := 0; k < tileSteps; k += 2 {
			pairs := b[n*tileWords+k*tileLanes:][: 2*cols : 2*cols]
			for j := range cols {
				y[j][k], y[j][k+1] = wide(pairs[2*j]), wide(pairs[2*j+1])
			}
		}
		for i := range rows {
			for k, w := range a[n*tileWords+i*tileSteps:][:tileSteps] {
				x[k] = wide(w)
			}
			row := c[i*cRow:][:cols]
			for j := range row {
				y := &y[j]
				t0, t1 := 0.0, 0.0
				for k := 0; k < tileSteps; k += 2 {
					p0, p1 := x[k]*y[k], x[k+1]*y[k+1]
					s0, s1 := p0+t0, p1+t1
					if closely(s0) {
						s0 = addClosely(p0, t0)
					}
					if closely(s1) {
						s1 = addClosely(p1, t1)
					}
					t0, t1 = float64(float32(s0)), float64(float32(s1))
				}
				row[j] = addFlushed(row[j], addFlushed(float32(t0), float32(t1)))
			}
		}
	}
}
