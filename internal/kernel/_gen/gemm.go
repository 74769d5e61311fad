package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in kernel.tileArgs.
const (
	tA, tB, tC, tBias             = 0, 8, 16, 24
	tARow, tACol                  = 32, 40
	tBRow, tCRow                  = 48, 56
	tK, tMode, tColumns           = 64, 72, 80
	tNext                         = 88
	tAhead, tAheadRow, tAheadStep = 96, 104, 112
)

func gemm(g *gen, v isa) {
	for _, kind := range []string{"Full", "Mask", "Half"} {
		table := fmt.Sprintf("var gemm%s%sTiles = []func(*tileArgs){\n", v.name, kind)
		for rows := 1; rows <= v.mr; rows++ {
			name := fmt.Sprintf("gemm%s%s%d", v.name, kind, rows)
			gemmTile(g, v, name, rows, kind)
			table += "\t" + name + ",\n"
		}
		defer func() { g.decls.WriteString(table + "}\n\n") }()
	}
	transpose(g, v, "transpose", false)
	transpose(g, v, "untranspose", true)
	copyLanes(g, v)
	copyGroups(g, v, "Panels", 2*v.lanes)
	copyGroups(g, v, "Strips", v.mr)
	peak(g, v)
}

// gemmTile writes one micro-kernel: a tile of rows × 2 vectors of C (Mask: the second one masked) or of rows × 1 masked vector
// (Half). A is read by scalar broadcasts through both its strides, so it needs no packing; B and C rows are contiguous.
//
//	for i, j in tile: c[i][j] = 0 | bias[j] | C[i][j]
//	for k: for i, j in tile: c[i][j] = fma(A[i][k], B[k][j], c[i][j])
//	for i, j in tile: C[i][j] = c[i][j] or, with modeReLU, max(c[i][j], 0)
func gemmTile(g *gen, v isa, name string, rows int, kind string) {
	vecs := 2
	if kind == "Half" {
		vecs = 1
	}
	g.begin(name, fmt.Sprintf("%s is a GEMM micro-kernel of %d rows; see tileArgs.", name, rows), param{"t", "*tileArgs"})
	t := reg.RDI
	g.arg("t", t)

	masks := make([]*mask, vecs)
	if kind != "Full" {
		n := reg.R15
		g.MOVQ(at(t, tColumns), n)
		if vecs == 2 {
			g.SUBQ(operand.Imm(uint64(v.lanes)), n)
		}
		masks[vecs-1] = v.makeMask(g, 1, n)
	}

	acc := func(i, j int) reg.Register { return v.vec(i*vecs + j) }
	bReg := func(j int) reg.Register { return v.vec(2*v.mr + j) }
	tmp := func(i int) reg.Register {
		n := 2
		if v.wide() {
			n = 6
		}
		return v.vec(2*v.mr + 2 + i%n)
	}

	// Begin the chains.
	mode, c, cRow, p := reg.R13, reg.RCX, reg.R11, reg.RDX
	g.MOVQ(at(t, tMode), mode)
	g.MOVQ(at(t, tC), c)
	g.MOVQ(at(t, tCRow), cRow)
	g.TESTQ(operand.U32(2), mode)
	g.JNZ(operand.LabelRef("load"))
	g.TESTQ(operand.U32(1), mode)
	g.JNZ(operand.LabelRef("bias"))
	g.TESTQ(operand.U32(8), mode)
	g.JNZ(operand.LabelRef("rowbias"))
	for i := range rows {
		for j := range vecs {
			v.zero(g, acc(i, j))
		}
	}
	g.JMP(operand.LabelRef("ready"))
	g.Label("bias")
	g.MOVQ(at(t, tBias), p)
	for j := range vecs {
		v.load(g, at(p, j*v.bytes()), masks[j], acc(0, j))
		for i := 1; i < rows; i++ {
			g.VMOVAPS(acc(0, j), acc(i, j))
		}
	}
	g.JMP(operand.LabelRef("ready"))
	g.Label("rowbias")
	g.MOVQ(at(t, tBias), p)
	for i := range rows {
		g.VBROADCASTSS(at(p, 4*i), acc(i, 0))
		for j := 1; j < vecs; j++ {
			g.VMOVAPS(acc(i, 0), acc(i, j))
		}
	}
	g.JMP(operand.LabelRef("ready"))
	g.Label("load")
	g.MOVQ(c, p)
	for i := range rows {
		for j := range vecs {
			v.load(g, at(p, j*v.bytes()), masks[j], acc(i, j))
		}
		if i+1 < rows {
			g.ADDQ(cRow, p)
		}
	}
	g.Label("ready")

	// Ask for the tile of C that comes next: its rows lie far apart, and the loop below gives them time to arrive.
	if rows == v.mr {
		g.MOVQ(at(t, tNext), p)
		for i := range rows {
			for off := 0; off < vecs*v.bytes(); off += 64 {
				g.PREFETCHT0(at(p, off))
			}
			if i+1 < rows {
				g.ADDQ(cRow, p)
			}
		}
	}

	// Rows of A are addressed in threes: base, base+aRow, base+2·aRow.
	bases := []reg.Register{reg.RAX, reg.RBX, reg.RSI, reg.R12}[:(rows+2)/3]
	aRow, aCol, b, bRow, k := reg.R8, reg.R9, reg.RDX, reg.R10, reg.RDI
	g.MOVQ(at(t, tA), bases[0])
	g.MOVQ(at(t, tARow), aRow)
	g.MOVQ(at(t, tACol), aCol)
	g.MOVQ(at(t, tB), b)
	g.MOVQ(at(t, tBRow), bRow)
	ahead := rows == v.mr
	pf, pfRow, pfStep := reg.R14, reg.R11, reg.RCX
	if ahead {
		g.MOVQ(at(t, tAhead), pf)
		g.MOVQ(at(t, tAheadRow), pfRow)
		g.MOVQ(at(t, tAheadStep), pfStep)
	}
	g.MOVQ(at(t, tK), k) // t is gone until the end
	for i := 1; i < len(bases); i++ {
		g.LEAQ(atIdx(bases[i-1], 0, aRow, 2), bases[i])
		g.ADDQ(aRow, bases[i])
	}
	rowOf := func(i int) operand.Mem {
		if i%3 == 0 {
			return at(bases[i/3], 0)
		}
		return atIdx(bases[i/3], 0, aRow, uint8(i%3))
	}
	prefetch := func(u int) {
		if !ahead {
			return
		}
		switch u {
		case 1:
			g.PREFETCHT1(at(pf, 0))
		case 3:
			g.PREFETCHT1(atIdx(pf, 0, pfRow, 1))
			g.ADDQ(pfStep, pf)
		}
	}
	step := func(u int) {
		for j := range vecs {
			v.load(g, at(b, j*v.bytes()), masks[j], bReg(j))
		}
		g.ADDQ(bRow, b)
		prefetch(u)
		for i := range rows {
			g.VBROADCASTSS(rowOf(i), tmp(i))
			if i%3 == 2 || i == rows-1 {
				g.ADDQ(aCol, bases[i/3])
			}
			for j := range vecs {
				g.VFMADD231PS(tmp(i), bReg(j), acc(i, j))
			}
		}
	}
	g.SUBQ(operand.Imm(uint64(v.unroll)), k)
	g.JLT(operand.LabelRef("rest"))
	g.align(64)
	g.Label("loop")
	for u := range v.unroll {
		step(u)
	}
	g.SUBQ(operand.Imm(uint64(v.unroll)), k)
	g.JGE(operand.LabelRef("loop"))
	g.Label("rest")
	g.ADDQ(operand.Imm(uint64(v.unroll)), k)
	g.JZ(operand.LabelRef("finish"))
	g.Label("one")
	step(-1)
	g.DECQ(k)
	g.JNZ(operand.LabelRef("one"))

	g.Label("finish")
	g.arg("t", t)
	g.MOVQ(at(t, tMode), mode)
	g.MOVQ(at(t, tC), c)
	g.MOVQ(at(t, tCRow), cRow)
	g.TESTQ(operand.U32(4), mode)
	g.JZ(operand.LabelRef("store"))
	v.zero(g, tmp(0))
	for i := range rows {
		for j := range vecs {
			// 0 > x ? 0 : x, so that NaN stays NaN.
			g.VMAXPS(acc(i, j), tmp(0), acc(i, j))
		}
	}
	g.Label("store")
	for i := range rows {
		for j := range vecs {
			v.store(g, acc(i, j), masks[j], at(c, j*v.bytes()), tmp(0))
		}
		if i+1 < rows {
			g.ADDQ(cRow, c)
		}
	}
	g.VZEROUPPER()
	g.RET()
}
