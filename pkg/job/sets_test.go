package job_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
	. "github.com/vlaring/vlaring/pkg/job"
)

const mixed = `name: a
data:
  kind: mixture
  normalize: min_max
  sets:
    - {name: plain, weight: 2, kind: tabletop, scene: simple, holdout: {episodes: [3]}}
    - name: lab
      path: lab
      normalize: quantile
      skip: [4, 5]
      kind: folder
  balance: size
`

// Each set is read with the keys and the defaults of its own kind, what the data
// section says holds for those that say nothing else, and the written form is the same job.
func TestSets(t *testing.T) {
	j, err := kinds.Parse("job.yaml", []byte(mixed), []string{"data.sets[1].weight=0.5", "data.sets[0].holdout.episodes=[3,4]"})
	if err != nil {
		t.Fatal(err)
	}
	m := j.Data.Options.(data.Mixture)
	a, b := m.Sets[0], m.Sets[1]
	table, folder := a.Options.(data.Tabletop), b.Options.(data.Folder)
	if a.Name != "plain" || a.Weight != 2 || b.Weight != 0.5 || b.Path != "lab" || m.Balance != "size" {
		t.Errorf("%+v", m)
	}
	if table.Scene != "simple" || table.Episodes != 2000 || table.Normalize.Mode != "min_max" || folder.Normalize.Mode != "quantile" || len(folder.Skip) != 2 {
		t.Errorf("%+v, %+v", table, folder)
	}
	if !reflect.DeepEqual(a.Holdout, Holdout{Episodes: []int{3, 4}}) || b.Holdout.Fraction != 0.1 {
		t.Errorf("held out: %+v, %+v", a.Holdout, b.Holdout)
	}
	again, err := kinds.Parse("again.yaml", j.YAML(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, j.YAML())
	}
	if !reflect.DeepEqual(again.Data, j.Data) || string(again.YAML()) != string(j.YAML()) {
		t.Errorf("%s\nis read as\n%s", j.YAML(), again.YAML())
	}
	if p := kinds.Where("none", nil, "data.sets[1].path"); p.Key != "data.sets[1].path" {
		t.Errorf("%+v", p)
	}
}

// What the data section says holds for each set key by key, in sections too, whether
// the file says it or an option; a set's own key stands, also one that is nothing. The
// written form is the same job. An option that reaches no set is refused.
func TestSetsInherit(t *testing.T) {
	file := func(all, a, b string) []byte {
		return []byte("name: a\ndata:\n  kind: mixture\n" + all + "  sets:\n    - {name: a, kind: tabletop" + a + "}\n    - {name: b, kind: folder, path: x" + b + "}\n")
	}
	type scaling = data.Scaling
	for name, c := range map[string]struct {
		file []byte
		set  []string
		a, b scaling
	}{
		"a kind's own mode":     {file("", "", ""), []string{"data.normalize.clip=2"}, scaling{Mode: "mean_std", Clip: 2}, scaling{Mode: "mean_std", Clip: 2}},
		"a section":             {file("  normalize: {mode: min_max, clip: 2, epsilon: 1e-8}\n", ", normalize: {clip: 3}", ", normalize: quantile"), nil, scaling{Mode: "min_max", Clip: 3, Epsilon: 1e-8}, scaling{Mode: "quantile", Clip: 2, Epsilon: 1e-8}},
		"a word and an option":  {file("  normalize: min_max\n", "", ", normalize: {mode: quantile, mask: [0]}"), []string{"data.normalize.clip=2"}, scaling{Mode: "min_max", Clip: 2}, scaling{Mode: "quantile", Clip: 2, Mask: Names{"0"}}},
		"an option's word":      {file("  normalize: {clip: 2}\n", "", ", normalize: {epsilon: 1e-6}"), []string{"data.normalize=quantile10"}, scaling{Mode: "quantile10"}, scaling{Mode: "quantile10", Epsilon: 1e-6}},
		"nothing is a value":    {file("  normalize: {mode: min_max, clip: 2}\n", ", normalize: {clip: 0}", ", normalize: {mode: quantile, clip: 0}"), nil, scaling{Mode: "min_max"}, scaling{Mode: "quantile"}},
		"a set's own by option": {file("  normalize: {mode: min_max, clip: 2}\n", "", ""), []string{"data.sets[1].normalize.clip=5"}, scaling{Mode: "min_max", Clip: 2}, scaling{Mode: "min_max", Clip: 5}},
	} {
		j, err := kinds.Parse("job.yaml", c.file, c.set)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for range 2 { // as read, and as written and read
			m := j.Data.Options.(data.Mixture)
			a, b := m.Sets[0].Options.(data.Tabletop).Normalize, m.Sets[1].Options.(data.Folder).Normalize
			if !reflect.DeepEqual(a, c.a) || !reflect.DeepEqual(b, c.b) {
				t.Errorf("%s: %+v and %+v, want %+v and %+v\n%s", name, a, b, c.a, c.b, j.YAML())
			}
			again, err := kinds.Parse("again.yaml", j.YAML(), nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, j.YAML())
			}
			j = again
		}
	}
	// Other keys of all: the chunk, words, pictures.
	_, err := kinds.Parse("job.yaml", file("  max_tokens: 9\n", "", ", max_tokens: 0"), []string{"data.chunk=4", "data.augment.crop=0.8", "data.cameras=[l]", "data.state=[s]"})
	if err == nil || !strings.Contains(err.Error(), "data.sets[0].cameras[0]") { // tabletop has other cameras
		t.Error(err)
	}
	j, err := kinds.Parse("job.yaml", file("  max_tokens: 9\n", "", ", max_tokens: 0"), []string{"data.chunk=4", "data.augment.crop=0.8"})
	if err != nil {
		t.Fatal(err)
	}
	if j, err = kinds.Parse("again.yaml", j.YAML(), nil); err != nil {
		t.Fatal(err)
	}
	a, b := j.Data.Options.(data.Mixture).Sets[0].Options.(data.Tabletop), j.Data.Options.(data.Mixture).Sets[1].Options.(data.Folder)
	if a.MaxTokens != 9 || b.MaxTokens != 0 || a.Chunk != 4 || b.Chunk != 4 || a.Augment.Crop != 0.8 || b.Augment.Crop != 0.8 {
		t.Errorf("%+v\n%+v", a, b)
	}

	for option, want := range map[string]string{
		"data.normalize=quantile":     "--set data.normalize=quantile: data.normalize: does not reach a set: each has its own; want --set data.sets[0].normalize=… or --set data.sets[1].normalize=…",
		"data.normalize.mode=min_max": "does not reach a set: each has its own; want --set data.sets[0].normalize.mode=… or --set data.sets[1].normalize.mode=…",
		"data.max_tokens=7":           "want --set data.sets[0].max_tokens=… or ",
		"data.split=train":            "data.split",
	} {
		_, err := kinds.Parse("job.yaml", file("", ", normalize: min_max, max_tokens: 3", ", normalize: quantile, max_tokens: 4"), []string{option})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v\nwant %s", option, err, want)
		}
	}
	if _, err := kinds.Parse("job.yaml", []byte("name: a\nmodel: {kind: encoder, vocab_size: 20, max_len: 8}\ndata:\n  kind: mixture\n  sets:\n    - {name: a, kind: copy, seq_len: 8}\n"), []string{"data.chunk=4"}); err == nil || !strings.Contains(err.Error(), "data.chunk: reaches no set: none is of a kind that has such a key") {
		t.Error(err)
	}
}

// Mistakes of a set are shown where they stand, with the set's own key.
func TestSetMistakes(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"data: {kind: mixture}", "job.yaml: data.sets: is missing"},
		{"data: {kind: mixture, sets: 3}", "job.yaml:2:29: data.sets: want a list"},
		{"data: {kind: mixture, sets: [{name: a, kind: tabletop, episode: 3}]}", "data.sets[0].episode: unknown key; did you mean data.sets[0].episodes?"},
		{"data: {kind: mixture, sets: [{name: a, kind: tabletop}, {name: b, kind: tabletop, episodes: 0}]}", "job.yaml:2:93: data.sets[1].episodes: 0 is too small"},
		{"data: {kind: mixture, sets: [{name: a, kind: tabletop}, {name: a, kind: tabletop}]}", "data.sets[1].name: \"a\" is the name of set 0 already"},
		{"data: {kind: mixture, sets: [{name: a, kind: tabletop, weight: 0}]}", "data.sets[0].weight: 0 is no weight"},
		{"data: {kind: mixture, sets: [{kind: tabletop}]}", "data.sets[0].name: is missing"},
		{"data: {kind: mixture, sets: [{name: a}]}", "data.sets[0].kind: is missing"},
		{"data: {kind: mixture, sets: [{name: a, kind: rlsd, path: x}]}", "data.sets[0].kind: \"rlsd\" is unknown; did you mean rlds?"},
		{"data: {kind: mixture, sets: [{name: a, kind: rlds}]}", "data.sets[0].path: is missing; data.kind rlds reads files"},
		{"data: {kind: mixture, sets: [{name: a, kind: copy}]}", "data.sets[0].kind: copy has no images for model.kind vla"},
		{"data: {kind: mixture, sets: [{name: a, kind: mixture}]}", "data.sets[0].kind: is a mixture in a mixture"},
		{"data: {kind: mixture, sets: [{name: a, kind: tabletop, seq_len: 3}]}", "data.sets[0].seq_len: has no meaning for data.sets[0].kind tabletop"},
		{"data: {kind: mixture, path: x, sets: [{name: a, kind: tabletop}]}", "data.path: has no meaning"},
		{"data: {kind: mixture, holdout: {episodes: [1]}, sets: [{name: a, kind: tabletop}]}", "data.holdout.episodes: has no meaning"},
		{"data: {kind: mixture, balance: fair, sets: [{name: a, kind: tabletop}]}", "data.balance: \"fair\" is unknown"},
		{"data: {kind: mixture, sets: [{name: a, kind: lerobot, path: x, chunk: 4, cameras: [l]}, {name: b, kind: lerobot, path: y, chunk: 8, cameras: [l, r], state: [s]}]}", "data.sets[1].chunk: 8, and set a has 4"},
		{"data: {kind: mixture, sets: [{name: a, kind: lerobot, path: x, cameras: [l]}, {name: b, kind: lerobot, path: y, cameras: [l, r]}]}", "data.sets[1].cameras: 2, and set a has 1"},
		{"data: {kind: mixture, sets: [{name: a, kind: lerobot, path: x}, {name: b, kind: lerobot, path: y, state: [s]}]}", "data.sets[1].state: set b has a state and set a has none"},
	} {
		_, err := kinds.Parse("job.yaml", []byte("name: a\n"+c.file), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\ngives %v\nwant  %s", c.file, err, c.want)
		}
	}
	if _, err := kinds.Parse("job.yaml", []byte(mixed), []string{"data.sets[2].weight=1"}); err == nil || !strings.Contains(err.Error(), "data.sets[2]: there is none in the job file") {
		t.Error(err)
	}
}
