package train_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// The extensibility of docs/design.md, measured by doing it: ownmodel_test.go,
// ownhead_test.go and ownoptimizer_test.go each hold a kind of their own, from the
// keys of its section to its arithmetic, and train a job that names it. Nothing
// outside those files knows of them; this one is what they share as tests.

// own is a small job after its training.
type own struct {
	job     *job.Job
	meta    data.Meta
	trainer *train.Trainer
	model   *models.Model
	losses  []float64 // by step
	report  eval.Report
}

// trainOwn trains the job in text, of which kinds tells what it may name, as the
// only member of a ring, stores it, and measures it.
func trainOwn(t *testing.T, kinds job.Kinds, text string, set ...string) *own {
	t.Helper()
	j, err := kinds.Parse("own.yaml", []byte(text), set)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := kinds.Parse("resolved.yaml", j.YAML(), nil); err != nil || !bytes.Equal(back.YAML(), j.YAML()) {
		t.Fatalf("the resolved job\n%s\nis read as %v", j.YAML(), err)
	}
	set1, err := train.OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set1.Close() })
	o := &own{job: j, meta: set1.Meta()}
	rt := tensor.NewRuntime(1)
	t.Cleanup(rt.Close)
	o.trainer, o.model = newOwn(t, rt, j, o.meta)
	feed, err := data.NewLocalFeed(set1.Train(), train.Order(j, o.meta))
	if err != nil {
		t.Fatal(err)
	}
	micros := j.Batch.Global / j.Batch.Micro
	in, err := data.NewPrefetcher(feed, o.meta, j.Batch.Micro, 2, data.Range{End: uint64(j.Train.Steps), Hi: micros})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	ring := allreduce.NewSolo(tensor.Fold)
	defer ring.Close()
	for range j.Train.Steps {
		res, err := o.trainer.Step(t.Context(), ring, 0, micros, in, func() allreduce.Flags { return 0 })
		if err != nil || res.Refused != "" {
			t.Fatal(err, res.Refused)
		}
		o.losses = append(o.losses, res.Loss)
	}
	if first, last := o.losses[0], o.losses[len(o.losses)-1]; !(last < first/2) { // of 16 samples, by heart
		t.Errorf("the loss goes from %v to %v: it learns nothing", first, last)
	}
	o.restored(t, rt)
	if o.report, err = (eval.Subject{Runtime: rt, Model: o.model, Meta: o.meta, Seed: j.Seed}).Evaluate(t.Context(), set1.Train(), "train"); err != nil {
		t.Fatal(err)
	}
	return o
}

func newOwn(t *testing.T, rt *tensor.Runtime, j *job.Job, meta data.Meta) (*train.Trainer, *models.Model) {
	t.Helper()
	model, opt, err := train.Build(j, meta)
	if err != nil {
		t.Fatal(err)
	}
	model.Init(j.Seed)
	trainer, err := train.NewTrainer(rt, model, opt, func(uint64, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return trainer, model
}

// restored takes the state through the files of a checkpoint to another trainer.
func (o *own) restored(t *testing.T, rt *tensor.Runtime) {
	t.Helper()
	model, optimizer := o.files(t)
	other, _ := newOwn(t, rt, o.job, o.meta)
	if err := other.Restore(o.trainer.CommittedStep(), model, optimizer, o.trainer.Digest()); err != nil {
		t.Fatal(err)
	}
	layout := train.LayoutOf(o.model.Params(), train.OptimizerOf(o.job).Slots(), false)
	if got, err := layout.Digest(o.trainer.CommittedStep(), model, optimizer); err != nil || got != other.Digest() {
		t.Errorf("the files' digest is %s (%v), the state's %s", got, err, other.Digest())
	}
}

// files are those of the checkpoint that the state makes.
func (o *own) files(t *testing.T) (model, optimizer *safetensors.File) {
	t.Helper()
	parts, err := o.trainer.Part(0, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*safetensors.File{}
	for _, p := range parts {
		if files[p.File], err = safetensors.Read(bytes.NewReader(p.Data), p.Total, p.File); err != nil {
			t.Fatal(err)
		}
	}
	return files[train.ModelFile], files[train.OptimizerFile]
}

const ownJob = `
name: own
seed: 3
model: {kind: vit, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 1, dropout: 0}
data: {kind: tabletop, episodes: 5}
batch: {global: 8, micro: 4}
optimizer: {lr: 0.01, weight_decay: 0, clip_norm: 0}
train: {steps: 150}
`

// refused is the message about a job that is not to be.
func refused(t *testing.T, kinds job.Kinds, text string, set ...string) string {
	t.Helper()
	_, err := kinds.Parse("own.yaml", []byte(text), set)
	if err == nil {
		t.Fatal("accepted")
	}
	return err.Error()
}

func names(f *safetensors.File) string { return fmt.Sprint(strings.Join(f.Names(), " ")) }
