package train

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/weights"
)

// hints are a teacher's own traces of having been a student.
var hints = job.Renames{{From: "distill_projection.*"}}

// Distill makes the job's teacher of its file of weights. The job must carry
// the teacher's model, as the coordinator's does.
func Distill(j *job.Job, meta data.Meta, f *safetensors.File) (*models.Distillation, error) {
	if j.Distill.Model == nil {
		return nil, fmt.Errorf("distill: the job does not say what model the teacher is; a coordinator that knows of teachers sends it")
	}
	teacher, err := models.New(Sized(*j.Distill.Model, meta), nil)
	if err != nil {
		return nil, fmt.Errorf("distill: the teacher: %w", err)
	}
	teacher.SetBF16(j.BF16())
	// Whole, or not at all: a teacher with fresh weights would teach noise.
	if _, err := weights.Import(teacher, job.Init{Map: hints}, 0, f); err != nil {
		return nil, fmt.Errorf("distill: the teacher: %w", err)
	}
	d := &models.Distillation{Teacher: teacher, Alpha: j.Distill.Alpha, Temperature: j.Distill.Temperature, Features: j.Distill.Features}
	for i := range j.Distill.Scale {
		d.Scale, d.Shift = append(d.Scale, float32(j.Distill.Scale[i])), append(d.Shift, float32(j.Distill.Shift[i]))
	}
	return d, nil
}
