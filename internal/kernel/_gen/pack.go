package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in kernel.packArgs.
const (
	pSrc, pStride, pLanes, pSteps, pDst, pPitch, pGroups, pHop = 0, 8, 16, 24, 32, 40, 48, 56
)

// transpose writes the packing kernel for operands whose steps are neighbours in memory: blocks of lanes × lanes are
// transposed in registers.
//
//	for s in steps: for l in a vector's lanes: dst[s·pitch + l] = l < lanes ? src[l·stride + s] : 0
//
// Steps are stored in order and each store is a whole vector, so a pitch below a vector is fine: the next step overwrites what
// the one before it spilled, and the last one spills into slack that dst must have. With masked, only lanes that exist are stored.
func transpose(g *gen, v isa, what string, masked bool) {
	name := what + v.name
	g.begin(name, name+" packs lanes that lie stride apart; see packArgs.", param{"p", "*packArgs"})
	p := reg.RDI
	g.arg("p", p)
	s1, s3, lanes, steps, dst, pitch := reg.R8, reg.R9, reg.R10, reg.R11, reg.RDX, reg.R13
	ptr := []reg.Register{reg.RBX, reg.RSI, reg.R12, reg.R15}[:v.lanes/4]
	g.MOVQ(at(p, pStride), s1)
	g.MOVQ(at(p, pLanes), lanes)
	var stored *mask
	if masked {
		g.MOVQ(lanes, reg.R14)
		stored = v.makeMask(g, 2, reg.R14)
	}
	g.MOVQ(at(p, pSteps), steps)
	g.MOVQ(at(p, pDst), dst)
	g.MOVQ(at(p, pPitch), pitch)
	g.MOVQ(at(p, pSrc), ptr[0])
	g.LEAQ(atIdx(s1, 0, s1, 2), s3)
	for i := 1; i < len(ptr); i++ {
		g.LEAQ(atIdx(ptr[i-1], 0, s1, 4), ptr[i])
	}
	row := func(r int) operand.Mem {
		switch r % 4 {
		case 0:
			return at(ptr[r/4], 0)
		case 3:
			return atIdx(ptr[r/4], 0, s3, 1)
		}
		return atIdx(ptr[r/4], 0, s1, uint8(r%4))
	}
	block := func(tail bool) {
		label := "full"
		var mk *mask
		if tail {
			label = "tail"
			g.MOVQ(steps, reg.RDI)
			mk = v.makeMask(g, 1, reg.RDI)
		}
		for r := 1; r < v.lanes; r++ {
			v.zero(g, v.vec(r))
		}
		for r := range v.lanes {
			if r > 0 {
				g.CMPQ(lanes, operand.Imm(uint64(r)))
				g.JLE(operand.LabelRef(label + "_loaded"))
			}
			v.load(g, row(r), mk, v.vec(r))
		}
		g.Label(label + "_loaded")
		var out []reg.Register
		if v.wide() {
			out = transpose16(g, v)
		} else {
			out = transpose8(g, v)
		}
		for s, o := range out {
			if tail && s > 0 {
				g.CMPQ(steps, operand.Imm(uint64(s)))
				g.JLE(operand.LabelRef("done"))
			}
			v.store(g, o, stored, at(dst, 0), v.vec(0))
			g.ADDQ(pitch, dst)
		}
	}
	g.SUBQ(operand.Imm(uint64(v.lanes)), steps)
	g.JLT(operand.LabelRef("rest"))
	g.Label("loop")
	block(false)
	for _, r := range ptr {
		g.ADDQ(operand.Imm(uint64(v.bytes())), r)
	}
	g.SUBQ(operand.Imm(uint64(v.lanes)), steps)
	g.JGE(operand.LabelRef("loop"))
	g.Label("rest")
	g.ADDQ(operand.Imm(uint64(v.lanes)), steps)
	g.JZ(operand.LabelRef("done"))
	block(true)
	g.Label("done")
	g.VZEROUPPER()
	g.RET()
}

// transpose16 transposes vectors 0–15, destroying all 32, and returns where the columns are.
func transpose16(g *gen, v isa) []reg.Register {
	r := func(i int) reg.Register { return v.vec(i) }
	t := func(i int) reg.Register { return v.vec(16 + i) }
	for i := 0; i < 16; i += 2 {
		g.VUNPCKLPS(r(i+1), r(i), t(i))
		g.VUNPCKHPS(r(i+1), r(i), t(i+1))
	}
	// r(4q+e): 128-bit lane L has rows 4q…4q+3 of column 4L+e.
	for q := 0; q < 16; q += 4 {
		g.VUNPCKLPD(t(q+2), t(q), r(q))
		g.VUNPCKHPD(t(q+2), t(q), r(q+1))
		g.VUNPCKLPD(t(q+3), t(q+1), r(q+2))
		g.VUNPCKHPD(t(q+3), t(q+1), r(q+3))
	}
	out := make([]reg.Register, 16)
	for e := range 4 {
		g.VSHUFF32X4(operand.Imm(0x88), r(4+e), r(e), t(4*e))      // columns e and 8+e, rows 0–7
		g.VSHUFF32X4(operand.Imm(0xDD), r(4+e), r(e), t(4*e+1))    // columns 4+e and 12+e
		g.VSHUFF32X4(operand.Imm(0x88), r(12+e), r(8+e), t(4*e+2)) // rows 8–15
		g.VSHUFF32X4(operand.Imm(0xDD), r(12+e), r(8+e), t(4*e+3))
	}
	for e := range 4 {
		g.VSHUFF32X4(operand.Imm(0x88), t(4*e+2), t(4*e), r(e))
		g.VSHUFF32X4(operand.Imm(0xDD), t(4*e+2), t(4*e), r(8+e))
		g.VSHUFF32X4(operand.Imm(0x88), t(4*e+3), t(4*e+1), r(4+e))
		g.VSHUFF32X4(operand.Imm(0xDD), t(4*e+3), t(4*e+1), r(12+e))
	}
	for i := range out {
		out[i] = r(i)
	}
	return out
}

// transpose8 transposes vectors 0–7, destroying all 16.
func transpose8(g *gen, v isa) []reg.Register {
	r := func(i int) reg.Register { return v.vec(i) }
	t := func(i int) reg.Register { return v.vec(8 + i) }
	for i := 0; i < 8; i += 2 {
		g.VUNPCKLPS(r(i+1), r(i), t(i))
		g.VUNPCKHPS(r(i+1), r(i), t(i+1))
	}
	for q := 0; q < 8; q += 4 {
		g.VUNPCKLPD(t(q+2), t(q), r(q))
		g.VUNPCKHPD(t(q+2), t(q), r(q+1))
		g.VUNPCKLPD(t(q+3), t(q+1), r(q+2))
		g.VUNPCKHPD(t(q+3), t(q+1), r(q+3))
	}
	out := make([]reg.Register, 8)
	for e := range 4 {
		g.VPERM2F128(operand.Imm(0x20), r(4+e), r(e), t(e))
		g.VPERM2F128(operand.Imm(0x31), r(4+e), r(e), t(4+e))
	}
	for i := range out {
		out[i] = t(i)
	}
	return out
}

// copyLanes writes the packing kernel for operands whose lanes are neighbours.
//
//	for s in steps: for l in a vector's lanes: dst[s·pitch + l] = l < lanes ? src[s·stride + l] : 0
func copyLanes(g *gen, v isa) {
	name := "copyLanes" + v.name
	g.begin(name, name+" packs lanes that are neighbours; see packArgs.", param{"p", "*packArgs"})
	p := reg.RDI
	g.arg("p", p)
	src, stride, steps, dst, pitch := reg.RSI, reg.R8, reg.R11, reg.RDX, reg.R13
	g.MOVQ(at(p, pLanes), reg.R15)
	mk := v.makeMask(g, 1, reg.R15)
	g.MOVQ(at(p, pSrc), src)
	g.MOVQ(at(p, pStride), stride)
	g.MOVQ(at(p, pSteps), steps)
	g.MOVQ(at(p, pDst), dst)
	g.MOVQ(at(p, pPitch), pitch)
	one := func() {
		v.load(g, at(src, 0), mk, v.vec(0))
		g.VMOVUPS(v.vec(0), at(dst, 0))
		g.ADDQ(stride, src)
		g.ADDQ(pitch, dst)
	}
	g.SUBQ(operand.Imm(4), steps)
	g.JLT(operand.LabelRef("rest"))
	g.Label("loop")
	for range 4 {
		one()
	}
	g.SUBQ(operand.Imm(4), steps)
	g.JGE(operand.LabelRef("loop"))
	g.Label("rest")
	g.ADDQ(operand.Imm(4), steps)
	g.JZ(operand.LabelRef("done"))
	g.Label("one")
	one()
	g.DECQ(steps)
	g.JNZ(operand.LabelRef("one"))
	g.Label("done")
	g.VZEROUPPER()
	g.RET()
}

// copyGroups writes the packing kernels for many groups of neighbouring lanes at once: panels of two vectors, or strips of mr
// lanes. It reads whole rows in order, which the hardware prefetches, where copyLanes would read one line of each.
//
//	for s in steps: for q in groups: for l in width: dst[q·hop + s·pitch + l] = src[s·stride + q·width + l]
//
// A strip's store is a whole vector, as in transpose.
func copyGroups(g *gen, v isa, what string, width int) {
	name := "copy" + what + v.name
	g.begin(name, fmt.Sprintf("%s packs groups of %d neighbours; see packArgs.", name, width), param{"p", "*packArgs"})
	p := reg.RDI
	g.arg("p", p)
	src, stride, steps, dst, pitch, groups, hop := reg.RSI, reg.R8, reg.R11, reg.RDX, reg.R13, reg.R9, reg.R10
	from, to, n := reg.RBX, reg.R12, reg.R14
	var mk *mask
	if width < v.lanes {
		g.MOVQ(operand.U32(uint32(width)), reg.R15)
		mk = v.makeMask(g, 1, reg.R15)
	}
	g.MOVQ(at(p, pSrc), src)
	g.MOVQ(at(p, pStride), stride)
	g.MOVQ(at(p, pSteps), steps)
	g.MOVQ(at(p, pDst), dst)
	g.MOVQ(at(p, pPitch), pitch)
	g.MOVQ(at(p, pGroups), groups)
	g.MOVQ(at(p, pHop), hop)
	g.Label("step")
	g.MOVQ(src, from)
	g.MOVQ(dst, to)
	g.MOVQ(groups, n)
	g.Label("group")
	g.PREFETCHT1(atIdx(from, 0, stride, 8))
	for off := 0; off < 4*width; off += 64 {
		g.PREFETCHT0(atIdx(to, off, pitch, 4))
	}
	for off := 0; off < 4*width; off += v.bytes() {
		v.load(g, at(from, off), mk, v.vec(off/v.bytes()))
	}
	for off := 0; off < 4*width; off += v.bytes() {
		g.VMOVUPS(v.vec(off/v.bytes()), at(to, off))
	}
	g.ADDQ(operand.Imm(uint64(4*width)), from)
	g.ADDQ(hop, to)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("group"))
	g.ADDQ(stride, src)
	g.ADDQ(pitch, dst)
	g.DECQ(steps)
	g.JNZ(operand.LabelRef("step"))
	g.VZEROUPPER()
	g.RET()
}
