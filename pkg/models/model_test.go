package models

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// small is a VLA whose every dimension differs from the others.
var small = Config{Kind: VLA, VocabSize: 11, ImageSize: 12, PatchSize: 4, Channels: 3, DModel: 16, NHeads: 2, NLayers: 4, DFF: 24, ActionDim: 5, MaxLen: 9, PadToken: 0}

func build(t *testing.T, c Config) *Model {
	t.Helper()
	m, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Init(7)
	return m
}

// The reference's default model: 34,646,023 parameters, name by name.
func TestDefaultShapes(t *testing.T) {
	b, err := os.ReadFile("testdata/vla_default_shapes.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Parameters int              `json:"parameters"`
		Shapes     map[string][]int `json:"shapes"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Kind: VLA, VocabSize: 10000, ImageSize: 224, PatchSize: 16, Channels: 3, DModel: 512, NHeads: 8, NLayers: 6, ActionDim: 7, Dropout: 0.1, PadToken: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Params().Count(); n != want.Parameters || n != 34646023 {
		t.Errorf("%d parameters, want %d", n, want.Parameters)
	}
	if n := len(m.Params().List()); n != len(want.Shapes) {
		t.Errorf("%d tensors, want %d", n, len(want.Shapes))
	}
	for _, p := range m.Params().List() {
		if !slices.Equal(p.Shape, want.Shapes[p.Name]) {
			t.Errorf("%s has shape %v, want %v", p.Name, p.Shape, want.Shapes[p.Name])
		}
	}
}

// First values follow PyTorch's default distributions: bounds and moments.
func TestInit(t *testing.T) {
	c := small
	c.DModel, c.VocabSize = 64, 500
	m := build(t, c)
	for name, want := range map[string]struct{ bound, std float64 }{
		"language_encoder.embedding.weight":                               {math.Inf(1), 1},
		"vision_encoder.pos_embedding":                                    {math.Inf(1), 1},
		"vision_encoder.patch_embedding.weight":                           {1 / math.Sqrt(48), 1 / math.Sqrt(3*48)},
		"vision_encoder.transformer_blocks.0.attention.in_proj_weight":    {math.Sqrt(6.0 / 256), math.Sqrt(6.0 / 256 / 3)},
		"vision_encoder.transformer_blocks.1.attention.in_proj_bias":      {0, 0},
		"language_encoder.transformer_blocks.0.attention.out_proj.bias":   {0, 0},
		"language_encoder.transformer_blocks.0.attention.out_proj.weight": {1.0 / 8, 1 / math.Sqrt(3*64)},
		"cross_modal_fusion.transformer_blocks.0.feed_forward.3.weight":   {1 / math.Sqrt(24), 1 / math.Sqrt(3*24)},
		"cross_modal_fusion.action_head.0.weight":                         {1.0 / 8, 1 / math.Sqrt(3*64)},
	} {
		p := m.Params().ByName(name)
		if p == nil {
			t.Fatalf("no parameter %s", name)
		}
		sum, sq := 0.0, 0.0
		for _, x := range p.Value {
			if !(math.Abs(float64(x)) <= want.bound*(1+1e-6)) {
				t.Fatalf("%s holds %v, beyond %v", name, x, want.bound)
			}
			sum += float64(x)
			sq += float64(x) * float64(x)
		}
		n := float64(len(p.Value))
		mean, std := sum/n, math.Sqrt(sq/n)
		if math.Abs(mean) > 5*want.std/math.Sqrt(n) || math.Abs(std-want.std) > 5*want.std/math.Sqrt(n) {
			t.Errorf("%s has mean %.4f and deviation %.4f, want 0 and %.4f", name, mean, std, want.std)
		}
	}
	for i, x := range m.Params().ByName("vision_encoder.transformer_blocks.0.norm1.weight").Value {
		if x != 1 {
			t.Fatalf("norm1.weight[%d] is %v", i, x)
		}
	}
	again, other := build(t, c), build(t, c)
	other.Init(8)
	if !slices.Equal(again.Params().Values(), m.Params().Values()) {
		t.Error("the same seed gives other values")
	}
	if slices.Equal(other.Params().Values(), m.Params().Values()) {
		t.Error("another seed gives the same values")
	}
}

// mistake returns the problem in a key of the model section, or one of its
// elements; nil: there is none.
func mistake(err error, key string) *job.Problem {
	var bad *job.Error
	if errors.As(err, &bad) {
		for i, p := range bad.Problems {
			if k, _, _ := strings.Cut(p.Key, "["); k == "model."+key {
				return &bad.Problems[i]
			}
		}
	}
	return nil
}

func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*Config)
		field string
		text  []string
	}{
		"kind":       {func(c *Config) { c.Kind = "vlaa" }, "kind", []string{"vlaa", "vla"}},
		"odd width":  {func(c *Config) { c.DModel = 15 }, "d_model", []string{"15", "16"}},
		"heads":      {func(c *Config) { c.NHeads = 3 }, "n_heads", []string{"3", "16", "1, 2, 4, 8, 16"}},
		"layers":     {func(c *Config) { c.NLayers = 1 }, "n_layers", []string{"2"}},
		"patch":      {func(c *Config) { c.PatchSize = 5 }, "patch_size", []string{"5", "12"}},
		"vocabulary": {func(c *Config) { c.VocabSize = 0 }, "vocab_size", nil},
		"pad":        {func(c *Config) { c.PadToken = 11 }, "pad_token", []string{"11"}},
		"dropout":    {func(c *Config) { c.Dropout = 1 }, "dropout", []string{"1"}},
		"actions":    {func(c *Config) { c.ActionDim = 0 }, "action_dim", nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := small
			c.edit(&cfg)
			_, err := New(cfg, nil)
			e := mistake(err, c.field)
			if e == nil {
				t.Fatalf("the error is %v, want one of %s", err, c.field)
			}
			for _, w := range c.text {
				if !strings.Contains(e.Text, w) {
					t.Errorf("%q does not say %q", e.Text, w)
				}
			}
		})
	}
}

// batchOf returns a batch of n samples with arbitrary but fixed content.
func batchOf(n int, s Spec, vocab int) *Batch {
	b := NewBatch(n, s)
	x := uint32(1)
	next := func() float32 { x = x*1664525 + 1013904223; return float32(x>>8)/(1<<23) - 1 }
	for _, f := range [][]float32{b.Floats(Images), b.Floats(Actions), b.Floats(VisionFeatures), b.Floats(LanguageFeatures)} {
		for i := range f {
			f[i] = next()
		}
	}
	for _, f := range [][]int32{b.Ints(Instruction), b.Ints(Labels)} {
		for i := range f {
			f[i] = 1 + int32(float32(vocab-1)*(next()+1)/2)
		}
	}
	for i := range b.IDs {
		b.IDs[i] = uint64(100 + i)
	}
	return b
}

func outputs(t *testing.T, m *Model, b *Batch, s Spec) (out, grads []float32) {
	t.Helper()
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	p, err := m.Program(rt, b.N, s, ProgramOptions{Train: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Load(b); err != nil {
		t.Fatal(err)
	}
	grads = make([]float32, m.Params().Len())
	m.Params().BindGrads(grads)
	p.SetStep(1, 2, false)
	p.Forward()
	p.Backward()
	return slices.Clone(p.Output().Data), grads
}

// Padding has no influence, exactly: other values behind the mask and more of
// it change neither output nor any other gradient.
func TestPaddingIsIgnored(t *testing.T) {
	m := build(t, small)
	s := m.Spec(6)
	b := batchOf(3, s, small.VocabSize)
	copy(b.Ints(Instruction), []int32{3, 4, 5, 0, 0, 0, 7, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6})
	out, grads := outputs(t, m, b, s)

	wide := m.Spec(9) // the same instructions with three more of padding
	wb := batchOf(3, wide, small.VocabSize)
	copy(wb.Floats(Images), b.Floats(Images))
	copy(wb.Floats(Actions), b.Floats(Actions))
	clear(wb.Ints(Instruction))
	for i := range 3 {
		copy(wb.Ints(Instruction)[i*9:], b.Ints(Instruction)[i*6:(i+1)*6])
	}
	wout, wgrads := outputs(t, m, wb, wide)
	if !slices.Equal(out, wout) {
		t.Errorf("more padding changes the actions: %v, %v", out, wout)
	}
	for _, p := range m.Params().List() { // row sums group their lanes by position, so gradients agree closely, not in each bit
		for i := range p.Size() {
			a, b := float64(grads[p.Offset+i]), float64(wgrads[p.Offset+i])
			if math.Abs(a-b) > 1e-6+1e-5*math.Abs(a) {
				t.Fatalf("more padding changes the gradient of %s[%d]: %v, %v", p.Name, i, a, b)
			}
		}
	}
	e := m.Params().ByName("language_encoder.embedding.weight")
	for i := range small.DModel {
		if g := grads[e.Offset+i]; g != 0 {
			t.Fatalf("the padding token's embedding has gradient %v", g)
		}
	}
	for i := range small.DModel { // what padding embeds to is nobody's business
		e.Value[i] = 1e3
	}
	changed, cgrads := outputs(t, m, b, s)
	if !slices.Equal(out, changed) || !slices.Equal(grads, cgrads) {
		t.Error("another embedding of the padding token changes outputs or gradients")
	}
}

func TestLoadRefuses(t *testing.T) {
	m := build(t, small)
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	s := m.Spec(4)
	p, err := m.Program(rt, 2, s, ProgramOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := batchOf(2, s, small.VocabSize)
	b.Ints(Instruction)[5] = 11
	var e *TokenError
	if err := p.Load(b); !errors.As(err, &e) || e.Sample != 101 || e.Position != 1 || e.Token != 11 {
		t.Errorf("a token outside the vocabulary gives %v", err)
	}
	if err := p.Load(batchOf(3, s, small.VocabSize)); err == nil {
		t.Error("a batch of another size is loaded")
	}
	if _, err := m.Program(rt, 2, m.Spec(10), ProgramOptions{}); err == nil || !strings.Contains(err.Error(), "max_len") {
		t.Errorf("instructions beyond the positional table give %v", err)
	}
	if _, err := m.Program(rt, 2, Spec{s[0], Known(Actions, 5)}, ProgramOptions{}); err == nil || !strings.Contains(err.Error(), "tokens") {
		t.Errorf("samples without instructions give %v", err)
	}
	if _, err := New(m.Options(), crossEntropy{}); err == nil {
		t.Error("a loss that does not fit is taken")
	}
}

// Dropout's numbers belong to (seed, step, sample): the same sample gets the
// same mask wherever it stands in a batch, another step another one, and
// without training there is none.
func TestDropoutFollowsTheSample(t *testing.T) {
	c := small
	c.Dropout = 0.3
	m := build(t, c)
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	s := m.Spec(4)
	run := func(step uint64, train bool, swap bool) []float32 {
		p, err := m.Program(rt, 2, s, ProgramOptions{Train: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		b := batchOf(2, s, c.VocabSize)
		if swap {
			half := func(x []float32) { h := len(x) / 2; y := slices.Clone(x[:h]); copy(x, x[h:]); copy(x[h:], y) }
			half(b.Floats(Images))
			half(b.Floats(Actions))
			y := slices.Clone(b.Ints(Instruction)[:4])
			copy(b.Ints(Instruction), b.Ints(Instruction)[4:])
			copy(b.Ints(Instruction)[4:], y)
			b.IDs[0], b.IDs[1] = b.IDs[1], b.IDs[0]
		}
		if err := p.Load(b); err != nil {
			t.Fatal(err)
		}
		p.SetStep(5, step, train)
		p.Forward()
		return slices.Clone(p.Output().Data)
	}
	a, b := run(3, true, false), run(3, true, true)
	if !slices.Equal(a[:5], b[5:]) || !slices.Equal(a[5:], b[:5]) {
		t.Error("a sample's dropout depends on its place in the batch")
	}
	if slices.Equal(a, run(4, true, false)) {
		t.Error("two steps share their dropout")
	}
	if slices.Equal(a, run(3, false, false)) || !slices.Equal(run(3, false, false), run(4, false, false)) {
		t.Error("evaluation has dropout")
	}
}

func TestMasks(t *testing.T) {
	if m := LookAheadMask(3); !slices.Equal(m, []uint8{1, 0, 0, 1, 1, 0, 1, 1, 1}) {
		t.Errorf("look-ahead mask %v", m)
	}
	m := make([]uint8, 4)
	paddingMask(m, []int32{5, 0, 6, 0}, 0)
	if !slices.Equal(m, []uint8{1, 0, 1, 0}) {
		t.Errorf("padding mask %v", m)
	}
}

// Where padding ends instructions the first of a row is seen: the answer depends on
// it, and on none behind it.
func TestPaddingThatEnds(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	answers := func(ends bool, tokens ...int32) ([]uint8, []float32) {
		c := small
		c.PadToken, c.PadEnds = 1, ends
		m, err := New(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		m.Init(1)
		spec := m.Spec(len(tokens) / 2)
		p, err := m.Program(rt, 2, spec, ProgramOptions{Forward: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		b := randomBatch(m, 2, spec)
		copy(b.Ints(Instruction), tokens)
		if err := p.Load(b); err != nil {
			t.Fatal(err)
		}
		p.SetStep(1, 0, false)
		p.Forward()
		return slices.Clone(p.Visible()), slices.Clone(p.Output().Data)
	}
	seen, with := answers(true, 2, 3, 1, 1, 1, 2, 2, 2, 3, 2)
	if want := []uint8{1, 1, 1, 0, 0, 1, 1, 1, 1, 1}; !slices.Equal(seen, want) {
		t.Errorf("seen are %v, want %v", seen, want)
	}
	seen, without := answers(false, 2, 3, 1, 1, 1, 2, 2, 2, 3, 2)
	if want := []uint8{1, 1, 0, 0, 0, 1, 1, 1, 1, 1}; !slices.Equal(seen, want) {
		t.Errorf("seen are %v without pad_ends, want %v", seen, want)
	}
	if n := len(with) / 2; slices.Equal(with[:n], without[:n]) || !slices.Equal(with[n:], without[n:]) {
		t.Errorf("answers %v with and %v without: want the first to differ, and the second, which has no padding, not to", with, without)
	}
}

// Every kind trains: the loss of one batch falls under plain gradient descent.
func TestEveryKindLearns(t *testing.T) {
	for _, c := range []Config{small,
		{Kind: ViT, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 1, ActionDim: 3, PadToken: -1},
		{Kind: CrossModal, VisionDim: 6, LanguageDim: 5, DModel: 8, NHeads: 2, NLayers: 1, ActionDim: 3, PadToken: -1},
		{Kind: Encoder, VocabSize: 9, DModel: 8, NHeads: 2, NLayers: 1, MaxLen: 8, PadToken: -1}} {
		t.Run(c.Kind, func(t *testing.T) {
			m := build(t, c)
			s := m.Spec(5)
			if c.Kind == CrossModal {
				s[0].Shape[0], s[1].Shape[0] = 2, 3
			}
			rt := tensor.NewRuntime(1)
			defer rt.Close()
			p, err := m.Program(rt, 4, s, ProgramOptions{Train: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Load(batchOf(4, s, c.VocabSize)); err != nil {
				t.Fatal(err)
			}
			g := make([]float32, m.Params().Len())
			m.Params().BindGrads(g)
			p.SetStep(1, 0, true)
			first := p.Forward()
			for range 100 {
				p.Forward()
				p.Backward()
				w := m.Params().Values()
				for i := range w {
					w[i] -= 0.05 * g[i]
				}
			}
			if last := p.Forward(); !(last < 0.7*first) {
				t.Errorf("the loss went from %v to %v", first, last)
			}
			if c := m.Cost(s); c.TrainFLOPs <= 2*c.ForwardFLOPs || c.ActivationBytes <= 0 {
				t.Errorf("cost %+v", c)
			}
		})
	}
}
