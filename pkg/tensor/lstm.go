package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// lstm is a whole layer over a whole sequence. The products with the input
// have no order in time and are one matrix product each; the recurrence is one
// task a step, in which a thread owns a range of hidden units from the product
// to the new state.
//
//	gates[t] = bih + bhh + x[t]·Wihᵀ + h[t-1]·Whhᵀ      i f g o, each [H]
//	c[t]     = σ(f)·c[t-1] + σ(i)·tanh(g)
//	h[t]     = σ(o)·tanh(c[t])                           h[-1] = c[-1] = 0
type lstm struct {
	x, y               *Var
	wih, whh, bih, bhh *Param
	b, n, h            int
	bias               []float32 // [4H] bih + bhh
	gates, dgates      []float32 // [B, T, 4H] after σ and tanh; gradients before them
	cell, squash       []float32 // [B, T, H] c and tanh(c)
	before             []float32 // [B, T, H] h[t-1]
	dh, dc             []float32 // [B, H] gradients that come from the step after

	at           int // step that the tasks do
	fwd, back    columnTask
	step, stepDH kernel.Gemm
	input, dx    product
	dwih, dwhh   product
	dbih, dbhh   columnTask
	accIH, accHH bool
	first        bool // the step has none after it
}

// LSTM returns the hidden states of nn.LSTM's layer with zero first state:
// x [B, T, I], wih [4H, I], whh [4H, H], bih and bhh [4H] → [B, T, H]. Gates
// are in PyTorch's order: input, forget, cell, output.
func (t *Tape) LSTM(x *Var, wih, whh, bih, bhh *Param) *Var {
	need(len(x.Shape) == 3 && len(wih.Shape) == 2 && wih.Shape[1] == x.Shape[2] && wih.Shape[0]%4 == 0, "LSTM", sprint("x [B, T, I] and wih [4H, I]"), x.Shape, wih.Shape)
	h := wih.Shape[0] / 4
	need(len(whh.Shape) == 2 && whh.Shape[0] == 4*h && whh.Shape[1] == h && bih.Size() == 4*h && bhh.Size() == 4*h, "LSTM", sprint("whh [", 4*h, " ", h, "] and two biases [", 4*h, "]"), whh.Shape, bih.Shape, bhh.Shape)
	o := &lstm{x: x, wih: wih, whh: whh, bih: bih, bhh: bhh, b: x.Shape[0], n: x.Shape[1], h: h}
	o.y = t.newVar([]int{o.b, o.n, h}, true)
	t.record(o, o.y, []*Var{x}, wih, whh, bih, bhh)
	return o.y
}

func (o *lstm) kind() string { return "lstm" }

func (o *lstm) flops() (forward, backward int64) {
	input, step := 2*int64(o.b*o.n)*int64(4*o.h)*int64(o.x.Cols()), 2*int64(o.b*o.n)*int64(4*o.h)*int64(o.h)
	if o.x.root().grad {
		return input + step, 2 * (input + step)
	}
	return input + step, input + 2*step
}

func (o *lstm) reserve(*Tape) []reserved {
	all := o.b * o.n * o.h
	return []reserved{{dst: &o.gates, n: 4 * all}, {dst: &o.cell, n: all}, {dst: &o.squash, n: all}, {dst: &o.bias, n: 4 * o.h},
		{dst: &o.dgates, n: 4 * all, kept: true, back: true}, {dst: &o.before, n: all, kept: true, back: true},
		{dst: &o.dh, n: o.b * o.h, kept: true, back: true}, {dst: &o.dc, n: o.b * o.h, kept: true, back: true}}
}

func (o *lstm) bind(t *Tape) {
	b, n, h, in := o.b, o.n, o.h, o.x.Cols()
	o.input.g = kernel.Gemm{M: b * n, N: 4 * h, K: in, A: o.x.Data, ARow: in, ACol: 1, B: o.wih.Value, BRow: 1, BCol: in, C: o.gates, CRow: 4 * h, Bias: o.bias, BF16: t.bf16}
	o.step = kernel.Gemm{M: b, N: 4 * h, K: h, ARow: n * h, ACol: 1, B: o.whh.Value, BRow: 1, BCol: h, CRow: n * 4 * h, Acc: true}
	o.stepDH = kernel.Gemm{M: b, N: h, K: 4 * h, ARow: n * 4 * h, ACol: 1, B: o.whh.Value, BRow: h, BCol: 1, C: o.dh, CRow: h}
	o.dx.g = kernel.Gemm{M: b * n, N: in, K: 4 * h, A: o.dgates, ARow: 4 * h, ACol: 1, B: o.wih.Value, BRow: in, BCol: 1, C: o.x.Grad, CRow: in, BF16: t.bf16}
	o.dwih.g = kernel.Gemm{M: 4 * h, N: in, K: b * n, A: o.dgates, ARow: 1, ACol: 4 * h, B: o.x.Data, BRow: in, BCol: 1, CRow: in, BF16: t.bf16}
	o.dwhh.g = kernel.Gemm{M: 4 * h, N: h, K: b * n, A: o.dgates, ARow: 1, ACol: 4 * h, B: o.before, BRow: h, BCol: 1, CRow: h}
	o.fwd = columnTask{n: h, f: o.forwardUnits}
	o.back = columnTask{n: h, f: o.backwardUnits}
	o.dbih = columnTask{n: 4 * h, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(o.bih.Grad, o.dgates, b*n, 4*h, lo, hi, o.accIH) }}
	o.dbhh = columnTask{n: 4 * h, f: func(lo, hi int, _ *kernel.Workspace) { columnSums(o.bhh.Grad, o.dgates, b*n, 4*h, lo, hi, o.accHH) }}
}

// sigmoid replaces x by 1/(1 + e^-x).
func sigmoid(x []float32) {
	for i, v := range x {
		x[i] = -v
	}
	kernel.ExpSlice(x, x)
	for i, v := range x {
		x[i] = 1 / (1 + v)
	}
}

// forwardUnits does step at of hidden units [lo, hi).
func (o *lstm) forwardUnits(lo, hi int, ws *kernel.Workspace) {
	n, h, t := o.n, o.h, o.at
	if t > 0 {
		for g := range 4 {
			o.step.Run(0, o.b, g*h+lo, g*h+hi, ws)
		}
	}
	for s := range o.b {
		r := s*n + t
		gate := func(k int) []float32 { return o.gates[(4*r+k)*h+lo : (4*r+k)*h+hi] }
		i, f, g, out := gate(0), gate(1), gate(2), gate(3)
		sigmoid(i)
		sigmoid(f)
		kernel.TanhSlice(g, g)
		sigmoid(out)
		c, q, y := o.cell[r*h+lo:r*h+hi], o.squash[r*h+lo:r*h+hi], o.y.Data[r*h+lo:r*h+hi]
		for k := range c {
			c[k] = float32(i[k] * g[k])
		}
		if t > 0 {
			for k, was := range o.cell[(r-1)*h+lo : (r-1)*h+hi] {
				c[k] = float32(f[k]*was) + c[k]
			}
		}
		kernel.TanhSlice(q, c)
		for k := range y {
			y[k] = float32(out[k] * q[k])
		}
	}
}

// backwardUnits does step at of hidden units [lo, hi): the gradient of h[t] is
// y's and what the gates of t+1 hand back.
func (o *lstm) backwardUnits(lo, hi int, ws *kernel.Workspace) {
	n, h, t := o.n, o.h, o.at
	if !o.first {
		o.stepDH.Run(0, o.b, lo, hi, ws)
	}
	for s := range o.b {
		r := s*n + t
		gate := func(of []float32, k int) []float32 { return of[(4*r+k)*h+lo : (4*r+k)*h+hi] }
		i, f, g, out := gate(o.gates, 0), gate(o.gates, 1), gate(o.gates, 2), gate(o.gates, 3)
		di, df, dg, do := gate(o.dgates, 0), gate(o.dgates, 1), gate(o.dgates, 2), gate(o.dgates, 3)
		q, dy := o.squash[r*h+lo:r*h+hi], o.y.Grad[r*h+lo:r*h+hi]
		dh, dc := o.dh[s*h+lo:s*h+hi], o.dc[s*h+lo:s*h+hi]
		for k := range q {
			d := dy[k]
			if !o.first {
				d += dh[k]
			}
			e := float32(float32(d*out[k]) * (1 - float32(q[k]*q[k]))) // of c
			if !o.first {
				e += dc[k]
			}
			was := float32(0)
			if t > 0 {
				was = o.cell[(r-1)*h+lo+k]
			}
			iv, fv, gv, ov := i[k], f[k], g[k], out[k]
			dc[k] = float32(e * fv)
			di[k] = float32(float32(e*gv) * float32(iv*(1-iv)))
			df[k] = float32(float32(e*was) * float32(fv*(1-fv)))
			dg[k] = float32(float32(e*iv) * (1 - float32(gv*gv)))
			do[k] = float32(float32(d*q[k]) * float32(ov*(1-ov)))
		}
	}
}

func (o *lstm) forward(t *Tape) {
	kernel.Add(o.bias, o.bih.Value, o.bhh.Value)
	o.input.run(t.rt)
	for o.at = range o.n {
		if o.at > 0 {
			o.step.A, o.step.C = o.y.Data[(o.at-1)*o.h:], o.gates[o.at*4*o.h:]
		}
		o.fwd.run(t.rt)
	}
}

func (o *lstm) backward(t *Tape) {
	if !o.y.root().written {
		return
	}
	for s := range o.b {
		clear(o.before[s*o.n*o.h : (s*o.n+1)*o.h])
		copy(o.before[(s*o.n+1)*o.h:(s+1)*o.n*o.h], o.y.Data[s*o.n*o.h:])
	}
	for o.at = o.n - 1; o.at >= 0; o.at-- {
		if o.first = o.at == o.n-1; !o.first {
			o.stepDH.A = o.dgates[(o.at+1)*4*o.h:]
		}
		o.back.run(t.rt)
	}
	if o.x.root().grad {
		o.dx.g.Acc = o.x.accumulate()
		o.dx.run(t.rt)
	}
	o.dwih.g.C, o.dwih.g.Acc = o.wih.Grad, o.wih.accumulate()
	o.dwih.run(t.rt)
	o.dwhh.g.C, o.dwhh.g.Acc = o.whh.Grad, o.whh.accumulate()
	o.dwhh.run(t.rt)
	o.accIH, o.accHH = o.bih.accumulate(), o.bhh.accumulate()
	o.dbih.run(t.rt)
	o.dbhh.run(t.rt)
}
