package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dropout writes Philox4x32-10 and what uses it. A vector holds one counter in each 64-bit lane, of whose words only the low
// halves count: VPMULUDQ multiplies just those, and leaves the high and the low word of the product where the next round wants
// them. Counters are laid out so that interleaving the four result words puts the random words in the order of elements:
//
//	counters (AVX-512)      0 4 1 5 2 6 3 7
//	c0 │ c1<<32             words 0 and 1 of each, 64 bits a counter
//	unpack low with c2 │ c3 counters 0 1 2 3, four words each = elements 0 … 15
//	unpack high             counters 4 5 6 7                  = elements 16 … 31
//
// Two such groups go side by side to hide latencies: four vectors of words a turn.
func dropout(g *gen, v isa) {
	per := v.lanes / 2 // counters in a vector
	offsets := make([]uint32, v.lanes)
	for i := range per {
		offsets[2*i] = uint32(i%2*per/2 + i/2)
	}
	table := g.lanesOf("counters", offsets)
	for _, kind := range []string{"drop", "dropAdd", "dropTwo"} {
		drop(g, v, table, per, kind)
	}
}

func drop(g *gen, v isa, table operand.Mem, per int, name string) {
	u32 := func(name string) param { return param{name, "uint32"} }
	ps := []param{argDst, argX}
	doc := "writes dst = x·scale where kept and 0 elsewhere, from element 4·block of the stream on."
	switch name {
	case "dropAdd":
		ps = append(ps, argY)
		doc = "is drop with y added to the result."
	case "dropTwo":
		ps = append(ps, argY)
		doc = "is drop of x to dst, and of y in place."
	}
	ps = append(ps, argN, u32("block"), u32("sample"), u32("step"), u32("site"), u32("key0"), u32("key1"), u32("threshold"), param{"scale", "float32"})
	g.function(v, name, doc, nil, nil, ps...)
	dst, x, y := ptrs[0], ptrs[1], ptrs[2]

	// the round keys, on the stack
	keys := g.AllocLocal(96)
	g.arg("key0", reg.EAX)
	g.arg("key1", reg.ECX)
	for r := range 10 {
		g.MOVL(reg.EAX, keys.Offset(8*r))
		g.MOVL(reg.ECX, keys.Offset(8*r+4))
		if r < 9 {
			g.ADDL(operand.U32(0x9E3779B9), reg.EAX)
			g.ADDL(operand.U32(0xBB67AE85), reg.ECX)
		}
	}
	w := v.vecs(0, 16)
	m0, m1, counter := w[15], w[14], w[13]
	g.VMOVUPS(g.word(0xD2511F53), m0)
	g.VMOVUPS(g.word(0xCD9E8D57), m1)
	lane := func(name string, d reg.Register) { // a uint32 parameter in every lane
		g.arg(name, reg.EAX)
		g.VMOVD(reg.EAX, xmm(d))
		g.VPBROADCASTD(xmm(d), d)
	}
	lane("block", counter)
	g.VPADDD(table, counter, counter)
	words32 := map[string]operand.Mem{} // copies that the checker lets a broadcast read
	for i, name := range []string{"sample", "step", "site", "threshold"} {
		words32[name] = keys.Offset(80 + 4*i)
		g.arg(name, reg.EAX)
		g.MOVL(reg.EAX, words32[name])
	}
	scaleMem, err := g.Param("scale").Resolve()
	check(err)

	if v.wide() {
		g.MOVL(operand.U32(0xAAAA), reg.EAX)
		g.KMOVW(reg.EAX, reg.K2)
	}
	// words computes the random words of one turn, in w[0:10], and moves the counter on
	words := func() []reg.Register {
		var chains [2][4]reg.Register
		spare := v.vecs(8, 2)
		for i := range chains {
			copy(chains[i][:], w[4*i:4*i+4])
		}
		g.VMOVAPS(counter, chains[0][0])
		g.VPADDD(g.word(uint32(per)), counter, chains[1][0])
		g.VPADDD(g.word(uint32(2*per)), counter, counter)
		for i := range chains {
			g.VPBROADCASTD(words32["sample"], chains[i][1])
			g.VPBROADCASTD(words32["step"], chains[i][2])
			g.VPBROADCASTD(words32["site"], chains[i][3])
		}
		for r := range 10 {
			if !v.wide() {
				g.VPBROADCASTD(keys.Offset(8*r), w[10])
				g.VPBROADCASTD(keys.Offset(8*r+4), w[11])
			}
			for i := range chains {
				c := &chains[i]
				p0, p1 := spare[0], spare[1]
				g.VPMULUDQ(m0, c[0], p0)
				g.VPMULUDQ(m1, c[2], p1)
				g.VPSRLQ(operand.Imm(32), p1, c[0])
				g.VPSRLQ(operand.Imm(32), p0, c[2])
				if v.wide() {
					g.VPTERNLOGD_BCST(operand.Imm(0x96), keys.Offset(8*r), c[1], c[0])
					g.VPTERNLOGD_BCST(operand.Imm(0x96), keys.Offset(8*r+4), c[3], c[2])
				} else {
					g.VPXOR(w[10], c[0], c[0])
					g.VPXOR(c[1], c[0], c[0])
					g.VPXOR(w[11], c[2], c[2])
					g.VPXOR(c[3], c[2], c[2])
				}
				spare[0], spare[1], c[1], c[3] = c[1], c[3], p1, p0
			}
		}
		var out []reg.Register
		for i := range chains {
			c := &chains[i]
			if v.wide() {
				g.VMOVSLDUP(c[1], reg.K2, c[0])
				g.VMOVSLDUP(c[3], reg.K2, c[2])
			} else {
				g.VPSLLQ(operand.Imm(32), c[1], c[1])
				g.VPBLENDD(operand.Imm(0xAA), c[1], c[0], c[0])
				g.VPSLLQ(operand.Imm(32), c[3], c[3])
				g.VPBLENDD(operand.Imm(0xAA), c[3], c[2], c[2])
			}
			g.VPUNPCKLQDQ(c[2], c[0], c[1])
			g.VPUNPCKHQDQ(c[2], c[0], c[3])
			out = append(out, c[1], c[3])
		}
		return out
	}
	thr, scale, val := w[10], w[11], w[12]
	constants := func() {
		g.VPBROADCASTD(words32["threshold"], thr)
		g.VBROADCASTSS(scaleMem.Addr, scale)
	}
	apply := func(word reg.Register, off int, mk *mask) {
		v.load(g, ix(x, off), mk, val)
		if v.wide() {
			g.VPCMPUD(operand.Imm(5), thr, word, reg.K3) // word ≥ threshold
			g.VMULPS_Z(scale, val, reg.K3, val)
			if name == "dropTwo" {
				v.load(g, ix(y, off), mk, word)
				g.VMULPS_Z(scale, word, reg.K3, word)
				v.store(g, word, mk, ix(y, off), word)
			}
		} else {
			g.VMULPS(scale, val, val)
			g.VPMAXUD(thr, word, m0)
			g.VPCMPEQD(m0, word, word)
			g.VANDPS(word, val, val)
			if name == "dropTwo" {
				v.load(g, ix(y, off), mk, m0)
				g.VMULPS(scale, m0, m0)
				g.VANDPS(word, m0, m0)
				v.store(g, m0, mk, ix(y, off), word)
			}
		}
		if name == "dropAdd" {
			v.load(g, ix(y, off), mk, word)
			g.VADDPS(word, val, val)
		}
		v.store(g, val, mk, ix(dst, off), word)
	}
	restore := func() {
		if !v.wide() {
			g.VMOVUPS(g.word(0xD2511F53), m0)
		}
	}
	turn := 4 * v.lanes
	g.XORQ(rI, rI)
	g.SUBQ(imm(turn), rN)
	g.JLT(operand.LabelRef("rest"))
	g.Label("loop")
	out := words()
	constants()
	for j, o := range out {
		apply(o, j*v.bytes(), nil)
	}
	restore()
	g.ADDQ(imm(4*turn), rI)
	g.SUBQ(imm(turn), rN)
	g.JGE(operand.LabelRef("loop"))
	g.Label("rest")
	g.ADDQ(imm(turn), rN)
	g.JZ(operand.LabelRef("done"))
	out = words()
	constants()
	for j, o := range out {
		part := "part" + string(rune('0'+j))
		g.CMPQ(rN, operand.Imm(uint64(v.lanes)))
		g.JLT(operand.LabelRef(part))
		apply(o, 0, nil)
		g.ADDQ(operand.Imm(uint64(v.bytes())), rI)
		g.SUBQ(operand.Imm(uint64(v.lanes)), rN)
		g.JZ(operand.LabelRef("done"))
		if j < 3 {
			g.JMP(operand.LabelRef(part + "next"))
		}
		g.Label(part)
		g.MOVQ(rN, rMask)
		apply(o, 0, v.makeMask(g, 1, rMask))
		g.JMP(operand.LabelRef("done"))
		if j < 3 {
			g.Label(part + "next")
		}
	}
	g.Label("done")
	g.end()
}
