package board

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/attention"
	"github.com/vlaring/vlaring/internal/tensorboard"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/trained"
)

// tensorBoardDir is the folder of a run directory that has its event files.
const tensorBoardDir = "tensorboard"

// Tags that every step and every measurement has.
const (
	tagEveryStep = "speed/samples_per_s"
	tagMeasured  = "heldout/loss"
	tagJob       = "job"
)

// maxHistograms bounds the tensors whose weights are drawn, the largest first: a page
// of hundreds is looked at by nobody.
const maxHistograms = 64

type board struct {
	mu  sync.Mutex // Look runs beside the rest
	log *tensorboard.Log
}

// newTensorBoard writes event files into the run directory: a number of each step and
// measurement, the job's text, and of measured checkpoints the weights' distributions
// and where the model looks on the first held-out sample.
func newTensorBoard() run.Sink { return &board{} }

var _ run.Looker = (*board)(nil)

func (b *board) String() string { return "--tensorboard" }

func (b *board) Open(_ context.Context, about run.About) (has run.Has, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.log, err = tensorboard.Open(filepath.Join(about.Dir, tensorBoardDir), about.Step, time.Now()); err != nil {
		return has, err
	}
	has.Step, _ = b.log.Newest(tagEveryStep)
	has.Measured, _ = b.log.Newest(tagMeasured)
	// It is a text of the next step: who goes on from here, again, writes it anew.
	b.log.Add(time.Now(), about.Step+1, tensorboard.Text(tagJob, jobText(about)))
	if err := b.log.Flush(); err != nil {
		b.log.Close()
		return has, err
	}
	return has, nil
}

// jobText is the job in Markdown.
func jobText(a run.About) string {
	text := fmt.Sprintf("**%s**, %d parameters, vlaring %s\n\n", a.Job.Name, a.Parameters, a.Version)
	for line := range bytes.Lines(a.Job.YAML()) {
		text += "    " + string(line)
	}
	return text
}

func (b *board) Put(_ context.Context, r run.Records) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range r.Steps {
		b.log.Add(at(m.At), m.Step, scalars(stepNumbers(m))...)
		if m.Refused != "" {
			b.log.Add(at(m.At), m.Step, tensorboard.Text("train/refused", m.Refused))
		}
	}
	for _, m := range r.Measured {
		b.log.Add(at(m.At), m.Step, scalars(measuredNumbers(m))...)
	}
	return b.log.Flush()
}

// at is now for what is of a release that did not say when.
func at(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

func scalars(l []number) (out []tensorboard.Value) {
	for _, n := range l {
		out = append(out, tensorboard.Scalar(n.name, n.value))
	}
	return out
}

func (b *board) Close(context.Context, bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Close()
}

// Look adds the pictures of a checkpoint.
func (b *board) Look(c *trained.Checkpoint, heldout data.Source) error {
	values := histograms(c.Model.Params())
	picture, err := overview(c, heldout) // there may be none: the distributions are there all the same
	if picture != nil {
		values = append(values, *picture)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, ok := b.log.Newest(tagWeights + c.Model.Params().List()[0].Name); ok && n >= c.Step { // measured again after a crash
		return nil
	}
	b.log.Add(time.Now(), c.Step, values...)
	if ferr := b.log.Flush(); ferr != nil {
		return ferr
	}
	return err
}

const tagWeights = "weights/"

// histograms are the distributions of the weights, of the largest tensors.
func histograms(ps *tensor.Params) (out []tensorboard.Value) {
	list := slices.Clone(ps.List())
	slices.SortStableFunc(list, func(a, b *tensor.Param) int { return b.Size() - a.Size() })
	if first := ps.List()[0]; len(list) > maxHistograms && !slices.Contains(list[:maxHistograms], first) { // by which Look knows that it has been here
		list[maxHistograms-1] = first
	}
	for _, p := range list[:min(len(list), maxHistograms)] {
		out = append(out, tensorboard.Histogram(tagWeights+p.Name, ps.Values()[p.Offset:p.Offset+p.Size()]))
	}
	return out
}

// overview is where the model looks on the first held-out sample; nil, and no error, for
// a model without attention.
func overview(c *trained.Checkpoint, heldout data.Source) (*tensorboard.Value, error) {
	if heldout.Len() == 0 {
		return nil, nil
	}
	batch, err := c.SampleOf(heldout, 0)
	if err != nil {
		return nil, err
	}
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	rep, err := attention.Look(rt, attention.Subject{Checkpoint: c.Dir, Step: c.Step, Model: c.Model, Meta: c.Meta}, batch, batch.Spec)
	if errors.Is(err, attention.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := rep.Overview()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return nil, err
	}
	v := tensorboard.Image("attention/heldout_0", m.Bounds().Dx(), m.Bounds().Dy(), b.Bytes())
	return &v, nil
}

// number is a figure under the name that it has wherever it is shown.
type number struct {
	name  string
	value float64
}

// stepNumbers are the figures of a step.
func stepNumbers(m run.Metrics) (out []number) {
	if m.Refused == "" { // else there is no loss
		out = append(out, number{"train/loss", m.Loss}, number{"train/grad_norm", m.GradNorm})
		for _, name := range slices.Sorted(maps.Keys(m.Sets)) {
			if s := m.Sets[name]; s.Targets > 0 {
				out = append(out, number{"train/sets/" + name + "/loss", s.Loss})
			}
		}
	}
	t := m.Time
	return append(out, number{"train/learning_rate", m.LR}, number{tagEveryStep, m.SamplesSec}, number{"speed/workers", float64(m.World)},
		number{"time/data", t.Data}, number{"time/forward", t.Forward}, number{"time/backward", t.Backward},
		number{"time/ring_exposed", t.Ring}, number{"time/optimizer", t.Optimizer}, number{"time/hash", t.Hash}, number{"time/step", t.Step})
}

// measuredNumbers are the figures of a measurement.
func measuredNumbers(m run.Measured) (out []number) {
	out = append(out, number{tagMeasured, m.Loss})
	for _, x := range m.Metrics {
		out = append(out, number{"heldout/" + x.Name, x.Value})
	}
	for _, d := range m.DoF {
		name := "heldout/dimensions/" + d.Name
		if d.Unit != "" {
			name += " [" + d.Unit + "]"
		}
		out = append(out, number{name, d.MAE})
	}
	for _, set := range slices.Sorted(maps.Keys(m.Sets)) {
		for _, name := range slices.Sorted(maps.Keys(m.Sets[set])) {
			if name != "samples" {
				out = append(out, number{"heldout/sets/" + set + "/" + name, m.Sets[set][name]})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Best)) {
		out = append(out, number{"best/" + name, m.Best[name]})
	}
	return out
}
