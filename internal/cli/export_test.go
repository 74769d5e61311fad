package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
)

// An export holds the checkpoint's weights, in the type asked for, with all
// that is needed to use them; it is first weights for another run; and a
// damaged checkpoint is not exported.
func TestExport(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	hash := trainDone(t, "testdata/small.yaml", short("--run-dir", dir)...)
	ckpt := filepath.Join(dir, "checkpoints", checkpoint.DirName(4))
	out := t.TempDir()
	export := func(args ...string) {
		t.Helper()
		code, _, stderr := call(t, bin.coordinator, append([]string{"checkpoint", "export", dir}, args...)...)
		if code != 0 {
			t.Fatalf("export %v: exit code %d\n%s", args, code, stderr)
		}
	}
	same := func(path, dtype string) map[string]string {
		t.Helper()
		want, err := safetensors.Open(filepath.Join(ckpt, train.ModelFile))
		if err != nil {
			t.Fatal(err)
		}
		defer want.Close()
		got, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		for _, name := range want.Names() {
			x, err := want.Float32(name)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := safetensors.Narrow(dtype, x)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := want.Tensor(name)
			b, _ := got.Tensor(name)
			r, err := got.Bytes(name)
			if err != nil || b.DType != dtype || !slices.Equal(a.Shape, b.Shape) {
				t.Fatalf("%s: %s is %+v, %v", path, name, b, err)
			}
			bytes, err := io.ReadAll(r)
			if err != nil || string(bytes) != string(raw.Bytes) {
				t.Errorf("%s: %s has other values, %v", path, name, err)
			}
		}
		if len(got.Names()) != len(want.Names()) {
			t.Errorf("%s has %d tensors, want %d", path, len(got.Names()), len(want.Names()))
		}
		return got.Metadata()
	}

	export("--out", filepath.Join(out, "model"))
	if meta := same(filepath.Join(out, "model", "model.safetensors"), "F32"); len(meta) != 1 || meta["format"] != "pt" {
		t.Errorf("metadata %v, want format pt alone", meta)
	}
	b, err := os.ReadFile(filepath.Join(out, "model", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		trained.Config
		Model  models.Config `json:"model"`
		Inputs models.Spec   `json:"inputs"`
	}
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	m, err := checkpoint.ReadManifest(ckpt)
	if err != nil {
		t.Fatal(err)
	}
	var meta data.Meta
	if err := json.Unmarshal(m.Data, &meta); err != nil {
		t.Fatal(err)
	}
	if config.Format != "vlaring-model" || config.DType != "float32" || config.Model.DModel != 32 || config.Model.VocabSize != meta.VocabSize || !config.Inputs.Equal(meta.Spec) ||
		strings.Join(config.Vocabulary, " ") != strings.Join(meta.Vocab, " ") || config.Actions == nil || config.Actions.Mode != "mean_std" || config.Images == nil ||
		config.Checkpoint.Step != 4 || config.Checkpoint.SHA256 != hash {
		t.Errorf("config.json:\n%s", b)
	}

	for _, dtype := range []string{"bf16", "f16"} {
		path := filepath.Join(out, dtype+".safetensors")
		export("--out", path, "--dtype", dtype)
		meta := same(path, strings.ToUpper(dtype))
		if meta["format"] != "pt" || !json.Valid([]byte(meta["config"])) || !strings.Contains(meta["config"], `"torch_dtype":"`) {
			t.Errorf("%s: metadata %v", dtype, meta)
		}
	}

	// The exported weights begin another run, as those of the checkpoint do.
	again := func(init string) string {
		return trainDone(t, "testdata/small.yaml", short("--run-dir", filepath.Join(t.TempDir(), "run"), "--set", "init="+init, "--set", "train.steps=1")...)
	}
	if a, b := again(filepath.Join(out, "model", "model.safetensors")), again(filepath.Join(ckpt, train.ModelFile)); a != b {
		t.Errorf("from the export a run ends at %s, from the checkpoint at %s", a, b)
	}

	flip(t, filepath.Join(ckpt, train.OptimizerFile), -1)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{ckpt, "--out", filepath.Join(out, "bad")}, exitFailed, "optimizer.safetensors: its SHA-256 is"},
		{[]string{dir, "--out", filepath.Join(out, "bad")}, exitFailed, "no checkpoint that verifies"},
		{[]string{ckpt}, exitUsage, "--out"},
		{[]string{ckpt, "--out", "x", "--dtype", "f8"}, exitUsage, "f8"},
	} {
		code, _, stderr := call(t, bin.coordinator, append([]string{"checkpoint", "export"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("export %v: exit code %d\n%s", c.args, code, stderr)
		}
	}
	flip(t, filepath.Join(ckpt, train.OptimizerFile), -1) // back
	if code, _, stderr := call(t, bin.coordinator, "checkpoint", "export", ckpt, "--out", filepath.Join(out, "model")); code != exitUsage || !strings.Contains(stderr, "--force") {
		t.Errorf("onto files that exist: exit code %d\n%s", code, stderr)
	}
	export("--out", filepath.Join(out, "model"), "--force")
}

// An export of a policy says which part of a picture the model sees and what its loss
// makes of its tokens, and PyTorch computes the same from it: with LEROBOT_PYTHON, a
// Python that has torch, tools/load_in_pytorch.py compares every head.
func TestExportOfAPolicy(t *testing.T) {
	t.Parallel()
	python := os.Getenv("LEROBOT_PYTHON")
	if python == "" {
		t.Log("NOT TESTED: policies in PyTorch: LEROBOT_PYTHON names no Python that has torch")
	}
	job := filepath.Join(t.TempDir(), "job.yaml")
	text := `{name: policy, seed: 7, model: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, dropout: 0, fusion: cross},
 data: {kind: tabletop, scene: simple, episodes: 8, cameras: [front, side], state: [gripper], history: 2, chunk: 3, augment: {crop: 0.8}, normalize: {mode: quantile, clip: 1}},
 batch: {global: 4, micro: 4}, train: {steps: 1}, cluster: {workers: 1}}`
	if err := os.WriteFile(job, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for loss, want := range map[string]string{"l1": `{"kind":"l1"}`, "bins": `{"kind":"bins","options":{"bins":256}}`, "flow": `{"kind":"flow","options":{"steps":10}}`} {
		dir, out := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "out")
		trainDone(t, job, "--run-dir", dir, "--set", "loss="+loss)
		if code, _, stderr := call(t, bin.coordinator, "checkpoint", "export", dir, "--out", out); code != 0 {
			t.Fatal(stderr)
		}
		b, err := os.ReadFile(filepath.Join(out, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		var config struct {
			Loss   json.RawMessage `json:"loss"`
			Images struct{ Crop float64 }
		}
		if err := json.Unmarshal(b, &config); err != nil {
			t.Fatal(err)
		}
		var loose bytes.Buffer
		if err := json.Compact(&loose, config.Loss); err != nil || loose.String() != want || config.Images.Crop != 0.8 {
			t.Errorf("%s: %s, crop %v, %v", loss, loose.String(), config.Images.Crop, err)
		}
		if python == "" {
			continue
		}
		script := filepath.Join("..", "..", "tools", "load_in_pytorch.py")
		said, err := exec.Command(python, script, dir, "--coordinator", bin.coordinator, "--tolerance", "1e-5").CombinedOutput()
		if err != nil || !strings.Contains(string(said), "within 1e-05") {
			t.Errorf("%s: %v\n%s", loss, err, said)
		}
	}
}
