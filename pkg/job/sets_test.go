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
