package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// fourRows are the indexes of four rows of n floats, one behind the other: rI is the first's. RAX and RCX are free once a mask is made.
var fourRows = [4]reg.GPPhysical{rI, reg.RAX, reg.RCX, reg.R15}

// rowBytes is the length of such a row in bytes.
var rowBytes = reg.R11

// overFour runs body as each does, with all four indexes set.
func (v isa) overFour(g *gen, label string, body func(u, off int, mk *mask)) {
	g.arg("n", rN)
	v.each(g, label, 2, func(u, _, off int, mk *mask) {
		if off == 0 {
			g.LEAQ(atIdx(rI, 0, rowBytes, 1), reg.RAX)
			g.LEAQ(atIdx(rI, 0, rowBytes, 2), reg.RCX)
			g.LEAQ(atIdx(reg.RAX, 0, rowBytes, 2), reg.R15)
		}
		body(u, off, mk)
	})
}

// foldFour leaves the sums of four vectors of sixteen lanes in four lanes of the first one: the tree of fold for each. All vectors
// of a and t are destroyed.
func foldFour(g *gen, a, t []reg.Register) {
	for i := range 4 {
		g.VEXTRACTF64X4(operand.Imm(1), a[i], ymm(t[i]))
		g.VADDPS(ymm(t[i]), ymm(a[i]), ymm(a[i]))
	}
	for i := range 4 {
		g.VEXTRACTF128(operand.Imm(1), ymm(a[i]), xmm(t[i]))
		g.VADDPS(xmm(t[i]), xmm(a[i]), xmm(a[i]))
	}
	for i := 0; i < 4; i += 2 { // rows i and i+1: lane 0 and lane 2, lane 1 and lane 3
		g.VUNPCKLPS(xmm(a[i+1]), xmm(a[i]), xmm(t[i]))
		g.VUNPCKHPS(xmm(a[i+1]), xmm(a[i]), xmm(t[i+1]))
		g.VADDPS(xmm(t[i+1]), xmm(t[i]), xmm(t[i]))
	}
	g.VMOVLHPS(xmm(t[2]), xmm(t[0]), xmm(a[0]))
	g.VMOVHLPS(xmm(t[0]), xmm(t[2]), xmm(a[1]))
	g.VADDPS(xmm(a[1]), xmm(a[0]), xmm(a[0]))
}

// spreadFour fills each of four vectors with one lane of s.
func spreadFour(g *gen, s reg.Register, d, t []reg.Register) {
	g.VBROADCASTSS(xmm(s), d[0])
	for i := 1; i < 4; i++ {
		g.VPERMILPS(operand.Imm(uint64(i*0x55)), xmm(s), xmm(t[i]))
		g.VBROADCASTSS(xmm(t[i]), d[i])
	}
}

// normFour writes norm and normBack of four rows at once, and those of RMSNorm. A row alone is one chain of sums, then folds, divisions and a root that
// wait for one another: most of its time nothing is done. The four divide and take roots in four lanes of one vector.
func normFour(g *gen, v isa) {
	z := v.vecs(0, 32)
	count, eps := z[19], z[20]
	row := func(base reg.Register, i, off int) operand.Mem { return atIdx(base, off, fourRows[i], 1) }
	clear := func(acc []reg.Register) {
		for _, a := range acc {
			v.zero(g, a)
		}
	}
	begin := func() {
		g.MOVQ(rN, rowBytes)
		g.SHLQ(operand.Imm(2), rowBytes)
	}

	acc, tmp, mean, rstd := z[0:4], z[4:8], z[28:32], z[24:28]
	// inverses fills rstd with 1/√(mean + eps) of what acc has summed, and writes it
	inverses := func(to reg.Register) {
		foldFour(g, acc, tmp)
		s := xmm(acc[0])
		g.VDIVPS(xmm(count), s, s)
		g.VADDPS(xmm(eps), s, s)
		g.VSQRTPS(s, s)
		g.VMOVUPS(g.float(1), tmp[0])
		g.VDIVPS(s, xmm(tmp[0]), s)
		g.VMOVUPS(s, at(to, 0))
		spreadFour(g, acc[0], rstd, tmp)
	}

	y, xhat, x, gamma, beta, rstds := ptrs[0], ptrs[1], ptrs[2], ptrs[3], ptrs[4], ptrs[5]
	g.function(v, "normFour", "is normRow of four rows, one behind the other, whose rstd go to memory; count is n as a float.",
		map[string]reg.Register{"count": count, "eps": eps}, nil, param{"y", "*float32"}, param{"xhat", "*float32"}, param{"z", "*float32"},
		param{"gamma", "*float32"}, param{"beta", "*float32"}, param{"rstd", "*float32"}, argN, param{"count", "float32"}, param{"eps", "float32"})
	begin()
	clear(acc)
	v.overFour(g, "mean", func(_, off int, mk *mask) {
		for i, a := range acc {
			if mk == nil {
				g.VADDPS(row(x, i, off), a, a)
				continue
			}
			v.load(g, row(x, i, off), mk, tmp[i])
			g.VADDPS(tmp[i], a, a)
		}
	})
	foldFour(g, acc, tmp)
	g.VDIVPS(xmm(count), xmm(acc[0]), xmm(acc[0]))
	spreadFour(g, acc[0], mean, tmp)
	clear(acc)
	v.overFour(g, "variance", func(u, off int, mk *mask) {
		for i, a := range acc {
			d := z[4+4*u+i]
			if mk == nil {
				g.VSUBPS(row(x, i, off), mean[i], d) // the square is the same either way round
			} else {
				v.load(g, row(x, i, off), mk, d)
				g.VSUBPS(mean[i], d, d)
				v.keep(g, mk, d)
			}
			g.VFMADD231PS(d, d, a)
		}
	})
	inverses(rstds)
	v.overFour(g, "out", func(u, off int, mk *mask) {
		h, scale, shift := z[4*u:4*u+4], z[8+u], z[10+u]
		v.load(g, ix(gamma, off), mk, scale)
		v.load(g, ix(beta, off), mk, shift)
		for i := range h { // all loads before the first store: rows may lie at equal places in their pages
			v.load(g, row(x, i, off), mk, h[i])
			g.VSUBPS(mean[i], h[i], h[i])
			g.VMULPS(rstd[i], h[i], h[i])
		}
		for i := range h {
			v.store(g, h[i], mk, row(xhat, i, off), nil)
			g.VFMADD213PS(shift, scale, h[i])
			v.store(g, h[i], mk, row(y, i, off), nil)
		}
	})
	g.end()

	dz, dy, xhat, gamma, rstds := ptrs[0], ptrs[1], ptrs[2], ptrs[3], ptrs[4]
	g.function(v, "normBackFour", "is normRowBackward of four rows, one behind the other; count is n as a float.",
		map[string]reg.Register{"count": count}, nil, param{"dz", "*float32"}, param{"dy", "*float32"}, param{"xhat", "*float32"},
		param{"gamma", "*float32"}, param{"rstd", "*float32"}, argN, param{"count", "float32"})
	begin()
	sum, dot, rstd := z[0:4], z[4:8], z[20:24]
	a, b := z[24:28], z[28:32]
	clear(sum)
	clear(dot)
	for i := range rstd {
		g.VBROADCASTSS(at(rstds, 4*i), rstd[i])
	}
	v.overFour(g, "means", func(u, off int, mk *mask) {
		s := z[14+u]
		v.load(g, ix(gamma, off), mk, s)
		for i := range sum {
			t := z[8+i]
			if mk == nil {
				g.VMULPS(row(dy, i, off), s, t)
				g.VADDPS(t, sum[i], sum[i])
				g.VFMADD231PS(row(xhat, i, off), t, dot[i])
				continue
			}
			v.load(g, row(dy, i, off), mk, t)
			v.load(g, row(xhat, i, off), mk, z[24+i])
			g.VMULPS(s, t, t)
			g.VADDPS(t, sum[i], sum[i])
			g.VFMADD231PS(z[24+i], t, dot[i])
		}
	})
	g.weave(func() {
		foldFour(g, sum, z[8:12])
		g.VDIVPS(xmm(count), xmm(sum[0]), xmm(sum[0]))
		spreadFour(g, sum[0], a, z[8:12])
	}, func() {
		t := z[12:16]
		foldFour(g, dot, t)
		g.VDIVPS(xmm(count), xmm(dot[0]), xmm(dot[0]))
		spreadFour(g, dot[0], b, t)
	})
	v.overFour(g, "dz", func(u, off int, mk *mask) {
		s := z[14+u]
		v.load(g, ix(gamma, off), mk, s)
		for i := range 4 {
			t, h := z[4*u+i], z[8+i]
			if mk == nil {
				g.VMULPS(row(dy, i, off), s, t)
				g.VSUBPS(a[i], t, t)
				g.VFNMADD231PS(row(xhat, i, off), b[i], t)
			} else {
				v.load(g, row(dy, i, off), mk, t)
				v.load(g, row(xhat, i, off), mk, h)
				g.VMULPS(s, t, t)
				g.VSUBPS(a[i], t, t)
				g.VFNMADD231PS(h, b[i], t)
			}
			g.VMULPS(rstd[i], t, t)
		}
		for i := range 4 {
			v.store(g, z[4*u+i], mk, row(dz, i, off), nil)
		}
	})
	g.end()

	x, gamma, rstds = ptrs[1], ptrs[2], ptrs[3]
	g.function(v, "rmsFour", "is rmsRow of four rows, one behind the other, whose rstd go to memory; count is n as a float.",
		map[string]reg.Register{"count": count, "eps": eps}, nil, param{"y", "*float32"}, param{"x", "*float32"}, param{"gamma", "*float32"},
		param{"rstd", "*float32"}, argN, param{"count", "float32"}, param{"eps", "float32"})
	begin()
	rstd = z[24:28]
	clear(acc)
	v.overFour(g, "squares", func(u, off int, mk *mask) {
		for i, a := range acc {
			d := z[4+4*u+i]
			v.load(g, row(x, i, off), mk, d)
			g.VFMADD231PS(d, d, a)
		}
	})
	inverses(rstds)
	v.overFour(g, "out", func(u, off int, mk *mask) {
		h, scale := z[4*u:4*u+4], z[8+u]
		v.load(g, ix(gamma, off), mk, scale)
		for i := range h {
			v.load(g, row(x, i, off), mk, h[i])
			g.VMULPS(rstd[i], h[i], h[i])
			g.VMULPS(scale, h[i], h[i])
		}
		for i := range h {
			v.store(g, h[i], mk, row(y, i, off), nil)
		}
	})
	g.end()

	dx, dy, x, gamma, rstds := ptrs[0], ptrs[1], ptrs[2], ptrs[3], ptrs[4]
	g.function(v, "rmsBackFour", "is rmsRowBackward of four rows, one behind the other; count is n as a float.",
		map[string]reg.Register{"count": count}, nil, param{"dx", "*float32"}, param{"dy", "*float32"}, param{"x", "*float32"},
		param{"gamma", "*float32"}, param{"rstd", "*float32"}, argN, param{"count", "float32"})
	begin()
	rstd = z[20:24]
	clear(acc)
	for i := range rstd {
		g.VBROADCASTSS(at(rstds, 4*i), rstd[i])
	}
	// both makes dy·gamma and x·rstd of row i
	both := func(i, off int, scale reg.Register, mk *mask) (t, h reg.Register) {
		t, h = z[4+i], z[12+i]
		v.load(g, row(dy, i, off), mk, t)
		v.load(g, row(x, i, off), mk, h)
		g.VMULPS(scale, t, t)
		g.VMULPS(rstd[i], h, h)
		return t, h
	}
	v.overFour(g, "mean", func(_, off int, mk *mask) {
		v.load(g, ix(gamma, off), mk, z[8])
		for i, a := range acc {
			t, h := both(i, off, z[8], mk)
			g.VFMADD231PS(t, h, a)
		}
	})
	foldFour(g, acc, tmp)
	g.VDIVPS(xmm(count), xmm(acc[0]), xmm(acc[0]))
	spreadFour(g, acc[0], b, tmp)
	v.overFour(g, "dx", func(_, off int, mk *mask) {
		v.load(g, ix(gamma, off), mk, z[8])
		for i := range 4 {
			t, h := both(i, off, z[8], mk)
			g.VFNMADD231PS(h, b[i], t)
			g.VMULPS(rstd[i], t, t)
		}
		for i := range 4 {
			v.store(g, z[4+i], mk, row(dx, i, off), nil)
		}
	})
	g.end()
}
