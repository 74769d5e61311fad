package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in kernel.bfArgs.
const (
	bA, bB, bC, bBias           = 0, 8, 16, 24
	bBStrip, bCRow              = 32, 40
	bBlocks, bStrips, bMode     = 48, 56, 64
	bRows, bCols, bARow, bTiles = 72, 80, 88, 96
	bFlushed                    = 160
	bAStrip, bAStep             = 168, 176
)

// The Go assembler has no AMX: instructions are written as their bytes. A tile is written by its number; memory is base + index, where index
// holds the distance of the tile's rows.

// raw emits bytes.
func (g *gen) raw(bytes ...byte) {
	for _, b := range bytes {
		g.Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []operand.Op{operand.U8(b)}})
	}
}

// number is what a general register is called in an encoding.
func number(r reg.Register) byte { return byte(r.(reg.GPPhysical).PhysicalIndex()) }

const (
	ppNone = iota
	pp66
	ppF3
	ppF2
)

// tileMem is VEX.128.pp.0F38.W0 op with a tile and base + index.
func (g *gen) tileMem(pp, op byte, tile int, base, index reg.Register) {
	b, x := number(base), number(index)
	g.raw(0xC4, 0x80|(^x>>3&1)<<6|(^b>>3&1)<<5|2, 0x78|pp, op, 0x44|byte(tile)<<3, x&7<<3|b&7, 0)
}

func (g *gen) tileLoad(tile int, base, index reg.Register) { g.tileMem(ppF2, 0x4B, tile, base, index) }

// tileStream is tileLoad of what is not needed again soon: it leaves the tiles that are in L1.
func (g *gen) tileStream(tile int, base, index reg.Register) {
	g.tileMem(pp66, 0x4B, tile, base, index)
}
func (g *gen) tileStore(tile int, base, index reg.Register) {
	g.tileMem(ppF3, 0x4B, tile, base, index)
}
func (g *gen) tileZero(tile int) { g.raw(0xC4, 0xE2, 0x78|ppF2, 0x49, 0xC0|byte(tile)<<3) }
func (g *gen) tileRelease()      { g.raw(0xC4, 0xE2, 0x78, 0x49, 0xC0) }

// tileConfig loads the shapes of the tiles, 64 bytes at base + disp.
func (g *gen) tileConfig(base reg.Register, disp byte) {
	b := number(base)
	g.raw(0xC4, 0xC2|(^b>>3&1)<<5, 0x78, 0x49, 0x40|b&7, disp)
}

// tileProduct is TDPBF16PS: c += a·b.
func (g *gen) tileProduct(c, a, b int) {
	g.raw(0xC4, 0xE2, byte(^b&15)<<3|ppF3, 0x5C, 0xC0|byte(c)<<3|byte(a))
}

// amx writes the products of bfloat16 on tiles, for one or two strips of 16 rows by one or two of 16 columns.
//
//	for each pair of strips of A:
//	  for each tile of C: 0 | bias | C
//	  for each block of 32 of k: C += A·B
func amx(g *gen) {
	for rows := 1; rows <= 2; rows++ {
		for cols := 1; cols <= 2; cols++ {
			amxTiles(g, rows, cols)
		}
	}
	g.begin("peakAMX", "peakAMX runs n rounds of four products on tiles, without memory. Its operands are data, 4 KiB.", param{"n", "int"}, param{"config", "*uint8"}, param{"data", "*uint16"})
	g.arg("n", reg.RAX)
	g.arg("config", reg.RDI)
	g.arg("data", reg.RSI)
	g.tileConfig(reg.RDI, 0)
	g.MOVQ(operand.U32(64), reg.R10)
	for t := range 4 {
		g.tileZero(t)
		g.tileLoad(4+t, reg.RSI, reg.R10)
		g.ADDQ(operand.U32(1024), reg.RSI)
	}
	g.align(32)
	g.Label("loop")
	for t := range 4 {
		g.tileProduct(t, 4+t/2, 6+t%2)
	}
	g.DECQ(reg.RAX)
	g.JNZ(operand.LabelRef("loop"))
	g.tileRelease()
	g.RET()
}

func amxTiles(g *gen, rows, cols int) {
	name := fmt.Sprintf("gemmAMX%dx%d", rows, cols)
	g.begin(name, fmt.Sprintf("%s multiplies strips of %d rows of tiles with a panel of %d; see bfArgs.", name, rows, cols), param{"t", "*bfArgs"})
	t := reg.RDI
	g.arg("t", t)
	g.tileConfig(t, bTiles)
	aRow, b0, b1, c, cRow := reg.R8, reg.RDX, reg.R9, reg.RCX, reg.R11
	line, k, strips, none, bias, p := reg.R10, reg.RAX, reg.R12, reg.R13, reg.RBX, reg.R15
	mode, aStep := reg.RBX, reg.RBX // until it is tested; in the loop over blocks
	a0, a1 := reg.RSI, reg.R15
	g.MOVQ(at(t, bA), a0)
	g.MOVQ(at(t, bARow), aRow)
	g.MOVQ(at(t, bC), c)
	g.MOVQ(at(t, bCRow), cRow)
	g.MOVQ(at(t, bStrips), strips)
	g.MOVQ(operand.U32(64), line)

	g.Label("strip")
	g.XORQ(none, none)
	g.MOVQ(at(t, bMode), mode)
	g.LEAQ(atIdx(c, 0, cRow, 8), p)
	g.LEAQ(atIdx(p, 0, cRow, 8), p) // 16 rows further down
	g.TESTQ(operand.U32(2), mode)
	g.JNZ(operand.LabelRef("load"))
	g.TESTQ(operand.U32(1), mode)
	g.JNZ(operand.LabelRef("bias"))
	for i := range rows {
		for j := range cols {
			g.tileZero(2*i + j)
		}
	}
	g.JMP(operand.LabelRef("ready"))
	g.Label("bias")
	g.MOVQ(at(t, bBias), bias)
	for j := range cols {
		for i := range rows {
			g.tileLoad(2*i+j, bias, none)
		}
		if j+1 < cols {
			g.ADDQ(operand.Imm(64), bias)
		}
	}
	g.JMP(operand.LabelRef("ready"))
	g.Label("load")
	for i := range rows {
		base := []reg.Register{c, p}[i]
		g.tileLoad(2*i, base, cRow)
		if cols > 1 {
			g.LEAQ(at(base, 64), bias)
			g.tileLoad(2*i+1, bias, cRow)
		}
	}
	g.Label("ready")
	g.MOVQ(at(t, bB), b0)
	g.MOVQ(at(t, bBlocks), k)
	if cols > 1 {
		g.MOVQ(at(t, bBStrip), b1)
		g.ADDQ(b0, b1)
	}
	if rows > 1 {
		g.MOVQ(at(t, bAStrip), a1)
		g.ADDQ(a0, a1)
	}
	g.MOVQ(at(t, bAStep), aStep)
	// The next strip's tiles of C are fetched meanwhile: their lines lie far apart.
	ahead, fetches := reg.R14, none
	g.MOVQ(cRow, ahead)
	g.SHLQ(operand.Imm(uint64(3+rows)), ahead)
	g.ADDQ(c, ahead)
	g.MOVQ(operand.U32(uint32(2*rows)), fetches)
	g.align(32)
	g.Label("block")
	g.TESTQ(fetches, fetches)
	g.JZ(operand.LabelRef("fetched"))
	for range 8 {
		for j := range cols {
			g.PREFETCHT0(at(ahead, 64*j))
		}
		g.ADDQ(cRow, ahead)
	}
	g.DECQ(fetches)
	g.Label("fetched")
	g.tileStream(4, a0, aRow)
	g.tileLoad(6, b0, line)
	g.tileProduct(0, 4, 6)
	if cols > 1 {
		g.tileLoad(7, b1, line)
		g.tileProduct(1, 4, 7)
	}
	if rows > 1 {
		g.tileStream(5, a1, aRow)
		g.tileProduct(2, 5, 6)
		if cols > 1 {
			g.tileProduct(3, 5, 7)
		}
		g.ADDQ(aStep, a1)
	}
	if cols > 1 {
		g.ADDQ(operand.U32(1024), b1)
	}
	g.ADDQ(aStep, a0)
	g.ADDQ(operand.U32(1024), b0)
	g.DECQ(k)
	g.JNZ(operand.LabelRef("block"))

	for i := range rows {
		g.tileStore(2*i, c, cRow)
		if cols > 1 {
			g.LEAQ(at(c, 64), bias)
			g.tileStore(2*i+1, bias, cRow)
		}
		g.LEAQ(atIdx(c, 0, cRow, 8), c)
		g.LEAQ(atIdx(c, 0, cRow, 8), c)
	}
	g.MOVQ(at(t, bBlocks), k) // back to where the strips begin, and on to the next ones
	g.IMULQ(at(t, bAStep), k)
	g.SUBQ(k, a0)
	g.MOVQ(at(t, bAStrip), k)
	g.LEAQ(atIdx(a0, 0, k, uint8(rows)), a0)
	g.DECQ(strips)
	g.JNZ(operand.LabelRef("strip"))
	g.tileRelease()
	g.RET()
}
