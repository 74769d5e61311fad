package weights

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// fromTimm are the names of a vision transformer as timm saves it, and where
// they go in a vla. docs/models.md shows the same.
var fromTimm = job.Renames{
	{From: "patch_embed.proj.*", To: "vision_encoder.patch_embedding.*"},
	{From: "cls_token", To: "vision_encoder.cls_token"},
	{From: "pos_embed", To: "vision_encoder.pos_embedding"},
	{From: "blocks.*.attn.qkv.*", To: "vision_encoder.transformer_blocks.*.attention.in_proj_*"},
	{From: "blocks.*.attn.proj.*", To: "vision_encoder.transformer_blocks.*.attention.out_proj.*"},
	{From: "blocks.*.mlp.fc1.*", To: "vision_encoder.transformer_blocks.*.feed_forward.0.*"},
	{From: "blocks.*.mlp.fc2.*", To: "vision_encoder.transformer_blocks.*.feed_forward.3.*"},
	{From: "blocks.*", To: "vision_encoder.transformer_blocks.*"},
	{From: "head.*"},
}

// larger is a vla whose vision encoder is the file's network, for pictures of
// 28 pixels where the file's were of 16.
var larger = models.Config{Kind: models.VLA, VocabSize: 9, ImageSize: 28, PatchSize: 4, Channels: 3, DModel: 16, NHeads: 2, NLayers: 4, DFF: 32, ActionDim: 7, PadToken: -1}

func open(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func newModel(t *testing.T, c models.Config) *models.Model {
	t.Helper()
	m, err := models.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inMemory is a file of the given tensors.
func inMemory(t *testing.T, tensors []safetensors.Tensor) *safetensors.File {
	t.Helper()
	var b bytes.Buffer
	if err := safetensors.Write(&b, tensors, nil); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Read(bytes.NewReader(b.Bytes()), int64(b.Len()), "memory")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A vision transformer that PyTorch saved under its own names lands in a VLA's
// vision encoder, on another image size, and sees what PyTorch sees.
func TestImportFromPyTorch(t *testing.T) {
	f, want := open(t, "testdata/timm_vit.safetensors"), open(t, "testdata/timm_vit_expected.safetensors")
	m, fresh := newModel(t, larger), newModel(t, larger)
	fresh.Init(5)
	rep, err := Import(m, job.Init{Path: "x", Map: fromTimm, Partial: true}, 5, f)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Loaded) != 28 || len(rep.Resized) != 1 || !slices.Equal(rep.Dropped, []string{"head.bias", "head.weight"}) || len(rep.Unused) != 0 {
		t.Errorf("the report is %+v", rep)
	}
	for _, p := range m.Params().List() {
		vision := strings.HasPrefix(p.Name, "vision_encoder.")
		if vision == slices.Contains(rep.Fresh, p.Name) || vision != slices.Contains(rep.Loaded, p.Name) {
			t.Errorf("%s is in the wrong part of the report", p.Name)
		}
		if !vision && !slices.Equal(p.Value, fresh.Params().ByName(p.Name).Value) {
			t.Errorf("%s does not begin as the seed says", p.Name)
		}
	}
	near := func(what string, got []float32) {
		t.Helper()
		x, err := want.Float32(what)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(x) {
			t.Fatalf("%s has %d values, want %d", what, len(got), len(x))
		}
		diff, norm := 0.0, 0.0
		for i := range x {
			diff += math.Pow(float64(got[i]-x[i]), 2)
			norm += math.Pow(float64(x[i]), 2)
		}
		if !(diff <= 1e-10*norm) {
			t.Errorf("%s: relative error %.3g, want ≤ 1e-5", what, math.Sqrt(diff/norm))
		}
	}
	near("pos_embedding", m.Params().ByName("vision_encoder.pos_embedding").Value)

	rt := tensor.NewRuntime(1)
	defer rt.Close()
	b := models.NewBuilder()
	vit := models.NewVisionTransformer(b, "", models.Config{ImageSize: 28, PatchSize: 4, Channels: 3, DModel: 16, NHeads: 2, NLayers: 2, DFF: 32})
	b.Params().Seal()
	for _, p := range b.Params().List() {
		copy(p.Value, m.Params().ByName("vision_encoder."+p.Name).Value)
	}
	tape := tensor.NewTape(rt, b.Params())
	x := tape.Input(2, 3, 28, 28)
	y := vit.Forward(&models.Pass{Tape: tape}, x)
	tape.Seal()
	defer tape.Close()
	images, err := want.Float32("images")
	if err != nil {
		t.Fatal(err)
	}
	copy(x.Data, images)
	tape.Forward()
	near("features", y.Data)

	// what the run directory keeps is whole: it loads by the strict rules
	var all []safetensors.Tensor
	for _, p := range m.Params().List() {
		all = append(all, safetensors.Tensor{Name: p.Name, Shape: p.Shape, Data: p.Value})
	}
	again := newModel(t, larger)
	if err := Load(again.Params(), inMemory(t, all)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Params().Values(), m.Params().Values()) {
		t.Error("the weights differ after writing and reading")
	}
}

// Query, key and value that a file keeps apart become thirds of the packed
// projection.
func TestImportOfThirds(t *testing.T) {
	c := models.Config{Kind: models.ViT, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 4, NHeads: 1, NLayers: 1, ActionDim: 2, PadToken: -1}
	var file []safetensors.Tensor
	names := job.Renames{}
	for i, n := range [][2]string{{"query", "@q"}, {"key", "@k"}, {"value", "@v"}} {
		w := make([]float32, 16)
		for k := range w {
			w[k] = float32(100*i + k)
		}
		file = append(file, safetensors.Tensor{Name: "layer.0." + n[0] + ".weight", Shape: []int{4, 4}, Data: w})
		names = append(names, job.Rename{From: "layer.*." + n[0] + ".weight", To: "vision_encoder.transformer_blocks.*.attention.in_proj_weight" + n[1]})
	}
	m := newModel(t, c)
	rep, err := Import(m, job.Init{Map: names, Partial: true}, 1, inMemory(t, file))
	if err != nil {
		t.Fatal(err)
	}
	w := m.Params().ByName("vision_encoder.transformer_blocks.0.attention.in_proj_weight").Value
	if w[0] != 0 || w[15] != 15 || w[16] != 100 || w[47] != 215 || len(rep.Loaded) != 1 {
		t.Errorf("the packed projection is %v, the report %+v", w, rep)
	}
	if _, err := Import(m, job.Init{Map: names, Partial: true}, 1, inMemory(t, file[:2])); err == nil || !strings.Contains(err.Error(), "2 of the 3 parts") {
		t.Errorf("two of three parts give %v", err)
	}
}

// What cannot be meant is refused by name.
func TestImportRefuses(t *testing.T) {
	c := models.Config{Kind: models.ViT, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 4, NHeads: 1, NLayers: 1, ActionDim: 2, PadToken: -1}
	one := func(name string, shape ...int) []safetensors.Tensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		return []safetensors.Tensor{{Name: name, Shape: shape, Data: make([]float32, n)}}
	}
	for name, x := range map[string]struct {
		init job.Init
		file []safetensors.Tensor
		want []string
	}{
		"missing":        {job.Init{Map: job.Renames{{From: "a", To: "action_head.bias"}}}, one("a", 2), []string{"nothing for 17 of the model's parameters: vision_encoder.* (16), action_head.weight\n", "init.partial"}},
		"no place":       {job.Init{}, one("b", 2), []string{"no place for 1 of the file's tensors: b\n"}},
		"nothing loaded": {job.Init{Partial: true}, one("b", 2), []string{"none of its 1 tensors", "b"}},
		"shape":          {job.Init{Partial: true}, one("action_head.bias", 3), []string{"action_head.bias ([3])", "has shape [2]"}},
		"two for one": {job.Init{Partial: true, Map: job.Renames{{From: "*", To: "action_head.bias"}}}, append(one("a", 2), one("b", 2)...),
			[]string{"a and b both become action_head.bias"}},
		"positions no square": {job.Init{Partial: true}, one("vision_encoder.pos_embedding", 1, 4, 4), []string{"[1 4 4]", "[1 5 4]"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Import(newModel(t, c), x.init, 1, inMemory(t, x.file))
			if err == nil {
				t.Fatal("it is loaded")
			}
			for _, w := range x.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestRename(t *testing.T) {
	rules := job.Renames{{From: "a.*.x.*", To: "b.*.y_*"}, {From: "a.*"}, {From: "*.w", To: "w"}}
	for name, want := range map[string]string{"a.1.x.weight": "b.1.y_weight", "a.1.z": "", "q.r.w": "w", "other": "other", "a.1.x.2.x.b": "b.1.y_2.x.b", "a.*.x.k": "b.*.y_k"} {
		got, dropped := rename(rules, name)
		if got != want || dropped != (want == "") {
			t.Errorf("%s becomes %q, dropped %v; want %q", name, got, dropped, want)
		}
	}
	for _, x := range []struct {
		pattern, name string
		want          bool
	}{{"*", "", true}, {"a*", "ab.c", true}, {"*.b", "a.b.b", true}, {"a", "ab", false}, {"*a*b", "xaxb", true}, {"*a*b", "xbxa", false}} {
		if _, ok := match(x.pattern, x.name); ok != x.want {
			t.Errorf("%q matches %q: %v", x.pattern, x.name, ok)
		}
	}
}
