package train

import (
	"context"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// ModelConfig is the job's model in the models' own terms. A vocabulary size
// that the job leaves open is the data's.
func ModelConfig(j *job.Job, meta data.Meta) models.Options {
	o := Sized(j.Model, meta)
	if d := j.Distill; d.Features > 0 && d.Model != nil {
		student, ok := o.(models.Teachable)
		if teacher, too := d.Model.Options.(models.Teachable); ok && too {
			o = student.WithHint(teacher.FeatureDim())
		}
	}
	return o
}

// Sized is a model's options with a vocabulary of the data's size where they
// leave it open.
func Sized(m job.Model, meta data.Meta) models.Options {
	return m.Options.(models.Options).Sized(meta.VocabSize, meta.Spec)
}

// Build returns the job's model, with zero weights, and its training options. A
// model that cannot fit into memory is a *TooLargeError.
func Build(j *job.Job, meta data.Meta) (*models.Model, Options, error) {
	c := ModelConfig(j, meta)
	need, err := NeedOf(j, meta)
	if err != nil {
		return nil, Options{}, err
	}
	if here, ok := machine.Memory(); ok {
		if err := need.Model(here); err != nil {
			return nil, Options{}, err
		}
	}
	if words := c.Wants().Vocab(); meta.VocabSize > words && meta.Spec.Has(models.Instruction) {
		return nil, Options{}, keyError("model.vocab_size", fmt.Errorf("model.vocab_size %d is too small: the data has tokens up to %d "+
			"(leave it out to take the data's %d)",
			words, meta.VocabSize-1, meta.VocabSize))
	}
	model, err := models.New(c, HeadOf(j))
	if err != nil {
		return nil, Options{}, misfit(err)
	}
	model.SetBF16(j.BF16())
	if err := model.Accepts(meta.Spec); err != nil {
		return nil, Options{}, keyError("data.kind", fmt.Errorf("data.kind %s: %w", j.Data.Kind, err))
	}
	o := Options{Seed: j.Seed, Spec: meta.Spec, ClipNorm: j.Optimizer.ClipNorm,
		Sets: len(meta.Sets), Global: j.Batch.Global, Micro: j.Batch.Micro, Group: j.Batch.Group,
		Fast: j.Cluster.Reduce == "fast", Sharded: j.Cluster.Optimizer == "sharded",
		Optimizer: OptimizerOf(j), WeightDecay: j.Optimizer.WeightDecay,
		BucketBytes: j.Cluster.BucketBytes, SkipBad: j.Train.NonFinite == "skip", Verify: j.Cluster.Verify > 0, Recompute: j.Model.Recompute,
		Schedule: ScheduleOf(j)}
	if err := model.CheckAdapters(meta.Spec); err != nil {
		return nil, Options{}, keyError("model.lora.match", err)
	}
	// Before anything records: a tape leaves out what frozen parameters would need.
	if err := freeze(model.Params(), j.Train.Freeze); err != nil {
		return nil, Options{}, err
	}
	if o.updates, err = planUpdates(model.Params(), j.Optimizer); err != nil {
		return nil, Options{}, keyError("optimizer.groups", err)
	}
	return model, o, nil
}

// keyError is an error of a key that only the model or the data can show. It is a
// mistake in the job file, as one that the file shows alone: whoever has the file names
// the line, and ends with the exit code of such mistakes.
func keyError(key string, err error) error { return &data.KeyError{Key: key, Err: err} }

// misfit makes such an error of a model's, which knows its keys and nothing of job files.
func misfit(err error) error {
	var of *models.MisfitError
	if errors.As(err, &of) {
		return keyError(of.Key, err)
	}
	return err
}

// HeadOf is the job's loss.
func HeadOf(j *job.Job) models.Head { return j.Loss.Options.(models.Head) }

// ScheduleOf is the job's learning rate by step.
func ScheduleOf(j *job.Job) LRSchedule {
	s := LRSchedule{Kind: j.Schedule.Kind, LR: j.Optimizer.LR, Warmup: uint64(j.Schedule.WarmupSteps), Steps: uint64(j.Train.Steps)}
	if j.Schedule.MinLR != nil {
		s.MinLR = *j.Schedule.MinLR
	}
	return s
}

// JobHash names what a job computes on its data: workers of another one, or that
// have read other data, are not taken over. Settings that change no bit are not in
// it (see job.Computation): a coordinator may come back with other ones.
func JobHash(j *job.Job, meta data.Meta) string {
	text := append(j.Computation().YAML(), "# data: "+meta.Fingerprint+"\n"...)
	if t := meta.Tokenizer; t != nil { // what a fingerprint says nothing of
		text = append(text, "# tokenizer: "+t.SHA256+"\n"...)
	}
	return cluster.JobHash(text)
}

// Order is the job's data order.
func Order(j *job.Job, meta data.Meta) data.Order {
	return meta.Order(j.Seed, j.Batch.Global, j.Batch.Micro, j.Data.Shuffle)
}

// OpenData opens the job's data set; meta is nil where it is to be measured.
func OpenData(j *job.Job, baseDir string, meta *data.Meta) (data.Dataset, error) {
	return OpenDataContext(context.Background(), j, baseDir, meta, data.Watch{})
}

// OpenDataContext is OpenData that ends when ctx does, and is watched.
func OpenDataContext(ctx context.Context, j *job.Job, baseDir string, meta *data.Meta, watch data.Watch) (data.Dataset, error) {
	return data.OpenContext(ctx, j.Data, data.WantsOf(j.Model.Options), j.Seed, baseDir, meta, watch)
}
