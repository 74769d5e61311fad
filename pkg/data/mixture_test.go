package data

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// mixedLines are of a folder whose actions have as many values as the lerobot fixture's.
var mixedLines = []string{
	`{"image": "img/0.png", "instruction": "open the box", "action": [100, 1, 0], "episode": 10}`,
	`{"image": "img/1.png", "instruction": "shut the big box now", "action": [200, 1, 1], "episode": 20}`,
	`{"image": "img/2.png", "instruction": "open the box", "action": [300, 2, 0], "episode": 10}`,
	`{"image": "img/3.jpg", "instruction": "open the door", "action": [400, 0, 1], "episode": 30}`,
}

// mixtureOf is a mixture of a LeRobot data set and a folder.
func mixtureOf(t *testing.T, dir string) job.Data {
	t.Helper()
	robot := lerobotJob(filepath.Join("testdata", "lerobot", "v3"), "Split", "all", "Normalize", MinMax)
	robot.Holdout = job.Holdout{Episodes: []int{1}}
	box := of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Episodes: []int{30}}}, "Normalize", MeanStd)
	m := Mixture{Balance: byWeights}
	for i, d := range []job.Data{robot, box} {
		m.Sets = append(m.Sets, job.Set{Name: []string{"robot", "box"}[i], Weight: float64(2 - i), Kind: d.Kind, Path: d.Path, Holdout: d.Holdout, Options: d.Options})
	}
	return job.Data{Kind: mixtureName, Options: m}
}

var mixtureNeeds = models.Spec{pictures(3, 8, 8), words(32), acts(0)}

// A mixture has the samples of its sets, numbered on from one another, each
// normalised by its own set's statistics, with one vocabulary of all training splits.
func TestMixture(t *testing.T) {
	cfg := mixtureOf(t, writeFolder(t, mixedLines...))
	d := mustOpen(t, cfg, mixtureNeeds, nil)
	m := d.Meta()
	if m.Train != 5+3 || m.Heldout != 4+1 || len(m.Sets) != 2 || m.Sets[0].Train != 5 || m.Sets[1].Heldout != 1 || m.Sets[0].Samples != 9 {
		t.Fatalf("%d + %d samples: %+v", m.Train, m.Heldout, m.Sets)
	}
	if want := []string{"<pad>", "<unk>", "big", "box", "now", "open", "shut", "the"}; !slices.Contains(m.Vocab, "push") || !slices.Contains(m.Vocab, "big") || len(m.Vocab) < len(want) {
		t.Errorf("vocabulary %q", m.Vocab)
	}
	if n := m.Spec.Len(models.Instruction, 0); n != 5 {
		t.Errorf("instructions of %d tokens", n)
	}
	robot, box := m.In(0), m.In(1)
	if robot.Actions.Mode != MinMax || box.Actions.Mode != MeanStd || box.Actions.Mean[0] != 200 || !slices.Equal(robot.Actions.Names, []string{"x", "y", "gripper"}) || box.Actions.Names[0] != "a0" {
		t.Errorf("%+v\n%+v", robot.Actions, box.Actions)
	}
	collateAll(t, d)
	c, err := NewCollator(m)
	if err != nil {
		t.Fatal(err)
	}
	b := models.NewBatch(1, m.Spec)
	ids := map[uint64]bool{}
	for _, src := range []Source{d.Train(), d.Heldout()} {
		for i := range src.Len() {
			s, err := src.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			if ids[s.ID] || int(s.ID) >= 13 || (s.ID >= 9) != (s.Set == 1) {
				t.Errorf("sample %d has the number %d and is of set %d", i, s.ID, s.Set)
			}
			ids[s.ID] = true
			if err := c.Collate([]Sample{s}, b); err != nil {
				t.Fatal(err)
			}
			in, want := m.In(s.Set), make([]float32, 3)
			in.Actions.Normalize(want, actionOf(s))
			if got := b.Floats(models.Actions); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: action %v is normalised to %v, want %v", s.Origin, actionOf(s), got, want)
			}
		}
	}
	if len(ids) != 13 {
		t.Errorf("%d of 13 samples", len(ids))
	}
	// The words of a sample are the vocabulary's, whichever set it is of.
	s, err := d.Train().Sample(6)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, id := range tokensOf(s) {
		said = append(said, m.Vocab[id])
	}
	if got := strings.Join(said, " "); got != "shut the big box now" {
		t.Errorf("sample 6 says %q", got)
	}
	if o := m.Order(1, 8, 2, true); o.Validate() != nil || len(o.Parts) != 2 {
		t.Errorf("%+v: %v", o, o.Validate())
	}
	if share := float64(m.Sets[0].Share) / whole; share < 0.6666 || share > 0.6667 {
		t.Errorf("the share of set 0 is %v", share)
	}
	put(&cfg, "Balance", bySize)
	sized := mustOpen(t, cfg, mixtureNeeds, nil)
	if share := float64(sized.Meta().Sets[0].Share) / whole; share < 10./13-1e-6 || share > 10./13+1e-6 {
		t.Errorf("balanced by size the share of set 0 is %v", share)
	}
}

// What a checkpoint keeps opens the same mixture again, and other data is refused.
func TestMixtureOfACheckpoint(t *testing.T) {
	cfg := mixtureOf(t, writeFolder(t, mixedLines...))
	was := mustOpen(t, cfg, mixtureNeeds, nil)
	m := was.Meta()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var kept Meta
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, cfg, mixtureNeeds, &kept)
	if !reflect.DeepEqual(d.Meta(), m) {
		t.Errorf("%+v\nwas %+v", d.Meta(), m)
	}
	for i := range d.Train().Len() {
		x, err := was.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if y, err := d.Train().Sample(i); err != nil || !reflect.DeepEqual(x, y) {
			t.Errorf("sample %d is %+v, was %+v: %v", i, y, x, err)
		}
	}
	other := mixtureOf(t, writeFolder(t, mixedLines[:3]...))
	put(&other, "Sets", slices.Clone(other.Options.(Mixture).Sets))
	other.Options.(Mixture).Sets[1].Holdout = job.Holdout{Episodes: []int{20}}
	if _, err := Open(other, mixtureNeeds, 1, ".", &kept); !errors.Is(err, ErrOtherData) {
		t.Errorf("other data gives %v", err)
	}
}

// A run that goes on with a mixture of which a set has changed knows which samples
// differ, and nothing that was trained on is held out then.
func TestMixtureChanges(t *testing.T) {
	dir := writeFolder(t, mixedLines...)
	cfg := mixtureOf(t, dir)
	was := mustOpen(t, cfg, mixtureNeeds, nil)
	more := append(slices.Clone(mixedLines), `{"image": "img/3.jpg", "instruction": "open the door", "action": [500, 0, 1], "episode": 40}`)
	if err := os.WriteFile(filepath.Join(dir, ManifestName), []byte(strings.Join(more, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := reopen(t, cfg, mixtureNeeds, was)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := d.Change()
	if c == nil || c.Added != 1 || c.Differ+c.Removed+c.LeftOut > 0 || !c.Epoch || !strings.Contains(c.Text(), "box, ") {
		t.Fatalf("%+v", c)
	}
	m := d.Meta()
	if m.Sets[1].Train != 4 || m.Sets[1].Heldout != 1 || m.Sets[0].Train != 5 || m.Train != 9 {
		t.Errorf("%+v", m.Sets)
	}
	x := was.Meta()
	now := Accept(x, m, *c, 10, 8)
	o := now.Order(1, 8, 2, true)
	if err := o.Validate(); err != nil || o.Start != 80 || o.Epoch == 0 {
		t.Errorf("%+v: %v", o, err)
	}
	// A worker that knows the description alone opens the same splits.
	again := mustOpen(t, cfg, mixtureNeeds, &now)
	if got := again.Meta(); !reflect.DeepEqual(got.Sets, now.Sets) || got.Train != now.Train {
		t.Errorf("%+v\nwant %+v", got.Sets, now.Sets)
	}
}

// Faults and findings name the set, and the sample by its number there.
func TestMixtureFaults(t *testing.T) {
	dir := writeFolder(t, mixedLines...)
	cfg := mixtureOf(t, dir)
	d := mustOpen(t, cfg, mixtureNeeds, nil)
	if err := os.Truncate(filepath.Join(dir, "img", "1.png"), 60); err != nil {
		t.Fatal(err)
	}
	var faults []Fault
	sum, err := d.Survey(context.Background(), Survey{Threads: 1, Fault: func(f Fault) { faults = append(faults, f) }})
	if err != nil || len(sum.Sets) != 2 || sum.Sets[1].Name != "box" || sum.Sets[1].Samples != 4 || sum.Samples != 13 {
		t.Errorf("%+v: %v", sum, err)
	}
	if len(faults) != 1 || faults[0].Set != "box" || *faults[0].Sample != 1 {
		t.Errorf("%+v", faults)
	}
	if text := sum.Text(false); !strings.Contains(text, "set robot, 66.67 % of the stream: lerobot data: 9 samples") || !strings.Contains(text, "gripper") {
		t.Error(text)
	}
	f, err := NewLocalFeed(d.Train(), Order{N: 8, Global: 8, Micro: 8})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Micro(context.Background(), 0, 0)
	c, _ := NewCollator(d.Meta())
	if err == nil {
		var s []Sample
		s, err = f.Micro(context.Background(), 0, 0)
		if err == nil {
			err = withWayOn(c.Collate(s, models.NewBatch(8, d.Meta().Spec)))
		}
	}
	if err == nil || !strings.Contains(err.Error(), "data.sets[1].skip: [1]") || !strings.Contains(err.Error(), "box") {
		t.Errorf("a sample that does not decode gives %v", err)
	}
}

// Sets that do not go together are refused by name, with what to type.
func TestMixtureMistakes(t *testing.T) {
	two := writeFolder(t, folderLines...)
	for _, c := range []struct {
		name string
		cfg  func() job.Data
		want string
	}{
		{"actions", func() job.Data { return mixtureOf(t, two) }, "set box has actions of 2 values, set robot of 3"},
		{"camera", func() job.Data {
			d := mixtureOf(t, two)
			s := d.Options.(Mixture).Sets
			k := s[0].Options.(LeRobot)
			k.Camera = "left"
			s[0].Options = k
			return d
		}, `set robot: lerobot data: testdata/lerobot/v3/meta/info.json: data.camera is "left"`},
	} {
		if _, err := Open(c.cfg(), mixtureNeeds, 1, ".", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
