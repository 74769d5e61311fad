package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/objects"
)

// shardOfEpisodes is a shard of WebDataset with frames of robot episodes.
func shardOfEpisodes(t *testing.T, first, episodes int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, body []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o444}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	for e := first; e < first+episodes; e++ {
		for f := range 6 {
			key := fmt.Sprintf("episode-%03d/%04d", e, f)
			m := image.NewNRGBA(image.Rect(0, 0, 32, 32))
			for i := range 32 * 32 {
				m.Set(i%32, i/32, color.NRGBA{R: byte(40 * e), G: byte(i), B: byte(30 * f), A: 255})
			}
			var p bytes.Buffer
			if err := png.Encode(&p, m); err != nil {
				t.Fatal(err)
			}
			about, err := json.Marshal(map[string]any{"frame_index": f, "action": []float64{float64(f) / 7, float64(e) / 5, float64(f % 2)}, "state": []float64{float64(e), float64(f)}})
			if err != nil {
				t.Fatal(err)
			}
			add(key+".front.png", p.Bytes())
			add(key+".json", about)
			add(key+".txt", []byte(fmt.Sprintf("push number %d", e%3)))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// upload stores a file, or all files of a folder, below an address.
func upload(t *testing.T, b *objects.Bucket, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return b.Put(t.Context(), filepath.ToSlash(key), text)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// WebDataset shards and a LeRobot data set are read from a store as from a directory:
// the same files come of the shards, the same weights of the data set, with workers
// that read it and with workers that are sent it; a copy that is there is not fetched
// again, and serves where the store is away.
func TestDataInAStore(t *testing.T) {
	t.Parallel()
	s := s3(t, "data")
	shards, dir := t.TempDir(), t.TempDir()
	for i := range 2 {
		if err := os.WriteFile(filepath.Join(shards, fmt.Sprintf("push-%03d.tar", i)), shardOfEpisodes(t, 4*i, 4), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := objects.Open("s3://data?endpoint=" + s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	upload(t, b.In("shards"), shards)
	local, remote := filepath.Join(dir, "local"), filepath.Join(dir, "remote")
	for to, from := range map[string]string{local: filepath.Join(shards, "push-{000..001}.tar"), remote: "s3://data/shards/push-{000..001}.tar"} {
		if code, _, errs := call(t, bin.coordinator, "data", "convert", from, to, "--fps", "10"); code != 0 {
			t.Fatalf("converting %s: %d %s", from, code, errs)
		}
	}
	n := 0
	err = filepath.WalkDir(local, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		rel, err := filepath.Rel(local, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(remote, rel)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another where the shards came from the store: %v", rel, err)
		}
		return nil
	})
	if err != nil || n < 4 {
		t.Fatalf("%d files, %v", n, err)
	}
	if code, _, errs := call(t, bin.coordinator, "data", "convert", "s3://data/shards/push-007.tar", filepath.Join(dir, "none")); code != 2 || !strings.Contains(errs, "there is no s3://data/shards/push-007.tar") {
		t.Errorf("a shard that is not there: %d %s", code, errs)
	}

	upload(t, b.In("sets/push"), local)
	job := filepath.Join(dir, "push.yaml")
	text := `name: push
model: {kind: vla, image_size: 32, patch_size: 8, d_model: 32, n_heads: 4, n_layers: 2, action_dim: 3}
data: {kind: lerobot, path: PATH, camera: front, shuffle: true, holdout: {episodes: [2]}}
batch: {global: 8, micro: 2}
train: {steps: 6}
cluster: {workers: 2, deadline: 20s}
`
	if err := os.WriteFile(job, []byte(strings.Replace(text, "PATH", local, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	want := trainDone(t, job, "--run-dir", filepath.Join(dir, "run-here"))
	at := "data.path=s3://data/sets/push"
	for _, set := range []string{"auto", "bus", "local"} {
		if got := trainDone(t, job, "--run-dir", filepath.Join(dir, "run-"+set), "--set", at, "--set", "data.delivery="+set); got != want {
			t.Errorf("delivered %s from the store the run ends at %s, and from the directory at %s", set, got, want)
		}
	}
	if code, out, errs := call(t, bin.coordinator, "data", "info", "s3://data/sets/push"); code != 0 || !strings.Contains(out, "8 episodes") {
		t.Errorf("data info: %d %s%s", code, out, errs)
	}
	run := filepath.Join(dir, "run-auto")
	code, here, errs := call(t, bin.coordinator, "eval", "--checkpoint", run, "--json")
	if code != 0 {
		t.Fatalf("eval: %d %s", code, errs)
	}
	if code, there, errs := call(t, bin.coordinator, "eval", "--checkpoint", run, "--data", local, "--json"); code != 0 || here != there {
		t.Errorf("eval on the same data in a directory: %d %s\n%s\n%s", code, errs, here, there)
	}
	s.Stop()
	if got := trainDone(t, job, "--run-dir", filepath.Join(dir, "run-away"), "--set", at); got != want {
		t.Errorf("with the store away the run ends at %s, want %s", got, want)
	}
	if code, _, errs := call(t, bin.coordinator, "train", job, "--run-dir", filepath.Join(dir, "run-none"), "--set", "data.path=s3://data/sets/other"); code != 1 || !strings.Contains(errs, "cannot be reached") {
		t.Errorf("what was never fetched, from a store that is away: %d %s", code, errs)
	}
	s.Start(t)
	if code, _, errs := call(t, bin.coordinator, "train", job, "--run-dir", filepath.Join(dir, "run-none"), "--set", "data.path=s3://data/sets/other"); code != 1 || !strings.Contains(errs, "there is no object of that name, and none below it") {
		t.Errorf("what is not there: %d %s", code, errs)
	}
}

// Steps of a run whose first weights came from a store are computed again from there, of a
// file and of a checkpoint; where neither store nor copy has them, that is what is said.
func TestAuditOfWeightsInAStore(t *testing.T) {
	t.Parallel()
	s := s3(t, "models")
	cache := t.TempDir()
	environ(t, "XDG_CACHE_HOME="+cache)
	dir := t.TempDir()
	trainDone(t, "testdata/small.yaml", "--run-dir", filepath.Join(dir, "first"), "--workers", "1", "--set", "checkpoint.upload=s3://models/first")
	b, err := objects.Open("s3://models?endpoint=" + s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile(filepath.Join(dir, "first", "checkpoints", "step-00000012", "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "files/start.safetensors", weights); err != nil {
		t.Fatal(err)
	}
	run := ""
	for name, init := range map[string]string{"file": "s3://models/files/start.safetensors", "checkpoint": "s3://models/first"} {
		run = filepath.Join(dir, name)
		trainDone(t, "testdata/small.yaml", "--run-dir", run, "--workers", "1", "--set", "init="+init)
		code, out, errs := call(t, bin.coordinator, "audit", run, "--step", "3")
		if code != 0 || !strings.Contains(out, "steps 1 to 3, computed again from the job's first weights") {
			t.Errorf("init %s: %d %s%s", init, code, out, errs)
		}
	}
	if err := os.RemoveAll(filepath.Join(cache, "vlaring")); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if code, out, errs := call(t, bin.coordinator, "audit", run, "--step", "3"); code != 1 || !strings.Contains(errs, "the run's first weights") || !strings.Contains(errs, "s3://models/") {
		t.Errorf("neither store nor copy: %d %s%s", code, out, errs)
	}
}
