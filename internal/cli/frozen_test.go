package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// encoders are settings of testdata/small.yaml with encoders of others: words that are
// frozen, pictures that are frozen but for adapters in the last block, and a fresh head.
func encoders(t *testing.T) []string {
	t.Helper()
	cases, err := filepath.Abs("../../pkg/pretrained/testdata")
	if err != nil {
		t.Fatal(err)
	}
	return []string{"model.image_size=28", "model.patch_size=4", "model.vision={from: " + cases + "/dinov2}", "model.language={from: " + cases + "/bert}", "model.vision_tokens=patches", "batch.global=8",
		`train.freeze=["vision_encoder.*", "language_encoder.*"]`,
		`model.lora={rank: 2, alpha: 4, dropout: 0.1, match: ["vision_encoder.blocks.1.attention*", "vision_encoder.blocks.1.feed_forward*"]}`}
}

// options are the settings as arguments.
func options(set []string) (args []string) {
	for _, s := range set {
		args = append(args, "--set", s)
	}
	return args
}

// cached says how many results of frozen encoders the workers of a run with --verbose
// had asked for, and how many were there.
func cached(t *testing.T, text string) (asked, kept bool) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Contains(line, "what frozen encoders make") && strings.Contains(line, "asked_for") {
			asked = asked || !strings.Contains(line, `"asked_for": 0`)
			kept = kept || !strings.Contains(line, `"kept": 0}`)
		}
	}
	return asked, kept
}

// Promise 1 with encoders of others, frozen and adapted: the same weights for any number
// of workers and threads, at every CPU level, after kills and resumes, and with what the
// frozen parts make kept, damaged, full, in no place to keep it, or not at all.
func TestFrozenSameBits(t *testing.T) {
	t.Parallel()
	job, set := "testdata/small.yaml", encoders(t)
	want := undisturbed(t, append(slices.Clone(set), "train.cache=0")...)
	cache := t.TempDir()
	folder := filepath.Join(cache, "vlaring", "features")
	run := func(t *testing.T, env []string, args ...string) (workers, got string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "run")
		p := start(t, append([]string{"XDG_CACHE_HOME=" + cache}, env...), bin.coordinator, append(append([]string{"train", job, "--json", "--verbose", "--run-dir", dir}, options(set)...), args...)...)
		got, _ = p.event("end")["model_sha256"].(string)
		if code, _ := p.wait(); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.errText())
		}
		l, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
		for _, path := range l {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			workers += string(b)
		}
		return workers + p.errText(), got
	}
	same := func(t *testing.T, env []string, kept bool, args ...string) string {
		t.Helper()
		text, got := run(t, env, args...)
		if got != want {
			t.Errorf("weights are %s, want %s", got, want)
		}
		if asked, found := cached(t, text); asked != kept || found != kept {
			t.Errorf("results were asked for: %v, and there: %v; want both %v\n%s", asked, found, kept, text)
		}
		return text
	}
	t.Run("kept", func(t *testing.T) {
		same(t, nil, true, "--workers", "1", "--threads", "1")
		if l, err := filepath.Glob(filepath.Join(folder, "*.features")); len(l) != 2 {
			t.Errorf("the kept results are %v (%v), want a file of each encoder", l, err)
		}
	})
	t.Run("2 workers", func(t *testing.T) { same(t, nil, true, "--workers", "2", "--threads", "1") })
	t.Run("3 workers, 2 threads, over NATS", func(t *testing.T) {
		same(t, nil, true, "--workers", "3", "--threads", "2", "--set", "cluster.road=nats")
	})
	t.Run("samples over the bus", func(t *testing.T) { same(t, nil, true, "--workers", "2", "--set", "data.delivery=bus") })
	t.Run("not kept, 3 workers", func(t *testing.T) { same(t, nil, false, "--workers", "3", "--set", "train.cache=0") })
	t.Run("recomputed", func(t *testing.T) { same(t, nil, true, "--workers", "1", "--set", "model.recompute=true") })
	levels := tensor.CPULevels()
	ends := levels // plain Go and the best there is; with VLARING_LONG=1 all. TestFrozenParts of pkg/models compares them all
	if os.Getenv("VLARING_LONG") == "" && len(levels) > 2 {
		ends = []string{levels[0], levels[len(levels)-1]}
	}
	for _, level := range levels {
		t.Run("on "+level, func(t *testing.T) { // each begins with nothing, or with what the others have made
			if level != "generic" && slices.Contains(ends, level) || os.Getenv("VLARING_LONG") != "" { // plain Go takes longest
				same(t, []string{"VLARING_CPU=" + level}, true)
			}
			same(t, []string{"VLARING_CPU=" + level, "XDG_CACHE_HOME=" + t.TempDir()}, true, "--workers", "1")
		})
	}
	t.Run("damaged", func(t *testing.T) {
		l, _ := filepath.Glob(filepath.Join(folder, "*.features"))
		for _, path := range l {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 200; i < len(b); i += 97 {
				b[i] ^= 8
			}
			if err := os.WriteFile(path, b, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		same(t, nil, true, "--workers", "2")
	})
	t.Run("full", func(t *testing.T) {
		same(t, []string{"XDG_CACHE_HOME=" + t.TempDir()}, true, "--workers", "2", "--set", "train.cache=20KiB")
	})
	t.Run("nowhere to keep", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		text := same(t, []string{"XDG_CACHE_HOME=" + file}, true, "--workers", "1")
		if n := strings.Count(text, "in this worker's memory alone"); n != 2 {
			t.Errorf("that there is memory alone is said %d times, want once by the worker and once by the coordinator\n%s", n, text)
		}
	})
	t.Run("stopped and resumed", func(t *testing.T) { stopAndResume(t, job, want, set...) })
	t.Run("workers killed", func(t *testing.T) { killTwo(t, job, want, set...) })
	t.Run("workers killed, sharded", func(t *testing.T) { killTwo(t, job, want, append(slices.Clone(set), "cluster.optimizer=sharded")...) })
	t.Run("coordinator killed", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		args := append([]string{"train", job, "--json", "--run-dir", dir, "--workers", "2", "--set", "train.steps=100", "--set", "checkpoint.every=50", "--set", "schedule.min_lr=null", "--set", "schedule.warmup_steps=0"}, options(set)...)
		want := trainDone(t, job, append(slices.Clone(args[3:]), "--run-dir", filepath.Join(t.TempDir(), "run"), "--set", "train.cache=0")...)
		outlives(t, dir, args, want)
	})
	t.Run("a sentence", func(t *testing.T) { // in place of the tokens
		pooled := append(slices.Clone(set), "model.language.pool=mean", "model.language.unit=true")
		args := options(pooled[len(set):])
		_, one := run(t, nil, append(args, "--workers", "1", "--threads", "1", "--set", "train.cache=0")...)
		if one == want || one == "" {
			t.Errorf("weights are %s; those behind tokens %s", one, want)
		}
		for _, level := range ends {
			text, got := run(t, []string{"VLARING_CPU=" + level}, append(args, "--workers", "3", "--threads", "2")...)
			if asked, found := cached(t, text); got != one || !asked || !found {
				t.Errorf("on %s weights are %s, want %s; results were asked for: %v, and there: %v", level, got, one, asked, found)
			}
		}
		stopAndResume(t, job, one, pooled...)
	})
	t.Run("products of bfloat16", func(t *testing.T) {
		_, one := run(t, nil, "--set", "precision=bf16", "--workers", "1", "--set", "train.cache=0")
		_, other := run(t, nil, "--set", "precision=bf16", "--workers", "3", "--threads", "1")
		_, warm := run(t, []string{"VLARING_CPU=generic"}, "--set", "precision=bf16", "--workers", "1")
		if one != other || one != warm || one == want || one == "" {
			t.Errorf("weights are %s without keeping, %s and %s with; those of float32 %s", one, other, warm, want)
		}
	})
}

// What is kept lies beside the data. What an encoder makes of pictures that are changed
// at random is not kept, nor of one that draws dropout, and that is said.
func TestFrozenIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pixels, actions := make([]float32, 8*3*28*28), make([]float32, 8*2)
	for i := range pixels {
		pixels[i] = float32(i*i%251)/125 - 1
	}
	for i := range actions {
		actions[i] = float32(i%5) - 2
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "data.safetensors"), []safetensors.Tensor{{Name: "images", Shape: []int{8, 3, 28, 28}, Data: pixels}, {Name: "actions", Shape: []int{8, 2}, Data: actions}}, nil); err != nil {
		t.Fatal(err)
	}
	cases, err := filepath.Abs("../../pkg/pretrained/testdata")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "job.yaml")
	text := "name: t\nmodel: {kind: vit, vision: {from: " + cases + "/timm_vit}, d_model: 8, n_heads: 2, n_layers: 1, action_dim: 2}\n" +
		"data: {kind: tensors, path: data.safetensors, holdout: {fraction: 0.25}}\nbatch: {global: 4, micro: 2}\ntrain: {steps: 4, freeze: [\"vision_encoder.*\"]}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, bin.coordinator, "train", file, "--json", "--run-dir", filepath.Join(dir, "run"))
	if e := p.event("frozen"); e["part"] != "vision_encoder" || e["kept"] != true || e["steps"] != e["of"] {
		t.Errorf("%v", e)
	}
	if code, _ := p.wait(); code != 0 {
		t.Fatal(p.errText())
	}
	l, _ := filepath.Glob(filepath.Join(dir, ".vlaring", "features", "*.features"))
	if len(l) != 1 {
		t.Errorf("beside the data are %v", l)
	}
	for set, want := range map[string]string{
		"data.augment=true": "it runs for each picture of each step, since data.augment changes them at random",
		"train.cache=0":     "since train.cache is 0",
		"model.vision=vit":  "vision_encoder is frozen, with dropout inside: it runs for each sample of each step; with model.dropout 0, once for each distinct picture",
	} {
		args := []string{"train", "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "run"), "--set", "train.steps=3", "--set", "model.image_size=28", "--set", "model.patch_size=4", "--set", "model.vision={from: " + cases + "/timm_vit}",
			"--set", `train.freeze=["vision_encoder.*"]`, "--set", set}
		if code, out, text := call(t, bin.coordinator, args...); code != 0 || !strings.Contains(out+text, want) {
			t.Errorf("%s: exit code %d\n%s%s\nwant %s", set, code, out, text, want)
		}
	}
}
