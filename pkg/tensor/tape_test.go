package tensor

import (
	"math"
	"slices"
	"testing"
	"unsafe"

	"github.com/vlaring/vlaring/internal/kernel"
)

// sealed records a case and binds it.
func sealed(t *testing.T, rt *Runtime, f func(graph) (node, loss)) (*tapeGraph, node, loss, []float32) {
	t.Helper()
	g := newTapeGraph(rt)
	out, l := f(g)
	grads := g.seal()
	t.Cleanup(g.t.Close)
	return g, out, l, grads
}

// probe is an operation that looks at the tape while backward is on its way. It computes nothing.
type probe struct{ look func() }

func (p *probe) forward(*Tape)  {}
func (p *probe) backward(*Tape) { p.look() }

// While a gradient is alive, from its first writer to its last reader in backward, nothing else may live in its memory. The
// lives are found here from the operations' own accounts of whose gradient is written, not from the plan.
func TestGradientPlan(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	s := dims{2, 4, 2, 12}
	for _, f := range []func(graph) (node, loss){
		opCase{out: model}.run(s),
		opCase{out: model}.twice(s),
		func(g graph) (node, loss) { // a long-lived branch around short ones, and a dead end
			x := tokens(g, s)
			far := g.linear(x, g.param("far", s.d, s.d), leaf{}, GELU)
			near := x
			for range 4 {
				near = block(g, near, s, 0.1)
			}
			g.linear(near, g.param("dead", 3, s.d), leaf{}, None)
			return squared(g, g.concat(g.concat(near, far), g.concat(far, x)))
		},
	} {
		g := newTapeGraph(rt)
		_, l := f(g)
		// a probe behind every operation: after its backward, which gradients hold something?
		type seen struct {
			v        *Var
			from, to int
		}
		ops := g.t.ops
		g.seal()
		lives := map[*Var]*seen{}
		g.t.Forward()
		now := 0
		look := func() {
			for _, v := range g.t.vars {
				if v.base == nil && v.written && lives[v] == nil {
					lives[v] = &seen{v: v, from: now}
				}
			}
			now++
		}
		var spied []op
		var reads [][]*Param
		for i, o := range ops {
			spied = append(spied, &probe{look}, o)
			reads = append(reads, nil, g.t.reads[i])
		}
		g.t.ops, g.t.reads = spied, reads
		g.t.Backward(l.l)
		if now != len(ops) {
			t.Fatalf("%d probes of %d were reached", now, len(ops))
		}
		var list []*seen
		for _, v := range g.t.vars {
			if life := lives[v]; life != nil {
				life.to = now // an input's
				if v.made >= 0 {
					life.to = len(ops) - 1 - v.made
				}
				list = append(list, life)
			}
		}
		if len(list) < 10 {
			t.Fatalf("only %d gradients were seen alive", len(list))
		}
		shared := 0
		for i, a := range list {
			for _, b := range list[:i] {
				if !overlap(a.v.Grad, b.v.Grad) {
					continue
				}
				shared++
				if a.from <= b.to && b.from <= a.to {
					t.Errorf("gradients of shapes %v (alive %d–%d) and %v (alive %d–%d) share memory", a.v.Shape, a.from, a.to, b.v.Shape, b.from, b.to)
				}
			}
			for _, v := range g.t.vars {
				if overlap(a.v.Grad, v.Data) {
					t.Errorf("a gradient of shape %v lies in the data of %v", a.v.Shape, v.Shape)
				}
			}
		}
		if shared == 0 {
			t.Error("no two gradients share memory: this test sees nothing")
		}
		g.t.Close()
	}
}

func overlap(a, b []float32) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	a0, b0 := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return a0 < b0+uintptr(4*len(b)) && b0 < a0+uintptr(4*len(a))
}

// OnGrad is called once for each parameter, when its gradient is the final one, unused ones first and as zeros.
func TestOnGrad(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	s := dims{2, 4, 2, 12}
	g, _, l, grads := sealed(t, rt, func(g graph) (node, loss) {
		g.param("unused", 5)
		out, l := opCase{out: model}.run(s)(g)
		g.param("unused too", 17)
		other := g.linear(out, g.param("elsewhere", 2, 3), leaf{}, None)
		g.mse(other, g.fixed("other", other.shape()...))
		return out, l
	})
	for range 2 {
		calls := map[string][]float32{}
		var order []string
		g.t.OnGrad(func(p *Param) {
			if calls[p.Name] != nil {
				t.Errorf("OnGrad was called twice for %s", p.Name)
			}
			calls[p.Name] = slices.Clone(p.Grad)
			order = append(order, p.Name)
		})
		g.t.Forward()
		g.t.Backward(l.l)
		for _, p := range g.ps.List() {
			if d := differ(calls[p.Name], p.Grad); d != "" {
				t.Errorf("%s changed after OnGrad:%s", p.Name, d)
			}
			zero := !slices.ContainsFunc(p.Grad, func(x float32) bool { return x != 0 })
			if unused := p.Name == "unused" || p.Name == "unused too" || p.Name == "elsewhere"; unused != zero {
				t.Errorf("%s: its gradient being all zero is %v", p.Name, zero)
			}
		}
		if want := []string{"unused", "unused too", "elsewhere", "head.w", "head.b"}; !slices.Equal(order[:5], want) {
			t.Errorf("the first reported are %q, want %q", order[:5], want)
		}
		if last := order[len(order)-2:]; !slices.Equal(last, []string{"p.w", "p.b"}) {
			t.Errorf("the last reported are %q", last)
		}
		for i := range grads { // the next Backward finds rubbish, except in the gaps
			if grads[i] != 0 {
				grads[i] = 7
			}
		}
	}
}

// Two losses on one tape: Backward takes the one it is given, again and again, without another Forward.
func TestTwoLosses(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	s := dims{2, 3, 1, 8}
	trunk := func(g graph) node { return g.linear(tokens(g, s), g.param("w", 4, s.d), g.param("b", 4), GELU) }
	first := func(g graph) (node, loss) {
		return squared(g, g.linear(trunk(g), g.param("one", 2, 4), leaf{}, None))
	}
	second := func(g graph) (node, loss) {
		x := g.linear(trunk(g), g.param("two", 5, 4), leaf{}, None)
		return x, g.crossEntropy(x, g.labels("labels", 5, s.b, s.n))
	}
	alone := []*result{runTape(t, rt, first, true), runTape(t, rt, second, true)}

	var both [2]loss
	g, _, _, _ := sealed(t, rt, func(g graph) (node, loss) {
		_, both[0] = first(g)
		g.input("aside", 2, 8)
		g.linear(g.input("aside", 2, 8), g.param("w", 4, s.d), g.param("b", 4), None) // reaches no loss
		_, both[1] = second(g)
		return node{}, loss{}
	})
	g.t.Forward()
	for _, i := range []int{0, 1, 1, 0, 1} {
		aside := g.inputs["aside"]
		for k := range aside.Grad {
			aside.Grad[k] = 3
		}
		g.t.Backward(both[i].l)
		if v := both[i].l.Scaled(); v != alone[i].loss {
			t.Errorf("loss %d is %v, alone %v", i, v, alone[i].loss)
		}
		for name, want := range alone[i].params {
			if d := differ(want, g.ps.ByName(name).Grad); d != "" {
				t.Errorf("loss %d: gradient of %s%s", i, name, d)
			}
		}
		if d := differ(alone[i].inputs["x"], g.inputs["x"].Grad); d != "" {
			t.Errorf("loss %d: gradient of the input%s", i, d)
		}
		other := g.ps.ByName([]string{"two", "one"}[i])
		if slices.ContainsFunc(append(slices.Clone(other.Grad), aside.Grad...), func(x float32) bool { return x != 0 }) {
			t.Errorf("loss %d: %s or an input it does not see has a gradient", i, other.Name)
		}
	}
}

// A step of everything the tape has, and the optimizer, takes nothing from the heap.
func TestSteadyStepAllocatesNothing(t *testing.T) {
	for _, threads := range []int{1, 2} {
		rt := NewRuntime(threads)
		defer rt.Close()
		for _, c := range ops {
			if len(c.name) > 9 && c.name[:9] == "attention" && c.name != "attention/causal=1,keys=1,positions=1,dropout=0.3" && c.name != "attention/window=2,stride=4,global=1,causal=1,keys=1,dropout=1" {
				continue
			}
			g, _, l, grads := sealed(t, rt, c.run(shapes[2]))
			g.t.OnGrad(func(*Param) {})
			n := len(grads)
			p, m, v := make([]float32, n), make([]float32, n), make([]float32, n)
			sampleIDs := make([]uint64, g.batch)
			step := uint64(0)
			allocs := testing.AllocsPerRun(5, func() {
				step++
				g.t.SetStep(testSeed, step, sampleIDs, true)
				g.t.Forward()
				g.t.Backward(l.l)
				rt.Div(grads, grads, 2)
				rt.GradNorm(g.ps, grads)
				rt.FirstNonFinite(g.ps, grads)
				rt.AdamWStep(p, grads, m, v, step, AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}, 1)
				Fold(p, grads)
			})
			if allocs != 0 {
				t.Errorf("%s with %d threads: %v allocations a step", c.name, threads, allocs)
			}
		}
	}
}

// Dropout draws by (seed, step, sample id, element): the same for the same, others for others, in no relation to the place in
// the batch; it drops the share it was asked to and keeps the mean.
func TestDropout(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	const b, n, p = 3, 20000, 0.3
	tape := NewTape(rt, NewParams())
	x := tape.Input(b, n)
	y, z := tape.Dropout(x, p), tape.Dropout(x, p)
	tape.Seal()
	defer tape.Close()
	for i := range x.Data {
		x.Data[i] = 1
	}
	run := func(seed, step uint64, ids ...uint64) (a, other []float32) {
		tape.SetStep(seed, step, ids, true)
		tape.Forward()
		return slices.Clone(y.Data), slices.Clone(z.Data)
	}
	base, site := run(1, 2, 10, 11, 12)
	if again, _ := run(1, 2, 10, 11, 12); differ(base, again) != "" {
		t.Error("the same names drew other numbers")
	}
	moved, _ := run(1, 2, 12, 10, 11)
	if differ(base[:n], moved[n:2*n]) != "" || differ(base[2*n:], moved[:n]) != "" {
		t.Error("a sample's numbers depend on its place in the batch")
	}
	seed, _ := run(2, 2, 10, 11, 12)
	step, _ := run(1, 3, 10, 11, 12)
	for what, o := range map[string][]float32{"site": site, "seed": seed, "step": step} {
		agree := 0
		for i := range base {
			if base[i] == o[i] {
				agree++
			}
		}
		// independent draws agree in p² + (1-p)² of the places; five standard deviations
		if want := p*p + (1-p)*(1-p); math.Abs(float64(agree)/(b*n)-want) > 5*math.Sqrt(want*(1-want)/(b*n)) {
			t.Errorf("another %s agrees in %d of %d places", what, agree, b*n)
		}
	}
	zeros := 0
	for i, v := range base {
		switch v {
		case 0:
			zeros++
		case float32(1 / (1 - float64(float32(p)))):
		default:
			t.Fatalf("element %d is %v", i, v)
		}
	}
	if math.Abs(float64(zeros)/(b*n)-p) > 5*math.Sqrt(p*(1-p)/(b*n)) {
		t.Errorf("%d of %d were dropped, want a share of %v", zeros, b*n, p)
	}
	tape.SetStep(1, 2, []uint64{10, 11, 12}, false)
	tape.Forward()
	if d := differ(x.Data, y.Data); d != "" {
		t.Errorf("without training it is not the identity:%s", d)
	}
}

// The weights of an Attention are those before dropout: rows that sum to one over what the mask shows, zeros elsewhere; a
// Reshape of the result asks the same operation.
func TestAttentionWeights(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	const b, n, h, d = 2, 6, 2, 8
	tape := NewTape(rt, NewParams())
	qkv := tape.Input(b, n, 3*d)
	keys := tape.AllVisible(b, n)
	keys.Data[n+2] = 0
	other := tape.Attention(qkv, h, Mask{}, 0)
	out := tape.Attention(qkv, h, Mask{Causal: true, Keys: keys}, 0.5)
	view := tape.Reshape(out, b*n, d)
	tape.Attention(qkv, 1, Mask{}, 0)
	tape.KeepWeights(view)
	tape.KeepWeights(other)
	tape.Seal()
	defer tape.Close()
	copy(qkv.Data, draw("qkv", len(qkv.Data)))
	tape.SetStep(1, 1, []uint64{1, 2}, true)
	tape.Forward()
	w := tape.AttentionWeights(view)
	if len(w) != b*h*n*n || &w[0] != &tape.AttentionWeights(out)[0] || &w[0] == &tape.AttentionWeights(other)[0] {
		t.Fatal("the weights of a reshaped result are not its own")
	}
	for r := range b * h * n {
		q, s, sum := r%n, r/(h*n), 0.0
		for k, x := range w[r*n : (r+1)*n] {
			sum += float64(x)
			if hidden := k > q || s == 1 && k == 2; hidden != (x == 0) {
				t.Errorf("sample %d, query %d, key %d: weight %v", s, q, k, x)
			}
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Errorf("row %d sums to %v", r, sum)
		}
	}
}

// Ids that no table has, and labels that no logits have, panic on the caller's goroutine, also when a helper meets them.
func TestOutOfRangePanics(t *testing.T) {
	rt := NewRuntime(3)
	defer rt.Close()
	for _, at := range []int{0, 1, 2} {
		g := newTapeGraph(rt)
		g.embedding(g.ints("ids", 4, 3, 1), g.param("table", 4, 8), 1, nil)
		g.seal()
		g.indices["ids"].Data[at] = 4
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("id 4 of a table of 4 in row %d went through", at)
				}
			}()
			g.t.Forward()
		}()
		g.t.Close()
	}
	// the runtime is still of use
	rt.Scale(kernel.AlignedFloats(100), 2)
}

// trajectory is the digest of a small training run: every level, thread count and architecture must come to it. Change it
// with the arithmetic alone, and say so in docs/numerics.md.
const trajectory = 0x6c339f9033544bb6

func TestTrajectory(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	for _, level := range CPULevels() {
		withLevel(t, level, func() {
			g, _, l, grads := sealed(t, rt, opCase{out: model}.run(dims{2, 6, 2, 32}))
			m, v := make([]float32, len(grads)), make([]float32, len(grads))
			var losses []float64
			for step := uint64(1); step <= 12; step++ {
				g.t.SetStep(testSeed, step, []uint64{1, 2}, true)
				g.t.Forward()
				g.t.Backward(l.l)
				losses = append(losses, l.l.Value())
				rt.AdamWStep(g.ps.Values(), grads, m, v, step, AdamW{LR: 2e-3, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1},
					float32(min(1, 1/rt.GradNorm(g.ps, grads))))
			}
			if losses[11] > losses[0]/2 {
				t.Errorf("%s: the loss did not fall: %v", level, losses)
			}
			h := uint64(14695981039346656037) // FNV-1a over the bits
			for _, x := range g.ps.Values() {
				h = (h ^ uint64(math.Float32bits(x))) * 1099511628211
			}
			if h != trajectory {
				t.Errorf("%s: weights after 12 steps have the digest %#x, want %#x; losses %v", level, h, uint64(trajectory), losses)
			}
		})
	}
}
