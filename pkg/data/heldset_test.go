package data

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// physical are the first action values of a source, in physical units.
func physical(t *testing.T, s Source) (out []float32) {
	t.Helper()
	for i := range s.Len() {
		x, err := s.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, actionOf(x)[0])
	}
	return out
}

// Another split is the held-out set: none of it is trained on, and statistics
// and vocabulary are the training split's.
func TestHeldoutSplit(t *testing.T) {
	path := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{2, 2}, {1}}, "val": {{1, 2}}})
	cfg := of(job.Data{Kind: "rlds", Path: path, Holdout: job.Holdout{Split: "val"}})
	d, err := Open(cfg, formNeeds, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if m.Train != 5 || m.Heldout != 3 || m.Actions.Count != 5 || m.Actions.Mean[0] != (0+1+10+11+20)/5. {
		t.Errorf("%d to train on, %d held out; statistics of %d with the mean %v", m.Train, m.Heldout, m.Actions.Count, m.Actions.Mean)
	}
	if got := physical(t, d.Train()); !slices.Equal(got, []float32{0, 1, 10, 11, 20}) {
		t.Errorf("trained on %v", got)
	}
	if got := physical(t, d.Heldout()); !slices.Equal(got, []float32{0, 10, 11}) {
		t.Errorf("held out %v", got)
	}
	ids := map[uint64]bool{}
	for _, s := range []Source{d.Train(), d.Heldout()} {
		for i := range s.Len() {
			x, _ := s.Sample(i)
			ids[x.ID] = true
		}
	}
	if len(ids) != 8 {
		t.Errorf("%d different numbers of 8 samples", len(ids))
	}
	sum, err := d.Survey(context.Background(), Survey{})
	if err != nil || sum.Samples != 8 || sum.Episodes != 5 || sum.HeldoutEpisodes != 2 {
		t.Errorf("%+v, %v", sum, err)
	}
	// The fingerprint covers both sets, and binds a checkpoint to them.
	prints := map[string]bool{m.Fingerprint: true}
	for _, h := range []job.Holdout{{}, {Split: "val[:1]"}, {Split: "val[1:]"}} {
		c := cfg
		c.Holdout = h
		other, err := Open(c, formNeeds, 1, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
		prints[other.Meta().Fingerprint] = true
		if _, err := Open(c, formNeeds, 1, "", &m); !errors.Is(err, ErrOtherData) {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if len(prints) != 4 {
		t.Errorf("%d fingerprints of 4 choices", len(prints))
	}
	again, err := Open(cfg, formNeeds, 9, "", &m)
	if err != nil || !reflect.DeepEqual(again.Meta(), m) {
		t.Errorf("%v", err)
	}
	// data.skip counts through both sets.
	fewer := cfg
	put(&fewer, "Skip", []int{1, 6})
	f, err := Open(fewer, formNeeds, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := physical(t, f.Train()), physical(t, f.Heldout()); !slices.Equal(a, []float32{0, 10, 11, 20}) || !slices.Equal(b, []float32{0, 11}) || f.Meta().Actions.Count != 4 {
		t.Errorf("without samples 1 and 6: trained on %v, held out %v", a, b)
	}
	parts := cfg
	put(&parts, "Split", "train[:2]")
	parts.Holdout.Split = "train[2:]"
	p, err := Open(parts, formNeeds, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := physical(t, p.Heldout()); !slices.Equal(got, []float32{20}) {
		t.Errorf("held out %v", got)
	}
	checkErrors(t, cfg, formNeeds, map[string]errorCase{
		"unknown":    {func(c *job.Data, _ *models.Spec) { c.Holdout.Split = "test" }, []string{`data.holdout.split: data.split is "test"`, "names the splits train, val"}},
		"the same":   {func(c *job.Data, _ *models.Spec) { c.Holdout.Split = "train" }, []string{"data.split and data.holdout.split together", "has some episodes of split train twice"}},
		"overlap":    {func(c *job.Data, _ *models.Spec) { put(c, "Split", "train[:2]"); c.Holdout.Split = "train[1:]" }, []string{"has some episodes of split train twice"}},
		"and a part": {func(c *job.Data, _ *models.Spec) { c.Holdout.Fraction = 0.1 }, []string{"give one of them"}},
		"itself":     {func(c *job.Data, _ *models.Spec) { c.Holdout = job.Holdout{Path: path} }, []string{"twice"}},
	})
}

// Another data set is the held-out set, for every kind that is read from files.
func TestHeldoutPath(t *testing.T) {
	base := t.TempDir()
	tensorsOf := func(name string, values ...float32) string {
		n := len(values)
		return writeTensors(t, safetensors.Tensor{Name: "actions", Shape: []int{n, 1}, Data: values},
			safetensors.Tensor{Name: "images", Shape: []int{n, 3, 2, 2}, Data: make([]float32, 12*n)})
	}
	other := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{1}}, "test": {{2}}})
	for name, c := range map[string]struct {
		cfg         job.Data
		needs       models.Spec
		train, held []float32
	}{
		"rlds": {of(job.Data{Kind: "rlds", Path: formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{2}}}), Holdout: job.Holdout{Path: other}}),
			formNeeds, []float32{0, 1}, []float32{0}},
		"rlds, split": {of(job.Data{Kind: "rlds", Path: formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{2}}}), Holdout: job.Holdout{Path: other, Split: "test"}}),
			formNeeds, []float32{0, 1}, []float32{0, 1}},
		"folder": {of(job.Data{Kind: "folder", Path: folderOf(t, 3), Holdout: job.Holdout{Path: folderOf(t, 2)}}), folderNeeds, []float32{0, 1, 2}, []float32{0, 1}},
		"tensors": {of(job.Data{Kind: "tensors", Path: tensorsOf("a", 5, 6), Holdout: job.Holdout{Path: tensorsOf("b", 7)}}),
			models.Spec{pictures(3, 2, 2), acts(0)}, []float32{5, 6}, []float32{7}},
	} {
		d, err := Open(c.cfg, c.needs, 1, base, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a, b := physical(t, d.Train()), physical(t, d.Heldout()); !slices.Equal(a, c.train) || !slices.Equal(b, c.held) {
			t.Errorf("%s: trained on %v, held out %v", name, a, b)
		}
		if sum, err := d.Survey(context.Background(), Survey{Fault: func(f Fault) { t.Errorf("%s: %v", name, f) }}); err != nil || sum.Heldout != len(c.held) {
			t.Errorf("%s: %+v, %v", name, sum, err)
		}
		x, err := d.Index(context.Background())
		if err != nil || len(x.Entries) != len(c.train)+len(c.held) {
			t.Fatalf("%s: %v", name, err)
		}
		for i, e := range x.Entries {
			if held := i >= len(c.train); (e.Side == InHeldout) != held || (e.Side == InTrain) == held {
				t.Errorf("%s: sample %d is indexed as %+v", name, i, e)
			}
		}
		collateAll(t, d)
		if err := d.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wide := t.TempDir()
	write(t, wide, "0.png", encodePNG(t, testPicture(8, 8, color.RGBA{A: 255})))
	write(t, wide, ManifestName, []byte(`{"image": "0.png", "instruction": "go", "action": [1, 2, 3]}`))
	train := folderOf(t, 2)
	rel, _ := filepath.Rel(base, train)
	at := func(path string) func(*job.Data, *models.Spec) {
		return func(c *job.Data, _ *models.Spec) { c.Holdout.Path = path }
	}
	checkErrors(t, of(job.Data{Kind: "folder", Path: train}), folderNeeds, map[string]errorCase{
		"other features": {at(wide), []string{"the held-out set (data.holdout.path " + wide + "), which must have the training set's features: actions have 3 dimensions, the statistics of the training set are of 2"}},
		"not there":      {at(wide + "x"), []string{"the held-out set", wide + "x"}},
		"itself":         {at(train), []string{"data.holdout.path is data.path itself"}},
	})
	if _, err := Open(of(job.Data{Kind: "folder", Path: train, Holdout: job.Holdout{Path: rel}}), folderNeeds, 1, base, nil); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Error(fmt.Sprint("a path relative to the job file: ", err))
	}
}
