package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/weights"
)

// short makes testdata/small.yaml a matter of seconds.
func short(args ...string) []string {
	return append(args, "--set", "train.steps=4", "--set", "schedule.warmup_steps=0", "--set", "checkpoint.every=0")
}

// Everything in the zoo is trained by the same distributed job, to the same
// bits for one worker and two.
func TestZooTrains(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"lstm on recall": {"testdata/recall.yaml"},
		"cnn, patches":   short("testdata/small.yaml", "--set", "model.vision=cnn", "--set", "model.vision_tokens=patches"),
		"exits":          short("testdata/small.yaml", "--set", "model.n_layers=4", "--set", "model.exits=[1]", "--set", "model.exit_weights=[0.5]"),
		"frozen, groups": short("testdata/small.yaml", "--set", `train.freeze=["vision_encoder.*", "*.norm1.*"]`, "--set", `optimizer.groups=[{match: "language_encoder.*", lr: 0.0001}]`,
			"--set", "cluster.bucket_bytes=8192"),
	} {
		t.Run(name, func(t *testing.T) {
			one := trainDone(t, args[0], append(args[1:], "--run-dir", filepath.Join(t.TempDir(), "run"), "--workers", "1")...)
			two := trainDone(t, args[0], append(args[1:], "--run-dir", filepath.Join(t.TempDir(), "run"), "--workers", "2")...)
			if one != two {
				t.Errorf("one worker ends at %s, two at %s", one, two)
			}
		})
	}
}

// A student learns from a teacher of another width and another seed, the same
// bits on any number of workers and across a stop; one whose words are others
// is refused.
func TestDistillJob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	trainDone(t, "testdata/small.yaml", short("--run-dir", at("teacher"), "--set", "model.d_model=48", "--set", "seed=99")...)
	distill := short("--set", "distill={teacher: "+at("teacher")+", alpha: 0.7, features: 0.5}")
	want := trainDone(t, "testdata/small.yaml", append(distill, "--run-dir", at("one"), "--workers", "1")...)
	if got := trainDone(t, "testdata/small.yaml", append(distill, "--run-dir", at("two"), "--workers", "2")...); got != want {
		t.Errorf("two workers end at %s, one at %s", got, want)
	}
	if alone := trainDone(t, "testdata/small.yaml", short("--run-dir", at("alone"))...); alone == want {
		t.Error("the teacher makes no difference")
	}
	// the first half, and then the rest
	trainDone(t, "testdata/small.yaml", append(distill, "--run-dir", at("half"), "--set", "train.steps=2", "--set", "schedule.min_lr=null")...)
	half := trainDone(t, "testdata/small.yaml", append(distill, "--run-dir", at("half"), "--set", "schedule.min_lr=null", "--resume")...)
	if whole := trainDone(t, "testdata/small.yaml", append(distill, "--run-dir", at("whole"), "--set", "schedule.min_lr=null")...); whole != half {
		t.Errorf("a resumed student ends at %s, another at %s", half, whole)
	}
	code, _, stderr := call(t, bin.coordinator, append([]string{"train", "testdata/small.yaml", "--run-dir", at("pictures"), "--set", "model.image_size=40"}, distill...)...)
	if code != exitFailed || !strings.Contains(stderr, "distill.teacher") || !strings.Contains(stderr, "model.image_size") {
		t.Errorf("a teacher of other pictures: exit code %d\n%s", code, stderr)
	}
	code, _, stderr = call(t, bin.coordinator, append([]string{"train", "testdata/small.yaml", "--run-dir", at("none")}, short("--set", "distill={teacher: "+at("nowhere")+"}")...)...)
	if code != exitFailed || !strings.Contains(stderr, "distill.teacher") || !strings.Contains(stderr, "nowhere") {
		t.Errorf("no teacher: exit code %d\n%s", code, stderr)
	}
}

// A part of a trained model starts another one, on larger pictures, and what
// was loaded is said.
func TestTransferJob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	trainDone(t, "testdata/small.yaml", short("--run-dir", at("first"))...)
	file := filepath.Join(at("first"), "checkpoints", "step-00000004", train.ModelFile)
	init := short("--set", `init={path: `+file+`, partial: true, map: {"language_encoder.*": }}`, "--set", "model.image_size=48", "--set", `train.freeze=["vision_encoder.patch_embedding.*"]`)
	p := start(t, nil, bin.coordinator, append([]string{"train", "testdata/small.yaml", "--json", "--run-dir", at("one"), "--workers", "1"}, init...)...)
	b, err := json.Marshal(p.event("init")["transfer"])
	if err != nil {
		t.Fatal(err)
	}
	var rep weights.Imported
	if err := json.Unmarshal(b, &rep); err != nil {
		t.Fatal(err)
	}
	end := p.event("end")
	if code, _ := p.wait(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	if len(rep.Loaded) == 0 || len(rep.Resized) != 1 || len(rep.Fresh) != len(rep.Dropped) || len(rep.Fresh) == 0 || len(rep.Unused) != 0 {
		t.Errorf("the report is %+v", rep)
	}
	if two := trainDone(t, "testdata/small.yaml", append(init, "--run-dir", at("two"), "--workers", "2")...); two != end["model_sha256"] {
		t.Errorf("two workers end at %s, one at %s", two, end["model_sha256"])
	}
	// frozen from the file's values on
	const name = "vision_encoder.patch_embedding.weight"
	read := func(path string) []float32 {
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		x, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	was, is := read(file), read(filepath.Join(at("two"), "checkpoints", "step-00000004", train.ModelFile))
	for i := range was {
		if was[i] != is[i] {
			t.Fatalf("%s[%d] is frozen and went from %v to %v", name, i, was[i], is[i])
		}
	}
	code, _, stderr := call(t, bin.coordinator, append([]string{"train", "testdata/small.yaml", "--run-dir", at("strict")}, short("--set", `init={path: `+file+`, map: {"language_encoder.*": }}`)...)...)
	if code != exitFailed || !strings.Contains(stderr, "nothing for 13 of the model's parameters: language_encoder.* (13)") || !strings.Contains(stderr, "init.partial") {
		t.Errorf("a partial file without init.partial: exit code %d\n%s", code, stderr)
	}
}

// The three levels train, checkpoint and resume. Mid and high keep depth and
// heads and are made narrow: their full width takes gigabytes.
func TestPresetsTrain(t *testing.T) {
	t.Parallel()
	for level, narrow := range map[string][]string{
		"low":  nil,
		"mid":  {"--set", "model.d_model=16", "--set", "model.image_size=32"},
		"high": {"--set", "model.d_model=24", "--set", "model.image_size=32"},
	} {
		t.Run(level, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "job.yaml")
			text := "name: " + level + "\nmodel: {preset: " + level + ", kind: vla}\ndata: {kind: tabletop, episodes: 20}\nbatch: {global: 4, micro: 2}\ncheckpoint: {every: 1}\ncluster: {deadline: 20s}\n"
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "run")
			trainDone(t, file, append(narrow, "--run-dir", dir, "--workers", "1", "--set", "train.steps=1")...)
			got := trainDone(t, file, append(narrow, "--run-dir", dir, "--workers", "2", "--set", "train.steps=2", "--resume")...)
			if want := trainDone(t, file, append(narrow, "--run-dir", filepath.Join(t.TempDir(), "run"), "--workers", "1", "--set", "train.steps=2")...); got != want {
				t.Errorf("resumed it ends at %s, at one go at %s", got, want)
			}
			wantSteps(t, dir, 2)
		})
	}
}

// eval --exits has a row for every exit, draws them, and predict leaves early
// where it may.
func TestExitsOfACheckpoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run, plot, out := filepath.Join(dir, "run"), filepath.Join(dir, "exits.png"), filepath.Join(dir, "out.safetensors")
	trainDone(t, "testdata/small.yaml", short("--run-dir", run, "--set", "model.n_layers=6", "--set", "model.exits=[1, 2]")...)
	code, stdout, stderr := call(t, bin.coordinator, "eval", "--checkpoint", run, "--exits", "--plot", plot, "--json")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	var rep eval.ExitReport
	if err := json.Unmarshal([]byte(stdout), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Fixed) != 3 || rep.Samples != 16 || len(rep.Thresholds) == 0 || rep.Fixed[2].Layer != 3 {
		t.Errorf("the report is %+v", rep)
	}
	for i, r := range rep.Fixed {
		if !(r.Error > 0) || !(r.Millis > 0) || i > 0 && r.Millis < rep.Fixed[i-1].Millis {
			t.Errorf("row %d is %+v", i, r)
		}
	}
	if b, err := os.ReadFile(plot); err != nil || !strings.HasPrefix(string(b), "\x89PNG") {
		t.Errorf("the plot is no picture: %v", err)
	}
	if code, stdout, _ := call(t, bin.coordinator, "eval", "--checkpoint", run, "--exits"); code != 0 || !strings.Contains(stdout, "whole model") || !strings.Contains(stdout, "doubt ≤") {
		t.Errorf("the table is\n%s", stdout)
	}

	in := filepath.Join(dir, "in.safetensors")
	f, err := os.Create(in)
	if err != nil {
		t.Fatal(err)
	}
	const n = 3
	images := make([]float32, n*3*32*32)
	for i := range images {
		images[i] = float32(i%255)/127.5 - 1
	}
	if err := safetensors.Write(f, []safetensors.Tensor{{Name: "images", Shape: []int{n, 3, 32, 32}, Data: images}, {Name: "instruction_tokens", Shape: []int{n, 2}, Data: []int64{3, 4, 5, 6, 7, 0}}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	predict := func(args ...string) (layers []int64, actions []float32) {
		t.Helper()
		if code, _, stderr := call(t, bin.coordinator, append([]string{"predict", "--checkpoint", run, "--inputs", in, "--out", out}, args...)...); code != 0 {
			t.Fatalf("predict %v: exit code %d\n%s", args, code, stderr)
		}
		o, err := safetensors.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if actions, err = o.Float32("actions"); err != nil {
			t.Fatal(err)
		}
		if len(args) > 0 {
			if layers, err = o.Int64("layers"); err != nil {
				t.Fatal(err)
			}
		}
		return layers, actions
	}
	_, whole := predict()
	shallow, early := predict("--exit-doubt", "1e9") // the first exit has nothing to compare with
	deep, late := predict("--exit-doubt", "1e-9")
	hurried, _ := predict("--exit-budget", "1ns")
	for i := range n {
		if shallow[i] != 2 || deep[i] != 3 || hurried[i] != 1 {
			t.Errorf("sample %d took %d, %d and %d layers, want 2, 3 and 1", i, shallow[i], deep[i], hurried[i])
		}
	}
	for i := range whole {
		if whole[i] != late[i] {
			t.Fatalf("one sample at a time gives %v at %d, all at once %v", late[i], i, whole[i])
		}
	}
	if early[0] == whole[0] {
		t.Error("an early exit says what the last one says")
	}
}
