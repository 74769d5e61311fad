package tensor

import (
	"math"
	"slices"
	"testing"
)

// frozenNet is an embedding-like stack: w1 frozen or not, below w2.
func frozenNet(rt *Runtime, frozen ...bool) (t *Tape, ps *Params, l *Loss, hidden *Var) {
	ps = NewParams()
	w1, b1, w2 := ps.Add("w1", 5, 4), ps.Add("b1", 5), ps.Add("w2", 3, 5)
	w1.Frozen, b1.Frozen, w2.Frozen = frozen[0], frozen[1], frozen[2]
	ps.Seal()
	for i := range ps.Values() {
		ps.Values()[i] = draw("weights", ps.Len())[i]
	}
	t = NewTape(rt, ps)
	x := t.Input(2, 4)
	hidden = t.Linear(x, w1, b1, ReLU)
	l = t.MSE(t.Linear(hidden, w2, nil, None), t.Input(2, 3))
	t.Seal()
	copy(x.Data, draw("x", 8))
	return t, ps, l, hidden
}

// A frozen part at the bottom costs no backward and reports a zero gradient;
// what is above it has the same bits as without.
func TestFrozenEndsBackward(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	run := func(frozen ...bool) (map[string][]float32, *Var, []string) {
		tape, ps, l, hidden := frozenNet(rt, frozen...)
		defer tape.Close()
		slab := make([]float32, ps.Len())
		for i := range slab {
			slab[i] = float32(math.NaN())
		}
		ps.BindGrads(slab)
		var told []string
		tape.OnGrad(func(p *Param) { told = append(told, p.Name) })
		tape.Forward()
		tape.Backward(l)
		grads := map[string][]float32{}
		for _, p := range ps.List() {
			grads[p.Name] = slices.Clone(p.Grad)
		}
		return grads, hidden, told
	}
	all, _, _ := run(false, false, false)
	part, hidden, told := run(true, true, false)
	if !slices.Equal(all["w2"], part["w2"]) {
		t.Error("the trained part's gradient differs when the part below is frozen")
	}
	if hidden.Grad != nil {
		t.Error("the result of a frozen part has a gradient")
	}
	for _, name := range []string{"w1", "b1"} {
		if slices.ContainsFunc(part[name], func(x float32) bool { return x == x }) { // NaN is what was there
			t.Errorf("%s is frozen, and its gradient was written: %v", name, part[name])
		}
	}
	slices.Sort(told)
	if !slices.Equal(told, []string{"b1", "w1", "w2"}) {
		t.Errorf("gradients reported of %v, want each once", told)
	}
	// half frozen is not frozen
	if half, hidden, _ := run(true, false, false); hidden.Grad == nil || !slices.Equal(half["b1"], all["b1"]) {
		t.Error("a trained bias beside a frozen matrix has another gradient")
	}
}

func TestForwardFrom(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	ps := NewParams()
	w := ps.Add("w", 4, 4)
	ps.Seal()
	copy(w.Value, draw("w", 16))
	tape := NewTape(rt, ps)
	x := tape.Input(2, 4)
	h := tape.Linear(x, w, nil, ReLU)
	mid := tape.Mark()
	y := tape.Linear(h, w, nil, None)
	end := tape.Mark()
	tape.Seal()
	copy(x.Data, draw("x", 8))
	tape.Forward()
	wantH, wantY := slices.Clone(h.Data), slices.Clone(y.Data)
	clear(h.Data)
	clear(y.Data)
	tape.ForwardFrom(0, mid)
	if !slices.Equal(h.Data, wantH) || slices.Equal(y.Data, wantY) {
		t.Error("the first stage computes something else than its part")
	}
	tape.ForwardFrom(mid, end)
	if !slices.Equal(y.Data, wantY) {
		t.Error("two stages are not one Forward")
	}
	defer func() {
		if _, ok := recover().(*ShapeError); !ok {
			t.Error("marks in the wrong order are taken")
		}
	}()
	tape.ForwardFrom(end, mid)
}
