package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rows writes every row kernel of one instruction set. Each repeats, lane by lane, the plain Go of the same name in kernel.
func rows(g *gen, v isa) {
	elementwise(g, v)
	reductions(g, v)
	functions(g, v)
	softmax(g, v)
	if v.wide() {
		softmaxTwo(g, v)
	}
	norms(g, v)
	if v.wide() {
		normFour(g, v)
	}
	columns(g, v)
	optimizer(g, v)
	dropout(g, v)
}

var argDst, argX, argY, argN = param{"dst", "*float32"}, param{"x", "*float32"}, param{"y", "*float32"}, param{"n", "int"}

func elementwise(g *gen, v isa) {
	dst, x, y := ptrs[0], ptrs[1], ptrs[2]
	s := v.vec(0)
	r := func(u int) reg.Register { return v.vec(1 + u) }
	tmp := v.vec(15)
	if v.wide() {
		tmp = v.vec(31)
	}
	const steps = 4

	g.function(v, "add", "writes dst = x + y.", nil, nil, argDst, argX, argY, argN)
	v.each(g, "add", steps, func(u, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, r(u))
		if mk == nil {
			g.VADDPS(ix(y, off), r(u), r(u))
		} else {
			v.load(g, ix(y, off), mk, tmp)
			g.VADDPS(tmp, r(u), r(u))
		}
		v.store(g, r(u), mk, ix(dst, off), tmp)
	})
	g.end()

	for _, f := range []struct {
		name, doc string
		op        func(ops ...operand.Op)
	}{{"scale", "writes dst = x·s.", g.VMULPS}, {"divide", "writes dst = x/s.", g.VDIVPS}} {
		g.function(v, f.name, f.doc, map[string]reg.Register{"s": s}, nil, argDst, argX, argN, param{"s", "float32"})
		v.each(g, f.name, steps, func(u, _, off int, mk *mask) {
			v.load(g, ix(x, off), mk, r(u))
			f.op(s, r(u), r(u))
			v.store(g, r(u), mk, ix(dst, off), tmp)
		})
		g.end()
	}

	g.function(v, "addScaled", "adds x·s to dst, fused.", map[string]reg.Register{"s": s}, nil, argDst, argX, argN, param{"s", "float32"})
	v.each(g, "addScaled", steps, func(u, _, off int, mk *mask) {
		v.load(g, ix(dst, off), mk, r(u))
		v.load(g, ix(x, off), mk, tmp)
		g.VFMADD231PS(s, tmp, r(u))
		v.store(g, r(u), mk, ix(dst, off), tmp)
	})
	g.end()

	g.function(v, "addProduct", "adds x·y to dst, fused.", nil, nil, argDst, argX, argY, argN)
	v.each(g, "addProduct", 2, func(u, _, off int, mk *mask) {
		v.load(g, ix(dst, off), mk, r(2*u))
		v.load(g, ix(x, off), mk, r(2*u+1))
		v.load(g, ix(y, off), mk, tmp)
		g.VFMADD231PS(tmp, r(2*u+1), r(2*u))
		v.store(g, r(2*u), mk, ix(dst, off), tmp)
	})
	g.end()

	g.function(v, "lerp", "writes dst = x + (y-x)·s, fused.", map[string]reg.Register{"s": s}, nil, argDst, argX, argY, argN, param{"s", "float32"})
	v.each(g, "lerp", 2, func(u, _, off int, mk *mask) {
		v.load(g, ix(x, off), mk, r(2*u))
		v.load(g, ix(y, off), mk, r(2*u+1))
		g.VSUBPS(r(2*u), r(2*u+1), r(2*u+1))
		g.VFMADD231PS(s, r(2*u+1), r(2*u))
		v.store(g, r(2*u), mk, ix(dst, off), tmp)
	})
	g.end()

	g.function(v, "reluBack", "writes dst = x·s where y > 0, and 0 elsewhere.", map[string]reg.Register{"s": s}, nil, argDst, argX, argY, argN, param{"s", "float32"})
	zero := v.vec(14)
	v.zero(g, zero)
	v.each(g, "reluBack", 2, func(u, _, off int, mk *mask) {
		v.load(g, ix(y, off), mk, tmp)
		v.load(g, ix(x, off), mk, r(u))
		v.positive(g, tmp, zero, s, r(u))
		v.store(g, r(u), mk, ix(dst, off), tmp)
	})
	g.end()
	relu(g, v)
}

// relu writes the kernel of ReLU.
func relu(g *gen, v isa) {
	x := ptrs[0]
	zero := v.vec(14)
	g.function(v, "relu", "replaces what is below 0 in x by 0; NaN and -0 stay.", nil, nil, argX, argN)
	v.zero(g, zero)
	v.each(g, "relu", 4, func(u, _, off int, mk *mask) {
		r := v.vec(1 + u)
		v.load(g, ix(x, off), mk, r)
		g.VMAXPS(r, zero, r) // the second source, r, where they are equal or one is NaN
		v.store(g, r, mk, ix(x, off), v.vec(15))
	})
	g.end()
}

// positive sets d = d·s where y > 0, and 0 elsewhere. y is destroyed on AVX2; K3 on AVX-512.
func (v isa) positive(g *gen, y, zero, s, d reg.Register) {
	if v.wide() {
		g.VCMPPS(operand.Imm(0x1E), zero, y, reg.K3) // y > 0, ordered, quiet
		g.VMULPS_Z(s, d, reg.K3, d)
		return
	}
	g.VCMPPS(operand.Imm(0x1E), zero, y, y)
	g.VMULPS(s, d, d)
	g.VANDPS(y, d, d)
}

func reductions(g *gen, v isa) {
	x, y := ptrs[0], ptrs[1]
	acc := v.vecs(0, 2)
	t := func(u int) reg.Register { return v.vec(4 + u) }
	tmp := v.vec(3)

	g.function(v, "sum", "returns the sixteen-lane sum of x.", nil, []string{"float32"}, argX, argN)
	v.zero(g, acc[0])
	v.zero(g, acc[1])
	v.each(g, "sum", 1, func(u, set, off int, mk *mask) {
		if mk == nil {
			g.VADDPS(ix(x, off), acc[set], acc[set])
			return
		}
		v.load(g, ix(x, off), mk, t(0))
		g.VADDPS(t(0), acc[set], acc[set])
	})
	v.fold(g, g.VADDPS, acc, tmp)
	g.result(0, acc[0], false)
	g.end()

	g.function(v, "dot", "returns the sixteen-lane sum of fused products.", nil, []string{"float32"}, argX, argY, argN)
	v.zero(g, acc[0])
	v.zero(g, acc[1])
	v.each(g, "dot", 1, func(u, set, off int, mk *mask) {
		v.load(g, ix(x, off), mk, t(0))
		v.load(g, ix(y, off), mk, t(1))
		g.VFMADD231PS(t(0), t(1), acc[set])
	})
	v.fold(g, g.VADDPS, acc, tmp)
	g.result(0, acc[0], false)
	g.end()

	g.function(v, "finite", "returns the sixteen-lane sum of x-x: 0 if every element is finite, else NaN.", nil, []string{"float32"}, argX, argN)
	v.zero(g, acc[0])
	v.zero(g, acc[1])
	v.each(g, "finite", 2, func(u, set, off int, mk *mask) {
		v.load(g, ix(x, off), mk, t(u))
		g.VSUBPS(t(u), t(u), t(u))
		g.VADDPS(t(u), acc[set], acc[set])
	})
	v.fold(g, g.VADDPS, acc, tmp)
	g.result(0, acc[0], false)
	g.end()

	g.function(v, "max", "returns the largest element, NaN if there is one.", nil, []string{"float32"}, argX, argN)
	v.maxOf(g, "max", x, nil)
	g.VADDSS(g.float(0), xmm(v.vec(0)), xmm(v.vec(0)))
	g.result(0, v.vec(0), false)
	g.end()

	// Sums of squares in float64: a piece of lanes float32 is two vectors of float64.
	squares := func(name, doc string, value func(off int, mk *mask) reg.Register, params ...param) {
		g.function(v, name, doc, nil, []string{"float64"}, params...)
		acc := v.vecs(0, 2*v.pieces())
		for _, a := range acc {
			v.zero(g, a)
		}
		lo, hi := v.vec(8), v.vec(9)
		v.each(g, name, 1, func(u, set, off int, mk *mask) {
			s := value(off, mk)
			if v.wide() {
				g.VEXTRACTF64X4(operand.Imm(1), s, ymm(hi))
				g.VCVTPS2PD(ymm(s), lo)
				g.VCVTPS2PD(ymm(hi), hi)
			} else {
				g.VEXTRACTF128(operand.Imm(1), s, xmm(hi))
				g.VCVTPS2PD(xmm(s), lo)
				g.VCVTPS2PD(xmm(hi), hi)
			}
			g.VFMADD231PD(lo, lo, acc[2*set])
			g.VFMADD231PD(hi, hi, acc[2*set+1])
		})
		a := acc[0]
		if v.wide() {
			g.VADDPD(acc[1], a, a)
			g.VEXTRACTF64X4(operand.Imm(1), a, ymm(lo))
			g.VADDPD(ymm(lo), ymm(a), ymm(a))
		} else {
			g.VADDPD(acc[2], acc[0], acc[0])
			g.VADDPD(acc[3], acc[1], acc[1])
			g.VADDPD(acc[1], acc[0], acc[0])
		}
		g.VEXTRACTF128(operand.Imm(1), ymm(a), xmm(lo))
		g.VADDPD(xmm(lo), xmm(a), xmm(a))
		g.VPERMILPD(operand.Imm(1), xmm(a), xmm(lo))
		g.VADDSD(xmm(lo), xmm(a), xmm(a))
		g.result(0, a, true)
		g.end()
	}
	squares("sumSquares", "returns the sixteen-lane sum of squares in float64.", func(off int, mk *mask) reg.Register {
		v.load(g, ix(x, off), mk, t(2))
		return t(2)
	}, argX, argN)
	squares("sumSquaredDiff", "returns the sixteen-lane sum of (x-y)² in float64.", func(off int, mk *mask) reg.Register {
		v.load(g, ix(x, off), mk, t(2))
		v.load(g, ix(y, off), mk, t(3))
		g.VSUBPS(t(3), t(2), t(2))
		return t(2)
	}, argX, argY, argN)
}

// maxOf leaves the largest of n elements at x, times scale if there is one, in the lowest lane of vector 0; NaN if one of them
// is NaN. Vectors 0–7, K2 and K3 are destroyed; rN and rI too.
func (v isa) maxOf(g *gen, label string, x reg.Register, scale reg.Register) {
	acc, nan := v.vecs(0, 2), v.vec(2)
	inf, tmp, value := v.vec(3), v.vec(4), v.vec(5)
	g.VMOVUPS(g.word(0xFF800000), inf)
	g.VMOVAPS(inf, acc[0])
	g.VMOVAPS(inf, acc[1])
	if v.wide() {
		g.KXORW(reg.K2, reg.K2, reg.K2)
	} else {
		v.zero(g, nan)
	}
	v.each(g, label, 2, func(u, set, off int, mk *mask) {
		v.load(g, ix(x, off), mk, value)
		if scale != nil {
			g.VMULPS(scale, value, value)
		}
		v.fill(g, mk, inf, tmp, value) // before the look for NaN: a scale that is infinite makes one of what no lane has
		if v.wide() {
			g.VCMPPS(operand.Imm(3), value, value, reg.K3)
			g.KORW(reg.K3, reg.K2, reg.K2)
		} else {
			g.VCMPPS(operand.Imm(3), value, value, tmp)
			g.VORPS(tmp, nan, nan)
		}
		g.VMAXPS(value, acc[set], acc[set])
	})
	v.fold(g, g.VMAXPS, acc, tmp)
	if v.wide() {
		g.KORTESTW(reg.K2, reg.K2)
	} else {
		g.VMOVMSKPS(nan, reg.EAX)
		g.TESTL(reg.EAX, reg.EAX)
	}
	g.JZ(operand.LabelRef(label + "_numbers"))
	g.VMOVUPS(g.word(0x7FC00000), ymm(acc[0]))
	g.Label(label + "_numbers")
}
