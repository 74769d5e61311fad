package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// flushing is an MXCSR without traps that reads denormals as zeros and flushes them.
const flushing = 0x9FC0

// bfShape is how many rows and vectors of columns the emulation of a tile does at a time: two chains of each stay in registers.
func (v isa) bfShape() (rows, vecs int) {
	if v.wide() {
		return 6, 2
	}
	return 6, 1
}

// bfTile writes the product of bfloat16 without AMX: rows of A, widened, by one or two vectors of columns of B's tiles.
//
//	C[i][j] = 0 | bias[j] | C[i][j]
//	for each block of 32 of k:
//	  t0 = t1 = 0
//	  for each pair (k, k+1): t0 = fma(A[i][k], B[k][j], t0); t1 = fma(A[i][k+1], B[k+1][j], t1)
//	  C[i][j] += t0 + t1
func bfTile(g *gen, v isa) {
	name := "gemmBF16" + v.name
	g.begin(name, name+" multiplies a strip of rows with tiles' columns; see bfArgs.", param{"t", "*bfArgs"})
	rows, vecs := v.bfShape()
	acc := func(half, i, j int) reg.Register { return v.vec((half*rows+i)*vecs + j) }
	next := 2 * rows * vecs
	spare := func() reg.Register { next++; return v.vec(next - 1) }
	x := []reg.Register{spare(), spare()}
	var b [2][2]reg.Register // half, vector
	for j := range vecs {
		b[0][j], b[1][j] = spare(), spare()
	}
	var upper operand.Op = g.word(0xffff0000)
	if v.wide() {
		upper = spare()
	}
	t := reg.RDI
	g.arg("t", t)
	state := g.AllocLocal(8)
	g.STMXCSR(state)
	g.MOVL(operand.U32(flushing), state.Offset(4))
	g.LDMXCSR(state.Offset(4))
	masks := make([]*mask, vecs)
	if vecs == 1 {
		g.MOVQ(at(t, bCols), reg.R15)
		masks[0] = v.makeMask(g, 1, reg.R15)
	} else { // the first min(cols, 16), and what is left
		g.MOVQ(operand.U32(uint32(v.lanes)), reg.RBX)
		g.MOVQ(at(t, bCols), reg.R15)
		g.CMPQ(reg.R15, reg.RBX)
		g.CMOVQLT(reg.R15, reg.RBX)
		g.SUBQ(reg.RBX, reg.R15)
		masks[0] = v.makeMask(g, 1, reg.RBX)
		masks[1] = v.makeMask(g, 2, reg.R15)
	}
	c, cRow, n, p, mode := reg.R11, reg.R10, reg.R9, reg.RDX, reg.R13
	if v.wide() {
		g.MOVL(operand.U32(0xffff0000), reg.EAX)
		g.VPBROADCASTD(reg.EAX, upper)
	}
	g.MOVQ(at(t, bCRow), cRow)
	g.MOVQ(at(t, bC), c)

	// The beginning of the chains goes to memory: every block takes it from there.
	g.MOVQ(at(t, bMode), mode)
	g.TESTQ(operand.U32(2), mode)
	g.JNZ(operand.LabelRef("ready"))
	for j := range vecs {
		v.zero(g, b[0][j])
	}
	g.TESTQ(operand.U32(1), mode)
	g.JZ(operand.LabelRef("begin"))
	g.MOVQ(at(t, bBias), p)
	for j := range vecs {
		v.load(g, at(p, j*v.bytes()), masks[j], b[0][j])
	}
	g.Label("begin")
	g.MOVQ(at(t, bRows), n)
	g.MOVQ(c, p)
	g.Label("row")
	for j := range vecs {
		v.store(g, b[0][j], masks[j], at(p, j*v.bytes()), x[0])
	}
	g.ADDQ(cRow, p)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("row"))
	g.Label("ready")

	bases := []reg.Register{reg.RAX, reg.RBX}[:(rows+2)/3]
	aRow, blocks, steps := reg.R8, reg.R14, reg.RCX
	columns := []reg.Register{reg.R12, reg.RSI}[:vecs]
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
	g.MOVQ(at(t, bB), columns[0])
	if vecs > 1 {
		g.MOVQ(columns[0], columns[1])
		g.ADDQ(at(t, bBStrip), columns[1])
	}
	g.MOVQ(at(t, bBlocks), blocks)
	g.Label("block")
	for i := range rows {
		for j := range vecs {
			v.zero(g, acc(0, i, j))
			v.zero(g, acc(1, i, j))
		}
	}
	const unroll = 4
	g.MOVQ(operand.U32(16/unroll), steps)
	g.align(32)
	g.Label("pairs")
	for u := range unroll {
		for j := range vecs {
			g.VMOVUPS(at(columns[j], 64*u), b[0][j])
			if v.wide() {
				g.VPANDD(upper, b[0][j], b[1][j])
			} else {
				g.VPAND(upper, b[0][j], b[1][j])
			}
			g.VPSLLD(operand.Imm(16), b[0][j], b[0][j])
		}
		for i := range rows {
			for half := range 2 {
				g.VBROADCASTSS(a(i, 8*u+4*half), x[half])
				for j := range vecs {
					g.VFMADD231PS(x[half], b[half][j], acc(half, i, j))
				}
			}
		}
	}
	for _, r := range columns {
		g.ADDQ(imm(64*unroll), r)
	}
	for _, base := range bases {
		g.ADDQ(imm(8*unroll), base)
	}
	g.DECQ(steps)
	g.JNZ(operand.LabelRef("pairs"))
	g.MOVQ(at(t, bRows), n)
	g.MOVQ(c, p)
	for i := range rows {
		for j := range vecs {
			g.VADDPS(acc(1, i, j), acc(0, i, j), acc(0, i, j))
			v.load(g, at(p, j*v.bytes()), masks[j], x[1])
			g.VADDPS(acc(0, i, j), x[1], x[1])
			v.store(g, x[1], masks[j], at(p, j*v.bytes()), x[0])
		}
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
