package models

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// TestGolden runs every reference case of a directory: weights, inputs,
// outputs and gradients that PyTorch computed. The directory is the
// environment's VLARING_GOLDEN, or the committed one.
func TestGolden(t *testing.T) {
	dir := os.Getenv("VLARING_GOLDEN")
	if dir == "" {
		dir = "testdata/golden"
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		kind := f.Metadata()["case"]
		f.Close()
		if name == "positional_encoding" {
			kind = name
		}
		if kind == "" {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) { golden(t, kind, path) })
	}
	if ran == 0 {
		t.Fatalf("%s holds no case", dir)
	}
}

// goldenFile is a case with what the tests ask of it.
type goldenFile struct {
	t *testing.T
	*safetensors.File
}

func (g goldenFile) floats(name string) []float32 {
	g.t.Helper()
	x, err := g.Float32(name)
	if err != nil {
		g.t.Fatal(err)
	}
	return x
}

func (g goldenFile) shape(name string) []int {
	g.t.Helper()
	i, ok := g.Tensor(name)
	if !ok {
		g.t.Fatalf("the case has no %s", name)
	}
	return i.Shape
}

func (g goldenFile) num(key string) int {
	g.t.Helper()
	n, err := strconv.Atoi(g.Metadata()[key])
	if err != nil {
		g.t.Fatalf("metadata %s: %v", key, err)
	}
	return n
}

func (g goldenFile) has(name string) bool { _, ok := g.Tensor(name); return ok }

// load sets every parameter and refuses a case with more or fewer weights.
func (g goldenFile) load(ps *tensor.Params) {
	g.t.Helper()
	n := 0
	for _, name := range g.Names() {
		w, ok := strings.CutPrefix(name, "weights.")
		if !ok {
			continue
		}
		n++
		p := ps.ByName(w)
		if p == nil {
			g.t.Fatalf("the model has no parameter %s", w)
		}
		if !slices.Equal(p.Shape, g.shape(name)) {
			g.t.Fatalf("%s: shape %v, the reference's is %v", w, p.Shape, g.shape(name))
		}
		copy(p.Value, g.floats(name))
	}
	if n != len(ps.List()) {
		g.t.Fatalf("the model has %d parameters, the reference %d", len(ps.List()), n)
	}
}

// same compares a tensor with the reference's: ‖got-want‖/‖want‖ ≤ 1e-5, or
// 1e-4 where the reference's norm is below 1e-6, since what remains of such a
// tensor is mostly PyTorch's own rounding.
func (g goldenFile) same(name string, got []float32) {
	g.t.Helper()
	want := g.floats(name)
	if len(got) != len(want) {
		g.t.Errorf("%s: %d elements, the reference has %d", name, len(got), len(want))
		return
	}
	diff, norm := 0.0, 0.0
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		diff += d * d
		norm += float64(w) * float64(w)
	}
	diff, norm = math.Sqrt(diff), math.Sqrt(norm)
	limit := 1e-5
	if norm < 1e-6 {
		limit = 1e-4
	}
	if !(diff <= limit*norm) {
		g.t.Errorf("%s: relative error %.3g, want ≤ %g (norm %.3g)", name, diff/norm, limit, norm)
	}
}

// grads compares every parameter's gradient.
func (g goldenFile) grads(ps *tensor.Params) {
	g.t.Helper()
	n := 0
	for _, p := range ps.List() {
		if g.has("grads." + p.Name) {
			g.same("grads."+p.Name, p.Grad)
			n++
		}
	}
	if n == 0 || n != len(ps.List()) {
		g.t.Errorf("%d of %d gradients were compared", n, len(ps.List()))
	}
}

func golden(t *testing.T, kind, path string) {
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	g := goldenFile{t, file}
	if kind == "positional_encoding" {
		s := g.shape("pe")
		pe, err := NewPositionalEncoding(s[1], s[0])
		if err != nil {
			t.Fatal(err)
		}
		g.same("pe", pe.Table(s[0]))
		return
	}
	for _, threads := range []int{1, 3} {
		rt := tensor.NewRuntime(threads)
		defer rt.Close()
		b := NewBuilder()
		ps := b.Params()
		tape := tensor.NewTape(rt, ps)
		pass := &Pass{Tape: tape, KeepAttention: true}
		attention := func() (all []float32) {
			for _, l := range pass.Attention() {
				all = append(all, l.Data...)
			}
			return all
		}
		num := g.num
		run := func(loss *tensor.Loss) {
			ps.BindGrads(make([]float32, ps.Len()))
			tape.Forward()
			tape.Backward(loss)
			g.same("outputs.loss", []float32{float32(loss.Value())})
			g.grads(ps)
		}
		// begin seals the parameters, which the networks need before the tape records them
		begin := func() { ps.Seal(); g.load(ps) }
		input := func(name string) *tensor.Var { return tape.Input(g.shape(name)...) }
		fill := func(v *tensor.Var, name string) { copy(v.Data, g.floats(name)) }
		tokens := func(name string) *tensor.Ints {
			ids, err := g.Int64(name)
			if err != nil {
				t.Fatal(err)
			}
			v := tape.Ints(g.shape(name)...)
			for i, id := range ids {
				v.Data[i] = int32(id)
			}
			return v
		}
		switch {
		case strings.HasPrefix(kind, "block"):
			m := NewTransformerBlock(b, "", Config{DModel: num("d_model"), NHeads: num("n_heads"), DFF: num("d_ff")})
			begin()
			x, target := input("inputs.x"), input("inputs.target")
			tape.NeedGrad(x)
			var mask tensor.Mask
			if g.has("inputs.visible_positions") {
				if mask.Positions, err = g.Uint8("inputs.visible_positions"); err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(g.Metadata()["mask"], "causal") { // the same mask by rule
					if want := LookAheadMask(x.Shape[1]); !slices.Equal(mask.Positions, want) {
						t.Errorf("the look-ahead mask is %v, the reference's %v", want, mask.Positions)
					}
					mask.Positions, mask.Causal = nil, true
				}
			}
			if g.has("inputs.visible_tokens") {
				mask.Keys = tape.Bytes(x.Shape[:2]...)
				v, err := g.Uint8("inputs.visible_tokens")
				if err != nil {
					t.Fatal(err)
				}
				copy(mask.Keys.Data, v)
			}
			y := m.Forward(pass, x, mask)
			loss := tape.MSE(y, target)
			tape.Seal()
			fill(x, "inputs.x")
			fill(target, "inputs.target")
			run(loss)
			g.same("outputs.y", y.Data)
			g.same("outputs.attention", attention())
			g.same("grads_input.x", x.Grad)
		case strings.HasPrefix(kind, "encoder_copy"):
			c := Config{VocabSize: g.num("vocab_size"), DModel: g.num("d_model"), NHeads: g.num("n_heads"), DFF: g.num("d_ff"), NLayers: g.num("n_layers"), PadToken: -1}
			m, err := NewCopyModel(b, "", c)
			if err != nil {
				t.Fatal(err)
			}
			begin()
			ids := tokens("inputs.tokens")
			encoded, logits := m.Forward(pass, ids, tensor.Mask{})
			loss := tape.CrossEntropy(logits, ids)
			tape.Seal()
			run(loss)
			g.same("outputs.encoded", encoded.Data)
			g.same("outputs.logits", logits.Data)
			g.same("outputs.attention", attention())
		case strings.HasPrefix(kind, "vit"):
			image := g.shape("inputs.images")
			m := NewVisionTransformer(b, "", Config{ImageSize: num("img_size"), PatchSize: num("patch_size"), Channels: image[1],
				DModel: num("d_model"), NHeads: num("n_heads"), NLayers: num("n_layers")})
			begin()
			x, target := input("inputs.images"), input("inputs.target")
			cls := m.Forward(pass, x)
			loss := tape.MSE(cls, target)
			tape.Seal()
			fill(x, "inputs.images")
			fill(target, "inputs.target")
			run(loss)
			g.same("outputs.features", cls.Data)
		case strings.HasPrefix(kind, "cross_modal"):
			m := NewCrossModalTransformer(b, "", Config{VisionDim: num("vision_dim"), LanguageDim: num("language_dim"), DModel: num("d_model"),
				NHeads: num("n_heads"), NLayers: num("n_layers"), ActionDim: g.shape("inputs.target")[1]})
			begin()
			vis, lang, target := input("inputs.vision_features"), input("inputs.language_features"), input("inputs.target")
			out := m.Forward(pass, vis, lang, nil)
			loss := tape.MSE(out, target)
			tape.Seal()
			fill(vis, "inputs.vision_features")
			fill(lang, "inputs.language_features")
			fill(target, "inputs.target")
			run(loss)
			g.same("outputs.actions", out.Data)
		case strings.HasPrefix(kind, "lstm_copy"):
			m := NewRecurrentModel(b, "", Config{VocabSize: g.num("vocab_size"), DModel: g.num("d_model"), NLayers: g.num("n_layers")})
			begin()
			ids := tokens("inputs.tokens")
			encoded, logits := m.Forward(pass, ids)
			loss := tape.CrossEntropy(logits, ids)
			tape.Seal()
			run(loss)
			g.same("outputs.encoded", encoded.Data)
			g.same("outputs.logits", logits.Data)
		case strings.HasPrefix(kind, "cnn"):
			m := NewConvEncoder(b, "", Config{ImageSize: num("img_size"), PatchSize: num("patch_size"), Channels: g.shape("inputs.images")[1],
				DModel: num("d_model"), NLayers: num("n_layers")}, true)
			begin()
			x, target := input("inputs.images"), input("inputs.target")
			maps, seq := m.Map(pass, x), m.Sequence(pass, x) // the map twice: gradients flow through the second alone
			loss := tape.MSE(seq, target)
			tape.Seal()
			fill(x, "inputs.images")
			fill(target, "inputs.target")
			run(loss)
			g.same("outputs.map", maps.Data)
			g.same("outputs.tokens", seq.Data)
		case strings.HasPrefix(kind, "vla"), strings.HasPrefix(kind, "patches_vla"):
			c := Config{Kind: "vla", VocabSize: g.num("vocab_size"), ImageSize: g.num("img_size"), PatchSize: g.num("patch_size"), Channels: g.shape("inputs.images")[1],
				DModel: g.num("d_model"), NHeads: g.num("n_heads"), NLayers: g.num("n_layers"), ActionDim: g.shape("inputs.actions")[1], PadToken: -1, VisionTokens: g.Metadata()["vision_tokens"]}
			m, err := NewVLATransformer(b, "", c)
			if err != nil {
				t.Fatal(err)
			}
			begin()
			images, target, ids := input("inputs.images"), input("inputs.actions"), tokens("inputs.instruction_tokens")
			out := m.Forward(pass, images, ids, nil)
			loss := tape.MSE(out, target)
			tape.Seal()
			fill(images, "inputs.images")
			fill(target, "inputs.actions")
			run(loss)
			g.same("outputs.actions", out.Data)
		default:
			t.Fatalf("no handler for the case %q", kind)
		}
		if t.Failed() {
			t.Fatalf("with %d thread(s)", threads)
		}
	}
}
