package pretrained

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// sentence computes one of a case's sentences, and with train the gradients of its
// error against inputs.target.
func sentence(t *testing.T, rt *tensor.Runtime, name string, of models.Tower, train bool) (found *Found, ps *tensor.Params, y []float32) {
	t.Helper()
	x := open(t, filepath.Join("testdata", name+".sentence.safetensors"))
	found, err := Open(filepath.Join("testdata", name), Words)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { found.Close() })
	b := models.NewBuilder()
	net := models.NewBackbone(b, "", found.Backbone, 0)
	ps = b.Params()
	ps.Seal()
	t.Cleanup(ps.Close)
	if _, err := found.Load(ps, ""); err != nil {
		t.Fatal(err)
	}
	tape := tensor.NewTape(rt, ps)
	t.Cleanup(tape.Close)
	i, _ := x.Tensor("inputs.ids")
	tokens, seen := tape.Ints(i.Shape...), tape.Bytes(i.Shape...)
	for k, v := range whole(t, x, "inputs.ids") {
		tokens.Data[k] = int32(v)
	}
	for k, v := range whole(t, x, "inputs.mask") {
		seen.Data[k] = uint8(v)
	}
	out := of.Sentence(tape, net.Read(&models.Pass{Tape: tape, Train: train}, tokens, tensor.Mask{Keys: seen}), seen)
	tape.Keep(out)
	if !train {
		tape.Seal()
		tape.Forward()
		return found, ps, out.Data
	}
	target := tape.Input(out.Shape...)
	loss := tape.MSE(out, target)
	tape.Seal()
	copy(target.Data, floats(t, x, "inputs.target"))
	tape.Forward()
	ps.BindGrads(make([]float32, ps.Len()))
	tape.Backward(loss)
	return found, ps, out.Data
}

// sentences are the towers behind the names of outputs.
var sentences = map[string]models.Tower{
	"mean": {Pool: models.PoolMean},
	"unit": {Pool: models.PoolMean, Unit: true},
	"cls":  {Pool: models.PoolCLS},
	"last": {Pool: models.PoolLast},
}

// TestSentencesAreTheirs holds the sentences of BERT, and of CLIP's words, against
// sentence-transformers' rules and CLIP's own in PyTorch, and all gradients behind one.
func TestSentencesAreTheirs(t *testing.T) {
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	compared := 0
	for _, name := range []string{"bert", "clip_text"} {
		path := filepath.Join("testdata", name+".sentence.safetensors")
		x := open(t, path)
		for out, of := range sentences {
			if _, ok := x.Tensor("outputs." + out); !ok {
				continue
			}
			compared++
			_, _, y := sentence(t, rt, name, of, false)
			d := apart(y, floats(t, x, "outputs."+out))
			t.Logf("%s, %s: relative error %.2g", name, out, d)
			if !(d <= 1e-5) {
				t.Errorf("%s, %s: relative error %.3g, want at most 1e-5", name, out, d)
			}
		}
		found, ps, _ := sentence(t, rt, name, sentences[x.Metadata()["of"]], true)
		want := models.NewBuilder()
		models.NewBackbone(want, "", found.Backbone, 0)
		grads := want.Params()
		grads.Seal()
		defer grads.Close()
		saved := gradients(t, path, found)
		if _, err := saved.Load(grads, ""); err != nil {
			t.Fatal(err)
		}
		for i, p := range grads.List() {
			if d := apart(ps.List()[i].Grad, p.Value); !(d <= 2e-5) {
				t.Errorf("%s, %s: relative error %.3g, want at most 2e-5", name, p.Name, d)
			}
		}
	}
	if compared != 4 {
		t.Errorf("%d sentences were compared", compared)
	}
}

// TestSentenceOf reads what sentence-transformers writes, in both of its forms, and
// refuses what is not known.
func TestSentenceOf(t *testing.T) {
	const st = "sentence_transformers.models."
	list := func(kinds ...string) (text string) {
		var all []map[string]any
		for i, k := range kinds {
			all = append(all, map[string]any{"idx": i, "name": "", "path": map[bool]string{true: "1_Pooling", false: ""}[i == 1], "type": st + k})
		}
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct {
		modules, pooling string
		want             Sentence
		fault            string
	}{
		{want: Sentence{}},
		{list("Transformer", "Pooling", "Normalize"), `{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}`, Sentence{Pool: "mean", Unit: true}, ""},
		{list("Transformer", "Pooling"), `{"pooling_mode_cls_token": true}`, Sentence{Pool: "cls"}, ""},
		{list("Transformer", "Pooling"), `{"pooling_mode": "mean"}`, Sentence{Pool: "mean"}, ""},
		{list("Transformer", "Pooling"), `{"pooling_mode_lasttoken": true}`, Sentence{Pool: "last"}, ""},
		{list("Transformer", "Pooling"), `{"pooling_mode_max_tokens": true}`, Sentence{}, "says pooling [max_tokens]; known here is one of"},
		{list("Transformer", "Pooling"), `{"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": true}`, Sentence{}, "says pooling [max_tokens mean_tokens]"},
		{list("Transformer", "Pooling"), `{}`, Sentence{}, "says pooling []"},
		{list("Transformer", "Pooling"), "", Sentence{}, "config.json is missing"},
		{list("Transformer", "Pooling", "Dense", "Normalize"), `{"pooling_mode_mean_tokens": true}`, Sentence{}, `module 3 of 4 is "sentence_transformers.models.Dense"`},
		{list("Transformer"), "", Sentence{}, "none of its 1 modules is a Pooling"},
		{strings.ReplaceAll(list("Transformer", "Pooling"), "1_Pooling", "../other"), "", Sentence{}, `the folder "../other" of its Pooling is not below it`},
		{"{}", "", Sentence{}, "it is no list of modules"},
	} {
		dir := t.TempDir()
		if c.modules != "" {
			put(t, filepath.Join(dir, "modules.json"), c.modules)
		}
		if c.pooling != "" {
			put(t, filepath.Join(dir, "1_Pooling", "config.json"), c.pooling)
		}
		got, err := SentenceOf(dir)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s: %v, want %s", c.modules, err, c.fault)
			}
			continue
		}
		if got.Path != "" {
			c.want.Path = filepath.Join(dir, "modules.json")
		}
		if err != nil || got != c.want || (c.modules == "") != (got.Path == "") {
			t.Errorf("%s: %+v, %v, want %+v", c.modules, got, err, c.want)
		}
		put(t, filepath.Join(dir, "model.safetensors"), "")
		if again, err := SentenceOf(filepath.Join(dir, "model.safetensors")); again != got || err != nil {
			t.Errorf("beside the file: %+v, %v", again, err)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSentenceBits: the same bits of sentences and gradients on every CPU level and on
// 1 and 3 threads.
func TestSentenceBits(t *testing.T) {
	was := tensor.CPULevel()
	defer tensor.SetCPU(was)
	for name, of := range map[string]models.Tower{"bert": sentences["unit"], "clip_text": {Pool: models.PoolLast, Unit: true}} {
		var first [][]float32
		for _, level := range tensor.CPULevels() {
			if err := tensor.SetCPU(level); err != nil {
				t.Fatal(err)
			}
			for _, threads := range []int{1, 3} {
				rt := tensor.NewRuntime(threads)
				_, ps, y := sentence(t, rt, name, of, true)
				all := [][]float32{slices.Clone(y)}
				for _, p := range ps.List() {
					all = append(all, slices.Clone(p.Grad))
				}
				rt.Close()
				if first == nil {
					first = all
				}
				for i := range all {
					if !slices.Equal(all[i], first[i]) {
						t.Fatalf("%s, %s, %d threads: array %d has other values", name, level, threads, i)
					}
				}
			}
		}
	}
}
