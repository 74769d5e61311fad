package measure

import (
	"fmt"
	"time"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// OpTime is how fast one pass of one operation of a tape was.
type OpTime struct {
	Name  string
	Shape string
	Pass  string // forward, backward
	Runs  int
	Time  float64 // median, seconds
	FLOPs float64 // of matrix products; a multiply-add is two
	Bytes float64 // read and written, each once, where there is no matrix product
}

// opCase is an operation on a tape of its own. record returns what the
// operation writes; forward and backward are the floats that the passes read and write.
type opCase struct {
	name, kind        string
	batch             int
	shape             []int // of a sample's input
	forward, backward float64
	record            func(t *tensor.Tape, p func(name string, shape ...int) *tensor.Param, x *tensor.Var) *tensor.Var
}

type paramsOf = func(name string, shape ...int) *tensor.Param

func opCases() []opCase {
	attention := func(name string, b, n, heads, d int, m tensor.Mask, dropout float32) opCase {
		return opCase{name: name, kind: "attention", batch: b, shape: []int{n, 3 * heads * d}, record: func(t *tensor.Tape, _ paramsOf, x *tensor.Var) *tensor.Var {
			return t.Attention(x, heads, m, dropout)
		}}
	}
	linear := func(name string, b, n, in, out int, f func(t *tensor.Tape, x *tensor.Var, w, b *tensor.Param) *tensor.Var) opCase {
		return opCase{name: name, kind: "linear", batch: b, shape: []int{n, in}, record: func(t *tensor.Tape, p paramsOf, x *tensor.Var) *tensor.Var {
			return f(t, x, p("w", out, in), p("b", out))
		}}
	}
	norm := func(name string, b, n, d int, dropout float32) opCase {
		return opCase{name: name, kind: "addnorm", batch: b, shape: []int{n, d}, forward: 4, backward: 4, record: func(t *tensor.Tape, p paramsOf, x *tensor.Var) *tensor.Var {
			y := t.Input(x.Shape...)
			t.NeedGrad(y)
			return t.AddNorm(x, y, p("gamma", d), p("beta", d), dropout)
		}}
	}
	relu := func(t *tensor.Tape, x *tensor.Var, w, b *tensor.Param) *tensor.Var { return t.LinearDrop(x, w, b, 0.1) }
	none := func(t *tensor.Tape, x *tensor.Var, w, b *tensor.Param) *tensor.Var {
		return t.Linear(x, w, b, tensor.None)
	}
	gelu := func(t *tensor.Tape, x *tensor.Var, w, b *tensor.Param) *tensor.Var {
		return t.Linear(x, w, b, tensor.GELU)
	}
	patches := func(size, d int) opCase {
		return opCase{name: "patches", kind: "patches", batch: 8, shape: []int{3, size, size}, record: func(t *tensor.Tape, p paramsOf, x *tensor.Var) *tensor.Var {
			return t.PatchEmbed(x, p("w", d, 3, 16, 16), p("b", d))
		}}
	}
	return []opCase{
		patches(224, 512),
		linear("linear", 8, 197, 512, 1536, none),
		linear("linear, ReLU, dropout", 8, 197, 512, 2048, relu),
		linear("linear, GELU", 8, 197, 512, 2048, gelu),
		linear("linear", 8, 197, 2048, 512, none),
		attention("attention", 8, 197, 8, 64, tensor.Mask{}, 0.1),
		attention("attention, no dropout", 8, 197, 8, 64, tensor.Mask{}, 0),
		attention("attention, text", 8, 8, 8, 64, tensor.Mask{}, 0.1),
		attention("attention, small model", 32, 17, 4, 32, tensor.Mask{}, 0.1),
		attention("attention, long", 1, 700, 8, 64, tensor.Mask{}, 0.1),
		attention("attention, long, causal", 1, 700, 8, 64, tensor.Mask{Causal: true}, 0.1),
		attention("attention, long, window 64", 1, 700, 8, 64, tensor.Mask{Window: 64}, 0.1),
		norm("dropout, residual, norm", 8, 197, 512, 0.1),
		norm("residual, norm", 8, 197, 512, 0),
		norm("dropout, residual, norm, small model", 32, 17, 128, 0.1),
		{name: "dropout", kind: "dropout", batch: 8, shape: []int{197, 512}, forward: 2, backward: 2, record: func(t *tensor.Tape, _ paramsOf, x *tensor.Var) *tensor.Var {
			return t.Dropout(x, 0.1)
		}},
		{name: "class token", kind: "tokens", batch: 8, shape: []int{196, 512}, forward: 2, backward: 2, record: func(t *tensor.Tape, p paramsOf, x *tensor.Var) *tensor.Var {
			return t.PrependToken(x, p("cls", 1, 1, 512), p("pos", 1, 197, 512))
		}},
		{name: "convolution 3×3", kind: "conv", batch: 8, shape: []int{32, 32, 64}, record: func(t *tensor.Tape, p paramsOf, x *tensor.Var) *tensor.Var {
			return t.Conv2D(x, p("w", 64, 64, 3, 3), p("b", 64), tensor.Conv{Stride: 1, Pad: 1, Act: tensor.ReLU})
		}},
		{name: "LSTM", kind: "lstm", batch: 32, shape: []int{16, 128}, record: func(t *tensor.Tape, p paramsOf, x *tensor.Var) *tensor.Var {
			return t.LSTM(x, p("wih", 512, 128), p("whh", 512, 128), p("bih", 512), p("bhh", 512))
		}},
	}
}

// Ops times the operations of a tape, forward and backward, on the models'
// sizes. part, from above 0 to 1, is the share of each batch that is taken;
// each is told of a pass when it is done.
func (b *Bench) Ops(part float64, budget time.Duration, each func(OpTime)) {
	for _, c := range opCases() {
		b.op(c, max(1, int(float64(c.batch)*part)), budget, each)
	}
	b.crossEntropy(max(1, int(512*part)), 1000, budget, each)
}

func (b *Bench) op(c opCase, batch int, budget time.Duration, each func(OpTime)) {
	ps := tensor.NewParams()
	t := tensor.NewTape(b.rt, ps)
	defer t.Close()
	x := t.Input(append([]int{batch}, c.shape...)...)
	if c.kind != "patches" { // pictures need no gradient
		t.NeedGrad(x)
	}
	y := c.record(t, ps.Add, x)
	loss := t.MSE(y, t.Input(y.Shape...))
	ids := make([]uint64, batch)
	for i := range ids {
		ids[i] = uint64(i)
	}
	b.passes(t, ps, loss, c.kind, ids, x, budget, func(pass string, runs int, sec, flops float64) {
		o := OpTime{Name: c.name, Shape: fmt.Sprint(x.Shape), Pass: pass, Runs: runs, Time: sec, FLOPs: flops}
		if flops == 0 {
			o.Bytes = 4 * c.forward * float64(y.Size())
			if pass == "backward" {
				o.Bytes = 4 * c.backward * float64(y.Size())
			}
		}
		each(o)
	})
}

func (b *Bench) crossEntropy(rows, classes int, budget time.Duration, each func(OpTime)) {
	ps := tensor.NewParams()
	t := tensor.NewTape(b.rt, ps)
	defer t.Close()
	x := t.Input(rows, classes)
	t.NeedGrad(x)
	labels := t.Ints(rows)
	for i := range labels.Data {
		labels.Data[i] = int32(i * 7 % classes)
	}
	loss := t.CrossEntropy(x, labels)
	b.passes(t, ps, loss, "loss", make([]uint64, rows), x, budget, func(pass string, runs int, sec, _ float64) {
		each(OpTime{Name: "cross-entropy", Shape: fmt.Sprint(x.Shape), Pass: pass, Runs: runs, Time: sec, Bytes: 4 * 2 * float64(x.Size())})
	})
}

// passes replays a tape for budget and reports what the operations of a kind took.
func (b *Bench) passes(t *tensor.Tape, ps *tensor.Params, loss *tensor.Loss, kind string, ids []uint64, x *tensor.Var, budget time.Duration, report func(pass string, runs int, sec, flops float64)) {
	ps.Seal()
	t.Seal()
	ps.BindGrads(make([]float32, ps.Len()))
	for _, v := range [][]float32{ps.Values(), x.Data} {
		for i := range v {
			v[i] = float32(i*7919%1009)/1009 - 0.5
		}
	}
	t.SetStep(1, 1, ids, true)
	t.SetProfile(true)
	var forward, backward []float64
	var of tensor.OpTime
	all := times(budget, func() {
		t.Forward()
		t.Backward(loss)
		for _, k := range t.Profile() {
			if k.Kind == kind {
				of = k
			}
		}
		forward, backward = append(forward, of.Forward.Seconds()), append(backward, of.Backward.Seconds())
	}, nil)
	report("forward", all.Runs, Median(forward), float64(of.ForwardFLOPs))
	report("backward", all.Runs, Median(backward), float64(of.BackwardFLOPs))
}
