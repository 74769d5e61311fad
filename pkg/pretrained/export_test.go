package pretrained

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// params are the encoder of found, loaded for pictures of that side.
func params(t *testing.T, found *Found, side int) *tensor.Params {
	t.Helper()
	b := models.NewBuilder()
	models.NewBackbone(b, "", found.Backbone, side)
	ps := b.Params()
	ps.Seal()
	t.Cleanup(ps.Close)
	if _, err := found.Load(ps, ""); err != nil {
		t.Fatal(err)
	}
	return ps
}

// write writes an encoder to a folder.
func write(t *testing.T, dir string, b models.Backbone, side int, ps *tensor.Params) {
	t.Helper()
	w, err := Write(b, side, func(name string) ([]float32, error) {
		if p := ps.ByName(name); p != nil {
			return p.Value, nil
		}
		return nil, fmt.Errorf("there is no %s", name)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.Write(f, w.Tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"config.json": w.Config, "preprocessor_config.json": w.See} {
		if b != nil {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestWriteIsReadAgain writes every family under its own names, at the weights' size
// and at another: what is read again is the same encoder with the same bits. With
// VLARING_WRITTEN=DIR the folders stay there, for tools/load_pretrained.py.
func TestWriteIsReadAgain(t *testing.T) {
	out := os.Getenv("VLARING_WRITTEN")
	if out == "" {
		out = t.TempDir()
	}
	for _, name := range cases(t, "testdata") {
		t.Run(name, func(t *testing.T) {
			x := open(t, filepath.Join("testdata", name+".expected.safetensors"))
			found, err := Open(filepath.Join("testdata", name), role(x))
			if err != nil {
				t.Fatal(err)
			}
			defer found.Close()
			sides := []int{found.Side}
			if found.Side > 0 {
				sides = append(sides, found.Side+3*found.Backbone.Patch)
			}
			for i, side := range sides {
				ps := params(t, found, side)
				if found.Backbone.Family == "siglip_text" {
					if _, err := Write(found.Backbone, 0, nil); err == nil || !strings.Contains(err.Error(), "is read here and not written") {
						t.Errorf("%v", err)
					}
					continue
				}
				dir := filepath.Join(out, name+[]string{"", "_other"}[i])
				write(t, dir, found.Backbone, side, ps)
				again, err := Open(dir, role(x))
				if err != nil {
					t.Fatal(err)
				}
				defer again.Close()
				want := found.Backbone
				if side > 0 {
					want.Grid = side / want.Patch
				}
				if want.Family == "timm" && want.Arch == "" {
					want.Arch = again.Backbone.Arch
				}
				if again.Backbone != want {
					t.Errorf("it is read as\n%+v, want\n%+v", again.Backbone, want)
				}
				for k, p := range params(t, again, side).List() {
					if !slices.Equal(p.Value, ps.List()[k].Value) {
						t.Errorf("%s has other values", p.Name)
					}
				}
			}
		})
	}
}

// change copies a case and changes its files.
func change(t *testing.T, name string, config func(string) string, files func(dir string)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		text := config(string(b))
		if text == string(b) {
			t.Fatal("the config does not change")
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if files != nil {
		files(dir)
	}
	return dir
}

// TestRefused is what cannot be taken: each has one error that names what is wrong, and
// what to do.
func TestRefused(t *testing.T) {
	replace := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	remove := func(name string) func(string) {
		return func(dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, c := range map[string]struct {
		dir  string
		role Role
		want []string
	}{
		"width": {change(t, "bert", replace(`"hidden_size": 24`, `"hidden_size": 32`), nil), Words, []string{"config.json", "hidden_size 32, and the tensors have 24", "take both from the same place"}},
		"several": {change(t, "siglip", func(s string) string {
			return strings.ReplaceAll(s, `"num_hidden_layers": 2`, `"num_hidden_layers": 3`)
		}, nil), Pictures, []string{"num_hidden_layers 3, and the tensors have 2"}},
		"heads":         {change(t, "clip_text", replace(`"num_attention_heads": 2`, `"num_attention_heads": 5`), nil), Words, []string{"num_attention_heads 5, which do not divide the tensors' width of 24"}},
		"groups":        {change(t, "llama", replace(`"num_key_value_heads": 2`, `"num_key_value_heads": 4`), nil), Words, []string{"num_key_value_heads 4, and the tensors have 2"}},
		"activation":    {change(t, "bert", replace(`"hidden_act": "gelu"`, `"hidden_act": "mish"`), nil), Words, []string{`hidden_act "mish"`, "want one of gelu"}},
		"another kind":  {change(t, "bert", replace(`"model_type": "bert"`, `"model_type": "roberta"`), nil), Words, []string{"the nearest is BERT or MiniLM", `model_type "roberta", want bert`}},
		"no config":     {change(t, "bert", nil, remove("config.json")), Words, []string{"nothing says how many heads it has: put its config.json beside it"}},
		"no JSON":       {change(t, "bert", func(string) string { return "<html>" }, nil), Words, []string{"config.json", "it is no JSON object; download it again"}},
		"a shard gone":  {change(t, "llama", nil, remove("model-00002-of-00004.safetensors")), Words, []string{"of which 1 are not there: model-00002-of-00004.safetensors"}},
		"no index":      {change(t, "llama", nil, remove("model.safetensors.index.json")), Words, []string{"without their index"}},
		"stretched":     {change(t, "llama", replace(`"rope_type": "default"`, `"rope_type": "yarn"`), nil), Words, []string{`rope_type "yarn"; want default`}},
		"gate":          {change(t, "t5", replace(`"feed_forward_proj": "relu"`, `"feed_forward_proj": "gated-gelu"`), nil), Words, []string{`feed_forward_proj "gated-gelu", and the tensors are of one without a gate`}},
		"words of none": {filepath.Join("testdata", "timm_vit"), Words, []string{"of an encoder of words that is known here", "known are BERT or MiniLM"}},
	} {
		f, err := Open(c.dir, c.role)
		if err == nil {
			f.Close()
			t.Errorf("%s: it is taken", what)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v\nwant %s", what, err, w)
			}
		}
		if len(err.Error()) > 1200 {
			t.Errorf("%s: %d bytes of a message", what, len(err.Error()))
		}
	}
}

// A tensor that no row has a place for would be a part of the function that nobody
// computes.
func TestStrangeTensorsAreRefused(t *testing.T) {
	f := open(t, "testdata/timm_vit/model.safetensors")
	var all []safetensors.Tensor
	for _, name := range f.Names() {
		info, _ := f.Tensor(name)
		all = append(all, safetensors.Tensor{Name: name, Shape: info.Shape, Data: floats(t, f, name)})
	}
	all = append(all, safetensors.Tensor{Name: "blocks.0.attn.q_norm.weight", Shape: []int{12}, Data: make([]float32, 12)})
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(out, all, nil); err != nil {
		t.Fatal(err)
	}
	out.Close()
	_, err = Open(dir, Pictures)
	if want := "it has 1 that such an encoder has no place for: blocks.0.attn.q_norm.weight"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the nearest is a vision transformer of timm") {
		t.Errorf("%v\nwant %s", err, want)
	}
}
