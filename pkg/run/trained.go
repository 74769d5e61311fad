package run

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/weights"
)

// Trained is a checkpoint that has been opened for use. Whoever opened it closes it.
type Trained struct {
	Dir   string
	Step  uint64
	Job   *job.Job
	Model *models.Model // nil after Parse
	Meta  data.Meta
}

// Close gives the model's memory back.
func (t *Trained) Close() {
	if t.Model != nil {
		t.Model.Close()
		t.Model = nil
	}
}

// Load opens the model of the checkpoint in dir, verified, without its data.
func Load(dir string) (*Trained, error) {
	if rep := checkpoint.Verify(dir); rep.Err() != nil {
		return nil, rep.Err()
	}
	man, err := checkpoint.ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	t, err := Parse(dir, man)
	if err != nil {
		return nil, err
	}
	if t.Model, _, err = train.Build(t.Job, t.Meta); err != nil {
		return nil, err
	}
	if err := t.loadWeights(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Trained) loadWeights() error {
	f, err := safetensors.Open(filepath.Join(t.Dir, train.ModelFile))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := weights.Load(t.Model.Params(), f); err != nil {
		return err
	}
	return weights.CheckFinite(t.Model.Params(), f.Name())
}

// Parse reads what the manifest of the checkpoint in dir says of job and data.
func Parse(dir string, man checkpoint.Manifest) (*Trained, error) {
	t := &Trained{Dir: dir, Step: man.Step}
	var err error
	if t.Job, err = train.Kinds().Parse(filepath.Join(dir, "manifest.json"), man.Config, nil); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(man.Data, &t.Meta); err != nil {
		return nil, fmt.Errorf("%s: manifest: data: %w", dir, err)
	}
	return t, nil
}

// Evaluate measures the checkpoint on src, which is of its data's split.
func (t *Trained) Evaluate(ctx context.Context, src data.Source, split string, threads int) (eval.Report, error) {
	rt := tensor.NewRuntime(max(threads, 1))
	defer rt.Close()
	rep, err := eval.Evaluate(ctx, rt, t.Model, t.Meta, t.Job.Loss.Kind, src, split)
	rep.Step = t.Step
	return rep, err
}
