package models

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// memory is a Keeper that counts.
type memory struct {
	of                map[[32]byte]*memoryShelf
	gets, hits, drops int
	wrong             bool // what it gives is not what was put
}

type memoryShelf struct {
	m    *memory
	rows map[[32]byte][]float32
}

func (m *memory) Shelf(p Part) Shelf {
	if m.of == nil {
		m.of = map[[32]byte]*memoryShelf{}
	}
	if m.of[p.ID] == nil {
		m.of[p.ID] = &memoryShelf{m, map[[32]byte][]float32{}}
	}
	return m.of[p.ID]
}

func (s *memoryShelf) Get(key [32]byte, to []float32) bool {
	s.m.gets++
	x, ok := s.rows[key]
	if ok {
		s.m.hits++
		copy(to, x)
		if s.m.wrong {
			to[0]++
		}
	}
	return ok
}

func (s *memoryShelf) Put(key [32]byte, made []float32) { s.rows[key] = slices.Clone(made) }
func (s *memoryShelf) Drop()                            { clear(s.rows); s.m.drops++ }

var _ Keeper = (*memory)(nil)

// small encoders of others, of all that blocks can be.
var (
	smallBERT = &Backbone{Family: "bert", Width: 20, Layers: 2, Heads: 2, Groups: 2, Head: 10, Hidden: 30, Norm: NormLayer, Post: true, Eps: 1e-12, Activation: "gelu", Bias: true, NormIn: true, Vocab: 50, Positions: 16, Types: 2}
	smallT5   = &Backbone{Family: "t5", Width: 20, Layers: 3, Heads: 2, Groups: 2, Head: 8, Hidden: 30, Norm: NormRMS, Eps: 1e-6, Activation: "relu", Buckets: 8, Distance: 16, NormOut: true, Vocab: 50}
	smallGPT  = &Backbone{Family: "llama", Width: 24, Layers: 2, Heads: 4, Groups: 2, Head: 6, Hidden: 30, Norm: NormRMS, Eps: 1e-5, Activation: "silu", Gated: true, Causal: true, Rotary: 10000, NormOut: true, Vocab: 50}
	smallDINO = &Backbone{Family: "dinov2", Width: 24, Layers: 3, Heads: 2, Groups: 2, Head: 12, Hidden: 40, Norm: NormLayer, Eps: 1e-6, Activation: "gelu", Bias: true, LayerScale: true, Patch: 4, Channels: 3, Grid: 6, PatchBias: true, Class: true, ClassPos: true, Registers: 2, NormOut: true}
	smallSigL = &Backbone{Family: "siglip", Width: 24, Layers: 2, Heads: 2, Groups: 2, Head: 12, Hidden: 40, Norm: NormLayer, Eps: 1e-6, Activation: "gelu_tanh", Bias: true, Patch: 4, Channels: 3, Grid: 6, PatchBias: true, NormOut: true}
)

// of is a vla of two cameras with those towers, and without dropout.
func of(vision, language Tower, change func(c *Config)) Config {
	c := Config{Kind: VLA, VocabSize: 50, ImageSize: 24, PatchSize: 4, Channels: 3, DModel: 20, NHeads: 2, NLayers: 4, DFF: 33, ActionDim: 3, StateDim: 2, PadToken: 0,
		Vision: vision, Language: language, VisionTokens: TokensPatch, Sees: Observation{Cameras: 2, History: 2, State: true}}
	if change != nil {
		change(&c)
	}
	return c
}

var (
	lookAndRead = []string{"vision_encoder.*", "language_encoder.*"}
	vit         = Tower{Kind: VisionViT}
)

// frozenCase is a model of which something is frozen, and what of it is apart.
type frozenCase struct {
	name   string
	cfg    Config
	freeze []string
	parts  string
}

var frozenCases = []frozenCase{
	{"vit", of(vit, Tower{}, nil), lookAndRead, "vision_encoder 3/3, language_encoder 3/3"},
	{"cls", of(vit, Tower{}, func(c *Config) { c.VisionTokens = TokensCLS }), lookAndRead, "vision_encoder 3/3, language_encoder 3/3"},
	{"cnn", of(Tower{Kind: VisionCNN}, Tower{}, nil), lookAndRead, "vision_encoder 1/1, language_encoder 3/3"},
	{"cross", of(vit, Tower{}, func(c *Config) { c.Fusion = fusionCross }), lookAndRead, "vision_encoder 3/3, language_encoder 3/3"},
	{"first layers", of(vit, Tower{}, func(c *Config) { c.NLayers = 6 }), []string{"vision_encoder.patch*", "vision_encoder.cls_token", "vision_encoder.pos*", "vision_encoder.transformer_blocks.[01].*", "language_encoder.embedding.*"}, "vision_encoder 3/4"},
	{"dropout", of(vit, Tower{}, func(c *Config) { c.Dropout = 0.1 }), lookAndRead, "vision_encoder 3/3 draws, language_encoder 3/3 draws"},
	{"dinov2 and bert", of(Tower{From: "a", Backbone: smallDINO}, Tower{From: "b", Backbone: smallBERT}, func(c *Config) { c.Dropout = 0.1 }), lookAndRead, "vision_encoder 6/6, language_encoder 3/3"},
	{"dinov2 cls and t5", of(Tower{From: "a", Backbone: smallDINO}, Tower{From: "b", Backbone: smallT5}, func(c *Config) { c.VisionTokens = TokensCLS }), lookAndRead, "vision_encoder 6/6, language_encoder 5/5"},
	{"siglip and llama", of(Tower{From: "a", Backbone: smallSigL}, Tower{From: "b", Backbone: smallGPT}, nil), lookAndRead, "vision_encoder 5/5, language_encoder 4/4"},
	{"siglip mean and llama", of(Tower{From: "a", Backbone: smallSigL}, Tower{From: "b", Backbone: smallGPT}, func(c *Config) { c.VisionTokens = TokensCLS }), lookAndRead, "vision_encoder 5/5, language_encoder 4/4"},
	{"dinov2 and a sentence", of(Tower{From: "a", Backbone: smallDINO}, Tower{From: "b", Backbone: smallBERT, Pool: PoolMean, Unit: true}, func(c *Config) { c.Fusion = fusionCross }), lookAndRead, "vision_encoder 6/6, language_encoder 4/4"},
	{"bert's class token", of(vit, Tower{From: "b", Backbone: smallBERT, Pool: PoolCLS}, nil), []string{"language_encoder.*"}, "language_encoder 4/4"},
	{"llama's last token", of(vit, Tower{From: "b", Backbone: smallGPT, Pool: PoolLast}, nil), []string{"language_encoder.*"}, "language_encoder 5/5"},
	{"a sentence that trains", of(vit, Tower{From: "b", Backbone: smallBERT, Pool: PoolMean, Unit: true}, nil), []string{"vision_encoder.*"}, "vision_encoder 3/3"},
	{"adapters in the last block", of(Tower{From: "a", Backbone: smallDINO}, Tower{From: "b", Backbone: smallBERT}, func(c *Config) {
		c.LoRA = LoRA{Rank: 2, Match: []string{"vision_encoder.blocks.2.attention*"}, Dropout: 0.1}
	}), lookAndRead, "vision_encoder 3/6, language_encoder 3/3"},
	{"adapters in every block", of(Tower{From: "a", Backbone: smallDINO}, Tower{From: "b", Backbone: smallBERT}, func(c *Config) {
		c.LoRA = LoRA{Rank: 2, Match: []string{"vision_encoder.blocks*feed_forward*"}}
	}), lookAndRead, "language_encoder 3/3"},
	{"nothing", of(vit, Tower{}, nil), nil, ""},
	{"vit alone", Config{Kind: ViT, ImageSize: 24, PatchSize: 4, Channels: 3, DModel: 20, NHeads: 2, NLayers: 2, ActionDim: 3, PadToken: -1}, []string{"vision_encoder.*"}, "vision_encoder 3/3"},
	{"vit with exits", Config{Kind: ViT, ImageSize: 24, PatchSize: 4, Channels: 3, DModel: 20, NHeads: 2, NLayers: 2, ActionDim: 3, PadToken: -1, Exits: []int{1}}, []string{"vision_encoder.*"}, ""},
}

// frozenModel is a model of a case with its first weights.
func frozenModel(t *testing.T, c Config, freeze []string) *Model {
	t.Helper()
	m, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	m.Init(1)
	adapters := m.Params().Adapters()
	for _, p := range m.Params().List() {
		for _, pattern := range freeze {
			match := like(pattern, p.Name)
			if head, tail, ok := strings.Cut(pattern, "[01]"); ok {
				match = like(head+"0"+tail, p.Name) || like(head+"1"+tail, p.Name)
			}
			p.Frozen = p.Frozen || match && !adapters[p]
		}
		if strings.HasSuffix(p.Name, "lora_B.weight") { // which begin as zeros
			for i := range p.Value {
				p.Value[i] = float32(i%5)/8 - 0.2
			}
		}
	}
	return m
}

func saidOf(parts []Part) string {
	var words []string
	for _, p := range parts {
		w := fmt.Sprintf("%s %d/%d", p.Name, p.Steps, p.Of)
		if p.Drops {
			w += " draws"
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

// frozenBatches are three batches of n: the second has samples of the first, in other
// places, and the instructions are few. Words end in padding.
func frozenBatches(m *Model, n int, spec Spec) (all []*Batch) {
	for k := range 3 {
		b := randomBatch(m, n, spec)
		for i := range b.IDs {
			b.IDs[i] = uint64(k*n + i)
		}
		for v, f := range spec {
			switch {
			case f.Name == Past:
				for i := range b.Values[v].Floats {
					b.Values[v].Floats[i] = float32((i + k) % 2)
				}
			case f.Type == Token:
				for i := range b.Values[v].Ints {
					s, at := i/f.Size(), i%f.Size()
					b.Values[v].Ints[i] = int32(1 + (s%2+3*at+k)%40)
					if at >= f.Size()-s%2-1 {
						b.Values[v].Ints[i] = 0
					}
				}
			case k == 0:
				for i := range b.Values[v].Floats {
					b.Values[v].Floats[i] += float32(i/f.Size()) / 4
				}
			case k == 1:
				size := f.Size()
				copy(b.Values[v].Floats, all[0].Values[v].Floats[size:])
				copy(b.Values[v].Floats[(n-1)*size:], all[0].Values[v].Floats[:size])
				b.Values[v].Floats[0] += 0.5
			}
		}
		all = append(all, b)
	}
	return all
}

// sumOf runs the batches twice and returns the SHA-256 of all losses and gradients of
// what is trained.
func sumOf(t *testing.T, m *Model, rt *tensor.Runtime, n int, o ProgramOptions) string {
	t.Helper()
	spec := m.Spec(6)
	p, err := m.Program(rt, n, spec, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	h := sha256.New()
	grads := make([]float32, m.Params().Len())
	m.Params().BindGrads(grads)
	for round := range 2 {
		for k, b := range frozenBatches(m, n, spec) {
			if err := p.Load(b); err != nil {
				t.Fatal(err)
			}
			p.SetStep(3, uint64(3*round+k), o.Train)
			fmt.Fprintln(h, p.Forward())
			if !o.Train {
				h.Write(octets.Bytes(p.Output().Data))
				continue
			}
			for i := range p.Losses() {
				p.BackwardOf(i)
				for _, w := range m.Params().List() {
					if !w.Frozen {
						h.Write(octets.Bytes(w.Grad))
					}
				}
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// What is frozen is computed apart with the bits that it has among the rest: losses and
// gradients are the same with a Keeper and without, for any number of threads, at every
// CPU level, in both precisions, with recomputation; and in evaluation outputs are.
func TestFrozenParts(t *testing.T) {
	for _, c := range frozenCases {
		if testing.Short() && !slices.Contains([]string{"vit", "dinov2 and bert"}, c.name) { // which have most of what the others have
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			m := frozenModel(t, c.cfg, c.freeze)
			spec := m.Spec(6)
			if got := saidOf(m.Parts(spec)); got != c.parts {
				t.Fatalf("apart are %q, want %q", got, c.parts)
			}
			apart := c.parts != "" && !strings.Contains(c.parts, "draws")
			for _, bf16 := range []bool{false, true} {
				m.SetBF16(bf16)
				var want, outputs string
				rt := tensor.NewRuntime(1)
				keeper := &memory{}
				for name, o := range map[string]ProgramOptions{"inline": {Train: true, inline: true}, "apart": {Train: true}, "recomputed": {Train: true, Recompute: true}, "kept": {Train: true, Keeper: keeper}} {
					got := sumOf(t, m, rt, 3, o)
					if want == "" {
						want = got
					}
					if got != want {
						t.Errorf("bf16 %v, %s: other losses or gradients", bf16, name)
					}
				}
				if (keeper.hits > 0) != apart || keeper.hits > 0 && 2*keeper.hits < keeper.gets {
					t.Errorf("%d of %d results were kept", keeper.hits, keeper.gets)
				}
				for name, o := range map[string]ProgramOptions{"": {Forward: true}, "settled": {Forward: true, Settled: true, Keeper: &memory{}}, "kept in training": {Forward: true, Keeper: keeper}, "kept": {Forward: true, Keeper: &memory{}}} {
					got := sumOf(t, m, rt, 3, o)
					if outputs == "" {
						outputs = got
					}
					if got != outputs {
						t.Errorf("bf16 %v, %s: other outputs in evaluation", bf16, name)
					}
				}
				rt.Close()
				rt = tensor.NewRuntime(2)
				levels := tensor.CPULevels()
				if testing.Short() || !slices.Contains([]string{"vit", "cnn", "dinov2 and bert", "dinov2 cls and t5", "siglip and llama", "dinov2 and a sentence", "llama's last token", "a sentence that trains"}, c.name) { // the others have no operation that these have not
					levels = levels[len(levels)-1:]
				}
				for _, level := range levels {
					plain := []string{"vit", "cnn", "dinov2 and bert", "siglip and llama"} // the others have no product that these have not
					if bf16 {
						plain = plain[:2] // it takes longest for them; internal/kernel holds its products against tiles'
					}
					if level == "generic" && os.Getenv("VLARING_LONG") == "" && !slices.Contains(plain, c.name) {
						continue
					}
					if err := tensor.SetCPU(level); err != nil {
						t.Fatal(err)
					}
					if got := sumOf(t, m, rt, 3, ProgramOptions{Train: true, Keeper: &memory{}}); got != want {
						t.Errorf("bf16 %v, %s, two threads: other losses or gradients", bf16, level)
					}
					tensor.SetCPU("")
				}
				rt.Close()
			}
		})
	}
}

// The test above would see a result that is not the right one.
func TestFrozenPartsAreUsed(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	m := frozenModel(t, frozenCases[0].cfg, lookAndRead)
	if sumOf(t, m, rt, 3, ProgramOptions{Train: true, Keeper: &memory{wrong: true}}) == sumOf(t, m, rt, 3, ProgramOptions{Train: true}) {
		t.Error("wrong results that were kept changed nothing")
	}
}

// A result is named by all that it depends on: weights, precision, sizes; and by
// nothing of the rest of the model, whose change keeps it.
func TestFrozenPartIDs(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	ids := func(c Config, change func(m *Model)) (ids [][32]byte) {
		m := frozenModel(t, c, lookAndRead)
		if change != nil {
			change(m)
		}
		keeper := &memory{}
		sumOf(t, m, rt, 2, ProgramOptions{Train: true, Keeper: keeper})
		for id := range keeper.of {
			ids = append(ids, id)
		}
		return ids
	}
	shared := func(a, b [][32]byte) (n int) {
		for _, x := range a {
			if slices.Contains(b, x) {
				n++
			}
		}
		return n
	}
	base := of(vit, Tower{}, nil)
	was := ids(base, nil)
	for name, c := range map[string]struct {
		cfg    Config
		change func(m *Model)
		want   int
	}{
		"the same":              {base, nil, 2},
		"another fusion":        {of(vit, Tower{}, func(c *Config) { c.Fusion = fusionCross }), nil, 2},
		"bf16":                  {base, func(m *Model) { m.SetBF16(true) }, 0},
		"a weight of vision":    {base, func(m *Model) { m.Params().ByName("vision_encoder.cls_token").Value[3] += 1e-7 }, 1},
		"a weight of language":  {base, func(m *Model) { m.Params().ByName("language_encoder.embedding.weight").Value[3] += 1e-7 }, 1},
		"a weight of the head":  {base, func(m *Model) { m.Params().ByName("cross_modal_fusion.action_head.0.bias").Value[3] += 1 }, 2},
		"the vector alone":      {of(vit, Tower{}, func(c *Config) { c.VisionTokens = TokensCLS }), nil, 1},
		"other heads":           {of(vit, Tower{}, func(c *Config) { c.NHeads = 4 }), nil, 0},
		"what tokens see":       {of(vit, Tower{}, func(c *Config) { c.Attention = Attention{Kind: "local", Window: 2} }), nil, 0},
		"no padding, no hiding": {of(vit, Tower{}, func(c *Config) { c.PadToken = -1 }), nil, 1},
	} {
		if got := shared(was, ids(c.cfg, c.change)); got != c.want {
			t.Errorf("%s: %d of the IDs are the same, want %d", name, got, c.want)
		}
	}
}

// What becomes of the words is a part of a result's name: other sentences of one encoder
// are other results, and those of the pictures stay.
func TestFrozenSentenceIDs(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	seen := map[[32]byte]string{}
	for name, tower := range map[string]Tower{"tokens": {}, "the mean": {Pool: PoolMean}, "as a unit vector": {Pool: PoolMean, Unit: true}, "the class token": {Pool: PoolCLS}} {
		tower.From, tower.Backbone = "b", smallBERT
		keeper := &memory{}
		sumOf(t, frozenModel(t, of(vit, tower, nil), []string{"language_encoder.*"}), rt, 2, ProgramOptions{Train: true, Keeper: keeper})
		for id := range keeper.of {
			if seen[id] != "" {
				t.Errorf("%s and %s have one name", name, seen[id])
			}
			seen[id] = name
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d names, want 4", len(seen))
	}
}

// Weights that are replaced have other results; and what was made of weights that
// changed by themselves is dropped.
func TestFrozenWeightsChange(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	m := frozenModel(t, of(vit, Tower{}, nil), lookAndRead)
	keeper := &memory{}
	spec := m.Spec(6)
	p, err := m.Program(rt, 2, spec, ProgramOptions{Train: true, Keeper: keeper})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b := frozenBatches(m, 2, spec)[0]
	loss := func() float64 {
		if err := p.Load(b); err != nil {
			t.Fatal(err)
		}
		p.SetStep(1, 1, true)
		return p.Forward()
	}
	was := loss()
	p.WeightsChange() // as a restore does
	w := m.Params().ByName("vision_encoder.cls_token").Value
	w[0]++
	now := loss()
	if now == was || keeper.drops != 0 {
		t.Errorf("with other weights the loss is %v as before (%v), %d shelves were dropped", now, was, keeper.drops)
	}
	if again := loss(); again != now || keeper.hits == 0 {
		t.Errorf("%v and then %v, %d kept", now, again, keeper.hits)
	}
	w[0]-- // without a word: then a state comes that is as it should be
	p.WeightsChange()
	if keeper.drops != 1 {
		t.Errorf("%d shelves were dropped, want that of the weights that were not what they had been", keeper.drops)
	}
	if again := loss(); again != was {
		t.Errorf("with the first weights again the loss is %v, was %v", again, was)
	}
}

// A program that keeps results allocates little and copies none of the encoder's
// activations: its tape is smaller than with the encoder on it.
func TestFrozenPartsTakeLess(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	m := frozenModel(t, of(Tower{From: "a", Backbone: smallDINO}, Tower{From: "b", Backbone: smallBERT}, nil), lookAndRead)
	bytes := map[bool]int64{}
	for _, inline := range []bool{false, true} {
		p, err := m.Program(rt, 8, m.Spec(6), ProgramOptions{Train: true, inline: inline})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Load(frozenBatches(m, 8, m.Spec(6))[0]); err != nil {
			t.Fatal(err)
		}
		p.SetStep(1, 1, true)
		p.Forward()
		bytes[inline] = p.MemoryBytes()
		p.Close()
	}
	if 2*bytes[false] > bytes[true] {
		t.Errorf("apart it takes %d bytes, with the encoders on its tape %d", bytes[false], bytes[true])
	}
}

// What is frozen costs a forward, and keeps no activations for a backward.
func TestFrozenCost(t *testing.T) {
	for _, c := range frozenCases {
		spec := frozenModel(t, c.cfg, nil).Spec(6)
		all, less := frozenModel(t, c.cfg, nil).Cost(spec), frozenModel(t, c.cfg, c.freeze).Cost(spec)
		apart := c.parts != "" && !strings.Contains(c.parts, "draws")
		if less.ForwardFLOPs != all.ForwardFLOPs || (less.TrainFLOPs < all.TrainFLOPs) != apart || (less.ActivationBytes < all.ActivationBytes) != apart ||
			less.TrainFLOPs <= less.ForwardFLOPs || less.ActivationBytes <= 0 {
			t.Errorf("%s: %+v, with nothing frozen %+v", c.name, less, all)
		}
	}
}

// Results that are kept on disks must not outlive the arithmetic that made them: where
// any of these sums changes, the bits of an encoder have moved, and arithmetic is to be
// raised by one, with the new sums here.
func TestArithmeticIsNamed(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	if arithmetic != 1 {
		t.Fatal("arithmetic was raised: put the new sums here, and its number")
	}
	for name, want := range map[string][2]string{
		"vit":               {"7645472c3055514e", "ae8f096e80f2165e"},
		"cnn":               {"881f919e68eb8b03", "4a566ffe1a1c88eb"},
		"dinov2 and bert":   {"24eec1cb57c5de01", "598881453a30464d"},
		"dinov2 cls and t5": {"19d4f8de5e416cfd", "8751a6cb78cc8ca8"},
		"siglip and llama":  {"85f5b6c5dd2903f8", "d1ed54c9b85cb75b"},
	} {
		c := frozenCases[slices.IndexFunc(frozenCases, func(c frozenCase) bool { return c.name == name })]
		m := frozenModel(t, c.cfg, c.freeze)
		for i, bf16 := range []bool{false, true} {
			m.SetBF16(bf16)
			keeper := &memory{}
			sumOf(t, m, rt, 3, ProgramOptions{Train: true, Keeper: keeper})
			var rows []string
			for _, s := range keeper.of {
				for key, row := range s.rows {
					rows = append(rows, string(key[:])+string(octets.Bytes(row)))
				}
			}
			slices.Sort(rows)
			sum := sha256.Sum256([]byte(strings.Join(rows, "")))
			if got := hex.EncodeToString(sum[:8]); got != want[i] {
				t.Errorf("%s, bf16 %v: %s, want %s", name, bf16, got, want[i])
			}
		}
	}
}

// BenchmarkFrozen is a micro-batch of 8 pictures of 224 pixels and 16 words, one thread,
// of a policy with ViT-S/16 and MiniLM's encoder, both frozen, before a fusion of two
// blocks of 256: encoders on the program's tape with the rest, apart from it, and kept.
// The three take turns, and what counts is their CPU time, which others' work on the
// machine changes least.
func BenchmarkFrozen(b *testing.B) {
	small := &Backbone{Family: "timm_vit", Width: 384, Layers: 12, Heads: 6, Groups: 6, Head: 64, Hidden: 1536, Norm: NormLayer, Eps: 1e-6, Activation: "gelu", Bias: true, Patch: 16, Channels: 3, Grid: 14, PatchBias: true, Class: true, ClassPos: true, NormOut: true}
	words := &Backbone{Family: "bert", Width: 384, Layers: 6, Heads: 12, Groups: 12, Head: 32, Hidden: 1536, Norm: NormLayer, Post: true, Eps: 1e-12, Activation: "gelu", Bias: true, NormIn: true, Vocab: 30522, Positions: 512, Types: 2}
	for _, tokens := range []string{TokensCLS, TokensPatch} {
		for _, bf16 := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/bf16=%v", tokens, bf16), func(b *testing.B) {
				c := Config{Kind: VLA, ImageSize: 224, PatchSize: 16, Channels: 3, DModel: 256, NHeads: 8, NLayers: 4, ActionDim: 7, Dropout: 0.1, PadToken: 0, VisionTokens: tokens,
					Vision: Tower{From: "a", Backbone: small}, Language: Tower{From: "b", Backbone: words}, VocabSize: 30522}
				m, err := New(c, nil)
				if err != nil {
					b.Fatal(err)
				}
				defer m.Close()
				m.Init(1)
				m.SetBF16(bf16)
				for _, p := range m.Params().List() {
					p.Frozen = like("vision_encoder.*", p.Name) || like("language_encoder.*", p.Name)
				}
				rt := tensor.NewRuntime(1)
				defer rt.Close()
				m.Params().BindGrads(tensor.Floats(m.Params().Len()))
				spec := m.Spec(16)
				batch := randomBatch(m, 8, spec)
				ways := []ProgramOptions{{Train: true, inline: true}, {Train: true}, {Train: true, Keeper: &memory{}}}
				var programs []*Program
				step := func(p *Program, n int) {
					if err := p.Load(batch); err != nil {
						b.Fatal(err)
					}
					p.SetStep(1, uint64(n), true)
					p.Forward()
					p.Backward()
				}
				for _, o := range ways {
					p, err := m.Program(rt, 8, spec, o)
					if err != nil {
						b.Fatal(err)
					}
					defer p.Close()
					step(p, 0)
					programs = append(programs, p)
				}
				spent := make([]time.Duration, len(ways))
				for i := range b.N {
					for k, p := range programs {
						began := cpuTime(b)
						step(p, i)
						spent[k] += cpuTime(b) - began
					}
				}
				for k, name := range []string{"inline", "apart", "kept"} {
					b.ReportMetric(float64(spent[k].Milliseconds())/float64(b.N), name+"-cpu-ms")
					b.ReportMetric(float64(programs[k].MemoryBytes())/(1<<20), name+"-MiB")
				}
			})
		}
	}
}

// cpuTime is what this process has taken of all CPUs.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
