package main

import (
	"slices"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The constants of kernel/exp.go.
const (
	log2e   = 1.44269504088896341
	ln2Hi   = 0.693147182464599609375
	ln2Lo   = -1.904654299957767878e-9
	rndBias = 12582912
	rndBits = 0x4B400000

	geluA = 0.7978845608028654
	geluB = 0.044715
)

var (
	expC  = []float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}
	tanhC = []float32{-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1}
)

// horner sets p to the polynomial with coefficients c at z.
func (v isa) horner(g *gen, c []float32, z, p reg.Register) {
	g.VMOVUPS(g.float(c[0]), p)
	for _, k := range c[1:] {
		g.VFMADD213PS(g.float(k), z, p)
	}
}

// reduce is kernel.expReduce: x becomes r, p the polynomial, t the n that was rounded off, as a float; if n is not nil, as an
// integer too.
func (v isa) reduce(g *gen, x, t, p, n reg.Register) {
	g.VMULPS(g.float(log2e), x, t)
	g.VADDPS(g.float(rndBias), t, t)
	if n != nil {
		v.subInt(g, g.word(rndBits), t, n)
	}
	g.VSUBPS(g.float(rndBias), t, t)
	g.VFMADD231PS(g.float(-ln2Hi), t, x)
	var lo float32 = ln2Lo
	g.VFMADD231PS(g.float(-lo), t, x)
	v.horner(g, expC, x, p)
}

func (v isa) subInt(g *gen, b operand.Op, a, d reg.Register) { g.VPSUBD(b, a, d) }

// exponent sets d to 2^n of an integer n in range.
func (v isa) exponent(g *gen, n, d reg.Register) {
	g.VPADDD(g.word(127), n, d)
	g.VPSLLD(operand.Imm(23), d, d)
}

// expClamps loads the bounds that exp needs in registers. Below low its result does not matter, or is that of low.
func (v isa) expClamps(g *gen, hi, lo reg.Register, low float32) {
	g.VMOVUPS(g.float(89), hi)
	g.VMOVUPS(g.float(low), lo)
}

// exp sets p to exp32 of x, destroying x and t; u and w too on AVX2. hi may be nil where x is at most 0, or NaN.
func (v isa) exp(g *gen, x, t, p, u, w, hi, lo reg.Register) {
	if hi != nil {
		g.VMINPS(x, hi, x) // in this order a NaN in x stays
	}
	g.VMAXPS(x, lo, x)
	n := u
	if v.wide() {
		n = nil
	}
	v.reduce(g, x, t, p, n)
	one := g.float(1)
	g.VFMADD213PS(one, x, p)
	g.VFMADD213PS(one, x, p)
	if v.wide() {
		g.VSCALEFPS(t, p, p) // one rounding, as the product of the two factors has
		return
	}
	g.VPSRAD(operand.Imm(1), n, t)
	g.VPSUBD(t, n, n)
	v.exponent(g, t, t)
	v.exponent(g, n, n)
	g.VMULPS(t, p, p)
	g.VMULPS(n, p, p)
}

// tanh sets d to tanh32 of x, which it keeps. r are seven registers that it destroys, and k an opmask; ten holds 10.
func (v isa) tanh(g *gen, x, d, ten reg.Register, r []reg.Register, k reg.Register) {
	a, z, y, t, n, s, square := r[0], r[1], r[2], r[3], r[4], r[5], r[6]
	g.VANDPS(g.word(0x7FFFFFFF), x, a)
	g.weave(func() { // below the turn: y = a + a·z·p(z)
		g.VMULPS(a, a, square)
		v.horner(g, tanhC, square, y)
		g.VMULPS(square, y, y)
		g.VFMADD213PS(a, a, y)
	}, func() { // above it: d = m/(m+2) with m = e^2a - 1
		g.VMINPS(a, ten, z)
		g.VADDPS(z, z, z)
		if v.wide() {
			v.reduce(g, z, t, d, nil)
			g.VMOVUPS(g.float(1), s)
			g.VSCALEFPS(t, s, s)
		} else {
			v.reduce(g, z, t, d, n)
			v.exponent(g, n, s)
		}
		g.VMULPS(z, z, t)
		g.VFMADD213PS(z, t, d)
		g.VSUBPS(g.float(1), s, t)
		g.VFMADD213PS(t, s, d)
		g.VADDPS(g.float(2), d, t)
		g.VDIVPS(t, d, d)
	})
	if v.wide() {
		g.VCMPPS(operand.Imm(0x11), g.float(0.625), a, k)
		g.VMOVAPS(y, k, d)
		g.VPTERNLOGD(operand.Imm(0xF8), g.word(0x80000000), x, d) // d or the sign of x
		return
	}
	g.VCMPPS(operand.Imm(0x11), g.float(0.625), a, a)
	g.VBLENDVPS(a, y, d, d)
	g.VANDPS(g.word(0x80000000), x, t)
	g.VORPS(t, d, d)
}

func functions(g *gen, v isa) {
	dst, x := ptrs[0], ptrs[1]
	w, beside := v.vecs(0, 16), 1
	if v.wide() {
		w, beside = v.vecs(0, 32), 2
	}
	hold := func(first int, constants ...[]float32) {
		if v.wide() {
			g.hold(w[first:30], slices.Concat(constants...)...)
		}
	}
	opmask := func(u int) reg.Register { return []reg.Register{reg.K3, reg.K4}[u%2] }
	reduction := slices.Concat([]float32{log2e, rndBias, -ln2Hi, -ln2Lo}, expC)

	set := 5
	if v.wide() {
		set = 3 // what exp takes there
	}
	g.function(v, "exp", "writes dst = e^x.", nil, nil, argDst, argX, argN)
	v.expClamps(g, w[14], w[15], -104)
	hold(16, reduction, []float32{1})
	v.weaving(2*beside).each(g, "exp", 2*beside, func(u, _, off int, mk *mask) {
		r := w[u%(2*beside)*set:]
		v.load(g, ix(x, off), mk, r[0])
		if v.wide() {
			v.exp(g, r[0], r[1], r[2], nil, nil, w[14], w[15])
		} else {
			v.exp(g, r[0], r[1], r[2], r[3], r[4], w[14], w[15])
		}
		v.store(g, r[2], mk, ix(dst, off), r[0])
	})
	g.end()

	ten := w[len(w)-1]
	g.function(v, "tanh", "writes dst = tanh x.", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(10), ten)
	hold(18, reduction, tanhC)
	v.weaving(beside).each(g, "tanh", beside, func(u, _, off int, mk *mask) {
		r := w[u%beside*9:]
		v.load(g, ix(x, off), mk, r[0])
		v.tanh(g, r[0], r[1], ten, r[2:], opmask(u))
		v.store(g, r[1], mk, ix(dst, off), r[2])
	})
	g.end()

	// inner sets d to kernel.geluInner of x
	inner := func(x, d reg.Register) {
		g.VMULPS(x, x, d)
		g.VMULPS(g.float(geluB), d, d)
		g.VFMADD213PS(x, x, d)
		g.VMULPS(g.float(geluA), d, d)
	}
	// Half of 1 + tanh is exact, and x times it has the bits of x/2 times all of it, as in erfGELU.
	half := w[len(w)-2]
	g.function(v, "gelu", "writes dst = gelu(x).", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(10), ten)
	g.VMOVUPS(g.float(0.5), half)
	hold(20, reduction)
	v.weaving(beside).each(g, "gelu", beside, func(u, _, off int, mk *mask) {
		r := w[u%beside*10:]
		v.load(g, ix(x, off), mk, r[0])
		inner(r[0], r[1])
		v.tanh(g, r[1], r[2], ten, r[3:], opmask(u))
		g.VFMADD213PS(half, half, r[2])
		g.VMULPS(r[2], r[0], r[0])
		v.store(g, r[0], mk, ix(dst, off), r[1])
	})
	g.end()

	g.function(v, "geluBack", "multiplies dst by the derivative of gelu at x.", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(10), ten)
	g.VMOVUPS(g.float(0.5), half)
	hold(24, reduction)
	v.weaving(beside).each(g, "geluBack", beside, func(u, _, off int, mk *mask) {
		r := w[u%beside*12:]
		v.load(g, ix(x, off), mk, r[0])
		slope := r[10]
		g.weave(func() {
			inner(r[0], r[1])
			v.tanh(g, r[1], r[2], ten, r[3:], opmask(u))
		}, func() { // the derivative of the inner function
			g.VMULPS(r[0], r[0], r[11])
			g.VMOVUPS(g.float(3*geluB), slope)
			g.VFMADD213PS(g.float(1), r[11], slope)
			g.VMULPS(g.float(geluA), slope, slope)
			g.VMULPS(half, r[0], r[0])
		})
		g.VMOVUPS(g.float(1), r[3]) // sech² = 1 - t²
		g.VFNMADD231PS(r[2], r[2], r[3])
		g.VMULPS(r[3], r[0], r[0])
		g.VFMADD213PS(half, half, r[2])
		g.VFMADD231PS(slope, r[0], r[2])
		v.load(g, ix(dst, off), mk, r[0])
		g.VMULPS(r[2], r[0], r[0])
		v.store(g, r[0], mk, ix(dst, off), r[1])
	})
	g.end()
}
