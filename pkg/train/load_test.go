package train

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/pretrained"
)

// jobFile writes a job whose model takes encoders from files of package pretrained's
// cases.
func jobFile(t *testing.T, model string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job.yaml")
	text := "name: shoulders\nmodel: {kind: vla, d_model: 16, n_heads: 2, n_layers: 2, " + strings.ReplaceAll(model, "$", cases(t)) + "}\ndata: {kind: tabletop, episodes: 8}\nbatch: {global: 2, micro: 1}\ntrain: {steps: 1}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// cases is the folder of package pretrained's cases.
func cases(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../pretrained/testdata")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A job with encoders from files is whole without the files, and its first weights
// are theirs; the data's pictures are scaled as they were shown.
func TestLoadTakesEncoders(t *testing.T) {
	path := jobFile(t, "vision: {from: $/clip_vision}, language: {from: $/bert}, vision_tokens: patches")
	j, err := Load(path, []string{"model.image_size=40"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Kinds().Parse("again", j.YAML(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(again.YAML()) != string(j.YAML()) {
		t.Errorf("the job is not read as it is written:\n%s\n%s", j.YAML(), again.YAML())
	}
	c := again.Model.Options.(models.Config)
	if c.ImageSize != 40 || c.PatchSize != 4 || c.Vision.Backbone.Family != "clip_vision" || c.Language.Backbone.Family != "bert" {
		t.Errorf("%+v", c)
	}
	set, err := OpenData(again, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	meta := set.Meta()
	if meta.ImageMean[0] < 0.48 || meta.ImageMean[0] > 0.482 || meta.ImageStd[2] < 0.275 || meta.ImageStd[2] > 0.276 {
		t.Errorf("pictures are scaled by %v and %v, want CLIP's", meta.ImageMean, meta.ImageStd)
	}
	m, _, err := Build(again, meta)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Init(1)
	loaded, err := Shoulders(again, filepath.Dir(path), m.Params())
	if err != nil {
		t.Fatal(err)
	}
	if l := loaded["model.vision"]; !strings.Contains(l.String(), "positions of 10×10 patches made of 7×7") || len(l.Loaded) < 20 {
		t.Errorf("%s", l)
	}
	// only what is the encoders' was touched
	fresh := 0
	for _, p := range m.Params().List() {
		if !strings.HasPrefix(p.Name, "vision_encoder.") && !strings.HasPrefix(p.Name, "language_encoder.") {
			fresh++
		}
	}
	if all := len(loaded["model.vision"].Loaded) + len(loaded["model.language"].Loaded) + fresh; all != len(m.Params().List()) {
		t.Errorf("%d of %d parameters are accounted for", all, len(m.Params().List()))
	}
}

// A file that cannot be taken is named with the line of the job file.
func TestLoadRefusesEncoders(t *testing.T) {
	for model, want := range map[string]string{
		"vision: {from: $/nothing}":                       "model.vision.from: stat ",
		"vision: {from: $/bert}":                          "of an encoder of pictures that is known here",
		"language: {from: $/timm_vit}":                    "of an encoder of words that is known here",
		"vision: {from: $/siglip}, image_size: 30":        "model.image_size: 30 is no multiple of the 4 pixels of a patch of",
		"vision: {from: $/siglip}, patch_size: 2":         "patches of 2 pixels",
		"vision: {from: $/siglip, kind: cnn}":             "give one of them",
		"vision: {form: $/siglip}":                        "did you mean model.vision.from?",
		"language: {backbone: {family: bert, width: 24}}": "and there is none",

		"language: {pool: mean}":                             "makes a sentence of the words of a pretrained encoder, and there is none: name its file in model.language.from",
		"vision: {from: $/siglip, pool: mean}":               "this tower looks at pictures: leave it out; model.vision_tokens says",
		"language: {from: $/bert, pool: average}":            `model.language.pool: "average" is unknown`,
		"language: {from: $/bert, unit: true}":               "model.language.unit: makes the sentence a unit vector, and model.language.pool makes none",
		"language: {from: $/bert, pool: last}":               "those of $/bert see all: write mean",
		"language: {from: $/t5, pool: cls}":                  "cls is BERT's first token, and $/t5 has none: write mean",
		"language: {from: $/clip_text, pool: cls}":           "and $/clip_text has none: write last, which has seen all of the others",
		"language: {from: $/bert, pool: tokens, unit: true}": "model.language.pool makes none",
	} {
		path := jobFile(t, model)
		want = strings.ReplaceAll(want, "$", cases(t))
		_, err := Load(path, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "job.yaml:2") {
			t.Errorf("%s: %v\nwant %s, at line 2", model, err, want)
		}
	}
}

// Whether a sentence is a unit vector is what lies beside the weights, unless the job
// says it; a run that goes on knows it without them; and a sentence for which the
// encoder was not trained is refused.
func TestLoadFindsSentence(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bert")
	if err := os.CopyFS(dir, os.DirFS("../pretrained/testdata/bert")); err != nil {
		t.Fatal(err)
	}
	path := jobFile(t, "language: {from: "+dir+", pool: mean}")
	load := func(set ...string) models.Tower {
		t.Helper()
		j, err := Load(path, set)
		if err != nil {
			t.Fatal(err)
		}
		return j.Model.Options.(models.Config).Language
	}
	if l := load(); l.Unit || l.Pool != models.PoolMean {
		t.Errorf("%+v without modules.json", l)
	}
	if l := load("model.language.unit=true"); !l.Unit {
		t.Errorf("%+v where the job says unit", l)
	}
	for file, v := range (pretrained.Sentence{Pool: models.PoolMean, Unit: true}).Files(24) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if l := load(); !l.Unit {
		t.Errorf("%+v, and modules.json says Normalize", l)
	}
	if l := load("model.language.unit=false"); l.Unit {
		t.Errorf("%+v where the job says no unit", l)
	}
	if l := load("model.language.pool=tokens"); l.Unit || l.Pooled() {
		t.Errorf("%+v of tokens", l)
	}
	j, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := OpenData(j, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	m, _, err := Build(j, set.Meta())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	loaded, err := Shoulders(j, filepath.Dir(path), m.Params())
	if want := "sentence: the mean of the tokens, a unit vector, as " + filepath.Join(dir, "modules.json") + " says"; err != nil || !strings.Contains(loaded["model.language"].String(), want) {
		t.Errorf("%v, %v, want %s", loaded["model.language"], err, want)
	}
	if _, err := Load(path, []string{"model.language.pool=cls"}); err == nil || !strings.Contains(err.Error(), "model.language.pool: is cls, and the encoder was trained for mean, as "+filepath.Join(dir, "modules.json")+" says: write mean") {
		t.Errorf("cls of an encoder that was trained for mean: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	again, err := LoadAgain(path, nil, func(string) *job.Job { return j })
	if err != nil {
		t.Fatal(err)
	}
	if string(again.YAML()) != string(j.YAML()) {
		t.Errorf("without the files the job is another:\n%s\n%s", again.YAML(), j.YAML())
	}
}

// Rows of CLIP's words are filled with the mark that ends them, of which the first is
// seen; a tokenizer with a padding of its own hides all of it.
func TestLoadFindsPadding(t *testing.T) {
	for _, c := range []struct {
		weights, tokenizer string
		set                []string
		pad                int
		ends               bool
	}{
		{"clip_text", "clip", nil, 1, true},
		{"clip_text", "clip", []string{"model.pad_ends=false"}, 1, false},
		{"clip_text", "clip", []string{"model.pad_token=0"}, 0, false},
		{"clip_text", "clip", []string{"model.pad_token=1"}, 1, true},
		{"bert", "bert", nil, 0, false},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("../pretrained/testdata/"+c.weights)); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("../tokenizer/testdata/" + c.tokenizer + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := Load(jobFile(t, "language: {from: "+dir+"}"), c.set)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if o := j.Model.Options.(models.Config); o.PadToken != c.pad || o.PadEnds != c.ends {
			t.Errorf("%+v: padding is %d, and ends texts: %v", c, o.PadToken, o.PadEnds)
		}
	}
}

// A tokenizer that is named by data.tokenizer says nothing of the model's padding: where it
// is the mark that ends texts, and hidden, that is told.
func TestEndsUnseen(t *testing.T) {
	for _, c := range []struct {
		tokenizer string
		set       []string
		told      bool
	}{
		{"clip", []string{"model.pad_token=1"}, true},
		{"clip", []string{"model.pad_token=1", "model.pad_ends=true"}, false},
		{"clip", []string{"model.pad_token=0"}, false},
		{"bert", nil, false},
	} {
		dir := t.TempDir()
		text, err := os.ReadFile("../tokenizer/testdata/" + c.tokenizer + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := Load(jobFile(t, "max_len: 64"), append(c.set, "data.tokenizer="+dir, "data.max_tokens=16"))
		if err != nil {
			t.Fatal(err)
		}
		d, err := OpenData(j, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := EndsUnseen(j, d.Meta())
		d.Close()
		if (got != "") != c.told || c.told && !strings.Contains(got, "model.pad_ends: true") {
			t.Errorf("%+v: told %q", c, got)
		}
	}
}
