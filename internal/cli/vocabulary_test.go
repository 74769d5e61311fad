package cli

import (
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// A vocabulary of several MiB, which no message of NATS holds, does not keep
// workers from joining: every join once failed until the job gave up.
func TestVocabularyBeyondAMessage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a.png"))
	if err == nil {
		err = png.Encode(f, image.NewRGBA(image.Rect(0, 0, 32, 32)))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	var manifest strings.Builder
	word := 0
	for i := range 500 {
		var words []string
		for range 64 {
			word++
			words = append(words, fmt.Sprintf("beyond%0100dthings", word))
		}
		fmt.Fprintf(&manifest, `{"image": "a.png", "episode": %d, "instruction": %q, "action": [%d,0,0,0,0,0,1]}`+"\n", i, strings.Join(words, " "), i)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.jsonl"), []byte(manifest.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(path, []byte(`name: wordy
model: {kind: vla, image_size: 32, patch_size: 8, d_model: 8, n_heads: 1, n_layers: 2, max_len: 64}
data: {kind: folder, path: ., holdout: {fraction: 0}}
batch: {global: 16, micro: 8}
train: {steps: 3}
checkpoint: {every: 3}
cluster: {workers: 2}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	j, err := train.Kinds().Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := train.OpenData(j, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := worker.Describe(j, set.Meta())
	set.Close()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.Data); n < 3*limits.Message {
		t.Fatalf("the description of the data has %d bytes: this test is of a larger one", n)
	}
	if len(cluster.Encode(&cluster.Welcome{Job: d.Job, Data: d.Data})) < limits.Message {
		t.Fatal("it would fit a message")
	}
	code, _, stderr := call(t, bin.coordinator, "train", path, "--run-dir", filepath.Join(t.TempDir(), "run"), "--set", "cluster.join_timeout=20s")
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}
