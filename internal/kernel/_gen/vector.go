package main

import (
	"fmt"
	"go/token"
	"go/types"
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// What the row kernels share: loops over n elements in steps of sixteen, the fold of sixteen lanes, constants, and the few
// operations that the instruction sets spell differently.

// Registers that every row kernel uses alike. RAX and RCX belong to makeMask.
var (
	rN    = reg.R12 // elements left
	rI    = reg.R13 // bytes done
	rMask = reg.R15
	ptrs  = []reg.GPPhysical{reg.RDI, reg.RSI, reg.RDX, reg.R8, reg.R9, reg.R10, reg.R11, reg.RBX}
)

// function starts a function with results and declares it. Pointer parameters are loaded to ptrs in order, n to rN; float32
// parameters are broadcast to the registers that into names.
func (g *gen) function(v isa, name, doc string, into map[string]reg.Register, results []string, params ...param) {
	name += v.name
	g.Function(name)
	g.Attributes(attr.NOSPLIT)
	text, out := "", ""
	var in, res []*types.Var
	for i, p := range params {
		in = append(in, types.NewParam(token.NoPos, g.pkg, p.name, g.typeOf(p.typ)))
		if i > 0 {
			text += ", "
		}
		text += p.name + " " + p.typ
	}
	for i, r := range results {
		res = append(res, types.NewParam(token.NoPos, g.pkg, fmt.Sprintf("r%d", i), g.typeOf(r)))
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("r%d %s", i, r)
	}
	if out != "" {
		out = " (" + out + ")"
	}
	g.Signature(gotypes.NewSignature(g.pkg, types.NewSignatureType(nil, nil, nil, types.NewTuple(in...), types.NewTuple(res...), false)))
	doc = name + " " + doc
	g.Doc(doc)
	fmt.Fprintf(&g.decls, "// %s\n//\n//go:noescape\nfunc %s(%s)%s\n\n", doc, name, text, out)
	next := 0
	for _, p := range params {
		switch {
		case p.typ[0] == '*':
			g.arg(p.name, ptrs[next])
			next++
		case p.name == "n":
			g.arg("n", rN)
		case p.typ == "float32" && into[p.name] != nil:
			m, err := g.Param(p.name).Resolve()
			check(err)
			g.VBROADCASTSS(m.Addr, into[p.name])
		}
	}
}

// result stores a float32 (float64 if double) in the lowest lane of r as result i. It avoids avo's Store, which is MOVSS: an
// SSE instruction among AVX ones waits for the state of the whole vector unit.
func (g *gen) result(i int, r reg.Register, double bool) {
	m, err := g.ReturnIndex(i).Resolve()
	check(err)
	if double {
		g.VMOVSD(xmm(r), m.Addr)
	} else {
		g.VMOVSS(xmm(r), m.Addr)
	}
}

// end leaves the function.
func (g *gen) end() {
	g.VZEROUPPER()
	g.RET()
	g.held = map[uint32]reg.Register{} // what follows may be reached by another way
}

// xmm and ymm are the low parts of a vector register.
func xmm(r reg.Register) reg.Register { return r.(reg.VecPhysical).AsX() }
func ymm(r reg.Register) reg.Register { return r.(reg.VecPhysical).AsY() }

// pieces is how many vectors hold sixteen lanes.
func (v isa) pieces() int { return 16 / v.lanes }

// each runs body on n (rN) elements, from rI = 0: steps × 16 at a time, then 16, then the rest, masked. body does one vector: u
// counts vectors within the code that is unrolled, set says which of the pieces of sixteen lanes this is, off is to be added to rI.
// v.beside vectors are woven into one another.
func (v isa) each(g *gen, label string, steps int, body func(u, set, off int, mk *mask)) {
	n, i := rN, rI
	l := func(s string) operand.LabelRef { return operand.LabelRef(label + "_" + s) }
	run := func(steps int) {
		for first := 0; first < steps*v.pieces(); first += v.beside {
			var parts []func()
			for u := first; u < min(first+v.beside, steps*v.pieces()); u++ {
				parts = append(parts, func() { body(u, u%v.pieces(), u*v.bytes(), nil) })
			}
			g.weave(parts...)
		}
		g.ADDQ(imm(64*steps), i)
	}
	g.XORQ(i, i)
	if steps > 1 {
		g.SUBQ(imm(16*steps), n)
		g.JLT(l("few"))
		g.align(32)
		g.Label(label + "_loop")
		run(steps)
		g.SUBQ(imm(16*steps), n)
		g.JGE(l("loop"))
		g.Label(label + "_few")
		g.ADDQ(imm(16*steps), n)
	}
	g.SUBQ(operand.Imm(16), n)
	g.JLT(l("rest"))
	g.align(32)
	g.Label(label + "_one")
	run(1)
	g.SUBQ(operand.Imm(16), n)
	g.JGE(l("one"))
	g.Label(label + "_rest")
	g.ADDQ(operand.Imm(16), n)
	g.JZ(l("done"))
	if v.wide() {
		body(0, 0, 0, v.makeMask(g, 1, n))
	} else {
		g.CMPQ(n, operand.Imm(8))
		g.JLT(l("half"))
		body(0, 0, 0, nil)
		g.ADDQ(operand.Imm(32), i)
		g.SUBQ(operand.Imm(8), n)
		g.JZ(l("done"))
		body(1, 1, 0, v.makeMask(g, 1, n))
		g.JMP(l("done"))
		g.Label(label + "_half")
		body(0, 0, 0, v.makeMask(g, 1, n))
	}
	g.Label(label + "_done")
}

// ix is the memory that a body's off speaks of.
func ix(base reg.Register, off int) operand.Mem { return atIdx(base, off, rI, 1) }

// keep zeroes the lanes that a mask leaves out.
func (v isa) keep(g *gen, mk *mask, d reg.Register) {
	switch {
	case mk == nil:
	case v.wide():
		g.VMOVAPS_Z(d, mk.k, d)
	default:
		g.VANDPS(mk.mem, d, d)
	}
}

// fill gives the lanes of d that a mask leaves out those of with. tmp is destroyed on AVX-512.
func (v isa) fill(g *gen, mk *mask, with, tmp, d reg.Register) {
	switch {
	case mk == nil:
	case v.wide():
		g.VMOVAPS(with, tmp)
		g.VMOVAPS(d, mk.k, tmp)
		g.VMOVAPS(tmp, d)
	default:
		g.VMOVUPS(mk.mem, tmp)
		g.VBLENDVPS(tmp, d, with, d)
	}
}

// fold reduces the sixteen lanes in acc (one vector, or two) by op, 16→8→4→2→1, to the lowest lane of acc[0]. tmp is destroyed.
func (v isa) fold(g *gen, op func(ops ...operand.Op), acc []reg.Register, tmp reg.Register) {
	a := acc[0]
	if v.wide() {
		g.VEXTRACTF64X4(operand.Imm(1), a, ymm(tmp))
		op(ymm(tmp), ymm(a), ymm(a))
	} else {
		op(acc[1], a, a)
	}
	g.VEXTRACTF128(operand.Imm(1), ymm(a), xmm(tmp))
	op(xmm(tmp), xmm(a), xmm(a))
	g.VPERMILPS(operand.Imm(0x4E), xmm(a), xmm(tmp))
	op(xmm(tmp), xmm(a), xmm(a))
	g.VPERMILPS(operand.Imm(0xB1), xmm(a), xmm(tmp))
	op(xmm(tmp), xmm(a), xmm(a))
}

// hold keeps constants in registers from here to the next end, as far as there are registers, for loops whose loads would be the limit
// otherwise.
func (g *gen) hold(r []reg.Register, constants ...float32) {
	for _, x := range constants {
		bits := math.Float32bits(x)
		if len(r) == 0 || g.held[bits] != nil {
			continue
		}
		g.VMOVUPS(g.word(bits), r[0])
		g.held[bits], r = r[0], r[1:]
	}
}

// word is a constant of 32 bits, repeated over a vector: in read-only memory, or in the register that holds it.
func (g *gen) word(bits uint32) operand.Op {
	if r := g.held[bits]; r != nil {
		return r
	}
	if g.words == nil {
		g.words = map[uint32]operand.Mem{}
	}
	m, ok := g.words[bits]
	if !ok {
		m = g.StaticGlobal(fmt.Sprintf("word%08x", bits))
		g.DataAttributes(rodata)
		for i := range 16 {
			g.AddDatum(4*i, operand.U32(bits))
		}
		g.words[bits] = m
	}
	return m
}

// float is a float32 constant, repeated over a vector.
func (g *gen) float(x float32) operand.Op { return g.word(math.Float32bits(x)) }

// lanesOf is a table of 32-bit words.
func (g *gen) lanesOf(name string, words []uint32) operand.Mem {
	m := g.StaticGlobal(name)
	g.DataAttributes(rodata)
	for i, w := range words {
		g.AddDatum(4*i, operand.U32(w))
	}
	return m
}

// vecs are n vector registers from number first on.
func (v isa) vecs(first, n int) []reg.Register {
	r := make([]reg.Register, n)
	for i := range r {
		r[i] = v.vec(first + i)
	}
	return r
}

// imm is an immediate of an addition or comparison.
func imm(n int) operand.Op { return operand.U32(uint32(n)) }

// spill is room for a vector on the stack of an AVX2 function, whose registers are few.
func (g *gen) spill(v isa) operand.Mem {
	if v.wide() {
		return operand.Mem{}
	}
	return g.AllocLocal(v.bytes())
}
