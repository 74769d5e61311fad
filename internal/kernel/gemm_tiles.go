package kernel

import "unsafe"

// How a Gemm of bfloat16 is cut.
//
//	B is packed whole                                    K × columns, read from L3 where it is large
//	chunk of rows of A, packed                           in L2
//	  group of columns                                   whose part of C stays in L2 until it is final
//	    panel of 32 columns: the micro-kernel over all strips of the chunk
const (
	chunkBytes = 1 << 20
	groupBytes = 1 << 18
	// tilesFrom is from how many multiply-adds on tiles are configured for a product: below it, vectors are as quick.
	tilesFrom = 1 << 17
	// emulatedBlocks is how deep an emulation goes at a time: 12 rows of float32 and a strip of B stay in L1.
	emulatedBlocks = 16
	// neonTile is how many elements the tile has whose emulation tells what it flushed.
	neonTile  = 4 * 8
	tileDepth = 8192 // steps of k in a pass; C carries the chains on
)

func (g *Gemm) runTiles(m0, m1, n0, n1 int, ws *Workspace) {
	depth := tileDepth
	if g.Out != nil { // there is nothing to carry the chains on
		depth = g.K
	}
	for k0 := 0; k0 < g.K; k0 += depth {
		g.tilePass(m0, m1, n0, n1, k0, min(k0+depth, g.K), ws)
	}
	ws.bf, ws.bfPack = bfArgs{}, bfPack{} // a workspace outlives its operands, which may be unmapped memory soon
}

func (g *Gemm) tilePass(m0, m1, n0, n1, k0, k1 int, ws *Workspace) {
	k := k1 - k0
	strip := stripWords(k)
	b := growWords(&ws.tilesB, (n1-n0+tileLanes-1)/tileLanes*strip)
	packTiles(b, operand{g.B, g.BWords, g.BCol, g.BRow}.from(k0*g.BRow+n0*g.BCol), n1-n0, k, true, ws)

	chunk := max(1, chunkBytes/(2*tileBytes*blocksOf(k))) * 2 * tileLanes
	chunk = evenBlock(m1-m0, chunk, 2*tileLanes)
	a := growWords(&ws.tilesA, (min(chunk, m1-m0)+tileLanes-1)/tileLanes*strip)
	group := max(4, groupBytes/(chunk*tileLanes*4)) * tileLanes &^ (2*tileLanes - 1)
	mode := g.mode(k0, k1)
	for i0 := m0; i0 < m1; i0 += chunk {
		i1 := min(i0+chunk, m1)
		packTiles(a, operand{g.A, g.AWords, g.ARow, g.ACol}.from(i0*g.ARow+k0*g.ACol), i1-i0, k, false, ws)
		for j0 := n0; j0 < n1; j0 += group {
			j1 := min(j0+group, n1)
			var c []float32
			row := g.CRow
			if g.Out != nil {
				row = min(group, n1-n0)
				c = grow(&ws.out, (i1-i0)*row)
			} else {
				c = g.C[i0*row+j0:]
			}
			g.tileGroup(a, b[(j0-n0)/tileLanes*strip:], c, row, i0, i1, j0, j1, k, mode&^modeReLU, ws)
			if k1 < g.K {
				continue
			}
			if g.ReLU {
				for i := range i1 - i0 {
					relu(c[i*row : i*row+j1-j0])
				}
			}
			if g.Then != nil {
				g.Then(i0, i1, j0, j1)
			}
			if g.Out != nil {
				g.Out(i0, i1, j0, j1, c, row)
			}
		}
	}
}

// tileGroup multiplies packed rows [i0,i1) with packed columns [j0,j1) to c, which begins at C[i0,j0].
func (g *Gemm) tileGroup(a, b []uint16, c []float32, row, i0, i1, j0, j1, k int, mode uintptr, ws *Workspace) {
	t := &ws.bf
	t.blocks, t.mode, t.cRow = uintptr(blocksOf(k)), mode, uintptr(row)*4
	switch {
	case til == nil:
		g.tilesPlain(a, b, c, row, i0, i1, j0, j1, k, mode)
	case til.amx[0][0] != nil && (i1-i0)*(j1-j0)*k >= tilesFrom:
		g.tilesOn(a, b, c, row, i0, i1, j0, j1, k, mode, ws)
	default:
		g.tilesEmulated(a, b, c, row, i0, i1, j0, j1, k, mode, ws)
	}
}

func (g *Gemm) tilesPlain(a, b []uint16, c []float32, row, i0, i1, j0, j1, k int, mode uintptr) {
	strip := stripWords(k)
	for i := i0; i < i1; i += tileLanes {
		for j := j0; j < j1; j += tileLanes {
			var bias []float32
			if mode == modeBias {
				bias = g.Bias[j:]
			}
			plainTile(c[(i-i0)*row+j-j0:], row, bias, a[(i-i0)/tileLanes*strip:], b[(j-j0)/tileLanes*strip:], min(tileLanes, i1-i), min(tileLanes, j1-j), blocksOf(k), mode)
		}
	}
}

// tilesOn is tileGroup on tiles of AMX: a panel of two strips of columns at a time, by pairs of strips of rows.
func (g *Gemm) tilesOn(a, b []uint16, c []float32, row, i0, i1, j0, j1, k int, mode uintptr, ws *Workspace) {
	strip := stripWords(k)
	t := &ws.bf
	t.blocks, t.mode, t.cRow = uintptr(blocksOf(k)), mode, uintptr(row)*4
	t.aStrip = uintptr(strip) * 2
	full := (i1 - i0) / (2 * tileLanes) // pairs of whole strips
	for j := j0; j < j1; j += 2 * tileLanes {
		cols := min(2*tileLanes, j1-j)
		t.b = &b[(j-j0)/tileLanes*strip]
		if mode == modeBias {
			t.bias = &g.Bias[j]
		}
		if full > 0 {
			t.a, t.c, t.strips = &a[0], &c[j-j0], uintptr(full)
			t.run(2*tileLanes, cols)
		}
		if i := full * 2 * tileLanes; i < i1-i0 {
			t.a, t.c, t.strips = &a[i/tileLanes*strip], &c[i*row+j-j0], 1
			t.run(i1-i0-i, cols)
		}
	}
}

// tilesEmulated is tileGroup on vectors: a few strips of rows, widened, at a time, and as many blocks of k as L1 holds of a tile's rows.
func (g *Gemm) tilesEmulated(a, b []uint16, c []float32, row, i0, i1, j0, j1, k int, mode uintptr, ws *Workspace) {
	strip, blocks := stripWords(k), blocksOf(k)
	t := &ws.bf
	height, deep := til.strips*tileLanes, min(blocks, emulatedBlocks)
	wide := grow(&ws.wide, height*deep*tileSteps)
	for i := i0; i < i1; i += height {
		for at := 0; at < blocks; at += deep {
			n := min(deep, blocks-at)
			steps, mode := n*tileSteps, mode
			if at > 0 {
				mode = modeLoad
			}
			t.blocks, t.mode, t.aRow = uintptr(n), mode, uintptr(steps)*4
			a, b := a[at*tileWords:], b[at*tileWords:]
			for s := i; s < min(i+height, i1); s += tileLanes {
				til.widen(&wide[(s-i)*steps], steps*4, &a[(s-i0)/tileLanes*strip], n)
			}
			for j := j0; j < j1; j += til.lanes {
				t.cols = uintptr(min(til.lanes, j1-j))
				columns := b[(j-j0)/tileLanes*strip+(j-j0)%tileLanes*2:]
				t.b, t.aStrip = &columns[0], 0
				if t.cols > tileLanes { // two strips of columns
					t.aStrip = uintptr(strip) * 2
				}
				var bias []float32
				if mode == modeBias {
					bias = g.Bias[j:]
					t.bias = &bias[0]
				}
				for r := 0; r < height && i+r < i1; r += til.rows {
					tile := c[(i+r-i0)*row+j-j0:]
					t.a, t.c, t.rows = (*uint16)(unsafe.Pointer(&wide[r*steps])), &tile[0], uintptr(min(til.rows, i1-i-r))
					if !til.tells {
						til.tile(t)
						continue
					}
					before := keep(tile, row, int(t.rows), int(t.cols))
					if til.tile(t); t.flushed != 0 {
						before.restore(tile, row, int(t.rows), int(t.cols))
						plainTile(tile, row, bias, a[(i-i0)/tileLanes*strip+r*tileSteps:], columns, int(t.rows), int(t.cols), n, mode)
					}
				}
			}
		}
	}
}

// kept is a tile of C as it was.
type kept [neonTile]float32

func keep(c []float32, row, rows, cols int) (k kept) {
	for i := range rows {
		copy(k[i*cols:], c[i*row:i*row+cols])
	}
	return k
}

func (k *kept) restore(c []float32, row, rows, cols int) {
	for i := range rows {
		copy(c[i*row:i*row+cols], k[i*cols:])
	}
}

// run does a panel of rows × cols on tiles of AMX.
func (t *bfArgs) run(rows, cols int) {
	if t.shaped != [2]int{rows, cols} {
		t.shaped = [2]int{rows, cols}
		t.configure(rows, cols)
	}
	til.amx[(rows-1)/tileLanes][(cols-1)/tileLanes](t)
}

// configure shapes the tiles for a panel: 0–3 are of C, 4 and 5 of A, 6 and 7 of B.
func (t *bfArgs) configure(rows, cols int) {
	cut := func(n int) (first, second int) { return min(n, tileLanes), max(0, n-tileLanes) }
	r0, r1 := cut(rows)
	c0, c1 := cut(cols)
	c := &t.tiles
	c.palette = 1
	c.rows = [16]uint8{uint8(r0), uint8(r0), uint8(r1), uint8(r1), uint8(r0), uint8(r1), 16, 16}
	c.colBytes = [16]uint16{uint16(4 * c0), uint16(4 * c1), uint16(4 * c0), uint16(4 * c1), 64, 64, uint16(4 * c0), uint16(4 * c1)}
	if r1 == 0 {
		c.rows[2], c.rows[3], c.rows[5], c.colBytes[2], c.colBytes[3], c.colBytes[5] = 0, 0, 0, 0, 0, 0
	}
	if c1 == 0 {
		c.rows[1], c.rows[3], c.rows[7] = 0, 0, 0
	}
}
