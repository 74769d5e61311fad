package tensor

import (
	"errors"
	"strings"
	"testing"
	"unsafe"
)

// Parameters lie in reverse order, each on a cache line, and the gaps between them hold zeros.
func TestParamsLayout(t *testing.T) {
	ps := manyParams()
	at, count := 0, 0
	for i := len(ps.List()) - 1; i >= 0; i-- {
		p := ps.List()[i]
		if p.Offset != at || p.Offset%16 != 0 {
			t.Errorf("%s is at %d, want %d", p.Name, p.Offset, at)
		}
		if len(p.Value) != p.Size() || cap(p.Value) != p.Size() || &p.Value[0] != &ps.Values()[p.Offset] {
			t.Errorf("%s: its value is no view of the slab, or reaches beyond it", p.Name)
		}
		if uintptr(unsafe.Pointer(&p.Value[0]))%64 != 0 {
			t.Errorf("%s is not on a cache line", p.Name)
		}
		if ps.ByName(p.Name) != p {
			t.Errorf("ByName(%s) is another", p.Name)
		}
		at += (p.Size() + 15) / 16 * 16
		count += p.Size()
	}
	if ps.Len() != at || ps.Count() != count || len(ps.Values()) != at {
		t.Errorf("Len %d, Count %d, %d values; want %d, %d, %d", ps.Len(), ps.Count(), len(ps.Values()), at, count, at)
	}
	if ps.ByName("none") != nil {
		t.Error("ByName of an unknown name is not nil")
	}

	// Gradients are views of the caller's slab; binding another moves them.
	for range 2 {
		slab := Floats(ps.Len())
		ps.BindGrads(slab)
		for _, p := range ps.List() {
			for i := range p.Grad {
				p.Grad[i] = 1
			}
		}
		ones := 0
		for _, x := range slab {
			if x == 1 {
				ones++
			} else if x != 0 {
				t.Fatal("a gap was written")
			}
		}
		if ones != count {
			t.Errorf("%d gradients in the slab, want %d", ones, count)
		}
	}
}

// Floats is zero and on a cache line, from the heap and from the mapping.
func TestFloats(t *testing.T) {
	for _, n := range []int{0, 1, 17, 1 << 18, 1<<18 + 1} {
		x := Floats(n)
		if len(x) != n || n > 0 && uintptr(unsafe.Pointer(&x[0]))%64 != 0 {
			t.Errorf("Floats(%d): %d floats, aligned or not", n, len(x))
		}
		for i := range x {
			if x[i] != 0 {
				t.Fatalf("Floats(%d)[%d] is %v", n, i, x[i])
			}
			x[i] = 1
		}
	}
}

// Every mistake in shapes panics with a *ShapeError that names the operation and the shapes.
func TestShapeErrors(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	type env struct {
		t       *Tape
		ps      *Params
		x, img  *Var // [2 3 8], [2 3 4 4]
		w, b    *Param
		v8, big *Param
	}
	for _, c := range []struct {
		op   string
		has  []string
		call func(e env)
	}{
		{"Linear", []string{"w", "[4 7]", "[O, 8]"}, func(e env) { e.t.Linear(e.x, e.ps.Add("odd", 4, 7), nil, None) }},
		{"Linear", []string{"[4]", "v8 [8]"}, func(e env) { e.t.Linear(e.x, e.w, e.v8, None) }},
		{"Attention", []string{"[2 3 8]"}, func(e env) { e.t.Attention(e.x, 1, Mask{}, 0) }},
		{"Attention", []string{"[2 3 8]"}, func(e env) { e.t.Attention(e.x, 0, Mask{}, 0) }},
		{"Attention", []string{"[2 3]", "[2 4]"}, func(e env) {
			e.t.Attention(e.t.Input(2, 3, 24), 2, Mask{Keys: e.t.Bytes(2, 4)}, 0)
		}},
		{"Attention", []string{"9", "4"}, func(e env) { e.t.Attention(e.t.Input(2, 3, 24), 2, Mask{Positions: make([]uint8, 4)}, 0) }},
		{"Attention", []string{"dropout", "1.5"}, func(e env) { e.t.Attention(e.t.Input(2, 3, 24), 2, Mask{}, 1.5) }},
		{"AddNorm", []string{"[2 3 8]", "[2 3 4 4]"}, func(e env) { e.t.AddNorm(e.x, e.img, e.v8, e.v8, 0) }},
		{"AddNorm", []string{"[8]", "[4]"}, func(e env) { e.t.AddNorm(e.x, nil, e.v8, e.b, 0) }},
		{"AddNorm", []string{"-0.5"}, func(e env) { e.t.AddNorm(e.x, nil, e.v8, e.v8, -0.5) }},
		{"Dropout", []string{"1"}, func(e env) { e.t.Dropout(e.x, 1) }},
		{"Embedding", []string{"[6]", "[4 8]"}, func(e env) { e.t.Embedding(e.t.Ints(6), e.w, 1, nil) }},
		{"Embedding", []string{"3 tokens"}, func(e env) { e.t.Embedding(e.t.Ints(2, 3), e.w, 1, make([]float32, 16)) }},
		{"PatchEmbed", []string{"[2 3 4 4]", "[4 3 3 3]"}, func(e env) { e.t.PatchEmbed(e.img, e.ps.Add("odd", 4, 3, 3, 3), e.b) }},
		{"PrependToken", []string{"[2 3 4 4]"}, func(e env) { e.t.PrependToken(e.img, e.v8, e.big) }},
		{"PrependToken", []string{"[4]", "[32]"}, func(e env) { e.t.PrependToken(e.x, e.b, e.big) }},
		{"AddRow", []string{"4", "[4 8]"}, func(e env) { e.t.AddRow(e.x, e.w, 4) }},
		{"ConcatTokens", []string{"[2 3 8]", "[2 3 4 4]"}, func(e env) { e.t.ConcatTokens(e.x, e.img) }},
		{"ConcatBytes", []string{"[2 3]", "[3 3]"}, func(e env) { e.t.ConcatBytes(e.t.Bytes(2, 3), e.t.Bytes(3, 3)) }},
		{"MeanPool", []string{"[2 3 4 4]"}, func(e env) { e.t.MeanPool(e.img, nil) }},
		{"MeanPool", []string{"[2 3]", "[2 4]"}, func(e env) { e.t.MeanPool(e.x, e.t.Bytes(2, 4)) }},
		{"SelectToken", []string{"3", "[2 3 8]"}, func(e env) { e.t.SelectToken(e.x, 3) }},
		{"Reshape", []string{"48", "[2 3 8]", "[7 7]"}, func(e env) { e.t.Reshape(e.x, 7, 7) }},
		{"MSE", []string{"[2 3 8]", "[2 3 4 4]"}, func(e env) { e.t.MSE(e.x, e.img) }},
		{"MSE", []string{"gradient"}, func(e env) { e.t.MSE(e.x, e.t.Linear(e.x, e.ps.Add("sq", 8, 8), nil, None)) }},
		{"CrossEntropy", []string{"[2 3 8]", "[5]"}, func(e env) { e.t.CrossEntropy(e.x, e.t.Ints(5)) }},
		{"CrossAttention", []string{"[2 3 8]"}, func(e env) { e.t.CrossAttention(e.x, e.x, 3, nil, 0) }},
		{"CrossAttention", []string{"[2 T 16]", "[2 3 8]"}, func(e env) { e.t.CrossAttention(e.x, e.x, 2, nil, 0) }},
		{"CrossAttention", []string{"[2 5]", "[2 4]"}, func(e env) { e.t.CrossAttention(e.x, e.t.Input(2, 5, 16), 2, e.t.Bytes(2, 4), 0) }},
		{"CrossAttention", []string{"dropout", "1"}, func(e env) { e.t.CrossAttention(e.x, e.t.Input(2, 5, 16), 2, nil, 1) }},
		{"LinearRows", []string{"[4 8]", "2 5"}, func(e env) { e.t.LinearRows(e.x, e.w, nil, 2, 5) }},
		{"L1", []string{"[2 3 8]", "[2 3 4 4]"}, func(e env) { e.t.L1(e.x, e.img, nil) }},
		{"L1", []string{"6 rows", "[2 8]"}, func(e env) { e.t.L1(e.x, e.t.Input(2, 3, 8), e.t.Input(2, 8)) }},
		{"ChunkMSE", []string{"gradient"}, func(e env) { e.t.ChunkMSE(e.x, e.t.Linear(e.x, e.ps.Add("sq", 8, 8), nil, None), nil) }},
		{"Bins", []string{"0"}, func(e env) { e.t.Bins(e.x, nil, 0) }},
		{"BinCentres", []string{"[3]"}, func(e env) { e.t.BinCentres(e.t.Input(3)) }},
		{"Repeat", []string{"[4 8]", "0"}, func(e env) { e.t.Repeat(e.w, 0) }},
		{"AppendRow", []string{"[2 3 8]", "[3 4]"}, func(e env) { e.t.AppendRow(e.x, e.t.Input(3, 4)) }},
		{"AddScaled", []string{"[2 3 8]", "[2 3 4 4]"}, func(e env) { e.t.AddScaled(e.x, e.img, 1) }},
		{"NeedGrad", []string{"input"}, func(e env) { e.t.NeedGrad(e.t.Linear(e.x, e.w, e.b, None)) }},
		{"KeepWeights", []string{"Attention"}, func(e env) { e.t.KeepWeights(e.x) }},
		{"AttentionWeights", []string{"KeepWeights"}, func(e env) { e.t.AttentionWeights(e.t.Attention(e.t.Input(2, 3, 24), 2, Mask{}, 0)) }},
		{"Forward", []string{"Seal"}, func(e env) { e.t.Forward() }},
		{"Tape", []string{"Seal"}, func(e env) { e.ps.Seal(); e.t.Seal(); e.t.Input(3) }},
		{"Tape.Seal", nil, func(e env) { e.ps.Seal(); e.t.Seal(); e.t.Seal() }},
		{"Backward", []string{"BindGrads"}, func(e env) {
			l := e.t.MSE(e.t.Linear(e.x, e.w, e.b, None), e.t.Input(2, 3, 4))
			e.ps.Seal()
			e.t.Seal()
			e.t.Forward()
			e.t.Backward(l)
		}},
		{"Params.Add", []string{"w"}, func(e env) { e.ps.Add("w", 3) }},
		{"Params.Add", []string{"[2 0]"}, func(e env) { e.ps.Add("zero", 2, 0) }},
		{"Params.Add", []string{"[-2 -3]"}, func(e env) { e.ps.Add("minus", -2, -3) }},
		{"Params.Add", []string{"late"}, func(e env) { e.ps.Seal(); e.ps.Add("late", 3) }},
		{"Params.Seal", nil, func(e env) { e.ps.Seal(); e.ps.Seal() }},
		{"BindGrads", []string{"96", "3"}, func(e env) { e.ps.Seal(); e.ps.BindGrads(make([]float32, 3)) }},
		{"AdamWStep", []string{"2", "3"}, func(e env) {
			rt.AdamWStep(make([]float32, 2), make([]float32, 3), make([]float32, 2), make([]float32, 2), 1, AdamW{}, 1)
		}},
		{"NewRuntime", []string{"0"}, func(e env) { NewRuntime(0) }},
	} {
		ps := NewParams()
		e := env{t: NewTape(rt, ps), ps: ps, w: ps.Add("w", 4, 8), b: ps.Add("b", 4), v8: ps.Add("v8", 8), big: ps.Add("big", 32)}
		e.x, e.img = e.t.Input(2, 3, 8), e.t.Input(2, 3, 4, 4)
		func() {
			defer func() {
				p := recover()
				err, _ := p.(error)
				var s *ShapeError
				if !errors.As(err, &s) {
					t.Errorf("%s: panicked with %v, want a *ShapeError", c.op, p)
					return
				}
				if s.Op != c.op {
					t.Errorf("%v names %s, want %s", s, s.Op, c.op)
				}
				for _, h := range c.has {
					if !strings.Contains(s.Error(), h) {
						t.Errorf("%q does not say %q", s.Error(), h)
					}
				}
			}()
			c.call(e)
		}()
	}
}
