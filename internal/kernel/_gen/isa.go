package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is one vector instruction set, seen through what the kernels need.
type isa struct {
	name   string // as part of function names
	lanes  int    // float32 in a vector
	mr     int    // rows of the full GEMM tile, which is two vectors wide
	vec    func(i int) reg.Register
	unroll int
	beside int // vectors that each weaves
}

// weaving is v where each weaves n vectors, whose bodies have registers of their own then.
func (v isa) weaving(n int) isa {
	v.beside = n
	return v
}

var avx512 = isa{name: "AVX512", lanes: 16, mr: 12, unroll: 4, beside: 1, vec: func(i int) reg.Register {
	return []reg.Register{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}[i]
}}

var avx2 = isa{name: "AVX2", lanes: 8, mr: 6, unroll: 4, beside: 1, vec: func(i int) reg.Register {
	return []reg.Register{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}[i]
}}

func (v isa) bytes() int { return 4 * v.lanes }
func (v isa) wide() bool { return v.lanes == 16 }

// zero clears a vector.
func (v isa) zero(g *gen, d reg.Register) {
	if v.wide() {
		g.VPXORD(d, d, d)
	} else {
		g.VXORPS(d, d, d)
	}
}

// A mask chooses the first lanes of a vector: an opmask register on AVX-512, eight words in memory on AVX2.
type mask struct {
	k   reg.Register // AVX-512
	mem operand.Mem  // AVX2
}

// makeMask builds the mask of the first n lanes, 0 ≤ n ≤ lanes, from n in register r, which it destroys. It uses CX too.
func (v isa) makeMask(g *gen, k int, r reg.GPPhysical) *mask {
	if v.wide() {
		kr := []reg.Register{reg.K0, reg.K1, reg.K2}[k]
		g.MOVQ(r, reg.RCX)
		g.MOVL(operand.U32(1), reg.EAX)
		g.SHLQ(reg.CL, reg.RAX)
		g.DECQ(reg.RAX)
		g.KMOVW(reg.EAX, kr)
		return &mask{k: kr}
	}
	// The table is eight words of ones, then eight of zeros: a window that starts 8-n words in.
	g.LEAQ(g.maskTable(), reg.RAX)
	g.SHLQ(operand.Imm(2), r)
	g.SUBQ(r, reg.RAX)
	g.ADDQ(operand.Imm(32), reg.RAX)
	g.MOVQ(reg.RAX, r)
	return &mask{mem: at(r, 0)}
}

// load loads a vector, whole or masked; masked-out lanes become zero and their memory is not touched.
func (v isa) load(g *gen, m operand.Mem, mk *mask, d reg.Register) {
	switch {
	case mk == nil:
		g.VMOVUPS(m, d)
	case v.wide():
		g.VMOVUPS_Z(m, mk.k, d)
	default:
		g.VMOVUPS(mk.mem, d)
		g.VMASKMOVPS(m, d, d)
	}
}

// store stores a vector, whole or masked. On AVX2 a masked store destroys tmp.
func (v isa) store(g *gen, s reg.Register, mk *mask, m operand.Mem, tmp reg.Register) {
	switch {
	case mk == nil:
		g.VMOVUPS(s, m)
	case v.wide():
		g.VMOVUPS(s, mk.k, m)
	default:
		g.VMOVUPS(mk.mem, tmp)
		g.VMASKMOVPS(s, tmp, m)
	}
}

// maskTable declares the AVX2 mask table in this file, once.
func (g *gen) maskTable() operand.Mem {
	if g.masks.Symbol.Name == "" {
		g.masks = g.StaticGlobal("maskTable")
		g.DataAttributes(rodata)
		for i := range 16 {
			w := uint32(0)
			if i < 8 {
				w = 0xffffffff
			}
			g.AddDatum(4*i, operand.U32(w))
		}
	}
	return g.masks
}
