package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/plain"
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

// BaseDir is where the relative paths of the checkpoint's job start, if it still
// lies in its run directory; else here.
func (t *Trained) BaseDir() string {
	if o, err := ReadOrigin(filepath.Join(t.Dir, "..", "..")); err == nil {
		return o.BaseDir
	}
	return "."
}

// DataPath is where the data of its job lies.
func (t *Trained) DataPath() string { return abs(t.BaseDir(), t.Job.Data.Path) }

// CheckpointDir is the directory of the checkpoint that dir means: dir itself, or
// the newest that verifies of a run directory or its checkpoints.
func CheckpointDir(dir string) (string, error) {
	if _, err := checkpoint.ReadManifest(dir); err == nil {
		return dir, nil
	} else if strings.HasPrefix(filepath.Base(dir), "step-") {
		return "", err
	}
	for _, d := range []string{filepath.Join(dir, "checkpoints"), dir} {
		if found, err := checkpoint.LatestGood(d); err == nil {
			return found.Dir, nil
		}
	}
	return "", NoCheckpoint(dir)
}

// NoCheckpoint says why dir has none to open, and what to give or do instead.
func NoCheckpoint(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s\ngive a checkpoint such as runs/NAME/checkpoints/step-00000100, or a run directory for its newest", dir)
	}
	var steps []string
	for _, pattern := range []string{"checkpoints", "."} {
		entries, _ := os.ReadDir(filepath.Join(dir, pattern))
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "step-") {
				steps = append(steps, filepath.Join(dir, pattern, e.Name()))
			}
		}
	}
	_, err := os.Stat(filepath.Join(dir, "run.json"))
	switch {
	case len(steps) > 0:
		return fmt.Errorf("%s holds no checkpoint that verifies\nwhat is wrong with the newest: coordinator checkpoint verify %s", dir, plain.ShellWord(slices.Max(steps)))
	case err == nil:
		return fmt.Errorf("the run in %s has stored no checkpoint yet\ncoordinator status %s says how far it is", dir, plain.ShellWord(dir))
	}
	return fmt.Errorf("%s is neither a checkpoint nor a run directory\ngive a checkpoint such as runs/NAME/checkpoints/step-00000100, or a run directory for its newest", dir)
}

// Load opens the model of the checkpoint that dir means, verified, without its data.
func Load(dir string) (*Trained, error) {
	dir, err := CheckpointDir(dir)
	if err != nil {
		return nil, err
	}
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
	rep, err := eval.Subject{Runtime: rt, Model: t.Model, Meta: t.Meta, Head: train.HeadOf(t.Job)}.Evaluate(ctx, src, split)
	rep.Step = t.Step
	return rep, err
}
