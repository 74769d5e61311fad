package cli

import (
	"encoding/json"
	"io"
	"os"
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
