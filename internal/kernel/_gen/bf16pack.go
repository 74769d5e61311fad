package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in kernel.bfPack.
const (
	qSrc, qStride, qLanes, qSteps, qDst, qGroups, qHop = 0, 8, 16, 24, 32, 40, 48
)

// source is what a packing kernel reads.
type source int

const (
	rounded source = iota // float32, rounded in integers
	native                // float32, rounded by the instruction that CPUs with AMX have
	words                 // bfloat16
)

func (s source) size() int {
	if s == words {
		return 2
	}
	return 4
}

// bfPackers writes the packing kernels of bfloat16's tiles.
func bfPackers(g *gen, s source) {
	suffix := []string{"AVX512", "AMX", "Words"}[s]
	if s != words {
		bfRoundWords(g, "roundWords"+suffix, s)
	}
	bfPackRows(g, "packRows"+suffix, s)
	bfPackRowsTurned(g, "packRowsTurned"+suffix, s)
	bfPackPairs(g, "packPairs"+suffix, s)
	bfPackPairsTurned(g, "packPairsTurned"+suffix, s)
}

// bfRoundWords writes the rounding of rows of n values as products round them.
func bfRoundWords(g *gen, name string, s source) {
	bfRoundRows(g, name, func() { bfConstants(g, s) }, func(src, dst operand.Mem) {
		bfRun(g, s, src, false, reg.Z0, reg.Z1)
		g.VMOVDQU32(reg.Z0, dst)
	})
}

// bfRoundRows writes rows of n values, a multiple of 32, to rows of words, 32 at a time by run. Meanwhile it fetches the lines that it is to
// write six rows further down: where rows lie apart the CPU does not see which is next.
func bfRoundRows(g *gen, name string, begin func(), run func(src, dst operand.Mem)) {
	g.begin(name, name+" rounds rows of n float32, a multiple of 32, to bfloat16 as products do. Strides are in bytes.",
		param{"dst", "*uint16"}, param{"dstRow", "uintptr"}, param{"src", "*float32"}, param{"srcRow", "uintptr"}, param{"rows", "int"}, param{"n", "int"})
	dst, dstRow, src, srcRow, rows, n, at0, ahead := reg.RDI, reg.R8, reg.RSI, reg.R9, reg.RDX, reg.R10, reg.R11, reg.R12
	g.arg("dst", dst)
	g.arg("dstRow", dstRow)
	g.arg("src", src)
	g.arg("srcRow", srcRow)
	g.arg("rows", rows)
	g.arg("n", n)
	begin()
	g.SHLQ(operand.Imm(1), n)
	g.Label("row")
	g.LEAQ(atIdx(dst, 0, dstRow, 4), ahead)
	g.LEAQ(atIdx(ahead, 0, dstRow, 2), ahead)
	g.XORQ(at0, at0)
	g.align(32)
	g.Label("line")
	g.PREFETCHT0(atIdx(ahead, 0, at0, 1))
	run(atIdx(src, 0, at0, 2), atIdx(dst, 0, at0, 1))
	g.ADDQ(imm(64), at0)
	g.CMPQ(at0, n)
	g.JLT(operand.LabelRef("line"))
	g.ADDQ(dstRow, dst)
	g.ADDQ(srcRow, src)
	g.DECQ(rows)
	g.JNZ(operand.LabelRef("row"))
	g.VZEROUPPER()
	g.RET()
}

// bfStream writes the copy of a matrix past the caches.
func bfStream(g *gen) {
	g.begin("streamRowsAVX512", "streamRowsAVX512 copies rows of n floats, a multiple of 16, to rows that begin cache lines, past the caches. Strides are in bytes.",
		param{"dst", "*float32"}, param{"dstRow", "uintptr"}, param{"src", "*float32"}, param{"srcRow", "uintptr"}, param{"rows", "int"}, param{"n", "int"})
	dst, dstRow, src, srcRow, rows, n, at0 := reg.RDI, reg.R8, reg.RSI, reg.R9, reg.RDX, reg.R10, reg.RAX
	g.arg("dst", dst)
	g.arg("dstRow", dstRow)
	g.arg("src", src)
	g.arg("srcRow", srcRow)
	g.arg("rows", rows)
	g.arg("n", n)
	g.SHLQ(operand.Imm(2), n)
	g.Label("row")
	g.XORQ(at0, at0)
	g.align(32)
	g.Label("line")
	g.VMOVUPS(atIdx(src, 0, at0, 1), reg.Z0)
	g.VMOVNTPS(reg.Z0, atIdx(dst, 0, at0, 1))
	g.ADDQ(imm(64), at0)
	g.CMPQ(at0, n)
	g.JLT(operand.LabelRef("line"))
	g.ADDQ(dstRow, dst)
	g.ADDQ(srcRow, src)
	g.DECQ(rows)
	g.JNZ(operand.LabelRef("row"))
	g.SFENCE() // other threads may read it next
	g.VZEROUPPER()
	g.RET()
}

// bfFetch writes the fetching of lines.
func bfFetch(g *gen) {
	g.begin("fetchLines", "fetchLines fetches the lines from at on, of which there is at least one.", param{"at", "*uint8"}, param{"bytes", "int"})
	from, n := reg.RDI, reg.RDX
	g.arg("at", from)
	g.arg("bytes", n)
	g.Label("line")
	g.PREFETCHT0(at(from, 0))
	g.ADDQ(imm(64), from)
	g.SUBQ(imm(64), n)
	g.JG(operand.LabelRef("line"))
	g.RET()
}

// evex512 is an EVEX instruction on three Z registers of 0F38, without a mask.
func (g *gen) evex512(pp, w, op byte, d, v, m byte) {
	g.raw(0x62, (^d>>3&1)<<7|(^m>>4&1)<<6|(^m>>3&1)<<5|(^d>>4&1)<<4|2, w<<7|(^v&15)<<3|4|pp, 0x40|(^v>>4&1)<<3, op, 0xC0|d&7<<3|m&7)
}

// bfConstants loads what the conversions need to Z26–Z31.
func bfConstants(g *gen, s source) {
	broadcast := func(x uint32, z reg.Register) {
		g.MOVL(operand.U32(x), reg.EAX)
		g.VPBROADCASTD(reg.EAX, z)
	}
	switch s {
	case native:
		g.VMOVDQU32(g.pairTable(), reg.Z31)
		return
	case words:
		return
	}
	broadcast(1, reg.Z31)
	broadcast(0x7fff, reg.Z30)
	broadcast(0x400000, reg.Z29)
	broadcast(0x7f800000, reg.Z28)
	broadcast(0x80000000, reg.Z27)
	broadcast(0xffff0000, reg.Z26)
}

// pairTable declares in this file, once, where the words of pairs come from: word 2i from the first half, 2i+1 from the second.
func (g *gen) pairTable() operand.Mem {
	if g.pairs.Symbol.Name == "" {
		words := make([]uint32, 16)
		for i := range words {
			words[i] = uint32(i) | uint32(16+i)<<16
		}
		g.pairs = g.lanesOf("pairs", words)
	}
	return g.pairs
}

// bfRound rounds the float32 in u to bfloat16 in the upper half of each; the lower half is rubbish. Denormals become zeros.
func bfRound(g *gen, u, t reg.Register) {
	g.VPSRLD(operand.Imm(16), u, t)
	g.VPANDD(reg.Z31, t, t)
	g.VPADDD(reg.Z30, t, t)
	g.VPADDD(u, t, t)
	g.VCMPPS(operand.Imm(3), u, u, reg.K2) // unordered
	g.VPTESTNMD(reg.Z28, u, reg.K3)
	g.VPORD(reg.Z29, u, reg.K2, t)
	g.VPANDD(reg.Z27, u, reg.K3, t)
}

func zIndex(r reg.Register) byte { return byte(r.(reg.VecPhysical).PhysicalIndex()) }

// bfRun loads 32 neighbours at m, whole or those that K1 and K4 (or K1 alone, of words) have, and rounds them to the words of x. spare is destroyed.
func bfRun(g *gen, s source, m operand.Mem, masked bool, x, spare reg.Register) {
	if s == words {
		if masked {
			g.VMOVDQU16_Z(m, reg.K1, x)
		} else {
			g.VMOVDQU16(m, x)
		}
		return
	}
	high := m
	high.Disp += 64
	if masked {
		g.VMOVUPS_Z(m, reg.K1, x)
		g.VMOVUPS_Z(high, reg.K4, spare)
	} else {
		g.VMOVUPS(m, x)
		g.VMOVUPS(high, spare)
	}
	if s == native {
		g.evex512(ppF2, 0, 0x72, zIndex(x), zIndex(spare), zIndex(x))
		return
	}
	t, u := reg.Z24, reg.Z25
	bfRound(g, x, t)
	bfRound(g, spare, u)
	g.VPSRLD(operand.Imm(16), t, t)
	g.VPSRLD(operand.Imm(16), u, u)
	g.VPMOVDW(t, reg.Y24)
	g.VPMOVDW(u, reg.Y25)
	g.VINSERTI64X4(operand.Imm(1), reg.Y25, t, x)
}

// bfLane loads 16 neighbours at m, whole or those that K1 has.
func bfLane(g *gen, s source, m operand.Mem, masked bool, x reg.Register) {
	switch {
	case s == words && masked:
		g.VPMOVZXWD_Z(m, reg.K1, x)
	case s == words:
		g.VPMOVZXWD(m, x)
	case masked:
		g.VMOVUPS_Z(m, reg.K1, x)
	default:
		g.VMOVUPS(m, x)
	}
}

// bfPair rounds 16 values of step k in lo and of k+1 in hi to pairs in lo.
func bfPair(g *gen, s source, lo, hi reg.Register) {
	switch s {
	case native:
		g.evex512(ppF2, 0, 0x72, zIndex(lo), zIndex(hi), zIndex(lo))
		g.VPERMW(lo, reg.Z31, lo)
		return
	case words:
		g.VPSLLD(operand.Imm(16), hi, hi)
		g.VPORD(hi, lo, lo)
		return
	}
	t, u := reg.Z24, reg.Z25
	bfRound(g, lo, t)
	bfRound(g, hi, u)
	g.VPSRLD(operand.Imm(16), t, t)
	g.VPANDD(reg.Z26, u, u)
	g.VPORD(u, t, lo)
}

// bfTail makes the masks of a run of 32 of which n, in a register, exist: K1 for the first sixteen, K4 for the others; of words K1 for all.
func bfTail(g *gen, s source, n reg.GPPhysical) {
	g.MOVQ(n, reg.RCX)
	g.MOVL(operand.U32(1), reg.EAX)
	g.SHLQ(reg.CL, reg.RAX)
	g.DECQ(reg.RAX)
	if s == words {
		g.KMOVD(reg.EAX, reg.K1)
		return
	}
	g.KMOVW(reg.EAX, reg.K1)
	g.SHRQ(operand.Imm(16), reg.RAX)
	g.KMOVW(reg.EAX, reg.K4)
}

// bfPackRows: lanes lie stride apart, steps are neighbours, and a tile's row is a lane.
//
//	for l in lanes: for each block: dst[block·1 KiB + l·64 …] = bf16(src[l·stride + 32·block …])
func bfPackRows(g *gen, name string, s source) {
	g.begin(name, name+" packs lanes whose steps are neighbours, a lane in a row of a tile; see bfPack.", param{"p", "*bfPack"})
	p, src, stride, lanes, steps, dst, from, to, n := reg.RDI, reg.RSI, reg.R8, reg.R9, reg.R10, reg.RDX, reg.R11, reg.R12, reg.R13
	g.arg("p", p)
	bfConstants(g, s)
	g.MOVQ(at(p, qSrc), src)
	g.MOVQ(at(p, qStride), stride)
	g.MOVQ(at(p, qLanes), lanes)
	g.MOVQ(at(p, qSteps), steps)
	g.MOVQ(at(p, qDst), dst)
	g.MOVQ(steps, n)
	g.ANDQ(operand.Imm(31), n)
	bfTail(g, s, n)
	g.Label("lane")
	g.MOVQ(src, from)
	g.MOVQ(dst, to)
	g.MOVQ(steps, n)
	g.SUBQ(operand.Imm(32), n)
	g.JLT(operand.LabelRef("rest"))
	g.align(32)
	g.Label("loop")
	bfRun(g, s, at(from, 0), false, reg.Z0, reg.Z1)
	g.VMOVDQU32(reg.Z0, at(to, 0))
	g.ADDQ(imm(32*s.size()), from)
	g.ADDQ(operand.U32(1024), to)
	g.SUBQ(operand.Imm(32), n)
	g.JGE(operand.LabelRef("loop"))
	g.Label("rest")
	g.ADDQ(operand.Imm(32), n)
	g.JZ(operand.LabelRef("next"))
	bfRun(g, s, at(from, 0), true, reg.Z0, reg.Z1)
	g.VMOVDQU32(reg.Z0, at(to, 0))
	g.Label("next")
	g.ADDQ(stride, src)
	g.ADDQ(operand.Imm(64), dst)
	g.DECQ(lanes)
	g.JNZ(operand.LabelRef("lane"))
	g.VZEROUPPER()
	g.RET()
}

// bfPackRowsTurned: lanes lie stride apart, steps are neighbours, and a tile's row is a pair of steps of 16 lanes.
func bfPackRowsTurned(g *gen, name string, s source) {
	g.begin(name, name+" packs lanes whose steps are neighbours, a pair of steps in a row of a tile; see bfPack.", param{"p", "*bfPack"})
	p, stride, s3, lanes, steps, dst := reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.RDX
	ptr := []reg.Register{reg.RBX, reg.RSI, reg.R12, reg.R15}
	g.arg("p", p)
	bfConstants(g, s)
	g.MOVQ(at(p, qStride), stride)
	g.MOVQ(at(p, qLanes), lanes)
	g.MOVQ(at(p, qSteps), steps)
	g.MOVQ(at(p, qDst), dst)
	g.MOVQ(at(p, qSrc), ptr[0])
	g.LEAQ(atIdx(stride, 0, stride, 2), s3)
	for i := 1; i < len(ptr); i++ {
		g.LEAQ(atIdx(ptr[i-1], 0, stride, 4), ptr[i])
	}
	row := func(r, off int) operand.Mem {
		switch r % 4 {
		case 0:
			return at(ptr[r/4], off)
		case 3:
			return atIdx(ptr[r/4], off, s3, 1)
		}
		return atIdx(ptr[r/4], off, stride, uint8(r%4))
	}
	g.MOVQ(steps, reg.R13)
	g.ANDQ(operand.Imm(31), reg.R13)
	bfTail(g, s, reg.R13)
	// Rows are short and sixteen of them are read at once: the next sixteen are fetched meanwhile.
	strip := reg.R14
	g.MOVQ(stride, strip)
	g.SHLQ(operand.Imm(4), strip)
	fetch := func(r int) {
		g.LEAQ(row(r, 0), reg.RDI)
		g.PREFETCHT1(atIdx(reg.RDI, 0, strip, 1))
		if s != words {
			g.PREFETCHT1(atIdx(reg.RDI, 64, strip, 1))
		}
	}
	block := func(label string, tail bool) {
		for r := 1; r < 16; r++ {
			avx512.zero(g, avx512.vec(r))
		}
		for r := range 16 {
			if r > 0 {
				g.CMPQ(lanes, operand.Imm(uint64(r)))
				g.JLE(operand.LabelRef(label + "_loaded"))
			}
			fetch(r)
			bfRun(g, s, row(r, 0), tail, avx512.vec(r), reg.Z23)
		}
		g.Label(label + "_loaded")
		for i, o := range transpose16(g, avx512) {
			g.VMOVDQU32(o, at(dst, 64*i))
		}
	}
	g.SUBQ(operand.Imm(32), steps)
	g.JLT(operand.LabelRef("rest"))
	g.Label("loop")
	block("full", false)
	if s == rounded {
		bfConstants(g, s) // the transposition took their registers
	}
	for _, r := range ptr {
		g.ADDQ(imm(32*s.size()), r)
	}
	g.ADDQ(operand.U32(1024), dst)
	g.SUBQ(operand.Imm(32), steps)
	g.JGE(operand.LabelRef("loop"))
	g.Label("rest")
	g.ADDQ(operand.Imm(32), steps)
	g.JZ(operand.LabelRef("done"))
	block("tail", true)
	g.Label("done")
	g.VZEROUPPER()
	g.RET()
}

// bfPackPairs: lanes are neighbours, steps lie stride apart, and a tile's row is a pair of steps of 16 lanes. Whole rows are read in order.
//
//	for each pair of steps: for q in groups: dst[q·hop + pair·64 …] = pairs of src[step·stride + 16·q …] and the next step's
func bfPackPairs(g *gen, name string, s source) {
	g.begin(name, name+" packs lanes that are neighbours, a pair of steps in a row of a tile; see bfPack.", param{"p", "*bfPack"})
	p, src, stride, steps, dst, groups, hop := reg.RDI, reg.RSI, reg.R8, reg.R11, reg.RDX, reg.R9, reg.R10
	from, other, to, n := reg.RBX, reg.R13, reg.R12, reg.R14
	g.arg("p", p)
	bfConstants(g, s)
	g.MOVQ(at(p, qLanes), reg.R15) // of the last group
	bfTail(g, s, reg.R15)
	g.MOVQ(at(p, qSrc), src)
	g.MOVQ(at(p, qStride), stride)
	g.MOVQ(at(p, qSteps), steps)
	g.MOVQ(at(p, qDst), dst)
	g.MOVQ(at(p, qGroups), groups)
	g.MOVQ(at(p, qHop), hop)
	ahead := reg.R15 // eight rows: nothing else sees that these follow
	g.MOVQ(stride, ahead)
	g.SHLQ(operand.Imm(3), ahead)
	one := func(label string, single, last bool) {
		g.PREFETCHT0(atIdx(from, 0, ahead, 1))
		g.PREFETCHT0(atIdx(other, 0, ahead, 1))
		load := func(m operand.Mem, x reg.Register) { bfLane(g, s, m, last, x) }
		load(at(from, 0), reg.Z0)
		if single {
			avx512.zero(g, reg.Z1)
		} else {
			load(at(other, 0), reg.Z1)
		}
		bfPair(g, s, reg.Z0, reg.Z1)
		g.VMOVDQU32(reg.Z0, at(to, 0))
	}
	pass := func(label string, single bool) {
		g.MOVQ(src, from)
		g.LEAQ(atIdx(src, 0, stride, 1), other)
		g.MOVQ(dst, to)
		g.MOVQ(groups, n)
		g.DECQ(n)
		g.JZ(operand.LabelRef(label + "_last"))
		g.align(32)
		g.Label(label)
		one(label, single, false)
		g.ADDQ(imm(16*s.size()), from)
		g.ADDQ(imm(16*s.size()), other)
		g.ADDQ(hop, to)
		g.DECQ(n)
		g.JNZ(operand.LabelRef(label))
		g.Label(label + "_last")
		one(label, single, true)
	}
	g.SUBQ(operand.Imm(2), steps)
	g.JLT(operand.LabelRef("rest"))
	g.Label("loop")
	pass("pair", false)
	g.LEAQ(atIdx(src, 0, stride, 2), src)
	g.ADDQ(operand.Imm(64), dst)
	g.SUBQ(operand.Imm(2), steps)
	g.JGE(operand.LabelRef("loop"))
	g.Label("rest")
	g.ADDQ(operand.Imm(2), steps)
	g.JZ(operand.LabelRef("done"))
	pass("single", true)
	g.Label("done")
	g.VZEROUPPER()
	g.RET()
}

// bfPackPairsTurned: lanes are neighbours, steps lie stride apart, and a tile's row is a lane.
func bfPackPairsTurned(g *gen, name string, s source) {
	g.begin(name, name+" packs lanes that are neighbours, a lane in a row of a tile; see bfPack.", param{"p", "*bfPack"})
	p, src, stride, steps, dst, groups, hop := reg.RDI, reg.RSI, reg.R8, reg.R11, reg.RDX, reg.R9, reg.R10
	from, to, n, at0 := reg.RBX, reg.R12, reg.R14, reg.R13
	g.arg("p", p)
	bfConstants(g, s)
	g.MOVQ(at(p, qLanes), reg.R15)
	bfTail(g, s, reg.R15)
	g.MOVQ(at(p, qSrc), src)
	g.MOVQ(at(p, qStride), stride)
	g.MOVQ(at(p, qSteps), steps)
	g.MOVQ(at(p, qDst), dst)
	g.MOVQ(at(p, qGroups), groups)
	g.MOVQ(at(p, qHop), hop)
	block, second := reg.RDI, reg.R15 // from a block to the next, whose lines are fetched ahead, and to its second row
	g.MOVQ(stride, block)
	g.SHLQ(operand.Imm(5), block)
	g.LEAQ(atIdx(block, 0, stride, 1), second)
	tile := func(label string, last bool) {
		load := func(m operand.Mem, x reg.Register) { bfLane(g, s, m, last, x) }
		for r := range 16 {
			avx512.zero(g, avx512.vec(r))
		}
		g.MOVQ(from, at0)
		for r := range 16 { // pairs
			x := avx512.vec(r)
			if r > 0 {
				g.CMPQ(steps, operand.Imm(uint64(2*r)))
				g.JLE(operand.LabelRef(label + "_loaded"))
			}
			g.PREFETCHT1(atIdx(at0, 0, block, 1))
			g.PREFETCHT1(atIdx(at0, 0, second, 1))
			load(at(at0, 0), x)
			avx512.zero(g, reg.Z23)
			g.CMPQ(steps, operand.Imm(uint64(2*r+1)))
			g.JLE(operand.LabelRef(fmt.Sprintf("%s_single%d", label, r)))
			load(atIdx(at0, 0, stride, 1), reg.Z23)
			g.Label(fmt.Sprintf("%s_single%d", label, r))
			bfPair(g, s, x, reg.Z23)
			g.LEAQ(atIdx(at0, 0, stride, 2), at0)
		}
		g.Label(label + "_loaded")
		for i, o := range transpose16(g, avx512) {
			g.VMOVDQU32(o, at(to, 64*i))
		}
		bfConstants(g, s)
	}
	g.Label("block")
	g.MOVQ(src, from)
	g.MOVQ(dst, to)
	g.MOVQ(groups, n)
	g.DECQ(n)
	g.JZ(operand.LabelRef("last"))
	g.Label("group")
	tile("full", false)
	g.ADDQ(imm(16*s.size()), from)
	g.ADDQ(hop, to)
	g.DECQ(n)
	g.JNZ(operand.LabelRef("group"))
	g.Label("last")
	tile("part", true)
	g.ADDQ(block, src)
	g.ADDQ(operand.U32(1024), dst)
	g.SUBQ(operand.Imm(32), steps)
	g.JGT(operand.LabelRef("block"))
	g.VZEROUPPER()
	g.RET()
}
