package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/storetest"
	"github.com/vlaring/vlaring/pkg/train"
)

// tensorsJob writes a job over one of pkg/data's files of tensors.
func tensorsJob(t *testing.T, data string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../pkg/data/testdata/tensors", data))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "job.yaml")
	text := "name: t\nmodel: {kind: vit, image_size: 4, patch_size: 2, channels: 5, d_model: 8, n_heads: 2, n_layers: 1, action_dim: 2}\n" +
		"data: {kind: tensors, path: " + path + ", shuffle: false}\nbatch: {global: 6, micro: 3}\ntrain: {steps: 2}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// Any number of channels trains, in either layout to the same bits; a model of
// another number is told in which line of the job file it stands.
func TestTensorsTrain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := trainDone(t, tensorsJob(t, "five.safetensors"), "--run-dir", filepath.Join(dir, "a"), "--workers", "1")
	if last := trainDone(t, tensorsJob(t, "nhwc_five.safetensors"), "--run-dir", filepath.Join(dir, "b"), "--workers", "2", "--set", "data.delivery=bus"); last != first {
		t.Errorf("channels last, sent to two workers, ends at %s, channels first at %s", last, first)
	}
	file := tensorsJob(t, "f32.safetensors")
	code, _, text := call(t, bin.coordinator, "train", file, "--run-dir", filepath.Join(dir, "c"))
	if want := file + ":2:60: tensors data: "; code != exitUsage || !strings.Contains(text, want) || !strings.Contains(text, "images is F32 [6 3 4 4], that is 3 channels, and model.channels is 5: set model.channels to 3") {
		t.Errorf("exit code %d\n%s\nwant %s", code, text, want)
	}

	// predict of what was trained
	in := func(name string, v []float32, shape ...int) string {
		path := filepath.Join(dir, name)
		if err := safetensors.WriteFile(path, []safetensors.Tensor{{Name: "images", Shape: shape, Data: v}}, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pixels := make([]float32, 2*5*16)
	for i := range pixels {
		pixels[i] = float32(i % 256)
	}
	out := filepath.Join(dir, "out.safetensors")
	predict := func(inputs, out string) (int, string) {
		code, _, text := call(t, bin.coordinator, "predict", "--checkpoint", filepath.Join(dir, "a"), "--inputs", inputs, "--out", out)
		return code, text
	}
	large := in("large.safetensors", pixels, 2, 5, 4, 4)
	if code, text := predict(large, out); code != 0 || !strings.Contains(text, "warning: the inputs: "+large+": the values of images go from 0 to 159 and are used as they are") {
		t.Errorf("0 to 159: exit code %d\n%s", code, text)
	}
	zero := float32(0)
	pixels[5*16+17] = zero / zero
	if code, text := predict(in("nan.safetensors", pixels, 2, 5, 4, 4), filepath.Join(dir, "none.safetensors")); code != exitFailed || !strings.Contains(text, "images: row 1: the value at [1 1 0 1] is NaN") {
		t.Errorf("a NaN: exit code %d\n%s", code, text)
	}
	if _, err := os.Stat(filepath.Join(dir, "none.safetensors")); err == nil {
		t.Error("a file was written")
	}
	was, err := os.ReadFile(large)
	if err != nil {
		t.Fatal(err)
	}
	if code, text := predict(large, large); code != exitUsage || !strings.Contains(text, "which it would replace") {
		t.Errorf("onto its inputs: exit code %d\n%s", code, text)
	}
	if is, err := os.ReadFile(large); err != nil || string(is) != string(was) {
		t.Error("the inputs were changed")
	}
}

// A sharded file of first weights is what its parts are together; a shard alone
// and a file from DistributedDataParallel are named with what to type, which works.
func TestShardedInit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	trainDone(t, "testdata/small.yaml", short("--run-dir", at("first"))...)
	whole := filepath.Join(at("first"), "checkpoints", "step-00000004", train.ModelFile)
	f, err := safetensors.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var parts [2][]safetensors.Tensor
	var ddp []safetensors.Tensor
	index := `{"weight_map": {`
	for i, name := range f.Names() {
		info, _ := f.Tensor(name)
		x, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		parts[i%2] = append(parts[i%2], safetensors.Tensor{Name: name, Shape: info.Shape, Data: x})
		ddp = append(ddp, safetensors.Tensor{Name: "module." + name, Shape: info.Shape, Data: x})
		if i > 0 {
			index += ", "
		}
		index += `"` + name + `": "` + []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}[i%2] + `"`
	}
	if err := os.Mkdir(at("sharded"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tensors := range map[string][]safetensors.Tensor{"sharded/model-00001-of-00002.safetensors": parts[0], "sharded/model-00002-of-00002.safetensors": parts[1], "ddp.safetensors": ddp} {
		if err := safetensors.WriteFile(at(name), tensors, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("sharded/model.safetensors.index.json"), []byte(index+"}}"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := ""
	for i, init := range []string{whole, at("sharded"), at("sharded/model.safetensors.index.json"), `{path: ` + at("ddp.safetensors") + `, map: {"module.*": "*"}}`} {
		got := trainDone(t, "testdata/small.yaml", short("--run-dir", at("run"+string(rune('a'+i))), "--workers", "1", "--set", "init="+init)...)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("init %s ends at %s, the whole file at %s", init, got, want)
		}
	}
	// a file that ends in zeros, as after a download that broke off
	cut, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	clear(cut[len(cut)-1<<16:])
	if err := os.WriteFile(at("cut.safetensors"), cut, 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, text := call(t, bin.coordinator, append([]string{"train", "testdata/small.yaml", "--run-dir", at("cut"), "--workers", "1"}, short("--set", "init="+at("cut.safetensors"))...)...)
	if code != 0 || !strings.Contains(text, "init: "+at("cut.safetensors")+": the last ") || !strings.Contains(text, "bytes are zeros; a download or copy that broke off ends so") {
		t.Errorf("a file that ends in zeros: exit code %d\n%s", code, text)
	}
	for init, says := range map[string]string{
		at("first"):           at("first") + " is a run directory: give the weights of one of its checkpoints, such as " + whole,
		at("ddp.safetensors"): `names begin with "module.": strip it with init.map {"module.*": "*"}`,
		at("sharded/model-00002-of-00002.safetensors"): "this is part 2 of 2 of a sharded file: give init its index",
	} {
		code, _, text := call(t, bin.coordinator, append([]string{"train", "testdata/small.yaml", "--run-dir", at("bad")}, short("--set", "init="+init)...)...)
		if code != exitFailed || !strings.Contains(text, says) || strings.Count(text, "\n") > 4 {
			t.Errorf("%s: exit code %d\n%s\nwant %s", init, code, text, says)
		}
	}
}

// A checkpoint whose weights are not finite is refused by tensor, as a teacher,
// by eval and by predict.
func TestTrainedWeightsMustBeFinite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	trainDone(t, "testdata/small.yaml", short("--run-dir", filepath.Join(dir, "run"))...)
	s, err := storetest.Read(filepath.Join(dir, "run", "checkpoints", "step-00000004"))
	if err != nil {
		t.Fatal(err)
	}
	zero := float32(0)
	s.Model[0].Data[1] = zero / zero
	s.Manifest.Files = nil // their sums are made anew
	store, err := checkpoint.OpenDisk(filepath.Join(dir, "nan"))
	if err != nil {
		t.Fatal(err)
	}
	if err := storetest.Write(store, s); err != nil {
		t.Fatal(err)
	}
	nan := filepath.Join(dir, "nan", "step-00000004")
	want := "tensor " + s.Model[0].Name + ": the value at [1] is NaN; 1 of its "
	for name, args := range map[string][]string{
		"eval":    {"eval", "--checkpoint", nan},
		"predict": {"predict", "--checkpoint", nan, "--inputs", "x.safetensors", "--out", filepath.Join(dir, "y.safetensors")},
		"teacher": append([]string{"train", "testdata/small.yaml", "--run-dir", filepath.Join(dir, "student")}, short("--set", "distill.teacher="+nan)...),
	} {
		code, _, text := call(t, bin.coordinator, args...)
		if code != exitFailed || !strings.Contains(text, want) {
			t.Errorf("%s: exit code %d\n%s\nwant %s", name, code, text, want)
		}
	}
}
