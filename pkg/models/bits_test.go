package models

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"os"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// bitCases are small models that between them use every operation of the
// models, with dropout and padding, and widths that are no multiple of a vector.
var bitCases = []struct {
	name   string
	cfg    Config
	batch  int
	tokens int
	want   string // SHA-256 of the weights after three steps; a change of it is a change of the arithmetic
	bf16   string // the same with products of bfloat16
}{
	{"vla", Config{Kind: VLA, VocabSize: 50, ImageSize: 24, PatchSize: 4, Channels: 3, DModel: 40, NHeads: 4, NLayers: 2, DFF: 75, ActionDim: 7, Dropout: 0.1, PadToken: 0}, 3, 6, "8b1830a7c2bcab6d5e764832202ae86cf219a1d9dc67e06a8077f103ac09d7cd", "f88199c6e1dd585fb20ab9ae0ae52df79ef95c9cfc78914b010586299fdbe250"},
	{"encoder", Config{Kind: Encoder, VocabSize: 37, DModel: 36, NHeads: 2, NLayers: 2, DFF: 70, Dropout: 0.2, PadToken: 0}, 3, 21, "a46e609e65da0aab64d05fe6f4f37382c904f7124f260a58c9591643f6787527", "9b5b75b3735fd8cd582bba49b5696d7c909646ceaba94ebde258a5d37a447b16"},
	{"vit", Config{Kind: ViT, ImageSize: 56, PatchSize: 4, Channels: 3, DModel: 64, NHeads: 2, NLayers: 1, ActionDim: 5, PadToken: -1, Dropout: 0.1}, 2, 0, "df7ce2201d568726d9da58428674c727b001c76ef851e4f7b66ba3b557a82fd6", "01bff4cde9a56b3230c6c429aca9593a799feea41999c8df56368f44df8b98a2"},
	{"lstm", Config{Kind: LSTM, VocabSize: 37, DModel: 36, NLayers: 2, Dropout: 0.2, PadToken: 0}, 3, 9, "5f4fdfb08f1612cffef7a1cd2fc3b264bd05ae41451bf8b2fdc5fbbc464201fb", "34b94f04a37fd35f400cbc12b9e8f4a68f0bed77cabc02b934362fd5480be03c"},
	{"cnn", Config{Kind: VLA, Vision: Tower{Kind: VisionCNN}, VisionTokens: TokensPatch, Exits: []int{1}, VocabSize: 50, ImageSize: 24, PatchSize: 4, Channels: 3, DModel: 20, NHeads: 2, NLayers: 4, DFF: 33, ActionDim: 7, Dropout: 0.1, PadToken: 0}, 3, 6, "15912ceafc28e9e58cb09323a3dd651cb2830b7bd641d4a04de7b5aab1e09593", "5bd6fbd1e1f2efb8951a9b9202c1b1264bce0bbd1dcea45637427b7d74c447b4"},
}

// TestBits trains small models for three steps at every level of this CPU, on
// one thread and on two with recomputation, and compares the weights with each other's and with
// those of the plain-Go engine that came first. Plain Go takes longest by far: without VLARING_LONG=1 it does each case in one of the two ways, in turn.
func TestBits(t *testing.T) {
	for i, c := range bitCases {
		t.Run(c.name, func(t *testing.T) {
			for _, level := range tensor.CPULevels() {
				for threads := 1; threads <= 2; threads++ {
					switch {
					case level != "generic" || os.Getenv("VLARING_LONG") != "":
					case testing.Short() && threads == 2: // an emulated processor takes minutes for it
						continue
					case !testing.Short() && threads%2 == i%2:
						continue
					}
					recompute := threads == 2
					for bf16, want := range map[bool]string{false: c.want, true: c.bf16} {
						if got := trainedHash(t, c.cfg, c.batch, c.tokens, level, threads, recompute, bf16); got != want {
							t.Errorf("%s, %d threads, recompute %v, bf16 %v: weights hash to %s, want %s", level, threads, recompute, bf16, got, want)
						}
					}
				}
			}
		})
	}
}

func trainedHash(t *testing.T, cfg Config, batch, tokens int, level string, threads int, recompute, bf16 bool) string {
	t.Helper()
	if err := tensor.SetCPU(level); err != nil {
		t.Fatal(err)
	}
	defer tensor.SetCPU("")
	rt := tensor.NewRuntime(threads)
	defer rt.Close()
	m, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.SetBF16(bf16)
	m.Init(1)
	spec := m.Spec(tokens)
	p, err := m.Program(rt, batch, spec, ProgramOptions{Train: true, Recompute: recompute})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	data := randomBatch(m, batch, spec)
	for i := range data.Ints(Labels) {
		data.Ints(Labels)[i] = data.Ints(Instruction)[len(data.Ints(Instruction))-1-i]
	}
	for i := range data.Ints(Instruction) { // sample s ends in s padding tokens
		if s := i / tokens; i%tokens >= tokens-s {
			data.Ints(Instruction)[i] = 0
		}
	}
	ps := m.Params()
	grad, m1, m2 := tensor.Floats(ps.Len()), tensor.Floats(ps.Len()), tensor.Floats(ps.Len())
	ps.BindGrads(grad)
	for step := uint64(0); step < 3; step++ {
		if err := p.Load(data); err != nil {
			t.Fatal(err)
		}
		p.SetStep(3, step, true)
		p.Forward()
		p.Backward()
		l := p.Losses()[0]
		rt.Div(grad, grad, float32(3*float64(l.Count())/float64(l.Nominal()))) // as three such micro-batches
		norm := rt.GradNorm(ps, grad)
		rt.AdamWStep(ps.Values(), grad, m1, m2, step+1, tensor.AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}, float32(min(0.5/(norm+1e-6), 1)))
	}
	h := sha256.New()
	for _, x := range ps.Values() {
		h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
	}
	return hex.EncodeToString(h.Sum(nil))
}
