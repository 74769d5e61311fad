package kernel

import "unsafe"

// How a Gemm is cut for the vector levels, from the outside in:
//
//	columns jc … jc+nc                             B block: kc × nc, in L3 or L2
//	  depth pc … pc+kc        (C carries the chains from one block to the next)
//	    pack B into panels of nr columns, if that pays
//	    rows ic … ic+mc                            A block: mc × kc, in L2
//	      pack A into strips of mr rows, if that pays
//	      panels jr of nr columns                  B panel: kc × nr, in L1 or L2
//	        strips ir of mr rows: one micro-kernel
//
// A micro-kernel holds a tile of mr × nr elements of C in registers for kc steps.
const (
	blockK = 576
	blockM = 240 // a multiple of 12 and 6; blockM × blockK is half of a 1 MiB L2
	blockN = 1024

	// directRows is the largest number of rows for which rows of B are read in place. Up to there the panel is reread too
	// seldom to repay a copy.
	directRows = 256

	// setFloats is how far apart addresses are that share a set of L1 (4 KiB).
	setFloats = 1024
)

func (g *Gemm) runVector(v *vectorOps, m0, m1, n0, n1 int, ws *Workspace) {
	nr := 2 * v.lanes
	start := uintptr(modeZero)
	if g.Acc {
		start = modeLoad
	} else if g.Bias != nil {
		start = modeBias
	}
	kc := evenBlock(g.K, blockK, 8)
	nc := evenBlock(n1-n0, blockN, nr)
	mc := evenBlock(m1-m0, blockM, v.mr)
	bDirect := (g.BCol == 1 || n1-n0 == 1) && m1-m0 <= directRows
	// Rows (columns, if A is transposed) of A that share an L1 set throw each other out; else the micro-kernel reads A in
	// place as fast as packed.
	aPack := max(g.ARow, g.ACol)%setFloats == 0 && m1-m0 >= v.mr && n1-n0 > 2*nr
	for jc := n0; jc < n1; jc += nc {
		je := min(jc+nc, n1)
		for pc := 0; pc < g.K; pc += kc {
			pe := min(pc+kc, g.K)
			mode := uintptr(modeLoad)
			if pc == 0 {
				mode = start
			}
			if pe == g.K && g.ReLU {
				mode |= modeReLU
			}
			if !bDirect {
				g.packPanels(v, ws, pc, pe, jc, je)
			}
			for ic := m0; ic < m1; ic += mc {
				ie := min(ic+mc, m1)
				if aPack {
					g.packStrips(v, ws, ic, ie, pc, pe)
				}
				g.block(v, ws, ic, ie, jc, je, pc, pe, mode, aPack, !bDirect)
			}
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

// block multiplies a packed or direct block of A with one of B.
func (g *Gemm) block(v *vectorOps, ws *Workspace, i0, i1, j0, j1, k0, k1 int, mode uintptr, aPacked, bPacked bool) {
	nr, mr, kc := 2*v.lanes, v.mr, k1-k0
	t := &ws.tile
	t.cRow = uintptr(g.CRow) * 4
	t.k = uintptr(kc)
	t.mode = mode
	t.bRow = uintptr(g.BRow) * 4
	if bPacked {
		t.bRow = uintptr(nr) * 4
	}
	t.aRow, t.aCol = uintptr(g.ARow)*4, uintptr(g.ACol)*4
	if aPacked {
		t.aRow, t.aCol = 4, uintptr(mr)*4
	}
	for j := j0; j < j1; j += nr {
		cols := min(nr, j1-j)
		t.cols = uintptr(cols)
		kernels := v.full
		if cols <= v.lanes {
			kernels = v.half
		} else if cols < nr {
			kernels = v.mask
		}
		if bPacked {
			t.b = &ws.packB[(j-j0)*kc]
		} else {
			t.b = &g.B[k0*g.BRow+j*g.BCol]
		}
		if mode&modeBias != 0 {
			t.bias = &g.Bias[j]
		}
		c := &g.C[i0*g.CRow+j]
		var a *float32
		if aPacked {
			a = &ws.packA[0]
		} else {
			a = &g.A[i0*g.ARow+k0*g.ACol]
		}
		i := i0
		for ; i+mr <= i1; i += mr {
			t.a, t.c = a, c
			if i+mr < i1 {
				if aPacked {
					a = step(a, mr*kc)
				} else {
					a = step(a, mr*g.ARow)
				}
				c = step(c, mr*g.CRow)
			} else if j+nr < j1 {
				c = &g.C[i0*g.CRow+j+nr]
			}
			t.next = c
			kernels[mr-1](t)
		}
		if i < i1 {
			t.a, t.c = a, c
			kernels[i1-i-1](t)
		}
	}
}

// step moves a pointer by n floats; the caller has checked that they exist.
func step(p *float32, n int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(p), n*4))
}

// packPanels lays B[k0:k1, j0:j1] out as panels of two vectors' columns, k by k. Columns beyond j1 become zero.
//
//	panel 0: k0: nr columns │ k0+1: nr columns │ … ; panel 1: …
func (g *Gemm) packPanels(v *vectorOps, ws *Workspace, k0, k1, j0, j1 int) {
	nr, kc := 2*v.lanes, k1-k0
	buf := grow(&ws.packB, ((j1-j0+nr-1)/nr)*nr*kc)
	p := &ws.pack
	p.steps = uintptr(kc)
	p.pitch = uintptr(nr) * 4
	for j := j0; j < j1; j += v.lanes {
		at := (j-j0)/nr*nr*kc + (j-j0)%nr
		g.packLanes(v, p, g.B, j*g.BCol+k0*g.BRow, g.BCol, g.BRow, min(v.lanes, j1-j), buf, at)
	}
}

// packStrips lays A[i0:i1, k0:k1] out as strips of mr rows, k by k. The last strip keeps the pitch of a full one.
func (g *Gemm) packStrips(v *vectorOps, ws *Workspace, i0, i1, k0, k1 int) {
	kc := k1 - k0
	buf := grow(&ws.packA, ((i1-i0+v.mr-1)/v.mr)*v.mr*kc+v.lanes)
	p := &ws.pack
	p.steps = uintptr(kc)
	p.pitch = uintptr(v.mr) * 4
	for i := i0; i < i1; i += v.mr {
		g.packLanes(v, p, g.A, i*g.ARow+k0*g.ACol, g.ARow, g.ACol, min(v.mr, i1-i), buf, (i-i0)*kc)
	}
}

// packLanes packs one vector's worth of lanes from src[from] to dst[at]; p.steps and p.pitch are set.
func (g *Gemm) packLanes(v *vectorOps, p *packArgs, src []float32, from, lane, step, lanes int, dst []float32, at int) {
	p.src, p.dst = &src[from], &dst[at]
	p.lanes = uintptr(lanes)
	switch {
	case lane == 1 || lanes == 1:
		p.stride = uintptr(step) * 4
		v.copy(p)
	case step == 1 || p.steps == 1:
		p.stride = uintptr(lane) * 4
		v.transpose(p)
	default:
		pitch := int(p.pitch / 4)
		for s := 0; s < int(p.steps); s++ {
			for l := 0; l < v.lanes && at+s*pitch+l < len(dst); l++ {
				x := float32(0)
				if l < lanes {
					x = src[from+s*step+l*lane]
				}
				dst[at+s*pitch+l] = x
			}
		}
	}
}
