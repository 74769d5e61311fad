package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// bf16 writes the conversions of n values, a multiple of 16, between float32 and bfloat16.
func bf16(g *gen, v isa) {
	narrow(g, v)
	widen(g, v)
}

// narrow rounds to nearest, ties to even, on the bits, because the instructions for it flush denormals and are not everywhere. NaN keeps
// its upper half and becomes quiet.
//
//	u = bits(src[i])
//	dst[i] = NaN ? u>>16 | 0x40 : (u + 0x7fff + u>>16&1) >> 16
func narrow(g *gen, v isa) {
	name := "narrow" + v.name
	g.begin(name, name+" rounds float32 to bfloat16.", param{"dst", "*uint16"}, param{"src", "*float32"}, param{"n", "int"})
	dst, src, n := reg.RDI, reg.RSI, reg.RDX
	g.arg("dst", dst)
	g.arg("src", src)
	g.arg("n", n)
	half := func(off int, at0 int) reg.Register {
		u, t, quiet := v.vec(at0), v.vec(at0+1), v.vec(at0+2)
		g.VMOVUPS(at(src, off), u)
		g.VPSRLD(operand.Imm(16), u, t)
		if v.wide() {
			g.VPORD(g.word(0x40), t, quiet)
			g.VPANDD(g.word(1), t, t)
			g.VCMPPS(operand.Imm(3), u, u, reg.K1) // unordered
			g.VPADDD(g.word(0x7fff), t, t)
			g.VPADDD(u, t, t)
			g.VPSRLD(operand.Imm(16), t, t)
			g.VPBLENDMD(quiet, t, reg.K1, t)
			return t
		}
		nan := v.vec(at0 + 3)
		g.VPOR(g.word(0x40), t, quiet)
		g.VPAND(g.word(1), t, t)
		g.VCMPPS(operand.Imm(3), u, u, nan)
		g.VPADDD(g.word(0x7fff), t, t)
		g.VPADDD(u, t, t)
		g.VPSRLD(operand.Imm(16), t, t)
		g.VPBLENDVB(nan, quiet, t, t)
		return t
	}
	g.align(32)
	g.Label("loop")
	if v.wide() {
		g.VPMOVDW(half(0, 0), reg.Y0)
		g.VMOVDQU(reg.Y0, at(dst, 0))
	} else {
		lo, hi := half(0, 0), half(32, 4)
		g.VPACKUSDW(hi, lo, lo) // within 128 bits: quarters 0 2 1 3
		g.VPERMQ(operand.Imm(0xD8), lo, lo)
		g.VMOVDQU(lo, at(dst, 0))
	}
	g.ADDQ(operand.Imm(64), src)
	g.ADDQ(operand.Imm(32), dst)
	g.SUBQ(operand.Imm(16), n)
	g.JNZ(operand.LabelRef("loop"))
	g.VZEROUPPER()
	g.RET()
}

func widen(g *gen, v isa) {
	name := "widen" + v.name
	g.begin(name, name+" turns bfloat16 into float32, exactly.", param{"dst", "*float32"}, param{"src", "*uint16"}, param{"n", "int"})
	dst, src, n := reg.RDI, reg.RSI, reg.RDX
	g.arg("dst", dst)
	g.arg("src", src)
	g.arg("n", n)
	g.align(32)
	g.Label("loop")
	for off := 0; off < 64; off += v.bytes() {
		x := v.vec(off / v.bytes())
		g.VPMOVZXWD(at(src, off/2), x)
		g.VPSLLD(operand.Imm(16), x, x)
		g.VMOVUPS(x, at(dst, off))
	}
	g.ADDQ(operand.Imm(32), src)
	g.ADDQ(operand.Imm(64), dst)
	g.SUBQ(operand.Imm(16), n)
	g.JNZ(operand.LabelRef("loop"))
	g.VZEROUPPER()
	g.RET()
}
