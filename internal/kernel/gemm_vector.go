package kernel

import "unsafe"

// How a Gemm is cut for the vector levels. A micro-kernel holds a tile of mr × nr elements of C in registers for kc steps; the three ways to feed
// it differ in which operand is copied, and so in how often a copied element must be used to repay the copy.
//
// Packed, the usual way:
//
//	columns jc … jc+nc
//	  depth pc … pc+kc        C carries the chains from one block to the next
//	    pack B into panels of nr columns           kc × nc, stays in L2
//	    strips of mr rows of A                     kc × mr, in L1; the next one is fetched meanwhile
//	      panels: one micro-kernel
//
// Direct, for few rows and neighbouring columns of B: B is read in place, a panel at a time, by all strips; the next panel is
// fetched meanwhile.
//
// Turned, for few rows and columns of B that lie apart (Y = X·Wᵀ): Cᵀ = Bᵀ·Aᵀ, where B, now on the left, is read in place, and A, the
// smaller one, is packed. Tiles of Cᵀ are transposed into C.
const (
	blockK       = 576 // of a packed or direct block
	blockKGroups = 448 // where A is packed in groups, which L2 must hold beside B
	blockN       = 512

	// directRows is the largest number of rows for which rows of B are read in place. Up to there the panel is reread too
	// seldom to repay a copy.
	directRows = 256
	// directTile is the same for few columns: B is small enough for the caches as it is.
	directTile = 1 << 16

	// turnedRows is how many columns of C are computed before they are transposed: whole cache lines of strips at every level.
	turnedRows = 48
	// turnedK and turnedFloats bound the packed A of a turned product, which is not blocked.
	turnedK      = 4096
	turnedFloats = 1 << 18

	// groupColumns is from how many columns on a transposed A is packed: each of its elements is then used often enough.
	groupColumns = 256

	// setFloats is how far apart addresses are that share a set of L1 (4 KiB).
	setFloats = 1024
	// lineFloats is a cache line.
	lineFloats = lineBytes / 4
)

func (g *Gemm) runVector(v *vectorOps, m0, m1, n0, n1 int, ws *Workspace) {
	switch rows, cols := m1-m0, n1-n0; {
	case (g.BCol == 1 || cols == 1) && (rows <= directRows || rows*cols <= directTile):
		g.runDirect(v, m0, m1, n0, n1, ws)
	case g.BRow == 1 && g.K <= turnedK && rows*g.K <= turnedFloats && cols*g.K > 2*rows*(cols+g.K):
		g.runTurned(v, m0, m1, n0, n1, ws)
	default:
		g.runPacked(v, m0, m1, n0, n1, ws)
	}
}

// mode says how the chains of block [k0,k1) begin and end.
func (g *Gemm) mode(k0, k1 int) uintptr {
	mode := uintptr(modeLoad)
	if k0 == 0 && !g.Acc {
		mode = modeZero
		if g.Bias != nil {
			mode = modeBias
		}
	}
	if k1 == g.K && g.ReLU {
		mode |= modeReLU
	}
	return mode
}

func (g *Gemm) runPacked(v *vectorOps, m0, m1, n0, n1 int, ws *Workspace) {
	nr := 2 * v.lanes
	// A is read in place where that is as fast: not where its rows share L1 sets and throw each other out, nor where
	// each step lies in another cache line.
	way := inPlace
	if m1-m0 >= v.mr && n1-n0 > 2*nr {
		if g.ARow == 1 && g.ACol > 1 && (n1-n0 >= groupColumns || g.ACol%setFloats == 0) {
			way = inGroups
		} else if g.ARow%setFloats == 0 {
			way = inStrips
		}
	}
	kc := evenBlock(g.K, blockK, 8)
	if way == inGroups {
		kc = evenBlock(g.K, blockKGroups, 8)
	}
	nc := evenBlock(n1-n0, blockN, nr)
	for jc := n0; jc < n1; jc += nc {
		je := min(jc+nc, n1)
		for pc := 0; pc < g.K; pc += kc {
			pe := min(pc+kc, g.K)
			panels := g.packPanels(v, ws, pc, pe, jc, je)
			g.strips(v, ws, m0, m1, jc, je, pc, pe, panels, g.C[m0*g.CRow+jc:], g.mode(pc, pe), way)
		}
	}
	ws.tile, ws.pack = tileArgs{}, packArgs{} // a workspace outlives its operands, which may be unmapped memory soon
}

// evenBlock cuts n into equal blocks of at most about limit, each a multiple of unit, and returns their size.
func evenBlock(n, limit, unit int) int {
	blocks := (n + limit - 1) / limit
	size := (n + blocks - 1) / blocks
	return (size + unit - 1) / unit * unit
}

// How strips reads A.
const (
	inPlace  = iota
	inStrips // each strip is packed when its turn comes
	inGroups // strips of a transposed A are packed in groups, a part at a time, while the group before is used
)

// strips multiplies rows [i0,i1) of A with packed panels of B, into c, which begins at C[i0,j0].
func (g *Gemm) strips(v *vectorOps, ws *Workspace, i0, i1, j0, j1, k0, k1 int, panels, c []float32, mode uintptr, way int) {
	nr, mr, kc := 2*v.lanes, v.mr, k1-k0
	t := &ws.tile
	t.k, t.mode, t.bRow, t.cRow = uintptr(kc), mode, uintptr(nr)*4, uintptr(g.CRow)*4
	t.aRow, t.aCol = uintptr(g.ARow)*4, uintptr(g.ACol)*4
	if way != inPlace {
		t.aRow, t.aCol = 4, uintptr(mr)*4
	}
	var groups groupPacker
	if way == inGroups {
		groups.start(g, v, ws, i0, i1, k0, k1)
	}
	for i := i0; i < i1; i += mr {
		rows := min(mr, i1-i)
		switch way {
		case inGroups:
			t.a = groups.strip(i)
		case inStrips:
			t.a = g.packStrip(v, ws, i, i+rows, k0, k1)
		default:
			t.a = &g.A[i*g.ARow+k0*g.ACol]
		}
		if mode&modeRowBias != 0 {
			t.bias = &g.Bias[i]
		}
		row := c[(i-i0)*g.CRow:]
		t.next = &row[0]
		for j := j0; j < j1; j += nr {
			cols := min(nr, j1-j)
			t.cols = uintptr(cols)
			t.b = &panels[(j-j0)*kc]
			if mode&modeBias != 0 {
				t.bias = &g.Bias[j]
			}
			t.c = t.next
			if j+nr < j1 {
				t.next = step(t.next, nr)
			} else if i+mr < i1 {
				t.next = &row[mr*g.CRow]
			}
			switch nth := (j - j0) / nr; {
			case i+mr >= i1:
				t.fetch(t.a, 0, 0)
			case way == inGroups:
				groups.fetch(t, i, nth)
			default:
				g.fetchStrip(t, i+mr, min(mr, i1-i-mr), k0, kc, nth, (j1-j0+nr-1)/nr)
			}
			v.tile(rows, cols)(t)
		}
		if g.Then != nil && k1 == g.K {
			g.Then(i, i+rows, j0, j1)
		}
	}
}

// fetchStrip makes one of n micro-kernels fetch its part of a coming strip of A.
func (g *Gemm) fetchStrip(t *tileArgs, i, rows, k0, kc, nth, n int) {
	a := &g.A[i*g.ARow+k0*g.ACol]
	calls := kc / 4 // lines fetched by a micro-kernel, twice
	switch {
	case g.ACol == 1 && g.ARow == kc && nth*calls*2*lineFloats < rows*kc: // the strip is one run
		t.fetch(step(a, nth*calls*2*lineFloats), uintptr(calls)*lineBytes, lineBytes)
	case g.ACol == 1 && g.ARow != kc && 2*nth < rows: // two rows
		t.fetch(step(a, 2*nth*g.ARow), uintptr(min(1, rows-1-2*nth)*g.ARow)*4, 16)
	default:
		t.fetch(t.a, 0, 0)
	}
}

// runDirect multiplies with B in place.
func (g *Gemm) runDirect(v *vectorOps, m0, m1, n0, n1 int, ws *Workspace) {
	nr, mr := 2*v.lanes, v.mr
	// Rows of B that share sets of L2 (128 KiB apart in every cache of 2048 sets): take only what half of the ways hold.
	period := g.BRow / lineFloats
	limit := blockK
	for n := 1; n <= 32 && period > 0 && g.K > 128; n *= 2 {
		if n*period%2048 == 0 {
			limit = max(8*n, 128)
			break
		}
	}
	kc := evenBlock(g.K, limit, 8)
	pack := g.ARow%setFloats == 0 && m1-m0 >= mr && n1-n0 > 2*nr
	t := &ws.tile
	t.bRow, t.cRow = uintptr(g.BRow)*4, uintptr(g.CRow)*4
	for pc := 0; pc < g.K; pc += kc {
		pe := min(pc+kc, g.K)
		kc := pe - pc
		t.k, t.mode = uintptr(kc), g.mode(pc, pe)
		var packed []float32
		t.aRow, t.aCol = uintptr(g.ARow)*4, uintptr(g.ACol)*4
		if pack {
			packed = g.packStrips(v, ws, m0, m1, pc, pe)
			t.aRow, t.aCol = 4, uintptr(mr)*4
		}
		for j := n0; j < n1; j += nr {
			cols := min(nr, n1-j)
			t.cols = uintptr(cols)
			t.b = &g.B[pc*g.BRow+j*g.BCol]
			if t.mode&modeBias != 0 {
				t.bias = &g.Bias[j]
			}
			t.next = &g.C[m0*g.CRow+j]
			for i := m0; i < m1; i += mr {
				rows := min(mr, m1-i)
				if pack {
					t.a = &packed[(i-m0)*kc]
				} else {
					t.a = &g.A[i*g.ARow+pc*g.ACol]
				}
				t.c = t.next
				if i+mr < m1 {
					t.next = step(t.next, mr*g.CRow)
				} else if j+nr < n1 {
					t.next = &g.C[m0*g.CRow+j+nr]
				}
				if q := (i - m0) / mr; q < 4 && j+nr < n1 { // a quarter of the next panel
					t.fetch(step(t.b, nr+q*(kc/4)*g.BRow), lineBytes, t.bRow)
				} else {
					t.fetch(t.b, 0, 0)
				}
				v.tile(rows, cols)(t)
			}
		}
	}
	if g.Then != nil {
		g.Then(m0, m1, n0, n1)
	}
}

// runTurned computes columns of C as rows of Cᵀ = Bᵀ·Aᵀ and transposes them.
func (g *Gemm) runTurned(v *vectorOps, m0, m1, n0, n1 int, ws *Workspace) {
	nr := 2 * v.lanes
	pitch := (m1 - m0 + nr - 1) / nr * nr
	turned := &ws.turned
	*turned = Gemm{M: g.N, N: g.M, K: g.K, A: g.B, ARow: g.BCol, ACol: g.BRow, B: g.A, BRow: g.ACol, BCol: g.ARow, CRow: pitch, Bias: g.Bias}
	mode := g.mode(0, g.K)
	if mode&modeBias != 0 {
		mode += modeRowBias - modeBias
	}
	panels := turned.packPanels(v, ws, 0, g.K, m0, m1)
	c := grow(&ws.packA, turnedRows*pitch)
	p := &ws.pack
	for i := n0; i < n1; i += turnedRows {
		ie := min(i+turnedRows, n1)
		if g.Acc {
			p.stride, p.pitch, p.steps = uintptr(g.CRow)*4, uintptr(pitch)*4, uintptr(ie-i)
			for m := m0; m < m1; m += v.lanes {
				p.src, p.dst, p.lanes = &g.C[m*g.CRow+i], &c[m-m0], uintptr(min(v.lanes, m1-m))
				v.transpose(p)
			}
		}
		turned.strips(v, ws, i, ie, m0, m1, 0, g.K, panels, c, mode, inPlace)
		p.stride, p.pitch, p.steps = uintptr(pitch)*4, uintptr(g.CRow)*4, uintptr(m1-m0)
		for n := i; n < ie; n += v.lanes {
			p.src, p.dst, p.lanes = &c[(n-i)*pitch], &g.C[m0*g.CRow+n], uintptr(min(v.lanes, ie-n))
			if n+v.lanes <= ie {
				v.transpose(p)
			} else {
				v.untranspose(p)
			}
		}
		if g.Then != nil {
			g.Then(m0, m1, i, ie)
		}
	}
	*turned = Gemm{} // do not hold on to the operands
}

// step moves a pointer by n floats; the caller has checked that they exist, or only fetches them.
func step(p *float32, n int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(p), n*4))
}
