package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// flushing is an MXCSR without traps that reads denormals as zeros and flushes them.
const flushing = 0x9FC0

// bfRowsOf is how many rows the emulation of a tile does at a time: two chains each stay in registers.
func (v isa) bfRows() int {
	if v.wide() {
		return 8
	}
	return 4
}

// bfTile writes the product of bfloat16 without AMX: bfRows rows of A, widened, by one vector of columns of B's tiles.
//
//	C[i][j] = 0 | bias[j] | C[i][j]
//	for each block of 32 of k:
//	  t0 = t1 = 0
//	  for each pair (k, k+1): t0 = fma(A[i][k], B[k][j], t0); t1 = fma(A[i][k+1], B[k+1][j], t1)
//	  C[i][j] += t0 + t1
func bfTile(g *gen, v isa) {
	name := "gemmBF16" + v.name
	g.begin(name, name+" multiplies a strip of rows with a tile's columns; see bfArgs.", param{"t", "*bfArgs"})
	rows := v.bfRows()
	even := func(i int) reg.Register { return v.vec(i) }
	odd := func(i int) reg.Register { return v.vec(rows + i) }
	pair, be, bo, tmp, upper := v.vec(2*rows), v.vec(2*rows+1), v.vec(2*rows+2), v.vec(2*rows+3), v.vec(2*rows+4)
	t := reg.RDI
	g.arg("t", t)
	state := g.AllocLocal(8)
	g.STMXCSR(state)
	g.MOVL(operand.U32(flushing), state.Offset(4))
	g.LDMXCSR(state.Offset(4))
	g.MOVQ(at(t, bCols), reg.R15)
	mk := v.makeMask(g, 1, reg.R15)
	c, cRow, n, p, mode := reg.R11, reg.R10, reg.R9, reg.RDX, reg.R13
	g.MOVQ(at(t, bC), c)
	g.MOVQ(at(t, bCRow), cRow)

	// The beginning of the chains goes to memory: every block takes it from there.
	g.MOVQ(at(t, bMode), mode)
	g.TESTQ(operand.U32(2), mode)
	g.JNZ(operand.LabelRef("ready"))
	v.zero(g, pair)
	g.TESTQ(operand.U32(1), mode)
	g.JZ(operand.LabelRef("begin"))
	g.MOVQ(at(t, bBias), p)
	v.load(g, at(p, 0), mk, pair)
	g.Label("begin")
	g.MOVQ(at(t, bRows), n)
	g.MOVQ(c, p)
	g.Label("row")
	v.store(g, pair, mk, at(p, 0), tmp)
	g.ADDQ(cRow, p)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("row"))
	g.Label("ready")

	g.MOVQ(operand.U32(0xffff0000), reg.RAX)
	if v.wide() {
		g.VPBROADCASTD(reg.EAX, upper)
	} else {
		g.MOVL(reg.EAX, state.Offset(4))
		g.VPBROADCASTD(state.Offset(4), upper)
	}
	bases := []reg.Register{reg.RAX, reg.RBX, reg.RSI}[:(rows+2)/3]
	aRow, b, blocks, steps := reg.R8, reg.R12, reg.R14, reg.RCX
	g.MOVQ(at(t, bA), bases[0])
	g.MOVQ(at(t, bARow), aRow)
	for i := 1; i < len(bases); i++ {
		g.LEAQ(atIdx(bases[i-1], 0, aRow, 2), bases[i])
		g.ADDQ(aRow, bases[i])
	}
	a := func(i, off int) operand.Mem {
		if i%3 == 0 {
			return at(bases[i/3], off)
		}
		return atIdx(bases[i/3], off, aRow, uint8(i%3))
	}
	g.MOVQ(at(t, bB), b)
	g.MOVQ(at(t, bBlocks), blocks)
	g.Label("block")
	for i := range rows {
		v.zero(g, even(i))
		v.zero(g, odd(i))
	}
	const unroll = 4
	g.MOVQ(operand.U32(16/unroll), steps)
	g.align(32)
	g.Label("pairs")
	for u := range unroll {
		g.VMOVUPS(at(b, 64*u), pair)
		g.VPSLLD(operand.Imm(16), pair, be)
		if v.wide() {
			g.VPANDD(pair, upper, bo)
		} else {
			g.VPAND(pair, upper, bo)
		}
		for i := range rows {
			for h, x := range []reg.Register{be, bo} {
				acc := []reg.Register{even(i), odd(i)}[h]
				if v.wide() {
					g.VFMADD231PS_BCST(a(i, 8*u+4*h), x, acc)
				} else {
					g.VBROADCASTSS(a(i, 8*u+4*h), tmp)
					g.VFMADD231PS(tmp, x, acc)
				}
			}
		}
	}
	g.ADDQ(imm(64*unroll), b)
	for _, base := range bases {
		g.ADDQ(imm(8*unroll), base)
	}
	g.DECQ(steps)
	g.JNZ(operand.LabelRef("pairs"))
	g.MOVQ(at(t, bRows), n)
	g.MOVQ(c, p)
	for i := range rows {
		g.VADDPS(odd(i), even(i), even(i))
		v.load(g, at(p, 0), mk, pair)
		g.VADDPS(even(i), pair, pair)
		v.store(g, pair, mk, at(p, 0), tmp)
		if i+1 < rows {
			g.DECQ(n)
			g.JZ(operand.LabelRef("stored"))
			g.ADDQ(cRow, p)
		}
	}
	g.Label("stored")
	g.DECQ(blocks)
	g.JNZ(operand.LabelRef("block"))
	g.LDMXCSR(state)
	g.VZEROUPPER()
	g.RET()
}

// bfWiden writes what lays a strip of A's tiles out as rows of float32.
//
//	for each block: for r in 16: dst[r·stride + 32·block …] = tile[r]
func bfWiden(g *gen, v isa) {
	name := "widenTiles" + v.name
	g.begin(name, name+" turns a strip of tiles into rows of float32, stride bytes apart.", param{"dst", "*float32"}, param{"stride", "int"}, param{"src", "*uint16"}, param{"blocks", "int"})
	dst, stride, src, blocks, to, n := reg.RDI, reg.RSI, reg.RDX, reg.RCX, reg.R8, reg.R9
	g.arg("dst", dst)
	g.arg("stride", stride)
	g.arg("src", src)
	g.arg("blocks", blocks)
	g.Label("block")
	g.MOVQ(dst, to)
	g.MOVQ(operand.U32(16), n)
	g.align(32)
	g.Label("row")
	for off := 0; off < 128; off += v.bytes() {
		x := v.vec(off / v.bytes())
		g.VPMOVZXWD(at(src, off/2), x)
		g.VPSLLD(operand.Imm(16), x, x)
		g.VMOVUPS(x, at(to, off))
	}
	g.ADDQ(operand.Imm(64), src)
	g.ADDQ(stride, to)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("row"))
	g.ADDQ(operand.U32(128), dst)
	g.DECQ(blocks)
	g.JNZ(operand.LabelRef("block"))
	g.VZEROUPPER()
	g.RET()
}
