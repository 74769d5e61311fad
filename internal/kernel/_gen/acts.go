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

	// decay sets e to e^-|z| and d to 1 + e; r are four registers that it destroys.
	decay := func(z, e, d reg.Register, r []reg.Register) {
		g.VORPS(g.word(0x80000000), z, r[0])
		v.exp(g, r[0], r[1], e, r[2], r[3], nil, lo)
		g.VADDPS(g.float(1), e, d)
	}
	opmask := func(u int) reg.Register { return []reg.Register{reg.K3, reg.K4}[u%2] }
	a, set := w[13], 0
	if v.wide() {
		a, set = w[29], 9
	}

	g.function(v, "swish", "writes dst = x·σ(s·x).", map[string]reg.Register{"s": a}, nil, argDst, argX, argN, param{"s", "float32"})
	g.VMOVUPS(g.float(-104), lo)
	zero := w[28%len(w)]
	v.zero(g, zero)
	if v.wide() {
		g.hold(w[2*set:28], slices.Concat(expC, []float32{1, log2e, rndBias, -ln2Hi})...)
	}
	v.weaving(back).each(g, "swish", back, func(u, _, off int, mk *mask) {
		r := w[u%back*set:]
		z, e, d := r[1], r[2], r[3]
		v.load(g, ix(x, off), mk, r[0])
		g.VMULPS(a, r[0], z)
		decay(z, e, d, r[4:])
		if v.wide() { // 1 where z is above 0, else e
			k := opmask(u)
			g.VCMPPS(operand.Imm(0x1E), zero, z, k)
			g.VMOVUPS(g.float(1), k, e)
		} else {
			g.VCMPPS(operand.Imm(0x1E), zero, z, r[4])
			g.VBLENDVPS(r[4], g.float(1), e, e)
		}
		g.VDIVPS(d, e, e)
		g.VMULPS(e, r[0], r[0])
		v.store(g, r[0], mk, ix(dst, off), r[1])
	})
	g.end()

	g.function(v, "swishBack", "multiplies dst by the derivative of swish at x.", map[string]reg.Register{"s": a}, nil, argDst, argX, argN, param{"s", "float32"})
	g.VMOVUPS(g.float(-104), lo)
	v.zero(g, zero)
	v.weaving(back).each(g, "swishBack", back, func(u, _, off int, mk *mask) {
		r := w[u%back*set:]
		z, e, d, large, small, t := r[1], r[2], r[3], r[4], r[5], r[6]
		v.load(g, ix(x, off), mk, r[0])
		g.VMULPS(a, r[0], z)
		decay(z, e, d, r[4:])
		// 1/d and e/d: where e is so small that a remainder could be rounded, d is 1
		g.VMOVUPS(g.float(1), large)
		g.VDIVPS(d, large, large)
		v.quotient(g, e, small, d, large)
		// t becomes σ(z) and small its complement: they change places where z is not above 0
		if v.wide() {
			k := opmask(u)
			g.VCMPPS(operand.Imm(0x1E), zero, z, k)
			g.VBLENDMPS(large, small, k, t)
			g.VBLENDMPS(small, large, k, small)
		} else {
			g.VCMPPS(operand.Imm(0x1E), zero, z, d)
			g.VBLENDVPS(d, large, small, t)
			g.VBLENDVPS(d, small, large, small)
		}
		g.VMULPS(small, z, z)
		g.VADDPS(g.float(1), z, z)
		g.VMULPS(z, t, t)
		v.load(g, ix(dst, off), mk, r[0])
		g.VMULPS(t, r[0], r[0])
		v.store(g, r[0], mk, ix(dst, off), r[1])
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
