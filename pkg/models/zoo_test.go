package models

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// variants are the choices within the kinds.
var variants = map[string]Config{
	"lstm":        {Kind: LSTM, VocabSize: 9, DModel: 8, NLayers: 2, PadToken: -1},
	"cnn":         {Kind: ViT, Vision: Tower{Kind: VisionCNN}, ImageSize: 16, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 1, NLayers: 1, ActionDim: 3, PadToken: -1},
	"patches":     {Kind: VLA, VisionTokens: TokensPatch, VocabSize: 9, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 2, ActionDim: 3, PadToken: 0},
	"cnn patches": {Kind: VLA, Vision: Tower{Kind: VisionCNN}, VisionTokens: TokensPatch, VocabSize: 9, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 2, ActionDim: 3, PadToken: 0},
	"exits":       {Kind: VLA, Exits: []int{1, 2}, VocabSize: 9, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 6, ActionDim: 3, PadToken: 0},
	"vit exits":   {Kind: ViT, Exits: []int{1}, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 2, ActionDim: 3, PadToken: -1},
	"token exits": {Kind: Encoder, Exits: []int{1}, VocabSize: 9, DModel: 8, NHeads: 2, NLayers: 2, MaxLen: 8, PadToken: -1},
	"hint":        {Kind: ViT, HintDim: 5, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 1, ActionDim: 3, PadToken: -1},
}

func program(t *testing.T, m *Model, n int, s Spec, opt ProgramOptions) *Program {
	t.Helper()
	rt := tensor.NewRuntime(2)
	t.Cleanup(rt.Close)
	p, err := m.Program(rt, n, s, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Load(batchOf(n, s, m.opts.Wants().Vocab())); err != nil {
		t.Fatal(err)
	}
	m.Params().BindGrads(make([]float32, m.Params().Len()))
	return p
}

// Every variant trains: the loss of one batch falls under plain gradient
// descent, every parameter has a part in it, and the cost is counted.
func TestVariantsLearn(t *testing.T) {
	for name, c := range variants {
		t.Run(name, func(t *testing.T) {
			m := build(t, c)
			s := m.Spec(5)
			p := program(t, m, 4, s, ProgramOptions{Train: true})
			p.SetStep(1, 0, true)
			first := p.Forward()
			p.Backward()
			for _, x := range m.Params().List() {
				if strings.HasPrefix(x.Name, "distill_projection") != !slices.ContainsFunc(x.Grad, func(g float32) bool { return g != 0 }) {
					t.Errorf("%s has the gradient %v", x.Name, x.Grad)
				}
			}
			rate := float32(0.05)
			if c.Kind == LSTM { // two squashed layers deep, gradients are small
				rate = 2
			}
			for range 100 {
				p.Forward()
				p.Backward()
				for _, x := range m.Params().List() {
					for i, g := range x.Grad {
						x.Value[i] -= rate * g
					}
				}
			}
			if last := p.Forward(); !(last < 0.8*first) {
				t.Errorf("the loss went from %v to %v", first, last)
			}
			if c := m.Cost(s); c.TrainFLOPs <= 2*c.ForwardFLOPs || c.ActivationBytes <= 0 {
				t.Errorf("cost %+v", c)
			}
		})
	}
}

// The loss with exits is the sum of the losses that each exit has by itself,
// and stages of Forward give the outputs of one Forward.
func TestExits(t *testing.T) {
	c := variants["exits"]
	c.ExitWeights = []float64{0.5, 2}
	m := build(t, c)
	s := m.Spec(5)
	all := program(t, m, 3, s, ProgramOptions{Train: true})
	all.SetStep(1, 0, false)
	total := all.Forward()
	if n := len(all.Exits()); n != 2 || all.Exits()[0].Layer != 1 || all.Exits()[1].Layer != 2 {
		t.Fatalf("exits %+v", all.Exits())
	}
	mse := func(out []float32) (sum float64) {
		b := batchOf(3, s, m.opts.Wants().Vocab())
		for i, x := range out {
			sum += math.Pow(float64(x-b.Floats(Actions)[i]), 2)
		}
		return sum / float64(len(out))
	}
	outs := [][]float32{slices.Clone(all.Exits()[0].Out.Data), slices.Clone(all.Exits()[1].Out.Data), slices.Clone(all.Output().Data)}
	if want := 0.5*mse(outs[0]) + 2*mse(outs[1]) + mse(outs[2]); math.Abs(total-want) > 1e-6*want {
		t.Errorf("the loss is %v, want %v", total, want)
	}
	if slices.Equal(outs[0], outs[1]) || slices.Equal(outs[1], outs[2]) {
		t.Error("two exits say the same")
	}
	staged := program(t, m, 3, s, ProgramOptions{Exits: true})
	staged.SetStep(1, 0, false)
	for k, want := range outs {
		staged.ForwardStage(k)
		got := staged.Output().Data
		if k < 2 {
			got = staged.Exits()[k].Out.Data
		}
		if !slices.Equal(got, want) {
			t.Errorf("stage %d gives %v, want %v", k, got, want)
		}
	}
	plain := program(t, m, 3, s, ProgramOptions{})
	plain.SetStep(1, 0, false)
	plain.Forward()
	if len(plain.Exits()) != 0 || !slices.Equal(plain.Output().Data, outs[2]) {
		t.Error("a program without exits has some, or another output")
	}
	c.ExitWeights = []float64{1}
	if _, err := New(c, nil); mistake(err, "exit_weights") == nil {
		t.Errorf("one weight for two exits: %v", err)
	}
}

// A picture moved by the halvings' stride gives the cnn's map moved by one
// place, away from the edges: what a vision transformer does not have.
func TestConvolutionsMove(t *testing.T) {
	const side, patch = 32, 4
	c := Config{ImageSize: side, PatchSize: patch, Channels: 1, DModel: 8, NLayers: 1}
	b := NewBuilder()
	e := NewConvEncoder(b, "", c, false)
	b.Params().Seal()
	b.Init(3)
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	tape := tensor.NewTape(rt, b.Params())
	x := tape.Input(2, 1, side, side)
	y := e.Map(&Pass{Tape: tape}, x)
	tape.Seal()
	defer tape.Close()
	noise := batchOf(1, Spec{Known(Images, 1, side, side)}, 1).Floats(Images)
	for r := range side {
		for k := range side {
			x.Data[r*side+k] = noise[r*side+k]
			if r >= patch && k >= patch {
				x.Data[(side+r)*side+k] = noise[(r-patch)*side+k-patch]
			}
		}
	}
	tape.Forward()
	n := side / patch
	at := func(s, r, k int) []float32 { return y.Data[((s*n+r)*n+k)*8 : ((s*n+r)*n+k+1)*8] }
	moved := 0
	for r := 3; r < n-4; r++ {
		for k := 3; k < n-4; k++ {
			if !slices.Equal(at(0, r, k), at(1, r+1, k+1)) {
				t.Errorf("place %d, %d of the map is %v, of the moved picture's %v", r, k, at(0, r, k), at(1, r+1, k+1))
			}
			moved++
		}
	}
	if moved == 0 || slices.Equal(at(0, 3, 3), at(0, 3, 4)) {
		t.Error("nothing was compared, or the map is flat")
	}
}

// Distillation's loss is the weighted sum of its parts, for tokens and for
// actions, with the teacher's answers from the same batch.
func TestDistillation(t *testing.T) {
	student, teacher := variants["lstm"], variants["token exits"]
	student.HintDim = teacher.DModel
	actions := variants["hint"]
	big := variants["vit exits"]
	actions.HintDim = big.DModel
	for name, c := range map[string]struct{ student, teacher Config }{"tokens": {student, teacher}, "actions": {actions, big}} {
		t.Run(name, func(t *testing.T) {
			s, m := build(t, c.student), build(t, c.teacher)
			m.Init(99)
			spec := s.Spec(5)
			loss := func(d *Distillation) float64 {
				p := program(t, s, 3, spec, ProgramOptions{Train: true, Distill: d})
				p.SetStep(1, 0, true)
				l := p.Forward()
				if again := p.Forward(); again != l {
					t.Errorf("two forwards give %v and %v", l, again)
				}
				p.Backward()
				return l
			}
			task, soft := loss(nil), loss(&Distillation{Teacher: m, Alpha: 1, Temperature: 2})
			hint := loss(&Distillation{Teacher: m, Temperature: 2, Features: 1}) - task
			got := loss(&Distillation{Teacher: m, Alpha: 0.25, Temperature: 2, Features: 3})
			if want := 0.75*task + 0.25*soft + 3*hint; math.Abs(got-want) > 1e-6*want {
				t.Errorf("the loss is %v, want %v", got, want)
			}
			if !(soft > 0) || !(hint > 0) {
				t.Errorf("soft %v and hint %v", soft, hint)
			}
			other := build(t, c.teacher)
			if loss(&Distillation{Teacher: other, Alpha: 1, Temperature: 2}) == soft {
				t.Error("another teacher teaches the same")
			}
		})
	}
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	for name, d := range map[string]*Distillation{
		"features": {Teacher: build(t, variants["cnn"]), Features: 1}, // of another image size too
		"kind":     {Teacher: build(t, variants["lstm"])},
		"scale":    {Teacher: build(t, variants["hint"]), Scale: []float32{1}, Shift: []float32{0}},
	} {
		if _, err := build(t, variants["vit exits"]).Program(rt, 2, variantSpec(t, "vit exits"), ProgramOptions{Distill: d}); err == nil {
			t.Errorf("%s: the teacher is taken", name)
		}
	}
}

func variantSpec(t *testing.T, name string) Spec { return build(t, variants[name]).Spec(5) }

func TestVariantConfigErrors(t *testing.T) {
	for name, c := range map[string]struct {
		base  string
		edit  func(*Config)
		field string
	}{
		"vision":       {"cnn", func(c *Config) { c.Vision.Kind = "cn" }, "vision"},
		"halving":      {"cnn", func(c *Config) { c.PatchSize, c.ImageSize = 6, 12 }, "patch_size"},
		"tokens":       {"patches", func(c *Config) { c.VisionTokens = "all" }, "vision_tokens"},
		"last exit":    {"exits", func(c *Config) { c.Exits = []int{3} }, "exits"},
		"exit order":   {"exits", func(c *Config) { c.Exits = []int{2, 1} }, "exits"},
		"exit of lstm": {"lstm", func(c *Config) { c.Exits = []int{1} }, "exits"},
		"exit of cnn":  {"cnn", func(c *Config) { c.NLayers, c.Exits = 3, []int{1} }, "exits"},
	} {
		cfg := variants[c.base]
		c.edit(&cfg)
		_, err := New(cfg, nil)
		if e := mistake(err, c.field); e == nil {
			t.Errorf("%s: the error is %v, want one of %s", name, err, c.field)
		}
	}
}

// Labels that are no target have no part in the loss, and other negative
// labels are refused.
func TestNoLabel(t *testing.T) {
	m := build(t, variants["lstm"])
	s := m.Spec(4)
	p := program(t, m, 2, s, ProgramOptions{})
	b := batchOf(2, s, 9)
	for i := range b.Ints(Labels) {
		if i != 5 {
			b.Ints(Labels)[i] = NoLabel
		}
	}
	if err := p.Load(b); err != nil {
		t.Fatal(err)
	}
	p.SetStep(0, 0, false)
	got := p.Forward()
	row := p.Output().Data[5*9 : 6*9]
	sum := 0.0
	for _, x := range row {
		sum += math.Exp(float64(x))
	}
	if want := math.Log(sum) - float64(row[b.Ints(Labels)[5]]); math.Abs(got-want) > 1e-5 {
		t.Errorf("the loss is %v, that of the one target %v", got, want)
	}
	b.Ints(Labels)[0] = -2
	if err := p.Load(b); err == nil {
		t.Error("a label of -2 is taken")
	}
}
