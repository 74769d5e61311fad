package job_test

import (
	"strings"
	"testing"
)

// A held-out set of its own takes the place of a part of the training set.
func TestHeldoutSetOfItsOwn(t *testing.T) {
	const rlds, folder = "name: a\ndata: {kind: rlds, path: x, holdout: {%}}", "name: a\ndata: {kind: folder, path: x, holdout: {%}}"
	for _, c := range []struct{ job, holdout, want string }{
		{rlds, "split: val", ""},
		{rlds, "split: 'train[90%:]'", ""},
		{rlds, "path: y", ""},
		{rlds, "path: y, split: test", ""},
		{folder, "path: y", ""},
		{rlds, "split: val, fraction: 0", ""},
		{rlds, "split: val, fraction: 0.1", "data.holdout.split: names a set of its own"},
		{folder, "path: y, episodes: [1]", "data.holdout.path: names a set of its own"},
		{folder, "split: val", "data.holdout.split: has no meaning for data.kind folder"},
		{"name: a\ndata: {kind: tabletop, holdout: {%}}", "path: y", "data.holdout.path: has no meaning for data.kind tabletop"},
	} {
		j, err := kinds.Parse("job.yaml", []byte(strings.Replace(c.job, "%", c.holdout, 1)), nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.holdout, err)
		case c.want == "" && j.Data.Holdout.Fraction != 0:
			t.Errorf("%s: a fraction of %v too", c.holdout, j.Data.Holdout.Fraction)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.holdout, err, c.want)
		}
	}
	j, err := kinds.Parse("job.yaml", []byte("name: a\ndata: {kind: rlds, path: x, holdout: {split: val}}\ntrain: {eval_every: 100}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := kinds.Parse("job.yaml", j.YAML(), nil)
	if err != nil || again.Data.Holdout.Split != "val" || again.Data.Holdout.Fraction != 0 {
		t.Errorf("the resolved job holds out %+v: %v", again.Data.Holdout, err)
	}
}
