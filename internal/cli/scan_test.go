package cli

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// What the coordinator has found in the files of its data is kept for the next
// run; a worker elsewhere is told of it, and one whose file differs names it.
func TestScanIsKeptAndTold(t *testing.T) {
	t.Parallel()
	const n, size = 1600, 4 * 3 * 32 * 32 // 19 MiB of pictures
	dir := t.TempDir()
	pixels, actions := make([]float32, n*size/4), make([]float32, 2*n)
	r := rand.New(rand.NewPCG(1, 2))
	for _, v := range [][]float32{pixels, actions} {
		for i := range v {
			v[i] = r.Float32()
		}
	}
	data := func(name string) string {
		path := filepath.Join(dir, name, "data.safetensors")
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := safetensors.WriteFile(path, []safetensors.Tensor{{Name: "images", Shape: []int{n, 3, 32, 32}, Data: pixels}, {Name: "actions", Shape: []int{n, 2}, Data: actions}}, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(1700000000, 0)); err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(path)
	}
	here, same := data("here"), data("same")
	pixels[len(pixels)-1]++
	other := data("other")
	job := filepath.Join(here, "job.yaml")
	text := "name: t\nmodel: {kind: vit, image_size: 32, patch_size: 16, d_model: 8, n_heads: 2, n_layers: 1, action_dim: 2}\n" +
		"data: {kind: tensors, path: data.safetensors}\nbatch: {global: 6, micro: 3}\ntrain: {steps: 2}\n"
	if err := os.WriteFile(job, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cache := "XDG_CACHE_HOME=" + filepath.Join(dir, "cache")
	first := start(t, []string{cache}, bin.coordinator, "train", job, "--json", "--run-dir", filepath.Join(dir, "first"), "--workers", "1")
	want := first.event("end")["model_sha256"]
	if code, _ := first.wait(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, first.errText())
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "cache", "vlaring", "scans", "*.scan")); len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}

	run := filepath.Join(dir, "second")
	p := start(t, []string{cache}, bin.coordinator, "train", job, "--json", "--run-dir", run, "--workers", "0", "--set", "cluster.workers=2")
	url := p.event("waiting")["url"].(string)
	worker := func(name, data string) *proc {
		return start(t, []string{"XDG_CACHE_HOME=" + filepath.Join(dir, name)}, bin.worker, "--nats", url, "--job", "t", "--token-file", filepath.Join(run, "token"), "--data-dir", data, "--threads", "1", "--verbose")
	}
	a, b := worker("a", same), worker("b", other)
	if got := p.event("end")["model_sha256"]; got != want {
		t.Errorf("the weights are %v, those of one worker that read everything %v", got, want)
	}
	for name, p := range map[string]*proc{"the coordinator": p, "the worker with the same file": a, "the worker with another": b} {
		if code, _ := p.wait(); code != 0 {
			t.Errorf("%s: exit code %d\n%s", name, code, p.errText())
		}
	}
	if text := a.errText(); !strings.Contains(text, "the coordinator has scanned the data") || strings.Contains(text, "sends the samples") {
		t.Errorf("the worker with the same file says\n%s", text)
	}
	file := filepath.Join(other, "data.safetensors")
	if text := b.errText(); !strings.Contains(text, file+": it has the coordinator's") || !strings.Contains(text, "SHA-256") || !strings.Contains(text, "the coordinator sends the samples") {
		t.Errorf("the worker with another file says\n%s\nand not what differs in %s", text, file)
	}
}
