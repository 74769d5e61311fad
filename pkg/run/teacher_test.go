package run

import (
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/trained"
)

// TestTeacherSeesWhatItKnows guards that no student shows its teacher cameras in
// another order, or a state of another scale.
func TestTeacherSeesWhatItKnows(t *testing.T) {
	stats := func(std float64) *data.Stats {
		return &data.Stats{Mode: "mean_std", Names: []string{"x"}, Units: []string{""}, Mean: []float64{0}, Std: []float64{std}, Min: []float64{-1}, Max: []float64{1}, Q01: []float64{-1}, Q99: []float64{1}}
	}
	of := func(std float64, cameras ...string) data.Meta {
		m := data.Meta{Actions: stats(1), Stats: map[string]*data.Stats{models.State: stats(std)}}
		for i, name := range cameras {
			f := models.Known(models.View(i, 0), 3, 8, 8)
			f.Source = name
			m.Spec = append(m.Spec, f)
		}
		m.Spec = append(m.Spec, models.Known(models.State, 1), models.Known(models.Actions, 1))
		return m
	}
	in := func(m data.Meta) data.Meta { // as the one set of a mixture
		s := data.SetMeta{Name: "a", Actions: m.Actions, Stats: m.Stats, Sources: map[string]string{}}
		for _, f := range m.Spec {
			s.Sources[f.Name] = f.Source
		}
		m.Sets, m.Actions, m.Stats = []data.SetMeta{s}, nil, nil
		return m
	}
	was := of(1, "front", "wrist")
	for _, c := range []struct {
		is   data.Meta
		want string
	}{
		{of(1, "front", "wrist"), ""},
		{of(1, "left", "right"), ""}, // names of other data
		{of(1, "wrist", "front"), "the teacher's cameras are not this job's: wrist is its number 2 and this job's number 1"},
		{of(2, "front", "wrist"), "the teacher's values of state are not this job's"},
	} {
		for _, mixed := range []bool{false, true} {
			was, is := was, c.is
			if mixed {
				was, is = in(was), in(is)
			}
			b := &beginning{job: &job.Job{}, teacher: &trained.Checkpoint{Meta: was}}
			b.data.meta = is
			err := b.checkTeacher()
			want := c.want
			if mixed {
				want = strings.Replace(want, " are not", " in set a are not", 1)
			}
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("mixed %v: %v, want %q", mixed, err, want)
			}
		}
	}
}
