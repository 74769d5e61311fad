package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// bfRoundTo rounds the float32 in u to bfloat16 in the upper half of each lane of t, as products do; the lower half is rubbish. On AVX2 n1 and
// n2 are destroyed; on AVX-512 bfConstants' registers are read.
func (v isa) bfRoundTo(g *gen, u, t, n1, n2 reg.Register) {
	if v.wide() {
		bfRound(g, u, t)
		return
	}
	g.VPSRLD(operand.Imm(16), u, t)
	g.VPAND(g.word(1), t, t)
	g.VPADDD(g.word(0x7fff), t, t)
	g.VPADDD(u, t, t)
	g.VCMPPS(operand.Imm(3), u, u, n1) // unordered
	g.VPOR(g.word(0x400000), u, n2)
	g.VPBLENDVB(n1, n2, t, t)
	g.VPAND(g.word(0x7f800000), u, n1)
	v.zero(g, n2)
	g.VPCMPEQD(n2, n1, n1)
	g.VPSRLD(operand.Imm(1), n1, n1) // all but the sign, of denormals
	g.VPANDN(t, n1, t)
}

// bfFlat writes the rounding of n values, a multiple of 32, which stay float32.
func bfFlat(g *gen, v isa) {
	name := "flatten" + v.name
	g.begin(name, name+" rounds float32 to bfloat16 as products do, and leaves them float32.", param{"dst", "*float32"}, param{"src", "*float32"}, param{"n", "int"})
	dst, src, n := reg.RDI, reg.RSI, reg.RDX
	g.arg("dst", dst)
	g.arg("src", src)
	g.arg("n", n)
	if v.wide() {
		bfConstants(g, rounded)
	}
	g.align(32)
	g.Label("loop")
	for off := 0; off < 128; off += v.bytes() {
		i := off / v.bytes() % 2 * 4
		u, t := v.vec(i), v.vec(i+1)
		g.VMOVUPS(at(src, off), u)
		v.bfRoundTo(g, u, t, v.vec(i+2), v.vec(i+3))
		if v.wide() {
			g.VPANDD(reg.Z26, t, t)
		} else {
			g.VPAND(g.word(0xffff0000), t, t)
		}
		g.VMOVUPS(t, at(dst, off))
	}
	g.ADDQ(imm(128), src)
	g.ADDQ(imm(128), dst)
	g.SUBQ(imm(32), n)
	g.JNZ(operand.LabelRef("loop"))
	g.VZEROUPPER()
	g.RET()
}

// bfAVX2 writes what lays operands out on AVX2: whole tiles alone, and turned ones in two goes.
func bfAVX2(g *gen) {
	bfHalves(g)
	for _, s := range []source{rounded, words} {
		suffix := map[source]string{rounded: "AVX2", words: "WordsAVX2"}[s]
		bfWholeRows(g, "packRows"+suffix, s)
		bfWholePairs(g, "packPairs"+suffix, s)
	}
	bfTurnTiles(g)
}

// bfWords rounds 32 neighbours at m to two vectors of words, Y0 and Y1.
func bfWords(g *gen, s source, m operand.Mem) {
	part := func(off int) operand.Mem { m := m; m.Disp += off; return m }
	if s == words {
		g.VMOVUPS(part(0), reg.Y0)
		g.VMOVUPS(part(32), reg.Y1)
		return
	}
	for i, y := range []reg.Register{reg.Y0, reg.Y1} {
		lo, hi := reg.Y4, reg.Y5
		for half, t := range []reg.Register{lo, hi} {
			g.VMOVUPS(part(64*i+32*half), reg.Y2)
			avx2.bfRoundTo(g, reg.Y2, t, reg.Y6, reg.Y7)
			g.VPSRLD(operand.Imm(16), t, t)
		}
		g.VPACKUSDW(hi, lo, lo) // within 128 bits: quarters 0 2 1 3
		g.VPERMQ(operand.Imm(0xD8), lo, y)
	}
}

// bfHalves writes the rounding of rows of n values to words.
func bfHalves(g *gen) {
	bfRoundRows(g, "roundWordsAVX2", func() {}, func(src, dst operand.Mem) {
		bfWords(g, rounded, src)
		g.VMOVUPS(reg.Y0, dst)
		dst.Disp += 32
		g.VMOVUPS(reg.Y1, dst)
	})
}

// bfWholeRows: lanes lie stride apart, steps, whole blocks of them, are neighbours, and a tile's row is a lane.
func bfWholeRows(g *gen, name string, s source) {
	g.begin(name, name+" packs whole blocks of lanes whose steps are neighbours, a lane in a row of a tile; see bfPack.", param{"p", "*bfPack"})
	p, src, stride, lanes, steps, dst, from, to, n := reg.RDI, reg.RSI, reg.R8, reg.R9, reg.R10, reg.RDX, reg.R11, reg.R12, reg.R13
	g.arg("p", p)
	g.MOVQ(at(p, qSrc), src)
	g.MOVQ(at(p, qStride), stride)
	g.MOVQ(at(p, qLanes), lanes)
	g.MOVQ(at(p, qSteps), steps)
	g.MOVQ(at(p, qDst), dst)
	g.Label("lane")
	g.MOVQ(src, from)
	g.MOVQ(dst, to)
	g.MOVQ(steps, n)
	g.align(32)
	g.Label("loop")
	bfWords(g, s, at(from, 0))
	g.VMOVUPS(reg.Y0, at(to, 0))
	g.VMOVUPS(reg.Y1, at(to, 32))
	g.ADDQ(imm(32*s.size()), from)
	g.ADDQ(operand.U32(1024), to)
	g.SUBQ(imm(32), n)
	g.JNZ(operand.LabelRef("loop"))
	g.ADDQ(stride, src)
	g.ADDQ(imm(64), dst)
	g.DECQ(lanes)
	g.JNZ(operand.LabelRef("lane"))
	g.VZEROUPPER()
	g.RET()
}

// bfWholePairs: lanes, whole groups of 16, are neighbours, steps, whole blocks of them, lie stride apart, and a tile's row is a pair of steps.
//
//	for each pair of steps: for q in groups: dst[q·hop + pair·64 …] = pairs of src[step·stride + 16·q …] and the next step's
func bfWholePairs(g *gen, name string, s source) {
	g.begin(name, name+" packs whole groups of lanes that are neighbours, a pair of steps in a row of a tile; see bfPack.", param{"p", "*bfPack"})
	p, src, stride, steps, dst, groups, hop := reg.RDI, reg.RSI, reg.R8, reg.R11, reg.RDX, reg.R9, reg.R10
	from, other, to, n := reg.RBX, reg.R13, reg.R12, reg.R14
	g.arg("p", p)
	g.MOVQ(at(p, qSrc), src)
	g.MOVQ(at(p, qStride), stride)
	g.MOVQ(at(p, qSteps), steps)
	g.MOVQ(at(p, qDst), dst)
	g.MOVQ(at(p, qGroups), groups)
	g.MOVQ(at(p, qHop), hop)
	g.Label("steps")
	g.MOVQ(src, from)
	g.LEAQ(atIdx(src, 0, stride, 1), other)
	g.MOVQ(dst, to)
	g.MOVQ(groups, n)
	g.align(32)
	g.Label("group")
	for i, off := range []int{0, 8 * s.size()} {
		lo, hi := reg.Y4, reg.Y5
		if s == words {
			g.VPMOVZXWD(at(from, off), lo)
			g.VPMOVZXWD(at(other, off), hi)
			g.VPSLLD(operand.Imm(16), hi, hi)
		} else {
			g.VMOVUPS(at(from, off), reg.Y2)
			avx2.bfRoundTo(g, reg.Y2, lo, reg.Y6, reg.Y7)
			g.VPSRLD(operand.Imm(16), lo, lo)
			g.VMOVUPS(at(other, off), reg.Y3)
			avx2.bfRoundTo(g, reg.Y3, hi, reg.Y8, reg.Y9)
			g.VPAND(g.word(0xffff0000), hi, hi)
		}
		g.VPOR(hi, lo, lo)
		g.VMOVUPS(lo, at(to, 32*i))
	}
	g.ADDQ(imm(16*s.size()), from)
	g.ADDQ(imm(16*s.size()), other)
	g.ADDQ(hop, to)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("group"))
	g.LEAQ(atIdx(src, 0, stride, 2), src)
	g.ADDQ(imm(64), dst)
	g.SUBQ(imm(2), steps)
	g.JNZ(operand.LabelRef("steps"))
	g.VZEROUPPER()
	g.RET()
}

// bfTurnTiles writes the transposition of tiles' pairs, in place: what was a lane in a row becomes a pair of steps in a row, and back.
func bfTurnTiles(g *gen) {
	g.begin("turnTilesAVX2", "turnTilesAVX2 transposes tiles, 16 × 16 pairs each, in place.", param{"tiles", "*uint16"}, param{"n", "int"})
	tile, n := reg.RDI, reg.RSI
	g.arg("tiles", tile)
	g.arg("n", n)
	aside := g.AllocLocal(8 * 32)
	quarter := func(row, col int) []reg.Register {
		for r := range 8 {
			g.VMOVUPS(at(tile, 64*(row+r)+4*col), avx2.vec(r))
		}
		return transpose8(g, avx2)
	}
	store := func(t []reg.Register, row, col int) {
		for r, x := range t {
			g.VMOVUPS(x, at(tile, 64*(row+r)+4*col))
		}
	}
	g.Label("tile")
	store(quarter(0, 0), 0, 0)
	store(quarter(8, 8), 8, 8)
	for r, x := range quarter(0, 8) {
		g.VMOVUPS(x, aside.Offset(32*r))
	}
	store(quarter(8, 0), 0, 8)
	for r := range 8 {
		g.VMOVUPS(aside.Offset(32*r), avx2.vec(r))
	}
	for r := range 8 {
		g.VMOVUPS(avx2.vec(r), at(tile, 64*(8+r)))
	}
	g.ADDQ(operand.U32(1024), tile)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("tile"))
	g.VZEROUPPER()
	g.RET()
}
