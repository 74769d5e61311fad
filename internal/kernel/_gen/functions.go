package main

import (
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

// tanh sets d to tanh32 of x, which it keeps. r are six registers that it destroys; ten holds 10. K3 is destroyed.
func (v isa) tanh(g *gen, x, d, ten reg.Register, r []reg.Register) {
	a, z, y, t, n, s := r[0], r[1], r[2], r[3], r[4], r[5]
	g.VANDPS(g.word(0x7FFFFFFF), x, a)
	// below the turn: y = a + a·z·p(z)
	g.VMULPS(a, a, z)
	v.horner(g, tanhC, z, y)
	g.VMULPS(z, y, y)
	g.VFMADD213PS(a, a, y)
	// above it: d = m/(m+2) with m = e^2a - 1
	g.VMINPS(a, ten, z)
	g.VADDPS(z, z, z)
	v.reduce(g, z, t, d, n)
	g.VMULPS(z, z, t)
	g.VFMADD213PS(z, t, d)
	v.exponent(g, n, s)
	g.VSUBPS(g.float(1), s, t)
	g.VFMADD213PS(t, s, d)
	g.VADDPS(g.float(2), d, t)
	g.VDIVPS(t, d, d)
	if v.wide() {
		g.VCMPPS(operand.Imm(0x11), g.float(0.625), a, reg.K3)
		g.VMOVAPS(y, reg.K3, d)
	} else {
		g.VCMPPS(operand.Imm(0x11), g.float(0.625), a, a)
		g.VBLENDVPS(a, y, d, d)
	}
	g.VANDPS(g.word(0x80000000), x, t)
	g.VORPS(t, d, d)
}

func functions(g *gen, v isa) {
	dst, x := ptrs[0], ptrs[1]
	w := v.vecs(0, 16)

	g.function(v, "exp", "writes dst = e^x.", nil, nil, argDst, argX, argN)
	v.expClamps(g, w[14], w[15], -104)
	v.each(g, "exp", 2, func(u, _, off int, mk *mask) {
		r := w[u%2*5:]
		v.load(g, ix(x, off), mk, r[0])
		v.exp(g, r[0], r[1], r[2], r[3], r[4], w[14], w[15])
		v.store(g, r[2], mk, ix(dst, off), r[0])
	})
	g.end()

	g.function(v, "tanh", "writes dst = tanh x.", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(10), w[15])
	v.each(g, "tanh", 1, func(_, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[0])
		v.tanh(g, w[0], w[1], w[15], w[2:8])
		v.store(g, w[1], mk, ix(dst, off), w[2])
	})
	g.end()

	// inner sets d to kernel.geluInner of x
	inner := func(x, d reg.Register) {
		g.VMULPS(x, x, d)
		g.VMULPS(g.float(geluB), d, d)
		g.VFMADD213PS(x, x, d)
		g.VMULPS(g.float(geluA), d, d)
	}
	g.function(v, "gelu", "writes dst = gelu(x).", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(10), w[15])
	v.each(g, "gelu", 1, func(_, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[0])
		inner(w[0], w[1])
		v.tanh(g, w[1], w[2], w[15], w[3:9])
		g.VADDPS(g.float(1), w[2], w[2])
		g.VMULPS(g.float(0.5), w[0], w[0])
		g.VMULPS(w[2], w[0], w[0])
		v.store(g, w[0], mk, ix(dst, off), w[1])
	})
	g.end()

	g.function(v, "geluBack", "multiplies dst by the derivative of gelu at x.", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(10), w[15])
	v.each(g, "geluBack", 1, func(_, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[0])
		inner(w[0], w[1])
		v.tanh(g, w[1], w[2], w[15], w[3:9])
		g.VMOVUPS(g.float(1), w[3]) // sech² = 1 - t²
		g.VFNMADD231PS(w[2], w[2], w[3])
		g.VMULPS(w[0], w[0], w[4]) // the derivative of the inner function
		g.VMOVUPS(g.float(3*geluB), w[5])
		g.VFMADD213PS(g.float(1), w[4], w[5])
		g.VMULPS(g.float(geluA), w[5], w[5])
		g.VMULPS(g.float(0.5), w[0], w[0])
		g.VMULPS(w[3], w[0], w[0])
		g.VADDPS(g.float(1), w[2], w[2])
		g.VMULPS(g.float(0.5), w[2], w[2])
		g.VFMADD231PS(w[5], w[0], w[2])
		v.load(g, ix(dst, off), mk, w[0])
		g.VMULPS(w[2], w[0], w[0])
		v.store(g, w[0], mk, ix(dst, off), w[1])
	})
	g.end()
}
