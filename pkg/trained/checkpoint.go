// Package trained is a checkpoint in use: its job, its model with the weights in
// it and what it knows of its data, to be measured, looked into, run on new inputs
// and exported. Nothing here trains, or speaks to anybody.
//
//	c, err := trained.Open("runs/bridge", kinds) // every byte is verified
//	err = c.OpenData(base, "", scans)            // what it was trained on
//	src, split, err := c.Source("heldout")
//	report, err := c.Evaluate(ctx, src, split, threads)
package trained

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
	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/weights"
)

// Checkpoint is one that has been opened for use. Whoever opened it closes it.
type Checkpoint struct {
	Dir   string
	Step  uint64
	Job   *job.Job
	Model *models.Model // nil after parse

	// Passed are newer checkpoints of the run that do not verify, and why.
	Passed []checkpoint.Passed

	// Weights are those in the model, job.Raw or job.Average.
	Weights string

	Keeper models.Keeper // of what frozen encoders make, in measuring; nil: nothing is kept

	Meta  data.Meta
	Set   data.Dataset // nil until it is opened
	Other string       // what to say where Set is not the checkpoint's data; empty: it is
}

// Close gives the model's memory back, and closes the data.
func (c *Checkpoint) Close() {
	if c.Model != nil {
		c.Model.Close()
		c.Model = nil
	}
	if c.Set != nil {
		c.Set.Close()
		c.Set = nil
	}
}

// Find is the directory of the checkpoint that dir means: dir itself, or
// the newest that verifies of a run directory or its checkpoints, with those that it
// passed over. dir may be an address in an object store (s3://…): then it is the
// directory of a verified copy.
func Find(dir string) (string, []checkpoint.Passed, error) {
	return FindSaying(context.Background(), dir, func(string) {})
}

// FindSaying is Find that ends with ctx, and says what takes long.
func FindSaying(ctx context.Context, dir string, say func(line string)) (string, []checkpoint.Passed, error) {
	if s3url.Is(dir) {
		return fetch(ctx, dir, say)
	}
	if _, err := checkpoint.ReadManifest(dir); err == nil {
		return dir, nil, nil
	} else if strings.HasPrefix(filepath.Base(dir), "step-") {
		return "", nil, err
	}
	for _, d := range []string{filepath.Join(dir, "checkpoints"), dir} {
		if found, err := checkpoint.LatestGood(d); err == nil {
			return found.Dir, found.Passed, nil
		}
	}
	return "", nil, None(dir)
}

// None says why dir has none to open, and what to give or do instead.
func None(dir string) error {
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

// Open opens the model of the checkpoint that dir means, verified, without its
// data, with the averaged weights where it has them: Use takes others. kinds is what
// its job may name.
func Open(dir string, kinds job.Kinds) (*Checkpoint, error) {
	dir, passed, err := Find(dir)
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
	c, err := parse(dir, man, kinds)
	if err != nil {
		return nil, err
	}
	if c.Model, _, err = train.Build(c.Job, c.Meta); err != nil {
		return nil, err
	}
	if err := c.Use(c.weights()[0]); err != nil {
		c.Close()
		return nil, err
	}
	c.Passed = passed
	return c, nil
}

// weights lists what the checkpoint has, the first of which is used unless another
// is asked for.
func (c *Checkpoint) weights() []string {
	if c.Job.Optimizer.EMA.Active() {
		return []string{job.Average, job.Raw}
	}
	return []string{job.Raw}
}

// choose is the weights that which asks for, "" for the checkpoint's own choice; an
// error where it has not got them.
func (c *Checkpoint) choose(which string) (string, error) {
	all := c.weights()
	switch {
	case which == "":
		return all[0], nil
	case which != job.Raw && which != job.Average:
		return "", usage.Errorf("--weights %q: want %s or %s", which, job.Average, job.Raw)
	case !slices.Contains(all, which):
		return "", usage.Errorf("%s has no averaged weights, since its job has no optimizer.ema", c.Dir)
	}
	return which, nil
}

// Use puts other weights into the model: job.Raw or job.Average, or, with "", the
// checkpoint's own choice.
func (c *Checkpoint) Use(which string) error {
	which, err := c.choose(which)
	if err != nil || which == c.Weights {
		return err
	}
	f, err := openWeights(c.Dir, which)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := weights.Load(c.Model.Params(), f); err != nil {
		return err
	}
	c.Weights = which
	return weights.CheckFinite(c.Model.Params(), f.Name())
}

// openWeights opens the file of the checkpoint in dir with those weights.
func openWeights(dir, which string) (*safetensors.File, error) {
	if which != job.Average {
		return safetensors.Open(filepath.Join(dir, train.ModelFile))
	}
	f, err := safetensors.Open(filepath.Join(dir, train.OptimizerFile))
	if err != nil {
		return nil, err
	}
	return train.Averaged(f), nil
}

// Said is the weights in words: which, where there is a choice.
func (c *Checkpoint) Said() string {
	switch {
	case len(c.weights()) == 1:
		return ""
	case c.Weights == job.Average:
		return "with the averaged weights (ema); --weights raw takes those that were trained"
	}
	return "with the weights as they were trained (raw); --weights ema takes their average"
}

// parse reads what the manifest of the checkpoint in dir says of job and data.
func parse(dir string, man checkpoint.Manifest, kinds job.Kinds) (*Checkpoint, error) {
	c := &Checkpoint{Dir: dir, Step: man.Step}
	var err error
	if c.Job, err = kinds.Parse(filepath.Join(dir, "manifest.json"), man.Config, nil); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(man.Data, &c.Meta); err != nil {
		return nil, fmt.Errorf("%s: manifest: data: %w", dir, err)
	}
	return c, nil
}

// EvaluateAll is Evaluate with all weights that the checkpoint has: those that were
// trained, and then, where there is one, their average.
func (c *Checkpoint) EvaluateAll(ctx context.Context, src data.Source, split string, threads int) (reports []eval.Report, err error) {
	all := c.weights()
	slices.Reverse(all)
	for _, which := range all {
		if err := c.Use(which); err != nil {
			return nil, err
		}
		rep, err := c.Evaluate(ctx, src, split, threads)
		if err != nil {
			return nil, err
		}
		reports = append(reports, rep)
	}
	return reports, nil
}

// Evaluate measures the checkpoint on src, which is of its data's split, with the
// weights that are in its model.
func (c *Checkpoint) Evaluate(ctx context.Context, src data.Source, split string, threads int) (eval.Report, error) {
	rt := tensor.NewRuntime(max(threads, 1))
	defer rt.Close()
	rep, err := eval.Subject{Runtime: rt, Model: c.Model, Meta: c.Meta, Seed: c.Job.Seed, Keeper: c.Keeper}.Evaluate(ctx, src, split)
	rep.Step = c.Step
	if len(c.weights()) > 1 {
		rep.Weights = c.Weights
	}
	return rep, err
}
