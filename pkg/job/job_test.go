package job_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/data"
	. "github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
)

// kinds are those of the product: the messages of a job file are theirs and the
// job's together.
var kinds = train.Kinds()

func conf(j *Job) models.Config { return j.Model.Options.(models.Config) }

// design is a job file with a key of every section.
const design = `name: bridge
seed: 7
model:    {kind: vla, vocab_size: 10000, image_size: 224, patch_size: 16, d_model: 512, n_heads: 8, n_layers: 6, action_dim: 7, dropout: 0.1}
data:     {kind: rlds, path: data/bridge, shuffle: true}     # tabletop | copy | tensors | rlds | folder, …
batch:    {global: 64, micro: 8}
loss:     mse
optimizer: {kind: adamw, lr: 3.0e-4, betas: [0.9, 0.999], eps: 1.0e-8, weight_decay: 0.01, clip_norm: 1.0}
schedule: {warmup_steps: 100, min_lr: 3.0e-5}               # step s < warmup: lr·(s+1)/warmup; then cosine to min_lr at train.steps
train:    {steps: 1000}
init:     weights.safetensors                                # optional; else the layers' standard initialisation from seed
checkpoint: {every: 100, keep: 3}
cluster:  {workers: 2, min_workers: 1, max_workers: 8}
`

func TestDesignExample(t *testing.T) {
	j, err := kinds.Parse("bridge.yaml", []byte(design), nil)
	if err != nil {
		t.Fatal(err)
	}
	min := 3e-5
	want := kinds.Default("vla", "rlds")
	want.Name, want.Seed, want.Init = "bridge", 7, Init{Path: "weights.safetensors"}
	c := conf(&want)
	c.VocabSize = 10000
	want.Model.Options = c
	want.Data.Path = "data/bridge"
	want.Schedule = Schedule{Kind: "cosine", WarmupSteps: 100, MinLR: &min}
	want.Cluster.MaxWorkers = 8
	if !reflect.DeepEqual(*j, want) {
		t.Errorf("got\n%s\nwant\n%s", j.YAML(), want.YAML())
	}
}

const (
	ok      = "name: a\ndata: {kind: tabletop}\n"
	average = ok + "optimizer: {ema: "
)

func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		name, file string
		set        []string
		check      func(j *Job) bool
	}{
		{"smallest", "name: a\ndata: {kind: tabletop}", nil, func(j *Job) bool {
			return j.Model.Kind == "vla" && conf(j).DFF == 2048 && j.Loss.Kind == "mse" && conf(j).PadToken == 0 && j.Data.Holdout.Fraction == 0.1 &&
				j.Schedule.MinLR == nil && j.Cluster.Workers == 2 && j.Cluster.MaxWorkers == 8 && j.Cluster.Deadline == Duration(time.Second)
		}},
		{"copy", "name: a\nmodel: {kind: encoder}\ndata: {kind: copy}", nil, func(j *Job) bool {
			return j.Loss.Kind == "cross_entropy" && conf(j).VocabSize == 100 && conf(j).DFF == 512 && j.Data.Options.(data.Copy).SeqLen == 16 && conf(j).PadToken == -1
		}},
		{"tensors take actions and tokens as they are", "name: a\ndata: {kind: tensors, path: x.safetensors}", nil, func(j *Job) bool {
			return j.Data.Options.(data.Tensors).Normalize.Mode == "none" && conf(j).PadToken == -1 && j.Data.Holdout.Fraction == 0
		}},
		{"preset, then the file", "name: a\nmodel: {preset: low, n_layers: 2}\ndata: {kind: tabletop}", nil, func(j *Job) bool {
			return conf(j).DModel == 128 && conf(j).ImageSize == 64 && conf(j).NLayers == 2 && conf(j).DFF == 512
		}},
		{"preset by option", "name: a\nmodel: {n_layers: 2}\ndata: {kind: tabletop}", []string{"model.preset=high"}, func(j *Job) bool {
			return conf(j).DModel == 768 && conf(j).NLayers == 2 && conf(j).DFF == 3072
		}},
		{"preset without images", "name: a\nmodel: {kind: encoder, preset: mid}\ndata: {kind: copy}", nil, func(j *Job) bool {
			return conf(j).DModel == 512 && conf(j).ImageSize == 0
		}},
		{"kind by option", "name: a\ndata: {kind: tabletop}", []string{"model.kind=encoder", "data.kind=copy"}, func(j *Job) bool {
			return j.Loss.Kind == "cross_entropy" && conf(j).ActionDim == 0
		}},
		{"micro follows global", "name: a\ndata: {kind: tabletop}\nbatch: {global: 6}", nil, func(j *Job) bool { return j.Batch.Micro == 6 }},
		{"micro of a prime", "name: a\ndata: {kind: tabletop}\nbatch: {global: 13}", nil, func(j *Job) bool { return j.Batch.Micro == 1 }},
		{"workers", "name: a\ndata: {kind: tabletop}\ncluster: {workers: 5}", nil, func(j *Job) bool { return j.Cluster.MinWorkers == 1 && j.Cluster.MaxWorkers == 8 }},
		{"max_workers 1", "name: a\ndata: {kind: tabletop}\ncluster: {max_workers: 1}", nil, func(j *Job) bool { return j.Cluster.Workers == 1 }},
		{"work for more than there can be", "name: a\ndata: {kind: tabletop}\nbatch: {global: 65536, micro: 1}", nil, func(j *Job) bool { return j.Cluster.MaxWorkers == 4096 }},
		{"work for more than can have a server each", "name: a\ndata: {kind: tabletop}\nbatch: {global: 65536, micro: 1}\ncluster: {topology: mesh}", nil, func(j *Job) bool { return j.Cluster.MaxWorkers == 1024 }},
		{"min_workers 4", "name: a\ndata: {kind: tabletop}\ncluster: {min_workers: 4}", nil, func(j *Job) bool { return j.Cluster.Workers == 4 && j.Cluster.MaxWorkers == 8 }},
		{"held-out episodes", "name: a\ndata: {kind: tabletop, holdout: {episodes: [3, 1]}}", nil, func(j *Job) bool {
			return j.Data.Holdout.Fraction == 0 && reflect.DeepEqual(j.Data.Holdout.Episodes, []int{3, 1})
		}},
		{"action names", "name: a\nmodel: {action_dim: 3}\ndata: {kind: folder, path: x, action_names: [x, y, n], action_units: [m, \"\", rad]}", nil, func(j *Job) bool {
			return reflect.DeepEqual(j.Data.Options.(data.Folder).ActionKeys, data.ActionKeys{Normalize: data.Scaling{Mode: "mean_std"}, ActionNames: []string{"x", "y", "n"}, ActionUnits: []string{"m", "", "rad"}})
		}},
		{"a scaling in full", "name: a\ndata: {kind: folder, path: x, normalize: {mode: quantile, clip: 1, mask: [gripper, 3]}}", []string{"data.normalize.epsilon=1e-8"}, func(j *Job) bool {
			return reflect.DeepEqual(j.Data.Options.(data.Folder).Normalize, data.Scaling{Mode: "quantile", Epsilon: 1e-8, Clip: 1, Mask: Names{"gripper", "3"}})
		}},
		{"a scaling over the default, and one word", "name: a\ndata: {kind: folder, path: x, normalize: {mask: gripper}}", nil, func(j *Job) bool {
			return reflect.DeepEqual(j.Data.Options.(data.Folder).Normalize, data.Scaling{Mode: "mean_std", Mask: Names{"gripper"}})
		}},
		{"a bare mode takes the rest away", "name: a\ndata: {kind: folder, path: x, normalize: {clip: 2}}", []string{"data.normalize=min_max"}, func(j *Job) bool {
			return reflect.DeepEqual(j.Data.Options.(data.Folder).Normalize, data.Scaling{Mode: "min_max"})
		}},
		{"nothing held out", "name: a\ndata: {kind: tabletop, holdout: {fraction: 0}}", nil, func(j *Job) bool { return j.Data.Holdout.Fraction == 0 }},
		{"anchors", "name: a\ndata: &d {kind: tabletop}\nbatch: {global: &n 16, micro: *n}", nil, func(j *Job) bool { return j.Batch.Micro == 16 }},
		{"options", design, []string{"seed=18446744073709551615", "name=2024", "train.steps=50", "schedule.min_lr=null", "optimizer.betas=[0.5, 0.6]",
			"schedule.warmup_steps=0", "cluster={heartbeat: 50ms}", "init=", "data.shuffle=false"}, func(j *Job) bool {
			return j.Schedule.Kind == "constant" && j.Seed == 1<<64-1 && j.Name == "2024" && j.Train.Steps == 50 && j.Schedule.MinLR == nil && j.Optimizer.Options.(train.Adam).Betas == [2]float64{0.5, 0.6} &&
				j.Cluster.Heartbeat == Duration(50*time.Millisecond) && j.Cluster.MaxWorkers == 8 && j.Init.Path == "" && !j.Data.Shuffle
		}},
		{"an average", average + "True}", nil, func(j *Job) bool { return j.Optimizer.EMA == EMA{Max: 0.9999, Power: 0.75} }},
		{"an average of no keys", average + "{}}", nil, func(j *Job) bool { return j.Optimizer.EMA == EMA{Max: 0.9999, Power: 0.75} }},
		{"one key of an average", average + "{max: 0.99}}", nil, func(j *Job) bool { return j.Optimizer.EMA == EMA{Max: 0.99, Power: 0.75} }},
		{"an average by option", ok, []string{"optimizer.ema.power=0.5"}, func(j *Job) bool { return j.Optimizer.EMA == EMA{Max: 0.9999, Power: 0.5} }},
		{"an average of a constant decay", average + "true}", []string{"optimizer.ema.decay=0.9"}, func(j *Job) bool {
			e := j.Optimizer.EMA
			return e.Max == 0 && e.Power == 0 && *e.Decay == 0.9
		}},
		{"no average after all", average + "true}", []string{"optimizer.ema=false"}, func(j *Job) bool { return !j.Optimizer.EMA.Active() }},
		{"no schedule", ok, nil, func(j *Job) bool { return j.Schedule.Kind == "constant" && j.Schedule.MinLR == nil }},
		{"down to something", ok + "schedule: {min_lr: 1e-5}", nil, func(j *Job) bool { return j.Schedule.Kind == "cosine" && *j.Schedule.MinLR == 1e-5 }},
		{"down to nothing", ok + "schedule: {kind: linear}", nil, func(j *Job) bool { return j.Schedule.Kind == "linear" && *j.Schedule.MinLR == 0 }},
		{"not down", ok + "schedule: {kind: constant, warmup_steps: 7}", nil, func(j *Job) bool { return j.Schedule.Kind == "constant" && j.Schedule.MinLR == nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, err := kinds.Parse("job.yaml", []byte(c.file), c.set)
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(j) {
				t.Errorf("resolved to\n%s", j.YAML())
			}
			sameAgain(t, j)
		})
	}
}

// sameAgain holds the resolved form to parsing to the same job.
func sameAgain(t *testing.T, j *Job) {
	t.Helper()
	back, err := kinds.Parse("resolved.yaml", j.YAML(), nil)
	if err != nil {
		t.Fatalf("%v\nin the resolved job\n%s", err, j.YAML())
	}
	if !reflect.DeepEqual(j, back) {
		t.Errorf("the resolved job\n%s\nparses to\n%s", j.YAML(), back.YAML())
	}
	if err := j.Validate(); err != nil {
		t.Errorf("a parsed job is not valid: %v", err)
	}
}

func TestYAMLForm(t *testing.T) {
	j, err := kinds.Parse("job.yaml", []byte("name: a\nmodel: {kind: encoder}\ndata: {kind: copy, holdout: {fraction: 0}}\nschedule: {min_lr: 1e-5}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = `name: a
seed: 0
model:
  kind: encoder
  vocab_size: 100
  d_model: 128
  n_heads: 4
  n_layers: 2
  d_ff: 512
  max_len: 5000
  dropout: 0.1
  pad_token: -1
data:
  kind: copy
  shuffle: true
  delivery: auto
  holdout:
    fraction: 0
  episodes: 10000
  seq_len: 16
batch:
  global: 64
  micro: 8
  group: 1
loss: cross_entropy
optimizer:
  kind: adamw
  lr: 0.0003
  betas: [0.9, 0.999]
  eps: 1e-08
  weight_decay: 0.01
  clip_norm: 1
schedule:
  kind: cosine
  warmup_steps: 0
  min_lr: 1e-05
train:
  steps: 1000
  check_every: 50
  non_finite: stop
checkpoint:
  every: 100
  keep: 3
  wait: 10m0s
cluster:
  workers: 2
  min_workers: 1
  max_workers: 8
  heartbeat: 200ms
  deadline: 1s
  join_timeout: 1m0s
  bucket_bytes: 0
  chunk_bytes: 524288
  window_bytes: 8388608
  topology: broker
  road: auto
  reduce: exact
  wire: float32
  optimizer: replicated
  straggler: keep
  divergence: resync
  max_divergences: 3
  stall: 5s
  orphan_timeout: 5m0s
`
	if got := string(j.YAML()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Each bad file, or options on a good one, with the exact message.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, file string
		set        []string
		want       string
	}{
		{"unknown key", "name: a\ndata: {kind: tabletop}\nmodel: {d_modl: 512}", nil,
			"j.yaml:3:9: model.d_modl: unknown key; did you mean model.d_model?"},
		{"swapped letters", ok + "sede: 3", nil, "j.yaml:3:1: sede: unknown key; did you mean seed?"},
		{"key of another section", ok + "lr: 3", nil, "j.yaml:3:1: lr: unknown key; did you mean optimizer.lr?"},
		{"section within a section", ok + "train: {batch: {global: 8}}", nil, "j.yaml:3:9: train.batch: unknown key; did you mean batch?"},
		{"nothing near", ok + "schedule: {plateau_patience: 3}", nil,
			"j.yaml:3:12: schedule.plateau_patience: unknown key; schedule has kind, warmup_steps, min_lr"},
		{"merge key", "name: a\ndata: &d {kind: tabletop}\ntrain: {<<: *d}", nil, "j.yaml:3:9: train.<<: unknown key; train has steps, eval_every, rollout_every, rollout_episodes, freeze, cache, check_every, non_finite"},
		{"key twice", "name: a\ndata: {kind: tabletop}\nname: b", nil, "j.yaml:3:1: name: is given twice; the first is on line 1"},
		{"text for a number", ok + "model: {d_model: big}", nil, `j.yaml:3:18: model.d_model: want a whole number, found the text "big"`},
		{"fraction for a whole number", ok + "model: {d_model: 5.5}", nil, "j.yaml:3:18: model.d_model: want a whole number, found the number 5.5"},
		{"number for text", "name: 12\ndata: {kind: tabletop}", nil, "j.yaml:1:7: name: want text, found the number 12 (put it in quotes)"},
		{"nothing for text", "name:\ndata: {kind: tabletop}", nil, "j.yaml:1:6: name: want text, found nothing"},
		{"text for truth", "name: a\ndata: {kind: tabletop, shuffle: maybe}", nil, `j.yaml:2:33: data.shuffle: want true or false, found the text "maybe"`},
		{"truth for a number", ok + "optimizer: {lr: true}", nil, "j.yaml:3:17: optimizer.lr: want a number, found true"},
		{"infinite number", ok + "optimizer: {lr: .inf}", nil, "j.yaml:3:17: optimizer.lr: want a finite number, found .inf"},
		{"negative seed", ok + "seed: -1", nil, "j.yaml:3:7: seed: want a whole number from 0 to 18446744073709551615, found the number -1"},
		{"list for a number", ok + "train: {steps: [1]}", nil, "j.yaml:3:16: train.steps: want a whole number, found a list"},
		{"number for a list", ok + "optimizer: {betas: 0.9}", nil, "j.yaml:3:20: optimizer.betas: want a list of 2, found the number 0.9"},
		{"short list", ok + "optimizer: {betas: [0.9]}", nil, "j.yaml:3:20: optimizer.betas: want a list of 2, found one of 1"},
		{"bad list element", ok + "optimizer: {betas: [0.9, x]}", nil, `j.yaml:3:26: optimizer.betas[1]: want a number, found the text "x"`},
		{"number for a section", ok + "model: 5", nil, "j.yaml:3:8: model: want a section of keys, found the number 5"},
		{"section for a number", ok + "seed: {a: 1}", nil, "j.yaml:3:7: seed: want a whole number from 0 to 18446744073709551615, found a section of keys"},
		{"precision", ok + "precision: fp16", nil, `j.yaml:3:12: precision: "fp16" is unknown; did you mean bf16?`},
		{"bad duration", ok + "cluster: {heartbeat: 200}", nil, "j.yaml:3:22: cluster.heartbeat: want a duration such as 200ms, 1s or 2m, found the number 200"},
		{"bad duration text", ok + "cluster: {heartbeat: fast}", nil, `j.yaml:3:22: cluster.heartbeat: want a duration such as 200ms, 1s or 2m, found "fast"`},
		{"list for the file", "- a", nil, "j.yaml:1:1: want a section of keys, found a list"},
		{"not YAML", "name: a\nmodel: {kind: vla", nil, "j.yaml:2: not YAML: did not find expected ',' or '}'"},
		{"not YAML, colon", "name: a\nmodel:\n  kind vla\n  d_model: 3", nil, "j.yaml:4: not YAML: mapping values are not allowed in this context"},
		{"not YAML, indent", "name: a\nmodel:\n    kind: vla\n  d_model: 3", nil, "j.yaml:4: not YAML: did not find expected key"},
		{"not YAML, no-break space", "name: a\nseed:\u00a01\nmodel: {kind: vla}", nil, "j.yaml:2: not YAML: could not find expected ':'; line 2 has a no-break space (U+00A0), as copied from a web page: write a plain one"},
		{"a web page", "<!DOCTYPE html><html></html>", nil, "j.yaml: it is an HTML page: a server sent this page in place of the file, for want of a login or of the file; open it to read why, and download again"},
		{"a pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", nil, `j.yaml: it is a Git LFS pointer, not the file itself: run "git lfs pull" in its repository to fetch the file`},
		{"gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", nil, "j.yaml: it is a gzip file: unpack it with gunzip"},
		{"UTF-16 without a mark", "n\x00a\x00m\x00e\x00:\x00 \x00a\x00\n\x00", nil, "j.yaml: it is text in UTF-16: save it as UTF-8 without a byte order mark"},
		{"a manifest", "{\"image\": \"a.png\"}\n{\"image\": \"b.png\"}\n", nil, "j.yaml: it is JSON text that is no job; a job file is YAML with keys such as name, model and data"},
		{"a picture", "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", nil, "j.yaml: it is a PNG picture"},
		{"not YAML, tab", "name: a\nmodel:\n\tkind: vla", nil, "j.yaml:3: not YAML: found character that cannot start any token; line 3 is indented with a tab: YAML wants spaces"},
		{"two documents", ok + "---\nname: b", nil, "j.yaml:4: a second document starts here; a job file holds one job"},
		{"empty file", "", nil, "2 problems in the job:\n  j.yaml: name: is missing; want letters, digits, - and _\n  j.yaml: data.kind: is missing; want one of tabletop, copy, tensors, rlds, lerobot, folder, recall, mixture"},

		{"micro does not divide global", ok + "batch: {global: 64, micro: 7}", nil,
			"j.yaml:3:28: batch.micro: 7 does not divide batch.global 64; want one of 1, 2, 4, 8, 16, 32, 64"},
		{"heads do not divide d_model", ok + "model: {d_model: 512, n_heads: 7}", nil,
			"j.yaml:3:32: model.n_heads: 7 does not divide model.d_model 512; want one of 1, 2, 4, 8, 16, 32, 64, 128, 256, 512"},
		{"default heads", ok + "model: {d_model: 36}", nil, "j.yaml:3:18: model.n_heads: 8 does not divide model.d_model 36; want one of 1, 2, 3, 4, 6, 9, 12, 18, 36"},
		{"odd d_model", ok + "model: {d_model: 35, n_heads: 5}", nil,
			"j.yaml:3:18: model.d_model: 35 is odd; the positional table pairs sines with cosines, so want an even number such as 36"},
		{"patch does not divide image", ok + "model: {image_size: 225, patch_size: 16}", nil,
			"j.yaml:3:38: model.patch_size: 16 does not divide model.image_size 225; want one of 1, 3, 5, 9, 15, 25, 45, 75, 225"},
		{"dropout", ok + "model: {dropout: 1}", nil, "j.yaml:3:18: model.dropout: 1 is outside 0 ≤ dropout < 1"},
		{"zero layers", ok + "model: {n_layers: 1}", nil, "j.yaml:3:19: model.n_layers: 1 is too small; want at least 2"},
		{"huge d_model", ok + "model: {d_model: 1000000}", nil, "j.yaml:3:18: model.d_model: 1000000 is too large; want at most 65536"},
		{"kind", "name: a\nmodel: {kind: vlaa}\ndata: {kind: tabletop}", nil, `j.yaml:2:15: model.kind: "vlaa" is unknown; did you mean vla?`},
		{"preset", ok + "model: {preset: medium}", nil, `j.yaml:3:17: model.preset: "medium" is unknown; want one of low, mid, high, robot-5m, robot-20m, robot-80m`},
		{"key of another kind", "name: a\nmodel: {kind: encoder, image_size: 32}\ndata: {kind: copy}", nil,
			"j.yaml:2:36: model.image_size: has no meaning for model.kind encoder; leave it out"},
		{"key of another kind that is zero", "name: a\nmodel: {kind: vit, pad_token: 0}\ndata: {kind: tabletop}", nil,
			"j.yaml:2:31: model.pad_token: has no meaning for model.kind vit; leave it out"},
		{"option of another kind", "name: a\nmodel: {kind: vit}\ndata: {kind: tabletop}", []string{"model.vocab_size=9"},
			"--set model.vocab_size=9: model.vocab_size: has no meaning for model.kind vit; leave it out"},
		{"key of no kind", "name: a\nmodel: {kind: lstm, temperature_x: 3}\ndata: {kind: copy}", nil,
			"j.yaml:2:21: model.temperature_x: unknown key; model has preset, kind, vocab_size, d_model, n_layers, max_len, exits, exit_weights, dropout, pad_token, recompute"},
		{"a loss that is nothing", ok + "loss: ''", nil, "j.yaml:3:7: loss: is missing; want one of mse, l1, flow, bins, cross_entropy"},
		{"padding outside the vocabulary", ok + "model: {vocab_size: 10, pad_token: 10}", nil,
			"j.yaml:3:36: model.pad_token: 10 is outside the vocabulary of 10; want 0 to 9, or -1 for no padding"},
		{"data kind", "name: a\ndata: {kind: table}", nil, `j.yaml:2:14: data.kind: "table" is unknown; want one of tabletop, copy, tensors, rlds, lerobot, folder, recall, mixture`},
		{"data without path", "name: a\ndata: {kind: rlds}", nil, "j.yaml: data.path: is missing; data.kind rlds reads files"},
		{"path of no use", "name: a\ndata: {kind: tabletop, path: x}", nil, "j.yaml:2:30: data.path: has no meaning for data.kind tabletop; leave it out"},
		{"data of another model", "name: a\ndata: {kind: copy}", nil, "j.yaml:2:14: data.kind: copy has no images for model.kind vla; want tabletop, rlds, lerobot, folder, tensors or mixture"},
		{"delivery", "name: a\ndata: {kind: tabletop, delivery: buss}", nil, `j.yaml:2:34: data.delivery: "buss" is unknown; did you mean bus?`},
		{"action names", "name: a\nmodel: {action_dim: 3}\ndata:\n  kind: folder\n  path: x\n  action_names: [x, y]\n  action_units: [m, m]", nil,
			"2 problems in the job:\n  j.yaml:6:17: data.action_names: 2 names for actions of model.action_dim 3; want one for each dimension, in order\n  j.yaml:7:17: data.action_units: 2 units for actions of model.action_dim 3; want one for each dimension, in order"},
		{"an action name twice", "name: a\nmodel: {action_dim: 2}\ndata: {kind: folder, path: x, action_names: [x, x]}", nil, `j.yaml:3:49: data.action_names[1]: "x" is the name of dimension 0 already`},
		{"an empty action name", "name: a\nmodel: {action_dim: 2}\ndata: {kind: folder, path: x, action_names: [\"\", x]}", nil, `j.yaml:3:46: data.action_names[0]: is empty; want a name such as x or joint_1`},
		{"an action unit that cannot be printed", "name: a\nmodel: {action_dim: 1}\ndata: {kind: folder, path: x, action_units: [\"\\e[2J\"]}", nil, `j.yaml:3:46: data.action_units[0]: "\x1b[2J" has characters that cannot be printed`},
		{"action names of tabletop", "name: a\ndata: {kind: tabletop, action_names: [a, b, c, d, e, f, g]}", nil,
			"j.yaml:2:38: data.action_names: has no meaning for data.kind tabletop, which has names and units of its own; leave it out"},
		{"action names of tokens", "name: a\nmodel: {kind: encoder}\ndata: {kind: copy, action_units: [m]}", nil, "j.yaml:3:34: data.action_units: has no meaning for data.kind copy; leave it out"},
		{"holdout twice", "name: a\ndata: {kind: tabletop, holdout: {fraction: 0.1, episodes: [1]}}", nil,
			"j.yaml:2:44: data.holdout.fraction: both fraction and episodes are given; want one of them"},
		{"holdout fraction", "name: a\ndata: {kind: tabletop, holdout: {fraction: 1}}", nil, "j.yaml:2:44: data.holdout.fraction: 1 is outside 0 ≤ fraction < 1"},
		{"holdout episode twice", "name: a\ndata: {kind: tabletop, holdout: {episodes: [1, 1]}}", nil, "j.yaml:2:48: data.holdout.episodes[1]: episode 1 is listed twice"},
		{"a kind by option, where the file has a word", ok + "loss: flow", []string{"loss.kind=foo"}, `--set loss.kind=foo: loss: "foo" is unknown; want one of mse, l1, flow, bins, cross_entropy`},
		{"a mode by option, where the file has a section", "name: a\ndata: {kind: folder, path: x, normalize: {mode: quantile, clip: 1}}", []string{"data.normalize.mode=foo"},
			`--set data.normalize.mode=foo: data.normalize: "foo" is unknown; want one of none, mean_std, min_max, quantile, quantile10`},
		{"an encoder of others, by its name", ok + "model: {vision: dinov2}", nil, `j.yaml:3:17: model.vision: "dinov2" is unknown; want vit, cnn, or {from: FOLDER} for an encoder of timm or transformers`},
		{"a list for a loss", ok + "loss: [l1]", nil, "j.yaml:3:7: loss: want a kind of loss, or a section with its kind, found a list"},
		{"loss", ok + "loss: mae", nil, `j.yaml:3:7: loss: "mae" is unknown; did you mean mse?`},
		{"loss of another kind", ok + "loss: cross_entropy", nil, "j.yaml:3:7: loss: cross_entropy does not fit model.kind vla; want mse, l1, flow or bins"},
		{"learning rate", ok + "optimizer: {lr: 0}", nil, "j.yaml:3:17: optimizer.lr: 0 is not a learning rate; want a number above 0"},
		{"beta", ok + "optimizer: {betas: [0.9, 1]}", nil, "j.yaml:3:26: optimizer.betas[1]: 1 is outside 0 ≤ beta < 1"},
		{"an average of something else", average + "0.999}", nil, "j.yaml:3:18: optimizer.ema: want true, or any of max, power, decay, found the number 0.999"},
		{"an average that stands still", average + "{max: 1}}", nil, "j.yaml:3:24: optimizer.ema.max: 1 is outside 0 < max < 1"},
		{"an average without a decay", average + "{decay: 0}}", nil, "j.yaml:3:26: optimizer.ema.decay: 0 is outside 0 < decay < 1"},
		{"a power that does nothing", average + "{power: -1}}", nil, "j.yaml:3:26: optimizer.ema.power: -1 is outside 0 < power ≤ 10"},
		{"two decays", average + "{max: 0.9, decay: 0.9}}", nil, "j.yaml:3:36: optimizer.ema.decay: a constant decay is given, and one that grows by max and power; want one of them"},
		{"schedule", ok + "schedule: {kind: cosin}", nil, `j.yaml:3:18: schedule.kind: "cosin" is unknown; did you mean cosine?`},
		{"a constant schedule that goes down", ok + "schedule: {kind: constant, min_lr: 0}", nil, "j.yaml:3:36: schedule.min_lr: a constant schedule does not go down to it; leave it out, or want schedule.kind cosine or linear"},
		{"min_lr above lr", ok + "schedule: {min_lr: 0.1}", nil, "j.yaml:3:20: schedule.min_lr: 0.1 is outside 0 to optimizer.lr 0.0003"},
		{"warm-up beyond the end", ok + "schedule: {warmup_steps: 100}\ntrain: {steps: 99}", nil, "j.yaml:3:26: schedule.warmup_steps: 100 is more than train.steps 99"},
		{"no steps", ok + "train: {steps: 0}", nil, "j.yaml:3:16: train.steps: 0 is too small; want at least 1"},
		{"min above workers", ok + "cluster: {workers: 2, min_workers: 3}", nil, "j.yaml:3:36: cluster.min_workers: 3 is more than cluster.workers 2"},
		{"max below workers", ok + "cluster: {workers: 2, max_workers: 1}", nil, "j.yaml:3:36: cluster.max_workers: 1 is less than cluster.workers 2"},
		{"more workers than there can be", ok + "cluster:\n  max_workers: 5000", nil, "j.yaml:4:16: cluster.max_workers: 5000 is too large; want at most 4096"},
		{"more workers than can have a server each", ok + "cluster: {max_workers: 2000, topology: mesh}", nil,
			"j.yaml:3:24: cluster.max_workers: 2000 workers are too many for cluster.topology mesh, in which each has a connection to the server of every other; want at most 1024, or cluster.topology broker"},
		{"heartbeats of many", ok + "cluster: {workers: 2000, max_workers: 2000, heartbeat: 10ms}", nil,
			"j.yaml:3:56: cluster.heartbeat: 10ms makes 200000 heartbeats a second of 2000 workers, which the coordinator has to answer; want at least 40ms"},
		{"deadline", ok + "cluster: {heartbeat: 800ms}", nil,
			"j.yaml:3:22: cluster.deadline: 1s is less than two heartbeats of 800ms: one that is late would count as a death"},
		{"verify alone", ok + "cluster: {workers: 1, max_workers: 1, verify: 0.05}", nil,
			"j.yaml:3:47: cluster.verify: one worker has all micro-batches, and nobody checks it; want cluster.max_workers 3 or more, for two that disagree need a third, or cluster.verify 0"},
		{"verify one micro-batch", ok + "batch: {global: 8, micro: 8}\ncluster: {verify: 0.05}", nil,
			"j.yaml:4:19: cluster.verify: a step of batch.global 8 in micro-batches of 8, 1 to a group, is one worker's, and nobody checks it; want a smaller batch.micro, or cluster.verify 0"},
		{"chunk", ok + "cluster: {chunk_bytes: 4194304}", nil, "j.yaml:3:24: cluster.chunk_bytes: 4194304 is too large; want at most 1048576"},
		{"name", "name: a b\ndata: {kind: tabletop}", nil,
			`j.yaml:1:7: name: "a b" has ' ' in it; want letters, digits, - and _ (it is a directory's name and part of NATS subjects)`},

		{"option without value", ok, []string{"train.steps"}, "--set train.steps: want key=value, e.g. --set train.steps=50"},
		{"option's key", ok, []string{"train.stpes=5"}, "--set train.stpes=5: train.stpes: unknown key; did you mean train.steps?"},
		{"option below a value", ok, []string{"seed.x=5"}, "--set seed.x=5: seed.x: unknown key; seed has no keys below it"},
		{"option's type", ok, []string{"train.steps=many"}, `--set train.steps=many: train.steps: want a whole number, found the text "many"`},
		{"option's emptiness", ok, []string{"train.steps="}, "--set train.steps=: train.steps: want a whole number, found nothing"},
		{"option's value", ok, []string{"batch.micro=7"}, "--set batch.micro=7: batch.micro: 7 does not divide batch.global 64; want one of 1, 2, 4, 8, 16, 32, 64"},
		{"option's section", ok, []string{"model={d_modl: 3}"}, "--set model={d_modl: 3}: model.d_modl: unknown key; did you mean model.d_model?"},

		{"all of them, in order", "nmae: x\nmodel: {d_model: 7, n_heads: [], dropout: 2}\ndata: {kind: rlds}\ncluster: {workers: 0}", []string{"sead=1"},
			`8 problems in the job:
  j.yaml:1:1: nmae: unknown key; did you mean name?
  j.yaml:2:18: model.d_model: 7 is odd; the positional table pairs sines with cosines, so want an even number such as 8
  j.yaml:2:30: model.n_heads: want a whole number, found a list
  j.yaml:2:43: model.dropout: 2 is outside 0 ≤ dropout < 1
  j.yaml:4:20: cluster.workers: 0 is too small; want at least 1
  j.yaml: name: is missing; want letters, digits, - and _
  j.yaml: data.path: is missing; data.kind rlds reads files
  --set sead=1: sead: unknown key; did you mean seed?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, err := kinds.Parse("j.yaml", []byte(c.file), c.set)
			if err == nil {
				t.Fatalf("accepted:\n%s", j.YAML())
			}
			var bad *Error
			if !errors.As(err, &bad) || len(bad.Problems) == 0 {
				t.Errorf("%T without problems", err)
			}
			if err.Error() != c.want {
				t.Errorf("message\n%s\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestManyProblems(t *testing.T) {
	file := "name: a\ndata: {kind: tabletop}\n"
	for _, k := range strings.Split("abcdefghijklm", "") {
		file += k + "zzzzzz: 1\n"
	}
	_, err := kinds.Parse("j.yaml", []byte(file), nil)
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 12 || lines[11] != "  … and 3 more" {
		t.Errorf("message\n%s", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.yaml")
	_, err := kinds.Load(path, nil)
	if !errors.Is(err, os.ErrNotExist) || err.Error() != path+": cannot read the job file: no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	var bad *Error
	if !errors.As(err, &bad) {
		t.Errorf("missing file: %T", err)
	}
	if _, err := kinds.Load(dir, nil); err == nil || err.Error() != dir+": cannot read the job file: it is a folder; give the job file itself" {
		t.Errorf("a folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "job.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := kinds.Load(dir, nil); err == nil || !strings.HasSuffix(err.Error(), "give the job file itself, such as "+filepath.Join(dir, "job.yaml")) {
		t.Errorf("a folder with a job file: %v", err)
	}
	if err := os.WriteFile(path, []byte(design), 0o644); err != nil {
		t.Fatal(err)
	}
	j, err := kinds.Load(path, []string{"train.steps=200"})
	if err != nil || j.Train.Steps != 200 || j.Data.Path != "data/bridge" {
		t.Errorf("Load = %+v, %v", j, err)
	}
	for name, text := range map[string]string{"a byte order mark": "\ufeff" + design, "CRLF": strings.ReplaceAll(design, "\n", "\r\n")} {
		if got, err := kinds.Parse(path, []byte(text), []string{"train.steps=200"}); err != nil || !reflect.DeepEqual(got, j) {
			t.Errorf("with %s: %+v, %v", name, got, err)
		}
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("#"), limits.JobFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := kinds.Load(path, nil); err == nil || !strings.Contains(err.Error(), "not a job file") {
		t.Errorf("huge file: %v", err)
	}
}

// Every default of every pair of kinds that go together is a valid job.
func TestDefaultsAreValid(t *testing.T) {
	for _, m := range kinds.Models {
		for _, d := range kinds.Data {
			j := kinds.Default(m.Name, d.Name)
			j.Name = "a"
			if d.Name == "tensors" || d.Name == "rlds" || d.Name == "lerobot" || d.Name == "folder" {
				j.Data.Path = "x"
			}
			if err := j.Validate(); err != nil {
				if !strings.Contains(err.Error(), "data.kind: "+d.Name+" has no") && !(d.Name == "mixture" && strings.Contains(err.Error(), "data.sets: is missing")) {
					t.Errorf("%s on %s: %v", m.Name, d.Name, err)
				}
				continue
			}
			sameAgain(t, &j)
			for _, p := range m.Presets {
				text := "name: a\nmodel: {kind: " + m.Name + ", preset: " + p.Name + "}\ndata: {kind: " + d.Name + ", path: " + j.Data.Path + "}\n"
				if j.Data.Path == "" {
					text = strings.Replace(text, ", path: ", "", 1)
				}
				if k, err := kinds.Parse("j.yaml", []byte(text), nil); err != nil {
					t.Errorf("preset %s of %s on %s: %v", p.Name, m.Name, d.Name, err)
				} else if got := conf(k).DModel; got != p.Options.(models.Config).DModel {
					t.Errorf("preset %s of %s: d_model %d", p.Name, m.Name, got)
				}
			}
		}
	}
}

// FuzzParse: no input panics, and what is accepted resolves to a fixed point.
func FuzzParse(f *testing.F) {
	f.Add([]byte(design), "train.steps=3")
	f.Add([]byte("name: a\ndata: {kind: tabletop, holdout: {episodes: []}}"), "model={preset: low}")
	f.Add([]byte("a: &a [*a]\nname: *a"), "=")
	f.Fuzz(func(t *testing.T, file []byte, option string) {
		j, err := kinds.Parse("f", file, []string{option})
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) || err.Error() == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		back, err := kinds.Parse("again", j.YAML(), nil)
		if err != nil || !reflect.DeepEqual(j, back) {
			t.Fatalf("%v\n%s\nbecame\n%+v", err, j.YAML(), back)
		}
	})
}
