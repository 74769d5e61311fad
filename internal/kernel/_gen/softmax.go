package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func softmax(g *gen, v isa) {
	dst, x, y := ptrs[0], ptrs[1], ptrs[2]
	w := v.vecs(0, 16)
	scale, hi, lo, max, sum, keep := w[15], w[14], w[13], w[12], w[11], w[10]

	var spill operand.Mem
	// exp replaces r[0] = x·scale - max by e^r[0] in r[2], 0 below the floor and in masked-out lanes
	exp := func(r []reg.Register, mk *mask) reg.Register {
		// not below the floor, and NaN: K4, or memory on the stack, as the registers are too few
		floor := g.float(-44)
		if v.wide() {
			g.VCMPPS(operand.Imm(0x15), floor, r[0], reg.K4)
		} else {
			g.VCMPPS(operand.Imm(0x15), floor, r[0], r[1])
			g.VMOVUPS(r[1], spill)
		}
		v.exp(g, r[0], r[1], r[2], r[3], r[4], hi, lo)
		if v.wide() {
			g.VMOVAPS_Z(r[2], reg.K4, r[2])
		} else {
			g.VANDPS(spill, r[2], r[2])
		}
		v.keep(g, mk, r[2])
		return r[2]
	}
	value := func(r []reg.Register, off int, mk *mask) reg.Register {
		v.load(g, ix(x, off), mk, r[0])
		g.VMULPS(scale, r[0], r[0])
		g.VSUBPS(max, r[0], r[0])
		return exp(r, mk)
	}

	g.function(v, "softmax", "writes the softmax of x·s to dst and returns its maximum and sum; see softmaxTo.",
		map[string]reg.Register{"s": scale}, []string{"float32", "float32"}, argDst, argX, argN, param{"s", "float32"})
	spill = g.spill(v)
	g.MOVQ(rN, reg.R8)
	if v.wide() {
		wideSoftmax(g, v, "general")
		g.Label("general")
		g.MOVQ(reg.R8, rN)
	}
	v.expClamps(g, hi, lo, -44) // what is below becomes 0, and is never subnormal on the way
	v.maxOf(g, "max", x, scale)
	g.VADDSS(g.float(0), xmm(w[0]), xmm(w[0]))
	g.result(0, w[0], false)
	g.VBROADCASTSS(xmm(w[0]), max)
	g.VMOVD(xmm(w[0]), reg.EAX)
	g.MOVQ(reg.R8, rN)
	g.CMPL(reg.EAX, operand.U32(0xFF800000))
	g.JE(operand.LabelRef("hidden"))
	acc := []reg.Register{sum, keep}
	v.zero(g, acc[0])
	v.zero(g, acc[1])
	v.each(g, "exp", 2, func(u, set, off int, mk *mask) {
		r := w[u%2*5:]
		e := value(r, off, mk)
		g.VADDPS(e, acc[set], acc[set])
		v.store(g, e, mk, ix(dst, off), r[0])
	})
	v.fold(g, g.VADDPS, acc, w[0])
	g.result(1, sum, false)
	g.VBROADCASTSS(xmm(sum), sum)
	g.MOVQ(reg.R8, rN)
	v.each(g, "divide", 2, func(u, _, off int, mk *mask) {
		v.load(g, ix(dst, off), mk, w[u])
		g.VDIVPS(sum, w[u], w[u])
		v.store(g, w[u], mk, ix(dst, off), w[9])
	})
	g.end()
	g.Label("hidden")
	v.zero(g, w[0])
	g.result(1, w[0], false)
	v.each(g, "clear", 1, func(_, _, off int, mk *mask) { v.store(g, w[0], mk, ix(dst, off), w[1]) })
	g.end()

	g.function(v, "softmaxAgain", "writes exp(x·s - max)/sum to dst.", map[string]reg.Register{"s": scale, "max": max, "sum": sum}, nil,
		argDst, argX, argN, param{"s", "float32"}, param{"max", "float32"}, param{"sum", "float32"})
	spill = g.spill(v)
	if v.wide() {
		wideSoftmaxAgain(g, v, "general")
		g.Label("general")
	}
	v.expClamps(g, hi, lo, -44)
	v.each(g, "again", 2, func(u, _, off int, mk *mask) {
		r := w[u%2*5:]
		e := value(r, off, mk)
		g.VDIVPS(sum, e, e)
		v.store(g, e, mk, ix(dst, off), r[0])
	})
	g.end()

	g.function(v, "softmaxBack", "writes dst = x·(y - Σxy)·s, the gradient of a softmax x from that of its result.",
		map[string]reg.Register{"s": scale}, nil, argDst, argX, argY, argN, param{"s", "float32"})
	g.MOVQ(rN, reg.R8)
	acc = w[0:2]
	v.zero(g, acc[0])
	v.zero(g, acc[1])
	v.each(g, "dot", 1, func(_, set, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[4])
		v.load(g, ix(y, off), mk, w[5])
		g.VFMADD231PS(w[4], w[5], acc[set])
	})
	v.fold(g, g.VADDPS, acc, w[4])
	g.VBROADCASTSS(xmm(acc[0]), sum)
	g.MOVQ(reg.R8, rN)
	v.each(g, "ds", 2, func(u, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[2*u])
		v.load(g, ix(y, off), mk, w[2*u+1])
		g.VSUBPS(sum, w[2*u+1], w[2*u+1])
		g.VMULPS(w[2*u+1], w[2*u], w[2*u])
		g.VMULPS(scale, w[2*u], w[2*u])
		v.store(g, w[2*u], mk, ix(dst, off), w[2*u+1])
	})
	g.end()
}

// quotient sets q to e/sum, as division rounds it, and destroys e. inverse is 1/sum, rounded by a division.
//
// That one multiplication and two fused operations then give the rounded quotient is Markstein's (IBM Journal of Research and Development 34,
// 1990); Brisebarre, Muller and Raina build on it ("Accelerating correctly rounded floating-point division when the divisor is known in
// advance", IEEE Transactions on Computers 53, 2004). Why: take mantissas a and b in [1, 2), u for a unit in the last place of a/b, and
// y = (1/b)(1+ε) with |ε| ≤ b·2⁻²⁵. Then q0 = RN(ay) is off by less than u where a ≥ b, and by less than (1+a)u/2 where a < b. What is rounded in
// the end is q0 + (a - q0·b)y = a/b + (a/b - q0)ε: right, if no middle m of two numbers lies between that and a/b. None is nearer to a/b than
// 2⁻²⁴u/b, since a - mb is no less than half of u times a unit of b.
//   - Where q0 is less than u off, that middle would be u/2 away from q0, and ε moves the sum by half of b·2⁻²⁵u there: less. The remainder has at
//     most 24 bits, so it is exact.
//   - Where q0 is more than u off, and a = 2 - k·2⁻²³ < b, the next middle is 1.5u away from q0, so more than k·2⁻²⁴u from a/b. ε moves the sum by
//     1.5·2⁻²⁴u at most, and a remainder of 25 bits, which is rounded, by 2·2⁻²⁴u: less from k = 4 on. The three quotients that are left, of numbers
//     next to 2, lie beside numbers, not middles.
//
// All of it wants exponents without bounds: here e is 0 or in [2⁻⁶⁴, 1] and sum in [1, 2³²], so that quotients are above 2⁻⁹⁷ and remainders are
// multiples of 2⁻¹¹². A zero stays one, and NaN in sum or e makes NaN.
func (v isa) quotient(g *gen, e, q, sum, inverse reg.Register) {
	g.VMULPS(inverse, e, q)
	g.VFNMADD231PS(sum, q, e)
	g.VFMADD231PS(inverse, e, q)
}

// wide is what the faster softmax of AVX-512 works with: constants and numbers of a row in registers, and three registers and an opmask for
// each of the vectors that are woven.
type wide struct {
	scale, max, sum, inverse reg.Register
	sets                     [][]reg.Register
	masks                    []reg.Register
}

// wideRegisters are those of one row. K1 is the mask of its last vector.
func (v isa) wideRegisters() wide {
	w := v.vecs(0, 32)
	return wide{
		scale: w[15], max: w[12], sum: w[11], inverse: w[10],
		sets:  [][]reg.Register{w[0:3], w[3:6], w[6:9], {w[9], w[13], w[14]}},
		masks: []reg.Register{reg.K2, reg.K3, reg.K4, reg.K5},
	}
}

// hold keeps the constants of exp in registers.
func (w *wide) hold(g *gen, v isa) {
	g.hold(v.vecs(16, 16), append([]float32{-44, log2e, rndBias, -ln2Hi, -ln2Lo, 1}, expC...)...)
}

// exp leaves kernel.softmaxExp of x·scale - max, of x in memory, in the register that it returns: 0 in lanes that mk leaves out. It needs
// no bounds: nothing is above max, and what lies below the floor becomes 0 whatever came of it.
func (w *wide) exp(g *gen, v isa, u int, x operand.Mem, mk *mask) reg.Register {
	d, t, p := w.sets[u][0], w.sets[u][1], w.sets[u][2]
	k := w.masks[u]
	if mk == nil {
		g.VMULPS(x, w.scale, d)
	} else {
		v.load(g, x, mk, d)
		g.VMULPS(w.scale, d, d)
	}
	g.VSUBPS(w.max, d, d)
	if mk == nil { // not below the floor, and NaN
		g.VCMPPS(operand.Imm(0x15), g.float(-44), d, k)
	} else {
		g.VCMPPS(operand.Imm(0x15), g.float(-44), d, mk.k, k)
	}
	v.reduce(g, d, t, p, nil)
	g.VFMADD213PS(g.float(1), d, p)
	g.VFMADD213PS(g.float(1), d, p)
	g.VSCALEFPS_Z(t, p, k, p) // one rounding, as the product of the two factors has
	return p
}

// quotient leaves e/sum in the second register of a set, of the e in the third.
func (w *wide) quotient(g *gen, v isa, u int) reg.Register {
	q, e := w.sets[u][1], w.sets[u][2]
	v.quotient(g, e, q, w.sum, w.inverse)
	return q
}

// spread is fold on one vector, with the result in every lane: a sum or maximum is the same either way round.
func (w *wide) spread(g *gen, op func(ops ...operand.Op), a, tmp reg.Register) {
	g.VSHUFF64X2(operand.Imm(0x4E), a, a, tmp)
	op(tmp, a, a)
	g.VSHUFF64X2(operand.Imm(0xB1), a, a, tmp)
	op(tmp, a, a)
	g.VPERMILPS(operand.Imm(0x4E), a, tmp)
	op(tmp, a, a)
	g.VPERMILPS(operand.Imm(0xB1), a, tmp)
	op(tmp, a, a)
}

// divisor makes the inverse of sum.
func (w *wide) divisor(g *gen) {
	one, held := g.float(1).(reg.Register)
	if !held {
		one = w.inverse
		g.VMOVSS(g.float(1), xmm(one))
	}
	g.VDIVSS(xmm(w.sum), xmm(one), xmm(w.inverse))
	g.VBROADCASTSS(xmm(w.inverse), w.inverse)
}

// bits loads the bits of a float32 parameter.
func (g *gen) bits(name string, d reg.Register) {
	m, err := g.Param(name).Resolve()
	check(err)
	g.MOVL(m.Addr, d)
}

// positive goes elsewhere unless the factor is above 0 and finite, so that the largest x makes the largest x·s.
func (w *wide) positive(g *gen, other operand.Op) {
	g.bits("s", reg.EAX)
	g.DECL(reg.EAX)
	g.CMPL(reg.EAX, operand.U32(0x7F7FFFFF))
	g.JCC(other)
}

// largest takes the largest x in max to the largest x·s, which it writes, -0 as +0: to exp it is all the same. A row that has none that is
// finite goes elsewhere. tmp is destroyed.
func (w *wide) largest(g *gen, to operand.Mem, tmp reg.Register, other operand.Op) {
	g.VMULPS(w.scale, w.max, w.max)
	m := xmm(tmp)
	g.VPXOR(m, m, m)
	g.VADDSS(m, xmm(w.max), m)
	g.VMOVSS(m, to)
	g.VMOVD(m, reg.EAX)
	g.ADDL(reg.EAX, reg.EAX) // without the sign
	g.CMPL(reg.EAX, operand.U32(0xFF000000))
	g.JCC(other)
}

// poison makes the maximum NaN where the sum is: the search for the largest may have passed over it.
func (w *wide) poison(g *gen, label string, max operand.Mem) {
	g.VUCOMISS(xmm(w.sum), xmm(w.sum))
	g.JPC(operand.LabelRef(label))
	g.VMOVSS(xmm(w.sum), max)
	g.Label(label)
}

// wideSoftmax is softmax on AVX-512 for a factor above 0 and a largest element that is finite; anything else goes to the label otherwise with
// nothing written. Up to 32 elements stay in registers: what a row of a few tokens takes is mostly the wait of a load for the masked store
// before it.
func wideSoftmax(g *gen, v isa, otherwise string) {
	dst, x := ptrs[0], ptrs[1]
	w := v.wideRegisters()
	other := operand.LabelRef(otherwise)
	w.positive(g, other)
	result := func(i int) operand.Mem {
		m, err := g.ReturnIndex(i).Resolve()
		check(err)
		return m.Addr
	}
	g.CMPQ(rN, operand.Imm(32))
	g.JGT(operand.LabelRef("long"))
	short := func(label string, vectors int) {
		mk := v.makeMask(g, 1, rN)
		masks := []*mask{nil, mk}[2-vectors:]
		inf := w.sets[3][0]
		g.VMOVUPS(g.word(0xFF800000), w.max)
		last := at(x, (vectors-1)*v.bytes())
		g.VMOVUPS(last, mk.k, w.max)
		if vectors == 2 {
			g.VMAXPS(at(x, 0), w.max, w.max)
		}
		w.spread(g, g.VMAXPS, w.max, inf)
		w.largest(g, result(0), w.sum, other)
		var parts []func()
		for i := range vectors {
			parts = append(parts, func() { w.exp(g, v, i, at(x, i*v.bytes()), masks[i]) })
		}
		g.weave(parts...)
		if vectors == 2 {
			g.VADDPS(w.sets[1][2], w.sets[0][2], w.sum)
		} else {
			g.VMOVAPS(w.sets[0][2], w.sum)
		}
		w.spread(g, g.VADDPS, w.sum, inf)
		g.result(1, w.sum, false)
		w.poison(g, label+"_numbers", result(0))
		for i := range vectors { // true division: few wait for it
			q := w.sets[i][2]
			g.VDIVPS(w.sum, q, q)
			v.store(g, q, masks[i], at(dst, i*v.bytes()), inf)
		}
		g.end()
	}
	g.CMPQ(rN, operand.Imm(16))
	g.JGT(operand.LabelRef("two"))
	short("one", 1)
	g.Label("two")
	g.SUBQ(operand.Imm(16), rN)
	short("two", 2)

	g.Label("long")
	acc := v.vecs(0, 4)
	g.VMOVUPS(g.word(0xFF800000), acc[0])
	for _, a := range acc[1:] {
		g.VMOVAPS(acc[0], a)
	}
	last := v.vec(4)
	g.VMOVAPS(acc[0], last)
	v.each(g, "largest", 4, func(u, _, off int, mk *mask) {
		if mk == nil {
			g.VMAXPS(ix(x, off), acc[u], acc[u])
			return
		}
		g.VMOVUPS(ix(x, off), mk.k, last)
	})
	w.hold(g, v)
	g.VMAXPS(acc[0], acc[1], acc[1])
	g.VMAXPS(acc[2], acc[3], acc[3])
	g.VMAXPS(last, acc[1], acc[1])
	g.VMAXPS(acc[1], acc[3], w.max)
	w.spread(g, g.VMAXPS, w.max, last)
	w.largest(g, result(0), w.sum, other)
	g.MOVQ(reg.R8, rN)
	v.zero(g, w.sum)
	v.weaving(4).each(g, "exponentials", 4, func(u, _, off int, mk *mask) {
		e := w.exp(g, v, u, ix(x, off), mk)
		v.store(g, e, mk, ix(dst, off), w.sum)
		g.VADDPS(e, w.sum, w.sum)
	})
	w.spread(g, g.VADDPS, w.sum, w.sets[0][0])
	g.result(1, w.sum, false)
	w.poison(g, "numbers", result(0))
	w.divisor(g)
	g.MOVQ(reg.R8, rN)
	v.each(g, "quotients", 4, func(u, _, off int, mk *mask) {
		v.load(g, ix(dst, off), mk, w.sets[u][2])
		v.store(g, w.quotient(g, v, u), mk, ix(dst, off), w.sum)
	})
	g.end()
}

// wideSoftmaxAgain is softmaxAgain on AVX-512 for sums for which quotient divides; others go to the label otherwise.
func wideSoftmaxAgain(g *gen, v isa, otherwise string) {
	dst, x := ptrs[0], ptrs[1]
	w := v.wideRegisters()
	g.bits("sum", reg.EAX)
	g.SUBL(operand.U32(0x3F800000), reg.EAX)
	g.CMPL(reg.EAX, operand.U32(0x4F800000-0x3F800000))
	g.JHI(operand.LabelRef(otherwise))
	w.hold(g, v)
	w.divisor(g)
	v.weaving(4).each(g, "exponentials", 4, func(u, _, off int, mk *mask) {
		w.exp(g, v, u, ix(x, off), mk)
		v.store(g, w.quotient(g, v, u), mk, ix(dst, off), w.sum)
	})
	g.end()
}

// softmaxTwo writes the softmax of two rows at once: while one waits for its maximum, its sum or its inverse, the other one does not.
func softmaxTwo(g *gen, v isa) {
	dst, x, max, sum := ptrs[0], ptrs[1], ptrs[2], ptrs[3]
	z := v.vecs(0, 32)
	scale, tmp := z[12], z[31]
	k := []reg.Register{reg.K2, reg.K3, reg.K4, reg.K5}
	var rows [2]wide
	for i := range rows {
		rows[i] = wide{scale: scale, max: z[13+i], sum: z[15+13*i], inverse: z[29+i],
			sets: [][]reg.Register{z[3*i:], z[6+3*i:]}, masks: []reg.Register{k[i], k[2+i]}}
	}
	both := func(f func(i int, w *wide)) {
		g.weave(func() { f(0, &rows[0]) }, func() { f(1, &rows[1]) })
	}
	g.function(v, "softmaxTwo", "is softmax of two rows, stride floats apart, whose maximum and sum go to memory. It returns 0, and has written no row, for rows "+
		"that want softmax.", map[string]reg.Register{"s": scale}, []string{"int"}, argDst, argX, param{"max", "*float32"}, param{"sum", "*float32"}, argN,
		param{"stride", "int"}, param{"s", "float32"})
	dsts, xs := [2]reg.Register{dst, reg.R9}, [2]reg.Register{x, reg.R10}
	g.Load(g.Param("stride"), reg.R11)
	g.LEAQ(atIdx(dst, 0, reg.R11, 4), reg.R9)
	g.LEAQ(atIdx(x, 0, reg.R11, 4), reg.R10)
	g.MOVQ(rN, reg.R11)
	status := func(n int) {
		m, err := g.ReturnIndex(0).Resolve()
		check(err)
		g.MOVQ(imm(n), m.Addr)
	}
	other := operand.LabelRef("other")
	w := rows[0]
	w.positive(g, other)

	acc := func(i, u int) reg.Register { return z[2*i+u] }
	g.VMOVUPS(g.word(0xFF800000), acc(0, 0))
	for _, a := range z[1:4] {
		g.VMOVAPS(acc(0, 0), a)
	}
	v.each(g, "largest", 2, func(u, _, off int, mk *mask) {
		for i := range rows {
			if mk == nil {
				g.VMAXPS(ix(xs[i], off), acc(i, u), acc(i, u))
				continue
			}
			g.VMOVUPS(g.word(0xFF800000), tmp)
			g.VMOVUPS(ix(xs[i], off), mk.k, tmp)
			g.VMAXPS(tmp, acc(i, u), acc(i, u))
		}
	})
	w.hold(g, v)
	both(func(i int, w *wide) {
		g.VMAXPS(acc(i, 0), acc(i, 1), w.max)
		w.spread(g, g.VMAXPS, w.max, z[4+i])
	})
	for i := range rows {
		rows[i].largest(g, at(max, 4*i), z[4], other)
	}
	g.MOVQ(reg.R11, rN)
	both(func(_ int, w *wide) { v.zero(g, w.sum) })
	v.weaving(2).each(g, "exponentials", 2, func(u, _, off int, mk *mask) {
		both(func(i int, w *wide) {
			e := w.exp(g, v, u, ix(xs[i], off), mk)
			v.store(g, e, mk, ix(dsts[i], off), nil)
			g.VADDPS(e, w.sum, w.sum)
		})
	})
	both(func(i int, w *wide) {
		w.spread(g, g.VADDPS, w.sum, z[i])
		g.VMOVSS(xmm(w.sum), at(sum, 4*i))
		w.divisor(g)
	})
	for i := range rows {
		rows[i].poison(g, []string{"first", "second"}[i], at(max, 4*i))
	}
	g.MOVQ(reg.R11, rN)
	v.each(g, "quotients", 2, func(u, _, off int, mk *mask) {
		for i, w := range rows {
			v.load(g, ix(dsts[i], off), mk, w.sets[u][2])
			v.store(g, w.quotient(g, v, u), mk, ix(dsts[i], off), nil)
		}
	})
	status(1)
	g.end()
	g.Label("other")
	status(0)
	g.end()
}
