package models

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// A program without Backward has the outputs of one with it, also those behind
// exits and the maps of attention, in a part of the memory; and says so to
// whoever calls Backward.
func TestForwardOnly(t *testing.T) {
	all := map[string]Config{
		"vla":         {Kind: VLA, VocabSize: 9, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 6, ActionDim: 3, PadToken: 0},
		"cross modal": {Kind: CrossModal, VisionDim: 5, LanguageDim: 7, DModel: 8, NHeads: 2, NLayers: 2, ActionDim: 3, PadToken: -1},
		"copy":        {Kind: Encoder, VocabSize: 9, DModel: 8, NHeads: 2, NLayers: 2, MaxLen: 8, PadToken: -1},
	}
	for name, c := range variants {
		all[name] = c
	}
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			m := build(t, c)
			s := m.Spec(5)
			if c.Kind == CrossModal {
				s[0].Shape[0], s[1].Shape[0] = 4, 5
			}
			attends := c.Kind != LSTM
			opt := ProgramOptions{Exits: true, KeepAttention: attends, features: true}
			want := program(t, m, 4, s, opt)
			opt.Forward = true
			got := program(t, m, 4, s, opt)
			want.SetStep(0, 0, false)
			for range 2 { // the second finds what the first left in shared memory
				got.SetStep(0, 0, false)
				if a, b := want.Forward(), got.Forward(); a != b {
					t.Errorf("the loss is %v, without Backward %v", a, b)
				}
				same := func(what string, a, b []float32) {
					t.Helper()
					if len(a) == 0 || len(a) != len(b) {
						t.Fatalf("%s: %d and %d values", what, len(a), len(b))
					}
					for i := range a {
						if a[i] != b[i] {
							t.Fatalf("%s: value %d is %v, without Backward %v", what, i, a[i], b[i])
						}
					}
				}
				same("output", want.Output().Data, got.Output().Data)
				if f := want.feature; f != nil {
					same("features", f.Data, got.feature.Data)
				}
				for i, e := range want.Exits() {
					same("exit", e.Out.Data, got.Exits()[i].Out.Data)
				}
				for i, a := range want.Attention() {
					same(a.Name, a.Data, got.Attention()[i].Data)
				}
				for k := range len(want.Exits()) + 1 { // in stages too
					got.ForwardStage(k)
				}
				same("output in stages", want.Output().Data, got.Output().Data)
			}
			if a, b := want.MemoryBytes(), got.MemoryBytes(); b > a*3/4 {
				t.Errorf("it takes %d bytes, with Backward %d", b, a)
			}
			defer func() {
				if _, ok := recover().(*tensor.ShapeError); !ok {
					t.Error("Backward ran")
				}
			}()
			got.Backward()
		})
	}
}
