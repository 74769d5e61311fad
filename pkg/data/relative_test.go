package data

import (
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

func relativeJob(options ...any) job.Data {
	return lerobotJob(filepath.Join("testdata", "lerobot", "v3"), append([]any{"Camera", "", "Split", "all", "Cameras", []string{"front", "wrist"}, "State", []string{"observation.state"}, "History", 3, "Chunk", 3}, options...)...)
}

// Actions are predicted less the state of the sample's own time, all of a chunk:
// statistics over the actions of all windows that count, targets, and the way back.
func TestRelativeActions(t *testing.T) {
	d, err := Open(relativeJob("ActionNames", []string{"gripper", "b", "a"}, "Relative", job.Names{"a", "b"}, "Normalize", Scaling{Mode: MeanStd}), windowNeeds(), 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	s := m.Actions
	if !reflect.DeepEqual(s.Relative, []int{-1, 1, 0}) { // the state is a, b
		t.Fatal("relative to", s.Relative)
	}
	c, err := NewCollator(m)
	if err != nil {
		t.Fatal(err)
	}
	b := models.NewBatch(1, m.Spec)
	var sum [3]float64
	n := 0
	for i := range d.Train().Len() {
		x, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Collate([]Sample{x}, b); err != nil {
			t.Fatal(err)
		}
		actions, state, valid := x.Values[m.Spec.Index(models.Actions)].Floats, x.Values[m.Spec.Index(models.State)].Floats, b.Floats(models.Valid)
		now := state[4:] // of three times, the oldest first
		if !reflect.DeepEqual(m.Now(&x), now) {
			t.Fatalf("the state of now is %v, want %v", m.Now(&x), now)
		}
		back := make([]float32, 9)
		for k := range 3 {
			a, got := actions[3*k:3*k+3], b.Floats(models.Actions)[3*k:3*k+3]
			less := []float32{a[0], a[1] - now[1], a[2] - now[0]}
			for j, v := range less {
				if c := s.Scale(j); c.Learned() && math.Abs(float64(got[j])-(float64(v)-c.Offset)/c.By) > 1e-6 {
					t.Fatalf("sample %d, action %d, %s: the target is %v of %v", i, k, s.Names[j], got[j], v)
				}
				if valid[k] == 1 {
					sum[j] += float64(v)
				}
			}
			if n += int(valid[k]); valid[k] == 1 {
				s.Denormalize(back[3*k:3*k+3], got)
			}
		}
		s.Absolute(back, back, now)
		for j, v := range back {
			if valid[j/3] == 1 && s.Scale(j%3).Learned() && math.Abs(float64(v-actions[j])) > 1e-6 {
				t.Fatalf("sample %d: %v comes back as %v", i, actions[j], v)
			}
		}
	}
	for j := range sum {
		if math.Abs(s.Mean[j]-sum[j]/float64(n)) > 1e-6 || s.Count != n {
			t.Errorf("%s: the mean is %v over %d, want %v over %d", s.Names[j], s.Mean[j], s.Count, sum[j]/float64(n), n)
		}
	}
	if want := "mean_std; relative to the state: b, a"; s.How() != want {
		t.Errorf("it is said to be %q, want %q", s.How(), want)
	}
	// A checkpoint's are taken as they are, whatever the job says.
	again, err := Open(relativeJob("ActionNames", []string{"gripper", "b", "a"}), windowNeeds(), 1, ".", &m)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !reflect.DeepEqual(again.Meta().Actions, s) {
		t.Errorf("the checkpoint's statistics became %+v", again.Meta().Actions)
	}
	broken := m
	wrong := *s
	broken.Actions, wrong.Relative = &wrong, []int{0, 1, 2}
	if err := broken.Check(); err == nil || !strings.Contains(err.Error(), "relative is [0 1 2], for a state of 2") {
		t.Error(err)
	}
}

func TestRelativeRefused(t *testing.T) {
	blind := windowNeeds()
	blind = append(blind[:blind.Index(models.State)], blind[blind.Index(models.State)+1:]...)
	for what, c := range map[string]struct {
		cfg   job.Data
		needs models.Spec
		want  string
	}{
		"strange names": {relativeJob("Relative", job.Names{"all"}), windowNeeds(), "data.relative: the state (a, b) has no dimension"},
		"no dimension":  {relativeJob("Relative", job.Names{"wrist"}), windowNeeds(), `data.relative: there is no dimension "wrist"; want any of`},
		"no state":      {relativeJob("Relative", job.Names{"all"}, "State", []string(nil)), blind, "name its features with data.state"},
		"tabletop":      {of(job.Data{Kind: "tabletop"}, "Relative", job.Names{"all"}), models.Spec{models.Known(models.Actions, 0)}, "data.relative"},
	} {
		if _, err := Open(c.cfg, c.needs, 1, ".", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", what, err, c.want)
		}
	}
	// As many of both are matched in order, which is said; what the mask has is not in all.
	d, err := Open(relativeJob("State", []string{"observation.state", "action"}, "Relative", job.Names{"all"}, "Action", []string{"action", "observation.state"}, "ActionNames", []string{"p", "q", "r", "s", "grip"}, "Normalize", Scaling{Mode: MinMax, Mask: job.Names{"grip"}}),
		wider(windowNeeds()), 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if !reflect.DeepEqual(m.Actions.Relative, []int{0, 1, 2, 3, -1}) {
		t.Error("relative to", m.Actions.Relative)
	}
	said := false
	for _, f := range d.Findings() {
		said = said || f.Kind == "relative_by_order"
	}
	if !said {
		t.Error("nobody is told that the order counts:", d.Findings())
	}
}

// wider leaves the number of dimensions open.
func wider(s models.Spec) models.Spec {
	for i, f := range s {
		if f.Name == models.Actions || f.Name == models.State {
			s[i].Shape = []int{f.Shape[0], 0}
		}
	}
	return s
}
