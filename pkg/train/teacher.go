package train

import (
	"bytes"
	"context"
	"fmt"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/weights"
)

// TeacherFile is the blob name of the teacher's weights.
const TeacherFile = "teacher.safetensors"

// maxTeacher bounds the teacher's file, which a worker holds whole.
const maxTeacher = 1 << 36

// hints are a teacher's own traces of having been a student.
var hints = job.Renames{{From: "distill_projection.*"}}

// Distill makes the job's teacher of its file of weights. The job must carry
// the teacher's model, as the coordinator's does.
func Distill(j *job.Job, meta data.Meta, f *safetensors.File) (*models.Distillation, error) {
	if j.Distill.Model == nil {
		return nil, fmt.Errorf("distill: the job does not say what model the teacher is; a coordinator that knows of teachers sends it")
	}
	teacher, err := models.New(Sized(*j.Distill.Model, meta))
	if err != nil {
		return nil, fmt.Errorf("distill: the teacher: %w", err)
	}
	if _, err := weights.Import(teacher, job.Init{Map: hints}, 0, f); err != nil {
		return nil, fmt.Errorf("distill: the teacher: %w", err)
	}
	d := &models.Distillation{Teacher: teacher, Alpha: j.Distill.Alpha, Temperature: j.Distill.Temperature, Features: j.Distill.Features}
	for i := range j.Distill.Scale {
		d.Scale, d.Shift = append(d.Scale, float32(j.Distill.Scale[i])), append(d.Shift, float32(j.Distill.Shift[i]))
	}
	return d, nil
}

// teacher fetches the job's teacher from the coordinator; nil where there is none.
func (w *Worker) teacher(ctx context.Context) (*models.Distillation, error) {
	d := w.job.Distill
	if !d.Active() {
		return nil, nil
	}
	b, err := w.Blobs.Get(ctx, CoordinatorPeer, TeacherFile, maxTeacher)
	if err != nil {
		return nil, fmt.Errorf("fetching the teacher's weights from the coordinator: %w", err)
	}
	if sum := sha256Of(b); sum != d.SHA256 {
		return nil, fmt.Errorf("the teacher's weights have SHA-256 %s, the job's are %s", sum, d.SHA256)
	}
	f, err := safetensors.Read(bytes.NewReader(b), int64(len(b)), TeacherFile)
	if err != nil {
		return nil, err
	}
	return Distill(w.job, w.source.meta, f)
}
