package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/pretrained"
	"github.com/vlaring/vlaring/pkg/train"
)

// shoulders writes a job whose encoders are two of package pretrained's cases, of which
// it makes copies that the test may take away.
func shoulders(t *testing.T) (job, dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"clip_vision", "bert"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS("../../pkg/pretrained/testdata/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	job = filepath.Join(dir, "job.yaml")
	text := `name: shoulders
model: {kind: vla, d_model: 16, n_heads: 2, n_layers: 2, image_size: 40, vision: {from: clip_vision}, language: {from: bert}, vision_tokens: patches}
data: {kind: tabletop, scene: simple, episodes: 12}
batch: {global: 4, micro: 2}
optimizer: {kind: adamw, lr: 0.001}
schedule: {kind: constant}
train: {steps: 4, freeze: ["language_encoder.*"]}
checkpoint: {every: 2}
cluster: {workers: 1, deadline: 20s}
`
	if err := os.WriteFile(job, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return job, dir
}

// A checkpoint holds what came of the encoders' files, tokenizer and all: a run goes on
// without them, with the bits that it would have had, and everything that a checkpoint
// is good for is done without them.
func TestResumeWithoutTheEncodersFiles(t *testing.T) {
	t.Parallel()
	job, dir := shoulders(t)
	want := trainDone(t, job, "--run-dir", filepath.Join(dir, "whole"))
	run := filepath.Join(dir, "run")
	code, out, stderr := call(t, bin.coordinator, "train", job, "--run-dir", run, "--set", "train.steps=2")
	if text := out + stderr; code != exitDone || !strings.Contains(text, "tokens: by the tokenizer of bert") || !strings.Contains(text, "positions of 10×10 patches made of 7×7") {
		t.Fatalf("exit code %d\n%s", code, text)
	}
	for _, name := range []string{"clip_vision", "bert"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := trainDone(t, job, "--run-dir", run, "--resume"); got != want {
		t.Errorf("without the files it ends at %s, want %s", got, want)
	}
	// The job's copy gone, the newest checkpoint has the job too.
	if err := os.Remove(filepath.Join(run, "job.yaml")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := call(t, bin.coordinator, "train", job, "--run-dir", run, "--resume", "--set", "train.steps=5"); code != exitDone {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	// What has nothing to go on from needs the files, and says so.
	if code, _, stderr := call(t, bin.coordinator, "train", job, "--run-dir", filepath.Join(dir, "new"), "--resume"); code != exitUsage || !strings.Contains(stderr, "job.yaml:2:") || !strings.Contains(stderr, "model.vision.from: stat ") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	at := filepath.Join(dir, "exported")
	for _, args := range [][]string{
		{"eval", "--checkpoint", run},
		{"predict", "--checkpoint", run, "--episode", "3"},
		{"checkpoint", "export", run, "--out", filepath.Join(at, "whole")},
		{"checkpoint", "export", run, "--encoder", "vision", "--out", filepath.Join(at, "vision")},
		{"checkpoint", "export", run, "--encoder", "language", "--out", filepath.Join(at, "language")},
	} {
		if code, _, stderr := call(t, bin.coordinator, args...); code != exitDone {
			t.Errorf("%v: exit code %d\n%s", args, code, stderr)
		}
	}
	serving(t, run)

	// What was written are the checkpoint's encoders under their families' names.
	f, err := safetensors.Open(filepath.Join(run, "checkpoints", checkpoint.DirName(5), train.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		dir         string
		role        pretrained.Role
		ours, their string
	}{
		{"vision", pretrained.Pictures, "vision_encoder.pos_embedding", "embeddings.position_embedding.weight"},
		{"language", pretrained.Words, "language_encoder.blocks.1.feed_forward.up.weight", "encoder.layer.1.intermediate.dense.weight"},
	} {
		found, err := pretrained.Open(filepath.Join(at, c.dir), c.role)
		if err != nil {
			t.Fatal(err)
		}
		if c.role == pretrained.Pictures && found.Side != 40 {
			t.Errorf("pictures of %d, want 40", found.Side)
		}
		found.Close()
		g, err := safetensors.OpenModel(filepath.Join(at, c.dir))
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		their := c.their
		for _, name := range g.Names() {
			if strings.HasSuffix(name, c.their) {
				their = name
			}
		}
		if a, b := values(t, f, c.ours), values(t, g, their); !equal(a, b) {
			t.Errorf("%s of %s has other values than %s", their, c.dir, c.ours)
		}
	}
}

// An encoder with adapters goes out as the whole model does, each weight with what its
// adapter adds.
func TestAdaptedEncoderIsExported(t *testing.T) {
	t.Parallel()
	job, dir := shoulders(t)
	run, at := filepath.Join(dir, "run"), filepath.Join(dir, "exported")
	trainDone(t, job, "--run-dir", run, "--set", "train.steps=2", "--set", `model.lora={rank: 2, match: ["vision_encoder.blocks.*feed_forward*"]}`)
	tensors := map[string]*safetensors.File{}
	for name, args := range map[string][]string{"whole": nil, "vision": {"--encoder", "vision"}} {
		if code, _, stderr := call(t, bin.coordinator, append([]string{"checkpoint", "export", run, "--out", filepath.Join(at, name)}, args...)...); code != exitDone {
			t.Fatalf("%v: exit code %d\n%s", args, code, stderr)
		}
		f, err := safetensors.OpenModel(filepath.Join(at, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tensors[name] = f
	}
	f, err := safetensors.Open(filepath.Join(run, "checkpoints", checkpoint.DirName(2), train.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		ours, their string
		adapted     bool
	}{
		{"vision_encoder.blocks.1.feed_forward.up.weight", "layers.1.mlp.fc1.weight", true},
		{"vision_encoder.blocks.0.feed_forward.down.weight", "layers.0.mlp.fc2.weight", true},
		{"vision_encoder.blocks.1.attention.out_proj.weight", "layers.1.self_attn.out_proj.weight", false},
	} {
		i := slices.IndexFunc(tensors["vision"].Names(), func(name string) bool { return strings.HasSuffix(name, c.their) })
		if i < 0 {
			t.Fatalf("no %s in %v", c.their, tensors["vision"].Names())
		}
		got, want := values(t, tensors["vision"], tensors["vision"].Names()[i]), values(t, tensors["whole"], c.ours)
		if !equal(got, want) || equal(got, values(t, f, c.ours)) == c.adapted {
			t.Errorf("%s is not what the whole model's export has, with what the adapter adds", c.their)
		}
	}
	for _, name := range tensors["vision"].Names() {
		if strings.Contains(name, "lora") {
			t.Errorf("the encoder has %s", name)
		}
	}
}

// A sentence in place of the words: what lies beside the weights says that it is a unit
// vector, and a run goes on without that, is served as it predicts, and writes it again.
func TestSentenceWithoutTheEncodersFiles(t *testing.T) {
	t.Parallel()
	job, dir := shoulders(t)
	for name, text := range map[string]string{
		"modules.json":          `[{"path": "", "type": "st.Transformer"}, {"path": "1_Pooling", "type": "st.Pooling"}, {"path": "", "type": "st.Normalize"}]`,
		"1_Pooling/config.json": `{"pooling_mode_mean_tokens": true}`,
	} {
		path := filepath.Join(dir, "bert", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeTo(t, path, []byte(text))
	}
	set := options([]string{"model.language.pool=mean", "data.cameras=[front]", "data.state=[gripper]"})
	want := trainDone(t, job, append(set, "--run-dir", filepath.Join(dir, "whole"))...)
	if plain := trainDone(t, job, append(set, "--run-dir", filepath.Join(dir, "plain"), "--set", "model.language.unit=false")...); plain == want {
		t.Error("a unit vector or not, the weights are the same")
	}
	run := filepath.Join(dir, "run")
	code, out, stderr := call(t, bin.coordinator, append([]string{"train", job, "--run-dir", run, "--set", "train.steps=2"}, set...)...)
	if text := out + stderr; code != exitDone || !strings.Contains(text, "sentence: the mean of the tokens, a unit vector, as ") {
		t.Fatalf("exit code %d\n%s", code, text)
	}
	if err := os.RemoveAll(filepath.Join(dir, "bert")); err != nil {
		t.Fatal(err)
	}
	if got := trainDone(t, job, append(set, "--run-dir", run, "--resume")...); got != want {
		t.Errorf("without the files it ends at %s, want %s", got, want)
	}

	picture := pictureOf(t, 3)
	png, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	url := serving(t, run)
	var before []float32
	for _, words := range []string{"push the red cube left", "pick up the blue ball"} {
		want := slices.Concat(predicted(t, "--checkpoint", run, "--image", "front="+picture, "--state", "0.25,0.125,0.0625,0,0,0.25,1,0.5", "--instruction", words)...)
		got, told := answered(t, url, map[string]any{"front": png, "state": []float64{0.25, 0.125, 0.0625, 0, 0, 0.25, 1, 0.5}, "prompt": words})
		if told != "" || !slices.Equal(got, want) || slices.Equal(got, before) {
			t.Errorf("%s: %v %s, want %v, and not %v", words, got, told, want, before)
		}
		before = got
	}
	at := filepath.Join(dir, "exported")
	if code, _, stderr := call(t, bin.coordinator, "checkpoint", "export", run, "--encoder", "language", "--out", at); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if s, err := pretrained.SentenceOf(at); err != nil || s.Pool != "mean" || !s.Unit {
		t.Errorf("what was written makes %+v, %v", s, err)
	}
}

func values(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	x, err := f.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func equal(a, b []float32) bool {
	for i := range a {
		if len(b) != len(a) || a[i] != b[i] {
			return false
		}
	}
	return len(a) > 0
}

// init beside from: what init gives counts more, and the rest is the file's.
func TestInitBesideFrom(t *testing.T) {
	t.Parallel()
	job, dir := shoulders(t)
	first := filepath.Join(dir, "first")
	trainDone(t, job, "--run-dir", first)
	weights := filepath.Join(first, "checkpoints", checkpoint.DirName(4), train.ModelFile)
	run := filepath.Join(dir, "run")
	args := []string{"train", job, "--json", "--run-dir", run, "--set", "train.steps=1", "--set", "init.path=" + weights, "--set", "init.partial=true",
		"--set", "init.map={vision_encoder.blocks.0.*: vision_encoder.blocks.0.*, action_head.*: action_head.*, '*': }"}
	p := start(t, nil, bin.coordinator, args...)
	made := p.event("init")
	if code, _ := p.wait(); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	if s, _ := made["transfer"].(map[string]any); s == nil {
		t.Fatalf("%v", made)
	}
	open := func(path string) *safetensors.File {
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	trained, got := open(weights), open(filepath.Join(run, "init.safetensors"))
	file := open(filepath.Join(first, "init.safetensors"))
	for name, from := range map[string]*safetensors.File{
		"vision_encoder.blocks.0.feed_forward.up.weight": trained, // init's
		"vision_encoder.blocks.1.feed_forward.up.weight": file,    // the encoder's
		"language_encoder.embedding.weight":              file,
	} {
		if !equal(values(t, got, name), values(t, from, name)) {
			t.Errorf("%s is not that of %s", name, from.Name())
		}
	}
	if name := "vision_encoder.blocks.0.feed_forward.up.weight"; equal(values(t, trained, name), values(t, file, name)) {
		t.Errorf("%s did not train: the test says nothing", name)
	}
}

// What job and data do not agree on is a mistake in the job file: exit code 2, with the
// key's place, and advice that the key's owner can follow.
func TestJobAndDataDisagree(t *testing.T) {
	t.Parallel()
	job, dir := shoulders(t)
	other := filepath.Join(dir, "other")
	words := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
	for i := range 300 {
		words = append(words, "w"+strings.Repeat("x", i))
	}
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "vocab.txt"), []byte(strings.Join(words, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	bare := filepath.Join(dir, "bare")
	if err := os.CopyFS(bare, os.DirFS(filepath.Join(dir, "bert"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(bare, "vocab.txt")); err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]string{
		"data.tokenizer=other":       "the embedding of model.language.from has 64 rows: it was pretrained with another tokenizer; name that one with data.tokenizer",
		"data.tokenizer=nowhere":     "want a tokenizer.json, a vocab.txt or the folder of one",
		"model.language.from=bare":   "there is none beside it: name its tokenizer.json or vocab.txt with data.tokenizer",
		"data.max_tokens=2":          "want at least 3",
		"data.max_tokens=100":        "the encoder of model.language.from takes 24 at most: data.max_tokens: 24 cuts them",
		`train.freeze=["nothing.*"]`: "nothing.*",
		"train.freeze=[\"*\"]":       "every parameter is frozen",
	} {
		code, _, stderr := call(t, bin.coordinator, "train", job, "--run-dir", filepath.Join(t.TempDir(), "run"), "--set", set, "--set", "train.steps=1")
		if code != exitUsage || !strings.Contains(stderr, want) || strings.Contains(stderr, "vocab_size") {
			t.Errorf("%s: exit code %d\n%s\nwant 2 and %s", set, code, stderr, want)
		}
	}
}
