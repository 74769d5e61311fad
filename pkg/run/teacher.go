package run

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
	"github.com/vlaring/vlaring/pkg/worker"
)

// findTeacher looks at the teacher's checkpoint and writes into the job what
// workers, and later readers of this run, need to know of it.
func (b *beginning) findTeacher() error {
	d := &b.job.Distill
	if !d.Active() {
		return nil
	}
	t, err := trained.Open(job.Abs(b.opt.BaseDir, d.Teacher), b.job.Kinds())
	if err != nil {
		return fmt.Errorf("distill.teacher: %w", err)
	}
	defer t.Close() // its weights are the workers' to load
	for _, p := range t.Passed {
		b.opt.UI.Line("distill.teacher: " + p.String())
	}
	if err := t.Use(d.Weights); err != nil {
		return fmt.Errorf("distill.weights: %w", err)
	}
	man, err := checkpoint.ReadManifest(t.Dir)
	if err != nil {
		return fmt.Errorf("distill.teacher: %w", err)
	}
	if h := t.Model.Head(); h != nil {
		if _, ok := h.(models.Judge); !ok {
			return fmt.Errorf("distill.teacher %s: was trained by loss %s, whose answer cannot be compared with a student's; want a teacher of loss %s or %s", d.Teacher, h.Name(), models.MSE, models.L1)
		}
	}
	m := t.Job.Model
	m.Options = train.Sized(m, t.Meta)
	m.Preset = "" // its sizes stand there
	d.Model, d.SHA256 = &m, man.File(train.ModelFile).SHA256
	b.teacher, b.teaches = t, filepath.Join(t.Dir, train.ModelFile)
	if t.Weights == job.Average { // which no file has by itself
		d.Weights, b.teaches = job.Average, b.dir.at(worker.TeacherFile)
		if d.SHA256, err = writeModel(b.teaches, t.Model.Params()); err != nil {
			return fmt.Errorf("distill.teacher: %w", err)
		}
	}
	return nil
}

// checkTeacher refuses a teacher whose numbers mean something else than the
// student's: tokens, actions, pictures or the state.
func (b *beginning) checkTeacher() error {
	if b.teacher == nil {
		return nil
	}
	was, is := b.teacher.Meta, b.data.meta
	bad := func(what, hint string) error {
		return fmt.Errorf("distill.teacher %s: the teacher's %s are not this job's: %s", b.job.Distill.Teacher, what, hint)
	}
	if a, b := was.Spec.Of(models.Image), is.Spec.Of(models.Image); !a.Equal(b) || was.ImageMean != is.ImageMean || was.ImageStd != is.ImageStd {
		return bad("pictures", fmt.Sprintf("%v against %v; both see the same micro-batch, so give both one model.image_size", a, b))
	}
	if a, b := was.Tokenizer, is.Tokenizer; (a == nil) != (b == nil) || a != nil && a.SHA256 != b.SHA256 {
		return bad("tokenizers", "train it with the same data.tokenizer")
	}
	if !slices.Equal(was.Vocab, is.Vocab) {
		return bad("words", fmt.Sprintf("%d against %d; train it on the same data", len(was.Vocab), len(is.Vocab)))
	}
	if is.Sets != nil || was.Sets != nil {
		for i := range max(len(is.Sets), len(was.Sets)) {
			if len(is.Sets) != len(was.Sets) || !reflect.DeepEqual(is.Sets[i].Actions, was.Sets[i].Actions) {
				return bad("sets", "each set of a mixture has statistics of its own, so train the teacher on the same mixture")
			}
			if what, hint := misseen(was.In(i), is.In(i)); what != "" {
				return bad(what+" in set "+is.Sets[i].Name, hint)
			}
		}
		return nil
	}
	if what, hint := misseen(was, is); what != "" {
		return bad(what, hint)
	}
	if is.Actions == nil || was.Actions == nil {
		return nil
	}
	if !slices.Equal(was.Actions.Names, is.Actions.Names) || !slices.Equal(was.Actions.Units, is.Actions.Units) {
		return bad("actions", fmt.Sprintf("%v in %v against %v in %v; if they mean the same, set data.action_names and data.action_units as the teacher's", was.Actions.Names, was.Actions.Units, is.Actions.Names, is.Actions.Units))
	}
	if !slices.Equal(was.Actions.Relative, is.Actions.Relative) {
		return bad("actions", "one is relative to the state where the other is not; give both one data.relative")
	}
	d := &b.job.Distill
	d.Scale, d.Shift = between(was.Actions, is.Actions)
	return nil
}

// misseen says what a teacher of data was would take for something else in samples of
// is, which both see: cameras in another order, or numbers of another scale.
func misseen(was, is data.Meta) (what, hint string) {
	for _, f := range is.Spec.Inputs() {
		camera, _, view := models.ViewOf(f.Name)
		for _, g := range was.Spec.Of(models.Image) {
			if other, _, _ := models.ViewOf(g.Name); view && other != camera && g.Called() == f.Called() {
				return "cameras", fmt.Sprintf("%s is its number %d and this job's number %d; give both one order of data.cameras", f.Called(), other+1, camera+1)
			}
		}
		if !f.Normalise || !was.Spec.Has(f.Name) {
			continue
		}
		a, b := was.StatsOf(f.Name), is.StatsOf(f.Name)
		same := (a == nil) == (b == nil)
		if a != nil && same {
			same = slices.Equal(a.Names, b.Names) && a.Clip == b.Clip && slices.Equal(scales(a), scales(b))
		}
		if !same {
			return "values of " + f.Called(), "both see the same, scaled by one data set's statistics; train the teacher on the same data, with the same data.normalize"
		}
	}
	return "", ""
}

func scales(s *data.Stats) (l []data.Scale) {
	for d := range s.Dim() {
		l = append(l, s.Scale(d))
	}
	return l
}

// between returns what turns actions normalised by one data set's statistics
// into those of another's, scale·action + shift.
func between(from, to *data.Stats) (scale, shift []float64) {
	line := *to // without its ends: what is clipped for the student is no line
	line.Clip = 0
	at := func(x float32) []float32 {
		v := make([]float32, from.Dim())
		for i := range v {
			v[i] = x
		}
		from.Denormalize(v, v)
		line.Normalize(v, v)
		return v
	}
	zero, one := at(0), at(1)
	for i := range zero {
		scale, shift = append(scale, float64(one[i])-float64(zero[i])), append(shift, float64(zero[i]))
	}
	return scale, shift
}
