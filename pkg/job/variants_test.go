package job_test

import (
	"reflect"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
	. "github.com/vlaring/vlaring/pkg/job"
)

const onTabletop = "name: a\ndata: {kind: tabletop}\n"

// What the zoo's keys resolve to, and that the resolved form parses to the same.
func TestVariants(t *testing.T) {
	for _, c := range []struct {
		name, file string
		set        []string
		check      func(j *Job) bool
	}{
		{"vision", onTabletop, nil, func(j *Job) bool { return conf(j).Vision.Kind == "vit" && conf(j).VisionTokens == "cls" }},
		{"cnn", onTabletop + "model: {vision: cnn, vision_tokens: patches}", nil, func(j *Job) bool { return conf(j).Vision.Kind == "cnn" && conf(j).VisionTokens == "patches" }},
		{"lstm", "name: a\nmodel: {kind: lstm}\ndata: {kind: copy}", nil, func(j *Job) bool {
			return j.Loss.Kind == "cross_entropy" && conf(j).NHeads == 0 && conf(j).DFF == 0 && conf(j).ActionDim == 0
		}},
		{"recall over a distance", "name: a\nmodel: {kind: lstm}\ndata: {kind: recall, distance: 40}", nil, func(j *Job) bool { return j.Data.Options.(data.Recall).SeqLen == 41 }},
		{"recall in a sequence", "name: a\nmodel: {kind: encoder}\ndata: {kind: recall, seq_len: 9}", nil, func(j *Job) bool { return j.Data.Options.(data.Recall).Distance == 8 }},
		{"exits weigh 1", onTabletop + "model: {n_layers: 8, exits: [1, 3]}", nil, func(j *Job) bool {
			return reflect.DeepEqual(conf(j).ExitWeights, []float64{1, 1})
		}},
		{"init by name", onTabletop + "init: {path: w.safetensors, partial: true, map: {\"b.*.w\": \"a.*.weight\", head.*: }}", nil, func(j *Job) bool {
			return reflect.DeepEqual(j.Init, Init{Path: "w.safetensors", Map: Renames{{"b.*.w", "a.*.weight"}, {"head.*", ""}}, Partial: true})
		}},
		{"init at_least", onTabletop + "init: {path: w, partial: true, at_least: 0}", nil, func(j *Job) bool { return j.Init.AtLeast != nil && *j.Init.AtLeast == 0 }},
		{"init by option", onTabletop, []string{"init=2024", "init.partial=true"}, func(j *Job) bool { return reflect.DeepEqual(j.Init, Init{Path: "2024", Partial: true}) }},
		{"groups", onTabletop + "optimizer: {groups: [{match: a.*, lr: 1e-5}, {match: b, weight_decay: 0}]}\ntrain: {freeze: [c.*]}", nil, func(j *Job) bool {
			g := j.Optimizer.Groups
			return len(g) == 2 && *g[0].LR == 1e-5 && g[0].WeightDecay == nil && *g[1].WeightDecay == 0 && j.Train.Freeze[0] == "c.*"
		}},
		{"distill", onTabletop + "distill: {teacher: runs/big, features: 0.1}", nil, func(j *Job) bool {
			return reflect.DeepEqual(j.Distill, Distill{Teacher: "runs/big", Alpha: 0.5, Temperature: 2, Features: 0.1})
		}},
		{"distill by the teacher alone", onTabletop + "distill: {teacher: runs/big, alpha: 1}", nil, func(j *Job) bool { return j.Distill.Alpha == 1 }},
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
	j, err := kinds.Parse("job.yaml", []byte(onTabletop+"distill: {teacher: runs/big}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	teacher := kinds.Default("vla", "tabletop").Model
	j.Distill.Model, j.Distill.SHA256 = &teacher, "00ff"
	j.Distill.Scale, j.Distill.Shift = []float64{0.1, 3}, []float64{1e-9, -2}
	sameAgain(t, j) // what the coordinator adds
}

func TestVariantMistakes(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"vision", onTabletop + "model: {vision: cn}", `j.yaml:3:17: model.vision: "cn" is unknown; did you mean cnn?`},
		{"vision of a text model", "name: a\nmodel: {kind: lstm, vision: cnn}\ndata: {kind: copy}", "j.yaml:2:29: model.vision: has no meaning for model.kind lstm; leave it out"},
		{"tokens of a vit", "name: a\nmodel: {kind: vit, vision_tokens: cls}\ndata: {kind: tabletop}", "j.yaml:2:35: model.vision_tokens: has no meaning for model.kind vit; leave it out"},
		{"heads of an lstm", "name: a\nmodel: {kind: lstm, n_heads: 4}\ndata: {kind: copy}", "j.yaml:2:30: model.n_heads: has no meaning for model.kind lstm; leave it out"},
		{"halving", onTabletop + "model: {vision: cnn, patch_size: 14}", "j.yaml:3:34: model.patch_size: 14 is no power of 2; a cnn halves the picture until a pixel stands for patch_size of them"},
		{"exit at the end", onTabletop + "model: {exits: [3]}", "j.yaml:3:17: model.exits[0]: 3 is not a layer below the last; want 1 to 2 (a vla counts the fusion's n_layers/2)"},
		{"exits in order", "name: a\nmodel: {kind: encoder, n_layers: 4, exits: [2, 1]}\ndata: {kind: copy}", "j.yaml:2:48: model.exits[1]: 1 does not come after 2; list the exits from the first layer on"},
		{"exit weights", onTabletop + "model: {exits: [1], exit_weights: [1, 2]}", "j.yaml:3:35: model.exit_weights: 2 weights for 1 exits"},
		{"exits of an lstm", "name: a\nmodel: {kind: lstm, exits: [1]}\ndata: {kind: copy}", "j.yaml:2:28: model.exits: stand behind transformer layers, and this model has none; leave them out"},
		{"distance", "name: a\nmodel: {kind: lstm}\ndata: {kind: recall, seq_len: 8, distance: 8}", "j.yaml:3:44: data.distance: 8 is not within the sequence; want 1 to data.seq_len-1 = 7"},
		{"distance of the copy task", "name: a\nmodel: {kind: lstm}\ndata: {kind: copy, distance: 8}", "j.yaml:3:30: data.distance: has no meaning for data.kind copy; leave it out"},
		{"few keys", "name: a\nmodel: {kind: lstm, vocab_size: 5}\ndata: {kind: recall}", "j.yaml:2:33: model.vocab_size: 5 is too small; recall needs padding, a question, two keys and two others: at least 6"},
		{"init number", onTabletop + "init: 5", "j.yaml:3:7: init: want a path, or path, weights, map, partial and at_least, found the number 5 (put it in quotes)"},
		{"init without path", onTabletop + "init: {partial: true}", "j.yaml:3:7: init.path: is missing; want a .safetensors file, the index of a sharded one, or a folder of either"},
		{"layout", "name: a\nmodel: {kind: vit}\ndata: {kind: tensors, path: x, layout: hwc}\n", "j.yaml:3:40: data.layout: \"hwc\" is unknown; did you mean nhwc?"},
		{"layout of a folder", "name: a\nmodel: {kind: vit}\ndata: {kind: folder, path: x, layout: nhwc}\n", "j.yaml:3:39: data.layout: has no meaning for data.kind folder; leave it out"},
		{"channels of a folder", "name: a\nmodel: {kind: vit, channels: 4}\ndata: {kind: folder, path: x}\n", "j.yaml:2:30: model.channels: is 4, and data.kind folder gives pictures of 3 channels (RGB) or 1 (grey); data.kind tensors takes any number"},
		{"normalize number", "name: a\ndata: {kind: tabletop, normalize: 5}", "j.yaml:2:35: data.normalize: want a mode, or mode, epsilon, clip and mask, found the number 5 (put it in quotes)"},
		{"normalize mode", "name: a\ndata: {kind: tabletop, normalize: {mode: quantil}}", `j.yaml:2:35: data.normalize: "quantil" is unknown; did you mean quantile?`},
		{"normalize key", "name: a\ndata: {kind: tabletop, normalize: {epsilom: 1}}", "j.yaml:2:36: data.normalize.epsilom: unknown key; did you mean data.normalize.epsilon?"},
		{"clip below 0", "name: a\ndata: {kind: tabletop, normalize: {clip: -1}}", "j.yaml:2:42: data.normalize.clip: is -1; want 0 or more"},
		{"mask of nothing", "name: a\ndata: {kind: tabletop, normalize: {mode: none, mask: [x]}}", "j.yaml:2:54: data.normalize.mask: has no meaning for data.normalize.mode none; leave it out"},
		{"mask of truth", "name: a\ndata: {kind: tabletop, normalize: {mask: [true]}}", "j.yaml:2:43: data.normalize.mask: want a list of names or numbers, found true (put it in quotes)"},
		{"state that is not seen", "name: a\ndata: {kind: tabletop, state_normalize: min_max}", "j.yaml:2:41: data.state_normalize: has no meaning for a model that takes no state; leave it out"},
		{"init at_least no share", onTabletop + "init: {path: w, partial: true, at_least: 50}", "j.yaml:3:42: init.at_least: is 50; want a share from 0 to 1"},
		{"init at_least without partial", onTabletop + "init: {path: w, at_least: 0}", "j.yaml:3:27: init.at_least: has no meaning without init.partial: true"},
		{"init map", onTabletop + "init: {path: x, map: {a: \"b.*\"}}", `j.yaml:3:22: init.map[0]: "a" to "b.*": the name on the right has more * than the one on the left`},
		{"init map is a list", onTabletop + "init: {path: x, map: [a]}", "j.yaml:3:22: init.map: want names in the file and names in the model, {from: to, …}, found a list"},
		{"group", onTabletop + "optimizer: {groups: [{lr: 1e-3}]}", "j.yaml:3:22: optimizer.groups[0].match: is missing; want a pattern of parameter names, such as vision_encoder.*"},
		{"group's key", onTabletop + "optimizer: {groups: [{match: a, wd: 1}]}", "j.yaml:3:33: optimizer.groups[0].wd: unknown key; optimizer.groups[0] has match, lr, weight_decay"},
		{"group's rate", onTabletop + "optimizer: {groups: [{match: a, lr: 0}]}", "j.yaml:3:37: optimizer.groups[0].lr: 0 is not a learning rate; want a number above 0 (train.freeze keeps parameters as they are)"},
		{"freeze", onTabletop + "train: {freeze: [\"\"]}", "j.yaml:3:18: train.freeze[0]: is empty; want a pattern of parameter names, such as vision_encoder.*"},
		{"no teacher", onTabletop + "distill: {alpha: 0.5}", "j.yaml:3:10: distill.teacher: is missing; want a checkpoint or a run directory"},
		{"alpha", onTabletop + "distill: {teacher: x, alpha: 1.5}", "j.yaml:3:30: distill.alpha: 1.5 is outside 0 ≤ alpha ≤ 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, err := kinds.Parse("j.yaml", []byte(c.file), nil)
			if err == nil {
				t.Fatalf("accepted:\n%s", j.YAML())
			}
			if err.Error() != c.want {
				t.Errorf("message\n%s\nwant\n%s", err, c.want)
			}
		})
	}
}
