package weights

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

var tiny = models.Config{Kind: models.ViT, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 4, NHeads: 1, NLayers: 1, ActionDim: 2, PadToken: -1}

// weights are a model's parameters under other names.
func weights(ps *tensor.Params, name func(string) string) (out []safetensors.Tensor) {
	for _, p := range ps.List() {
		out = append(out, safetensors.Tensor{Name: name(p.Name), Shape: p.Shape, Data: p.Value})
	}
	return out
}

// The rule that is missing in init.map is named, does what is said of it, and
// the message is one line and no list of names.
func TestPrefixIsNamed(t *testing.T) {
	m := newModel(t, tiny)
	m.Init(1)
	n := len(m.Params().List())
	inside := func(p string) string {
		return strings.Replace(p, "vision_encoder.", "vision_encoder._orig_mod.", 1)
	}
	for _, c := range []struct {
		name func(string) string
		rule job.Rename
		says string
	}{
		{func(p string) string { return "module." + p }, job.Rename{From: "module.*", To: "*"}, fmt.Sprintf(`all %d names begin with "module.": strip it with init.map {"module.*": "*"}`, n)},
		{func(p string) string { return "_orig_mod." + p }, job.Rename{From: "_orig_mod.*", To: "*"}, `begin with "_orig_mod.": strip it with init.map {"_orig_mod.*": "*"}`},
		{func(p string) string { return "module._orig_mod." + p }, job.Rename{From: "module._orig_mod.*", To: "*"}, `begin with "module._orig_mod."`},
		{func(p string) string { return "ema.model." + p }, job.Rename{From: "ema.model.*", To: "*"}, `{"ema.model.*": "*"}`},
		{inside, job.Rename{From: "*_orig_mod.*", To: "**"}, `names have "_orig_mod." in them: take it out with init.map {"*_orig_mod.*": "**"}`},
	} {
		f := inMemory(t, weights(m.Params(), c.name))
		err := LoadFirst(newModel(t, tiny).Params(), f)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Count(err.Error(), "\n") > 0 || len(err.Error()) > 300 {
			t.Errorf("%v\nwant %s", err, c.says)
		}
		for _, partial := range []bool{false, true} {
			_, err = Import(newModel(t, tiny), job.Init{Partial: partial}, 1, f)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Count(err.Error(), "\n") > 3 {
				t.Errorf("partial %v: %v\nwant %s", partial, err, c.says)
			}
		}
		got := newModel(t, tiny)
		rep, err := Import(got, job.Init{Map: job.Renames{c.rule}}, 2, f)
		if err != nil || len(rep.Loaded) != n {
			t.Errorf("with the rule: %v, %d loaded of %d", err, len(rep.Loaded), n)
		}
	}
	// a prefix that the file lacks
	part := newModel(t, tiny)
	var file []safetensors.Tensor
	for _, x := range weights(m.Params(), func(p string) string { return p }) {
		if name, ok := strings.CutPrefix(x.Name, "vision_encoder."); ok {
			file = append(file, safetensors.Tensor{Name: name, Shape: x.Shape, Data: x.Data})
		}
	}
	_, err := Import(part, job.Init{Partial: true}, 1, inMemory(t, file))
	if want := `the model's names begin with "vision_encoder.", and those of the file do not: put it in front with init.map {"*": "vision_encoder.*"}`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	// names that are of nothing here
	if err := LoadFirst(newModel(t, tiny).Params(), inMemory(t, []safetensors.Tensor{{Name: "x.y", Shape: []int{1}, Data: []float32{1}}})); err == nil || strings.Contains(err.Error(), "strip it") || !strings.Contains(err.Error(), "init.map translates") {
		t.Errorf("a file of something else: %v", err)
	}
}

// A partial init of which hardly anything fits is a mistake unless it is said
// to be meant; the share is that of the file's tensors or the model's values.
func TestPartialMustBringEnough(t *testing.T) {
	m := newModel(t, tiny)
	m.Init(1)
	all := weights(m.Params(), func(p string) string { return p })
	half, none := 0.5, 0.0
	foreign := func(n int) (out []safetensors.Tensor) {
		for i := range n {
			out = append(out, safetensors.Tensor{Name: fmt.Sprint("z", i), Shape: []int{1}, Data: []float32{1}})
		}
		return out
	}
	bias := []safetensors.Tensor{{Name: "action_head.bias", Shape: []int{2}, Data: []float32{1, 2}}}
	values := m.Params().Count()
	class := []safetensors.Tensor{{Name: "vision_encoder.cls_token", Shape: []int{1, 1, 16}, Data: make([]float32, 16)}}
	for _, c := range []struct {
		what string
		init job.Init
		file []safetensors.Tensor // class is for larger, the others for tiny
		says string               // empty: accepted
	}{
		{"all", job.Init{Partial: true}, all, ""},
		{"all and 100 more: all values of the model", job.Init{Partial: true}, append(foreign(100), all...), ""},
		{"one of 50 tensors", job.Init{Partial: true}, append(foreign(49), bias...),
			fmt.Sprintf("memory: 1 of its 50 tensors finds a place in the model and gives 2 of its %d values (%.1f %%): init.map translates names; if so little is meant, set init.at_least to 0", values, 200/float64(values))},
		{"the same, meant", job.Init{Partial: true, AtLeast: &none}, append(foreign(49), bias...), ""},
		{"one tensor of one, of hardly any values", job.Init{Partial: true}, class, "1 of its 1 tensors finds a place"},
		{"the same, meant", job.Init{Partial: true, AtLeast: &half}, class, ""},
		{"less than asked for", job.Init{Partial: true, AtLeast: &half}, append(foreign(2), bias...), "lower init.at_least, which is 0.5"},
		{"nothing, whatever is meant", job.Init{Partial: true, AtLeast: &none}, foreign(3), "none of its 3 tensors has a place in the model; the first is z0"},
	} {
		model := newModel(t, tiny)
		if c.file[0].Name == class[0].Name {
			model = newModel(t, larger)
		}
		_, err := Import(model, c.init, 1, inMemory(t, c.file))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v\nwant %q", c.what, err, c.says)
		}
	}
}

// First weights that are not finite are refused by tensor and place, in every
// type that a file of weights can have and by every way that loads one.
func TestFirstWeightsMustBeFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, dtype := range []string{"F32", "F16", "BF16", "F64"} {
			m := newModel(t, tiny)
			m.Init(1)
			p := m.Params().ByName("vision_encoder.pos_embedding") // [1, 5, 4]
			p.Value[9], p.Value[11] = bad, bad
			var file []safetensors.Tensor
			for _, x := range m.Params().List() {
				w := safetensors.Tensor{Name: x.Name, Shape: x.Shape, Data: x.Value}
				switch {
				case x != p:
				case dtype == "F64":
					var d []float64
					for _, v := range x.Value {
						d = append(d, float64(v))
					}
					w.Data = d
				default:
					raw, err := safetensors.Narrow(dtype, x.Value)
					if err != nil {
						t.Fatal(err)
					}
					w.Data = raw
				}
				file = append(file, w)
			}
			f := inMemory(t, file)
			_, transfer := Import(newModel(t, tiny), job.Init{Partial: true}, 1, f)
			for how, err := range map[string]error{"as it is": LoadFirst(newModel(t, tiny).Params(), f), "by init.map": transfer} {
				want := fmt.Sprintf("memory: tensor vision_encoder.pos_embedding: the value at [0 2 1] is %v", bad)
				if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "2 of its 20 values are not finite") {
					t.Errorf("%v in %s, %s: %v", bad, dtype, how, err)
				}
			}
		}
	}
	// beyond float32, though finite in the file
	m := newModel(t, tiny)
	m.Init(1)
	file := weights(m.Params(), func(p string) string { return p })
	file[0].Data = append(make([]float64, m.Params().List()[0].Size()-1), 1e300)
	if _, err := Import(newModel(t, tiny), job.Init{Partial: true}, 1, inMemory(t, file)); err == nil || !strings.Contains(err.Error(), "is +Inf as float32") {
		t.Errorf("1e300: %v", err)
	}
}

// One part of a sharded file alone is named as such, with and without partial.
func TestShardAloneIsNamed(t *testing.T) {
	m := newModel(t, tiny)
	m.Init(1)
	all := weights(m.Params(), func(p string) string { return p })
	path := filepath.Join(t.TempDir(), "model-00001-of-00002.safetensors")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(out, all[:len(all)-1], nil); err != nil {
		t.Fatal(err)
	}
	out.Close()
	f := open(t, path)
	_, strict := Import(newModel(t, tiny), job.Init{}, 1, f)
	_, partial := Import(newModel(t, tiny), job.Init{Partial: true}, 1, f)
	for _, err := range []error{LoadFirst(newModel(t, tiny).Params(), f), strict, partial} {
		if err == nil || !strings.Contains(err.Error(), "this is part 1 of 2 of a sharded file: give init its index, "+filepath.Join(filepath.Dir(path), "model.safetensors.index.json")) {
			t.Errorf("one part alone: %v", err)
		}
	}
	half := 0.5
	if _, err := Import(newModel(t, tiny), job.Init{Partial: true, AtLeast: &half}, 1, f); err != nil {
		t.Errorf("one part alone, meant: %v", err)
	}
}

// Messages stay on a screen, whatever a file holds.
func TestImportMessagesFitAScreen(t *testing.T) {
	var file []safetensors.Tensor
	for i := range 30_000 {
		file = append(file, safetensors.Tensor{Name: fmt.Sprintf("a%d.x\n", i), Shape: []int{1}, Data: []float32{1}})
	}
	file = append(file, safetensors.Tensor{Name: strings.Repeat("n.", 1_000_000), Shape: []int{1}, Data: []float32{1}})
	f := inMemory(t, file)
	_, strict := Import(newModel(t, tiny), job.Init{}, 1, f)
	_, partial := Import(newModel(t, tiny), job.Init{Partial: true}, 1, f)
	for _, err := range []error{LoadFirst(newModel(t, tiny).Params(), f), strict, partial} {
		if err == nil || strings.Count(err.Error(), "\n") > 20 || len(err.Error()) > 4000 {
			t.Errorf("%d bytes: %.300v", len(err.Error()), err)
		}
	}
	half := 0.0
	file = append(file, safetensors.Tensor{Name: "action_head.bias", Shape: []int{2}, Data: []float32{1, 2}})
	rep, err := Import(newModel(t, tiny), job.Init{Partial: true, AtLeast: &half}, 1, inMemory(t, file))
	if err != nil || len(rep.String()) > 4000 {
		t.Errorf("%v, a report of %d bytes", err, len(rep.String()))
	}
}

// What one rule cannot mend has a last line with what to type; a float64 that is
// finite in the file is said to be infinite as float32.
func TestMisfitsSayWhatToType(t *testing.T) {
	m := newModel(t, tiny)
	m.Init(1)
	same := func(n string) string { return n }
	leave := "\n(tensors of another shape or type are left out, and begin as the seed says, by init.partial: true with init.map: {NAME: \"\"})"
	find := func(w []safetensors.Tensor, name string) *safetensors.Tensor {
		for i := range w {
			if w[i].Name == name {
				return &w[i]
			}
		}
		t.Fatal(name)
		return nil
	}
	for name, c := range map[string]struct {
		change func(bias *safetensors.Tensor)
		want   string
	}{
		"shape": {func(b *safetensors.Tensor) { b.Shape, b.Data = []int{3}, make([]float32, 3) }, "action_head.bias is [3], want [2]" + leave},
		"type":  {func(b *safetensors.Tensor) { b.Data = []int64{1, 2} }, "action_head.bias is of type I64; save it as float32" + leave},
		"large": {func(b *safetensors.Tensor) { b.Data = []float64{0, 1e300} }, "the value at [1] is +Inf as float32; "},
	} {
		w := weights(m.Params(), same)
		c.change(find(w, "action_head.bias"))
		if err := LoadFirst(newModel(t, tiny).Params(), inMemory(t, w)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	rep, err := Import(newModel(t, tiny), job.Init{Map: job.Renames{{From: "acton_head.*", To: ""}, {From: "vision*", To: "vision*"}}}, 1, inMemory(t, weights(m.Params(), same)))
	if want := `rules of init.map that no name matches: "acton_head.*"`; err != nil || len(rep.Idle) != 1 || !strings.Contains(rep.String(), want) {
		t.Errorf("%v: %s, want %q", err, rep, want)
	}
}
