package kernel

import (
	"math"
	"unsafe"
)

// How a Gemm of bfloat16 is cut.
//
//	chunk of rows of A, packed, or as they are           in L2
//	  group of columns                                   whose part of C stays in L2 until it is final; the first chunk packs its part of B
//	    panel of 32 columns
//	      slab of blocks of k                            whose part of B stays in L1
//	        the micro-kernel over all strips of the chunk
const (
	chunkBytes = 1 << 19 // of A; twice as many for chunkRows
	chunkRows  = 256
	groupBytes = 1 << 18 // of C
	// slabBlocks is how deep tiles go at a time: two strips of B, 32 KiB, stay in L1 while all rows of a chunk pass.
	slabBlocks = 16
	// rowsAlike is how many words apart rows are of which every one falls into the same lines of L1: these are packed.
	rowsAlike = 1 << 11
	// tilesFrom is from how many multiply-adds on tiles are configured for a product: below it, vectors are as quick.
	tilesFrom = 1 << 17
	// emulatedBlocks is how deep an emulation goes at a time: 12 rows of float32 and a strip of B stay in L1.
	emulatedBlocks = 16
	// neonTile is how many elements the tile has whose emulation tells what it flushed.
	neonTile  = 4 * 8
	tileDepth = 8192 // steps of k in a pass; C carries the chains on
	// emulatedRows is a chunk of an emulation: its groups are broad, because rows are widened anew for each.
	emulatedRows = 96
)

// TileWords is how long BTiles is for a B of k × n.
func TileWords(n, k int) int { return (n + tileLanes - 1) / tileLanes * stripWords(k) }

// PackB lays columns [n0,n1) of B out in dst, of TileWords. n0 is a multiple of TileCols. Other columns may be packed at the same time.
func (g *Gemm) PackB(dst []uint16, n0, n1 int, ws *Workspace) {
	packTiles(dst[n0/tileLanes*stripWords(g.K):], operand{g.B, g.BWords, g.BCol, g.BRow}.from(n0*g.BCol), n1-n0, g.K, true, ws)
	ws.bfPack = bfPack{}
}

func (g *Gemm) runTiles(m0, m1, n0, n1 int, ws *Workspace) {
	depth := tileDepth
	if g.Out != nil || g.BTiles != nil { // there is nothing to carry the chains on, or no tiles of a part
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
	columns := operand{g.B, g.BWords, g.BCol, g.BRow}.from(k0 * g.BRow)
	packed := g.BTiles != nil && n0%tileLanes == 0
	var b []uint16 // columns [n0,n1)
	if packed {
		b = g.BTiles[n0/tileLanes*strip:]
	} else {
		b = growWords(&ws.tilesB, (n1-n0+tileLanes-1)/tileLanes*strip)
	}

	pairs := chunkBytes / (2 * tileBytes * blocksOf(k)) // of strips
	chunk := max(1, pairs, min(2*pairs, chunkRows/(2*tileLanes))) * 2 * tileLanes
	emulated := til != nil && (til.amx[0][0] == nil || (m1-m0)*(n1-n0)*k < tilesFrom)
	if emulated {
		chunk = min(chunk, emulatedRows)
	}
	chunk = evenBlock(m1-m0, chunk, 2*tileLanes)
	asRows := g.ACol == 1 && til != nil && til.flat != nil && (emulated || g.AWords != nil && k%tileSteps == 0 && g.ARow%rowsAlike != 0)
	var a []uint16
	if !asRows {
		a = growWords(&ws.tilesA, (min(chunk, m1-m0)+tileLanes-1)/tileLanes*strip)
	}
	group := max(4, groupBytes/(chunk*tileLanes*4)) * tileLanes &^ (2*tileLanes - 1)
	mode := g.mode(k0, k1)
	stream := g.Stream && til != nil && til.stream != nil && !emulated && k == g.K && !g.Acc && g.Then == nil && g.Out == nil && streams(g.C, g.CRow)
	for i0 := m0; i0 < m1; i0 += chunk {
		i1 := min(i0+chunk, m1)
		rows := operand{g.A, g.AWords, g.ARow, g.ACol}.from(i0*g.ARow + k0*g.ACol)
		if !asRows {
			packTiles(a, rows, i1-i0, k, false, ws)
		}
		for j0 := n0; j0 < n1; j0 += group {
			j1 := min(j0+group, n1)
			b := b[(j0-n0)/tileLanes*strip:]
			if i0 == m0 && !packed {
				packTiles(b, columns.from(j0*g.BCol), j1-j0, k, true, ws)
			}
			var c []float32
			row := g.CRow
			if g.Out != nil || stream {
				row = min(group, n1-n0)
				c = grow(&ws.out, (i1-i0)*row)
			} else {
				c = g.C[i0*row+j0:]
			}
			group := tileGroup{a, rows, b, c, row, i0, i1, j0, j1, k, mode &^ modeReLU}
			switch {
			case til == nil:
				g.tilesPlain(group)
			case emulated || (i1-i0)*(j1-j0)*k < tilesFrom:
				g.tilesEmulated(group, ws)
			default:
				g.tilesOn(group, ws)
			}
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
			if stream {
				CopyRows(g.C[i0*g.CRow+j0:], g.CRow, c, row, i1-i0, j1-j0, true)
			}
			if g.Out != nil {
				g.Out(i0, i1, j0, j1, c, row, ws)
			}
		}
	}
}

// tileGroup is rows [i0,i1) times columns [j0,j1) to c, which begins at C[i0,j0].
type tileGroup struct {
	a              []uint16 // the rows, packed; nil: the emulation reads them as they are
	rows           operand
	b              []uint16 // the columns, packed
	c              []float32
	row            int // from row to row of c
	i0, i1, j0, j1 int
	k              int
	mode           uintptr
}

func (g *Gemm) tilesPlain(t tileGroup) {
	strip := stripWords(t.k)
	for i := t.i0; i < t.i1; i += tileLanes {
		for j := t.j0; j < t.j1; j += tileLanes {
			var bias []float32
			if t.mode == modeBias {
				bias = g.Bias[j:]
			}
			plainTile(t.c[(i-t.i0)*t.row+j-t.j0:], t.row, bias, t.a[(i-t.i0)/tileLanes*strip:], t.b[(j-t.j0)/tileLanes*strip:],
				min(tileLanes, t.i1-i), min(tileLanes, t.j1-j), blocksOf(t.k), t.mode)
		}
	}
}

// tilesOn does a group on tiles of AMX: a panel of two strips of columns at a time, by pairs of strips of rows. As much of the panel as stays in
// L1 goes over all rows before the rest of it; C carries the chains on.
func (g *Gemm) tilesOn(t tileGroup, ws *Workspace) {
	strip, rows, blocks := stripWords(t.k), t.i1-t.i0, blocksOf(t.k)
	a, aStrip, aStep := t.a, strip, tileWords
	p := &ws.bf
	p.bStrip, p.cRow, p.aRow = uintptr(strip)*2, uintptr(t.row)*4, 2*tileSteps
	if a == nil { // a tile is read from rows
		a, aStrip, aStep = t.rows.words, tileLanes*t.rows.lane, tileSteps
		p.aRow = uintptr(t.rows.lane) * 2
	}
	p.aStrip, p.aStep = uintptr(aStrip)*2, uintptr(aStep)*2
	full := rows / (2 * tileLanes) // pairs of whole strips
	deep := evenBlock(blocks, slabBlocks, 1)
	for j := t.j0; j < t.j1; j += 2 * tileLanes {
		cols := min(2*tileLanes, t.j1-j)
		if p.mode = t.mode; t.mode == modeBias {
			p.bias = &g.Bias[j]
		}
		for at := 0; at < blocks; at += deep {
			p.blocks = uintptr(min(deep, blocks-at))
			p.b = &t.b[(j-t.j0)/tileLanes*strip+at*tileWords]
			if full > 0 {
				p.a, p.c, p.strips = &a[at*aStep], &t.c[j-t.j0], uintptr(full)
				p.run(2*tileLanes, cols)
			}
			if i := full * 2 * tileLanes; i < rows {
				p.a, p.c, p.strips = &a[i/tileLanes*aStrip+at*aStep], &t.c[i*t.row+j-t.j0], 1
				p.run(rows-i, cols)
			}
			p.mode = modeLoad
		}
	}
}

// tilesEmulated does a group on vectors: a few strips of rows, widened, at a time, and as many blocks of k as L1 holds of a tile's rows.
func (g *Gemm) tilesEmulated(t tileGroup, ws *Workspace) {
	strip, blocks := stripWords(t.k), blocksOf(t.k)
	p := &ws.bf
	height, deep := til.strips*tileLanes, min(blocks, emulatedBlocks)
	wide := grow(&ws.wide, height*deep*tileSteps)
	for i := t.i0; i < t.i1; i += height {
		rows := min(height, t.i1-i)
		for at := 0; at < blocks; at += deep {
			n := min(deep, blocks-at)
			steps, mode := n*tileSteps, t.mode
			if at > 0 {
				mode = modeLoad
			}
			p.blocks, p.mode, p.aRow, p.cRow = uintptr(n), mode, uintptr(steps)*4, uintptr(t.row)*4
			t.widen(wide, i, rows, at, n)
			b := t.b[at*tileWords:]
			for j := t.j0; j < t.j1; j += til.lanes {
				p.cols = uintptr(min(til.lanes, t.j1-j))
				columns := b[(j-t.j0)/tileLanes*strip+(j-t.j0)%tileLanes*2:]
				p.b, p.bStrip = &columns[0], 0
				if p.cols > tileLanes { // two strips of columns
					p.bStrip = uintptr(strip) * 2
				}
				var bias []float32
				if mode == modeBias {
					bias = g.Bias[j:]
					p.bias = &bias[0]
				}
				for r := 0; r < rows; r += til.rows {
					tile := t.c[(i+r-t.i0)*t.row+j-t.j0:]
					p.a, p.c, p.rows = (*uint16)(unsafe.Pointer(&wide[r*steps])), &tile[0], uintptr(min(til.rows, rows-r))
					if !til.tells {
						til.tile(p)
						continue
					}
					before := keep(tile, t.row, int(p.rows), int(p.cols))
					if til.tile(p); p.flushed != 0 {
						before.restore(tile, t.row, int(p.rows), int(p.cols))
						a := t.a[(i-t.i0)/tileLanes*strip+at*tileWords+r*tileSteps:]
						plainTile(tile, t.row, bias, a, columns, int(p.rows), int(p.cols), n, mode)
					}
				}
			}
		}
	}
}

// widen lays n blocks of rows from i on, from block at on, out as float32 that are bfloat16, side by side.
func (t *tileGroup) widen(wide []float32, i, rows, at, n int) {
	steps := n * tileSteps
	if t.a != nil {
		for r := 0; r < rows; r += tileLanes {
			til.widen(&wide[r*steps], steps*4, &t.a[(i+r-t.i0)/tileLanes*stripWords(t.k)+at*tileWords], n)
		}
		return
	}
	have := min(steps, t.k-at*tileSteps)
	for r := range rows {
		row, o := wide[r*steps:(r+1)*steps], t.rows.from((i+r-t.i0)*t.rows.lane+at*tileSteps)
		if o.words != nil {
			WidenBF16(row[:have], o.words[:have])
		} else {
			flatten(row[:have], o.x[:have])
		}
		clear(row[have:])
	}
}

// flatten rounds src to bfloat16 as a product does, and leaves it float32.
func flatten(dst, src []float32) {
	i := len(src) / tileSteps * tileSteps
	if i > 0 {
		til.flat(&dst[0], &src[0], i)
	}
	for ; i < len(src); i++ {
		dst[i] = math.Float32frombits(uint32(roundBF16(src[i])) << 16)
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
