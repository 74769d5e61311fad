package main

import (
	"slices"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The constants of kernel/act.go.
const (
	erfMax    = 3.95
	sqrtHalf  = 0.70710678118654752
	invSqrt2P = 0.39894228040143268
)

var (
	erfP = []float32{-1.29602222685e-8, 4.63900142783e-6, 3.7788777964e-4, 3.84346964875e-3, 5.42743950948e-2, 1.8517553084e-1, 1.1283791692}
	erfQ = []float32{6.26788294447e-5, 1.30401577996e-3, 1.54437545578e-2, 1.13912585445e-1, 4.97440950037e-1, 1}
)

// acts writes the activations of kernel/act.go for one instruction set.
func acts(g *gen, v isa) {
	dst, x, y := ptrs[0], ptrs[1], ptrs[2]
	w := v.vecs(0, 16)
	hi, lo := w[15], w[14]
	beside := 2
	if v.wide() {
		w, beside = v.vecs(0, 32), 2
		hi, lo = w[31], w[30]
	}

	// phi replaces z, which is x/√2 and no number only where x is none, by (1 + erf32(z))/2, which is exactly half of what it is in
	// kernel: no 1 + erf32 is so small that half of it would be rounded. t, p and q are destroyed; half holds 1/2.
	phi := func(z, t, p, q, half reg.Register) {
		if v.wide() {
			g.VRANGEPS(operand.Imm(2), g.float(erfMax), z, z) // the smaller size, with the sign of z; for NaN the bound, which x makes NaN
		} else {
			g.VMOVUPS(g.float(erfMax), t)
			g.VMOVUPS(g.float(-erfMax), p)
			g.VMINPS(z, t, z) // in this order a NaN stays
			g.VMAXPS(z, p, z)
		}
		g.VMULPS(z, z, t)
		g.weave(func() { v.horner(g, erfP, t, p); g.VMULPS(p, z, z) }, func() { v.horner(g, erfQ, t, q) })
		g.VDIVPS(q, z, z)
		g.VFMADD213PS(half, half, z)
	}

	half := hi
	g.function(v, "erfGELU", "writes dst = x/2·(1 + erf(x/√2)).", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(0.5), half)
	if v.wide() {
		g.hold(w[5*beside:31], slices.Concat([]float32{sqrtHalf, erfMax}, erfP, erfQ)...)
	}
	v.weaving(beside).each(g, "erfGELU", beside, func(u, _, off int, mk *mask) {
		r := w[u%beside*5:]
		v.load(g, ix(x, off), mk, r[0])
		g.VMULPS(g.float(sqrtHalf), r[0], r[1])
		phi(r[1], r[2], r[3], r[4], half)
		g.VMULPS(r[1], r[0], r[0]) // x times half of it has the bits of x/2 times all of it, though x/2 be rounded: erf is 0 then
		v.store(g, r[0], mk, ix(dst, off), r[1])
	})
	g.end()

	g.function(v, "erfGELUBack", "multiplies dst by the derivative of erfGELU at x.", nil, nil, argDst, argX, argN)
	g.VMOVUPS(g.float(0.5), half)
	g.VMOVUPS(g.float(-104), lo)
	back := 2
	if !v.wide() {
		back = 1
	}
	if v.wide() {
		g.hold(w[9*back:30], slices.Concat(erfP, erfQ, expC)...)
	}
	v.weaving(back).each(g, "erfGELUBack", back, func(u, _, off int, mk *mask) {
		r := w[u%back*9:]
		v.load(g, ix(x, off), mk, r[0])
		g.weave(func() {
			g.VMULPS(g.float(-0.5), r[0], r[1])
			g.VMULPS(r[0], r[1], r[1])
			v.exp(g, r[1], r[2], r[3], r[4], r[5], nil, lo) // r[3]
			g.VMULPS(g.float(invSqrt2P), r[0], r[2])
		}, func() {
			g.VMULPS(g.float(sqrtHalf), r[0], r[6])
			q := r[5]
			phi(r[6], r[7], r[8], q, half)
		})
		g.VFMADD231PS(r[3], r[2], r[6])
		v.load(g, ix(dst, off), mk, r[0])
		g.VMULPS(r[6], r[0], r[0])
		v.store(g, r[0], mk, ix(dst, off), r[1])
	})
	g.end()

	a := w[13]
	// sigmoids sets s and o to σ and its complement of z, which it keeps: small = e/(1+e) and large = 1/(1+e), e = e^-|z|, change
	// places where z is not above 0. r are five registers that it destroys.
	sigmoids := func(z, s, o reg.Register, r []reg.Register) {
		g.VORPS(g.word(0x80000000), z, r[0]) // -|z|
		v.exp(g, r[0], r[1], r[2], r[3], r[4], hi, lo)
		g.VADDPS(g.float(1), r[2], r[1])
		g.VDIVPS(r[1], r[2], o)
		g.VMOVUPS(g.float(1), s)
		g.VDIVPS(r[1], s, s)
		v.zero(g, r[0])
		if v.wide() {
			g.VCMPPS(operand.Imm(0x1E), r[0], z, reg.K3)
			g.VMOVAPS(o, r[1])
			g.VMOVAPS(s, reg.K3, r[1]) // σ(z)
			g.VMOVAPS(o, reg.K3, s)
			g.VMOVAPS(s, o)
			g.VMOVAPS(r[1], s)
			return
		}
		g.VCMPPS(operand.Imm(0x1E), r[0], z, r[0])
		g.VBLENDVPS(r[0], s, o, r[1])
		g.VBLENDVPS(r[0], o, s, o)
		g.VMOVAPS(r[1], s)
	}

	g.function(v, "swish", "writes dst = x·σ(s·x).", map[string]reg.Register{"s": a}, nil, argDst, argX, argN, param{"s", "float32"})
	v.expClamps(g, hi, lo, -104)
	v.each(g, "swish", 1, func(_, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[0])
		g.VMULPS(a, w[0], w[1])
		sigmoids(w[1], w[2], w[3], w[4:])
		g.VMULPS(w[2], w[0], w[0])
		v.store(g, w[0], mk, ix(dst, off), w[1])
	})
	g.end()

	g.function(v, "swishBack", "multiplies dst by the derivative of swish at x.", map[string]reg.Register{"s": a}, nil, argDst, argX, argN, param{"s", "float32"})
	v.expClamps(g, hi, lo, -104)
	v.each(g, "swishBack", 1, func(_, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[0])
		g.VMULPS(a, w[0], w[1])
		sigmoids(w[1], w[2], w[3], w[4:])
		g.VMULPS(w[3], w[1], w[1])
		g.VADDPS(g.float(1), w[1], w[1])
		g.VMULPS(w[1], w[2], w[2])
		v.load(g, ix(dst, off), mk, w[0])
		g.VMULPS(w[2], w[0], w[0])
		v.store(g, w[0], mk, ix(dst, off), w[1])
	})
	g.end()

	g.function(v, "multiply", "writes dst = x·y.", nil, nil, argDst, argX, argY, argN)
	v.each(g, "multiply", 2, func(u, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, w[2*u])
		v.load(g, ix(y, off), mk, w[2*u+1])
		g.VMULPS(w[2*u+1], w[2*u], w[2*u])
		v.store(g, w[2*u], mk, ix(dst, off), w[2*u+1])
	})
	g.end()
}
