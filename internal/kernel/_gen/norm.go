package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func norms(g *gen, v isa) {
	w := v.vecs(0, 16)
	acc := w[0:2]
	mean, rstd, n, eps := w[15], w[14], w[13], w[12]
	scalar := func(f func(ops ...operand.Op), b, a, d reg.Register) { f(xmm(b), xmm(a), xmm(d)) }
	begin := func() {
		v.zero(g, acc[0])
		v.zero(g, acc[1])
		g.MOVQ(reg.RBX, rN)
	}

	y, xhat, z, gamma, beta := ptrs[0], ptrs[1], ptrs[2], ptrs[3], ptrs[4]
	g.function(v, "norm", "is normRow; count is n as a float.", map[string]reg.Register{"count": n, "eps": eps}, []string{"float32"},
		param{"y", "*float32"}, param{"xhat", "*float32"}, param{"z", "*float32"}, param{"gamma", "*float32"}, param{"beta", "*float32"}, argN,
		param{"count", "float32"}, param{"eps", "float32"})
	g.MOVQ(rN, reg.RBX)
	begin()
	v.each(g, "mean", 1, func(_, set, off int, mk *mask) {
		v.load(g, ix(z, off), mk, w[4])
		g.VADDPS(w[4], acc[set], acc[set])
	})
	v.fold(g, g.VADDPS, acc, w[4])
	scalar(g.VDIVSS, n, acc[0], mean)
	g.VBROADCASTSS(xmm(mean), mean)
	begin()
	v.each(g, "variance", 1, func(_, set, off int, mk *mask) {
		v.load(g, ix(z, off), mk, w[4])
		g.VSUBPS(mean, w[4], w[4])
		v.keep(g, mk, w[4])
		g.VFMADD231PS(w[4], w[4], acc[set])
	})
	v.fold(g, g.VADDPS, acc, w[4])
	scalar(g.VDIVSS, n, acc[0], rstd)
	scalar(g.VADDSS, eps, rstd, rstd)
	scalar(g.VSQRTSS, rstd, rstd, rstd)
	g.VMOVSS(g.float(1), xmm(w[4]))
	scalar(g.VDIVSS, rstd, w[4], rstd)
	g.result(0, rstd, false)
	g.VBROADCASTSS(xmm(rstd), rstd)
	g.MOVQ(reg.RBX, rN)
	v.each(g, "out", 2, func(u, _, off int, mk *mask) {
		h, s, b := w[u%4*3], w[u%4*3+1], w[u%4*3+2]
		v.load(g, ix(z, off), mk, h)
		v.load(g, ix(gamma, off), mk, s)
		v.load(g, ix(beta, off), mk, b)
		g.VSUBPS(mean, h, h)
		g.VMULPS(rstd, h, h)
		g.VFMADD231PS(s, h, b)
		v.store(g, h, mk, ix(xhat, off), s)
		v.store(g, b, mk, ix(y, off), s)
	})
	g.end()

	dz, dy, xhat, gamma := ptrs[0], ptrs[1], ptrs[2], ptrs[3]
	g.function(v, "normBack", "is normRowBackward; count is n as a float.", map[string]reg.Register{"count": n, "rstd": rstd}, nil,
		param{"dz", "*float32"}, param{"dy", "*float32"}, param{"xhat", "*float32"}, param{"gamma", "*float32"}, argN,
		param{"count", "float32"}, param{"rstd", "float32"})
	g.MOVQ(rN, reg.RBX)
	begin()
	dot := w[2:4]
	v.zero(g, dot[0])
	v.zero(g, dot[1])
	v.each(g, "means", 1, func(_, set, off int, mk *mask) {
		v.load(g, ix(dy, off), mk, w[4])
		v.load(g, ix(gamma, off), mk, w[5])
		v.load(g, ix(xhat, off), mk, w[6])
		g.VMULPS(w[5], w[4], w[4])
		g.VADDPS(w[4], acc[set], acc[set])
		g.VFMADD231PS(w[4], w[6], dot[set])
	})
	v.fold(g, g.VADDPS, acc, w[4])
	v.fold(g, g.VADDPS, dot, w[4])
	a, b := w[12], w[15]
	scalar(g.VDIVSS, n, acc[0], a)
	scalar(g.VDIVSS, n, dot[0], b)
	g.VBROADCASTSS(xmm(a), a)
	g.VBROADCASTSS(xmm(b), b)
	g.MOVQ(reg.RBX, rN)
	v.each(g, "dz", 2, func(u, _, off int, mk *mask) {
		t, s, h := w[u%4*3], w[u%4*3+1], w[u%4*3+2]
		v.load(g, ix(dy, off), mk, t)
		v.load(g, ix(gamma, off), mk, s)
		v.load(g, ix(xhat, off), mk, h)
		g.VMULPS(s, t, t)
		g.VSUBPS(a, t, t)
		g.VFNMADD231PS(b, h, t)
		g.VMULPS(rstd, t, t)
		v.store(g, t, mk, ix(dz, off), s)
	})
	g.end()
}

// columns writes the kernels that add rows to a row. Columns are cut into strips of four vectors, which stay in registers
// while the rows go by in order.
func columns(g *gen, v isa) {
	const strip = 2 // steps of sixteen in the unrolled code
	rowsP, strideP := param{"rows", "int"}, param{"stride", "int"}
	count, stride, k := reg.R9, reg.R10, reg.R11
	zero, s := v.vec(15), v.vec(14)

	// over runs body for each strip: begin, then each row (from base pointers that move by stride), then finish
	over := func(label string, base []reg.GPPhysical, begin, row, finish func(u, off int, mk *mask)) {
		moving := []reg.GPPhysical{reg.RBX, reg.R8}[:len(base)]
		part := func(name string, vectors int, mk *mask) {
			each := func(f func(u, off int, mk *mask)) {
				for u := range vectors {
					f(u, u*v.bytes(), mk)
				}
			}
			each(begin)
			for i, b := range base {
				g.LEAQ(atIdx(b, 0, rI, 1), moving[i])
			}
			g.MOVQ(count, k)
			g.Label(label + name)
			each(row)
			for _, m := range moving {
				g.ADDQ(stride, m)
			}
			g.DECQ(k)
			g.JNZ(operand.LabelRef(label + name))
			each(finish)
		}
		width := strip * 16
		l := func(s string) operand.LabelRef { return operand.LabelRef(label + s) }
		g.Load(g.Param("rows"), count)
		g.Load(g.Param("stride"), stride)
		g.SHLQ(operand.Imm(2), stride)
		g.XORQ(rI, rI)
		g.SUBQ(imm(width), rN)
		g.JLT(l("few"))
		g.Label(label + "strip")
		part("rows", strip*v.pieces(), nil)
		g.ADDQ(imm(4*width), rI)
		g.SUBQ(imm(width), rN)
		g.JGE(l("strip"))
		g.Label(label + "few")
		g.ADDQ(imm(width), rN)
		g.Label(label + "one")
		g.CMPQ(rN, operand.Imm(uint64(v.lanes)))
		g.JLT(l("rest"))
		part("rows1", 1, nil)
		g.ADDQ(operand.Imm(uint64(v.bytes())), rI)
		g.SUBQ(operand.Imm(uint64(v.lanes)), rN)
		g.JMP(l("one"))
		g.Label(label + "rest")
		g.TESTQ(rN, rN)
		g.JZ(l("done"))
		g.MOVQ(rN, rMask)
		part("rows2", 1, v.makeMask(g, 1, rMask))
		g.Label(label + "done")
	}
	acc := func(u int) reg.Register { return v.vec(u) }
	tmp := func(u int) reg.Register { return v.vec(8 + u%4) }
	mv := []reg.Register{reg.RBX, reg.R8}

	dst, x := ptrs[0], ptrs[1]
	g.function(v, "addRows", "adds rows of x, stride floats apart, to dst, in order.", nil, nil, argDst, argX, argN, rowsP, strideP)
	over("sum_", []reg.GPPhysical{x},
		func(u, off int, mk *mask) { v.load(g, ix(dst, off), mk, acc(u)) },
		func(u, off int, mk *mask) {
			v.load(g, at(mv[0], off), mk, tmp(u))
			g.VADDPS(tmp(u), acc(u), acc(u))
		},
		func(u, off int, mk *mask) { v.store(g, acc(u), mk, ix(dst, off), tmp(u)) })
	g.end()

	gamma, beta, dy, xhat := ptrs[0], ptrs[1], ptrs[2], reg.RCX
	g.function(v, "normRows", "adds rows of dy·xhat to gamma, fused, and rows of dy to beta, in order.", nil, nil,
		param{"gamma", "*float32"}, param{"beta", "*float32"}, param{"dy", "*float32"}, param{"xhat", "*float32"}, argN, rowsP, strideP)
	// makeMask wants RCX before the last strip only, and xhat is read at the start of each: it is loaded anew there
	over("norm_", []reg.GPPhysical{dy, xhat},
		func(u, off int, mk *mask) {
			if u == 0 {
				g.arg("xhat", xhat)
			}
			v.load(g, ix(gamma, off), mk, acc(u))
			v.load(g, ix(beta, off), mk, acc(4+u))
		},
		func(u, off int, mk *mask) {
			v.load(g, at(mv[0], off), mk, tmp(u))
			v.load(g, at(mv[1], off), mk, v.vec(12))
			g.VFMADD231PS(v.vec(12), tmp(u), acc(u))
			g.VADDPS(tmp(u), acc(4+u), acc(4+u))
		},
		func(u, off int, mk *mask) {
			v.store(g, acc(u), mk, ix(gamma, off), tmp(u))
			v.store(g, acc(4+u), mk, ix(beta, off), tmp(u))
		})
	g.end()

	y := reg.RCX
	g.function(v, "reluRows", "sets rows of x to x·s where y > 0, and 0 elsewhere, and adds them to dst, in order.", map[string]reg.Register{"s": s}, nil,
		argDst, argX, param{"y", "*float32"}, argN, rowsP, strideP, param{"s", "float32"})
	v.zero(g, zero)
	over("relu_", []reg.GPPhysical{x, y},
		func(u, off int, mk *mask) {
			if u == 0 {
				g.arg("y", y)
			}
			v.load(g, ix(dst, off), mk, acc(u))
		},
		func(u, off int, mk *mask) {
			v.load(g, at(mv[0], off), mk, tmp(u))
			v.load(g, at(mv[1], off), mk, v.vec(12))
			v.positive(g, v.vec(12), zero, s, tmp(u))
			g.VADDPS(tmp(u), acc(u), acc(u))
			v.store(g, tmp(u), mk, at(mv[0], off), v.vec(12))
		},
		func(u, off int, mk *mask) { v.store(g, acc(u), mk, ix(dst, off), tmp(u)) })
	g.end()
}

// Offsets in kernel.AdamArgs.
const (
	aGradScale, aDecay, aL2, aBeta1, aBeta2, aRest1, aRest2, aStep, aRoot, aEps = 0, 4, 8, 12, 16, 20, 24, 28, 32, 36
)

func optimizer(g *gen, v isa) {
	p, grad, m, vv, args := ptrs[0], ptrs[1], ptrs[2], ptrs[3], ptrs[4]
	for _, l2 := range []bool{false, true} {
		name, doc := "adam", "is Adam without L2."
		if l2 {
			name, doc = "adamL2", "is Adam with L2."
		}
		g.function(v, name, doc, nil, nil, param{"p", "*float32"}, param{"grad", "*float32"}, param{"m", "*float32"}, param{"v", "*float32"}, param{"a", "*AdamArgs"}, argN)
		w := v.vecs(0, 16)
		c := func(off int, d reg.Register) reg.Register {
			g.VBROADCASTSS(at(args, off), d)
			return d
		}
		scale, b1, b2, r1, r2, decay, step, root := c(aGradScale, w[15]), c(aBeta1, w[14]), c(aBeta2, w[13]), c(aRest1, w[12]), c(aRest2, w[11]), c(aDecay, w[10]), c(aStep, w[9]), c(aRoot, w[8])
		v.each(g, "adam", 1, func(u, _, off int, mk *mask) {
			// All loads come before the first store: the slabs lie at equal places in their pages, and a load that follows a
			// store of the same page offset waits for it in vain.
			d, pp, mm, s := w[u%2*4], w[u%2*4+1], w[u%2*4+2], w[u%2*4+3]
			if v.wide() && mk == nil { // four streams are more than the CPU reads ahead by itself
				for _, x := range []reg.Register{grad, p, m, vv} {
					g.PREFETCHT0(ix(x, off+1024))
				}
			}
			v.load(g, ix(grad, off), mk, d)
			v.load(g, ix(p, off), mk, pp)
			v.load(g, ix(m, off), mk, mm)
			v.load(g, ix(vv, off), mk, s)
			g.VMULPS(scale, d, d)
			if l2 {
				g.VBROADCASTSS(at(args, aL2), scale)
				g.VFMADD231PS(scale, pp, d)
				c(aGradScale, scale)
			}
			g.VMULPS(b1, mm, mm)
			g.VFMADD231PS(r1, d, mm)
			g.VMULPS(b2, s, s)
			g.VMULPS(d, d, d)
			g.VFMADD231PS(r2, d, s)
			v.store(g, mm, mk, ix(m, off), d)
			v.store(g, s, mk, ix(vv, off), d)
			g.VSQRTPS(s, s)
			g.VDIVPS(root, s, s)
			g.VBROADCASTSS(at(args, aEps), d)
			g.VADDPS(d, s, s)
			g.VDIVPS(s, mm, mm)
			g.VMULPS(decay, pp, pp)
			g.VFNMADD231PS(step, mm, pp)
			v.store(g, pp, mk, ix(p, off), d)
		})
		g.end()
	}
}
