package models

import (
	"math"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// A vla with local attention: words look at most a window away; the class token
// of the vision encoder and the image in the fusion see all and are seen by all.
func TestLocalAttention(t *testing.T) {
	c := small
	c.Attention = Attention{Kind: AttentionLocal, Window: 2}
	m := build(t, c)
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	s := m.Spec(8)
	losses := map[bool]float64{}
	for _, keep := range []bool{true, false} {
		p, err := m.Program(rt, 2, s, ProgramOptions{KeepAttention: keep})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		b := batchOf(2, s, c.VocabSize)
		for i := range b.Ints(Instruction) {
			b.Ints(Instruction)[i] = 1 + int32(i)%10 // no padding
		}
		if err := p.Load(b); err != nil {
			t.Fatal(err)
		}
		p.SetStep(1, 0, false)
		losses[keep] = p.Forward()
		if !keep {
			continue
		}
		for _, l := range p.Attention() {
			first := 1 // tokens that see all
			if strings.HasPrefix(l.Name, "language") {
				first = 0
			}
			for h := range l.H {
				for i, w := range l.Head(1, h) {
					q, k := i/l.T, i%l.T
					if sees := q < first || k < first || max(q-k, k-q) <= 2; sees != (w > 0) {
						t.Fatalf("%s head %d: query %d gives key %d %v", l.Name, h, q, k, w)
					}
				}
			}
		}
	}
	// Without kept maps the last vision block computes the class token alone.
	if losses[true] != losses[false] {
		t.Errorf("loss %v, with maps kept %v", losses[false], losses[true])
	}
}

// Every kind of attention trains: a batch's loss falls under plain descent.
func TestSparseLearns(t *testing.T) {
	for _, a := range []Attention{{}, {Kind: AttentionFull}, {Kind: AttentionLocal, Window: 1}, {Kind: AttentionStrided, Window: 1, Stride: 4}} {
		m := build(t, Config{Kind: Encoder, VocabSize: 9, DModel: 8, NHeads: 2, NLayers: 1, MaxLen: 20, PadToken: -1, Attention: a})
		s := m.Spec(20)
		rt := tensor.NewRuntime(1)
		defer rt.Close()
		p, err := m.Program(rt, 4, s, ProgramOptions{Train: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Load(batchOf(4, s, 9)); err != nil {
			t.Fatal(err)
		}
		g := make([]float32, m.Params().Len())
		m.Params().BindGrads(g)
		p.SetStep(1, 0, true)
		first := p.Forward()
		for range 150 {
			p.Forward()
			p.Backward()
			for i, w := 0, m.Params().Values(); i < len(w); i++ {
				w[i] -= 0.1 * g[i]
			}
		}
		if last := p.Forward(); !(last < 0.8*first) || math.IsNaN(last) {
			t.Errorf("%+v: the loss went from %v to %v", a, first, last)
		}
	}
}

func TestSparseCost(t *testing.T) {
	cost := func(a Attention) Cost {
		m := build(t, Config{Kind: Encoder, VocabSize: 9, DModel: 8, NHeads: 2, NLayers: 3, MaxLen: 64, PadToken: -1, Attention: a})
		return m.Cost(m.Spec(64))
	}
	// 64² pairs against 3·64-2; two multiply-adds a pair and channel, in 3 layers; a multiply-add is two.
	full, local := cost(Attention{}), cost(Attention{Kind: AttentionLocal, Window: 1})
	if got, want := full.ForwardFLOPs-local.ForwardFLOPs, int64(2*3*2*8*(64*64-(3*64-2))); got != want {
		t.Errorf("a window saves %d FLOPs, want %d", got, want)
	}
}

func TestAttentionMistakes(t *testing.T) {
	for _, x := range []struct {
		a     Attention
		field string
	}{{Attention{Kind: "lokal", Window: 3}, "attention.kind"}, {Attention{Kind: AttentionLocal}, "attention.window"}, {Attention{Kind: AttentionStrided, Window: 3}, "attention.stride"}} {
		c := small
		c.Attention = x.a
		_, err := New(c, nil)
		if mistake(err, x.field) == nil {
			t.Errorf("%+v: %v, want a mistake in %s", x.a, err, x.field)
		}
	}
}
