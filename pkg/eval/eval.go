package eval

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Report is an evaluation. Actions or Tokens is set, by what the model answers.
type Report struct {
	Split   string        `json:"split"`
	Step    uint64        `json:"step"`
	Weights string        `json:"weights,omitempty"` // raw or ema, of a checkpoint that has both
	Actions *ActionReport `json:"actions,omitempty"`
	Tokens  *TokenReport  `json:"tokens,omitempty"`
	Sets    []SetReport   `json:"sets,omitempty"` // of a mixture, in place of both

	Samples int       `json:"-"`
	Loss    float64   `json:"-"` // as the head has it
	Metrics []Measure `json:"-"` // the head's, in its order

	Others map[string]float64 `json:"metrics,omitempty"` // those of Metrics that the part above does not have
}

// Measure is a metric with its value.
type Measure struct {
	job.Metric
	Value float64
}

// Subject is a model that is measured, with what it needs for that.
type Subject struct {
	Runtime *tensor.Runtime
	Model   *models.Model
	Meta    data.Meta // of the data that it was trained on: its vocabulary and statistics
	Seed    uint64    // of what the model draws, where it does

	Keeper models.Keeper // of what frozen encoders make; nil: nothing is kept
}

// Evaluate measures the model on src, which is called split in messages. Its
// figures are means over all that counts in src, whatever the batches are that it
// is run in. A split without samples, or without a target, is an error.
func (s Subject) Evaluate(ctx context.Context, src data.Source, split string) (Report, error) {
	if src.Len() == 0 {
		return Report{}, emptySplit(split)
	}
	model := s.Model.Options()
	head := s.Model.Head()
	if head == nil {
		return Report{}, fmt.Errorf("no loss judges what a model of kind %s answers", model.Name())
	}
	if s.Meta.Sets != nil {
		return s.sets(ctx, src, split)
	}
	return s.evaluate(ctx, src, split, nil)
}

// evaluate measures the model on one data set; total, where it is not nil, gets all
// that its figures get.
func (s Subject) evaluate(ctx context.Context, src data.Source, split string, total *figures) (Report, error) {
	model := s.Model.Options()
	r := Report{Split: split, Samples: src.Len()}
	figures := newFigures(s.Model.Head(), s.Meta)
	figures.total = total
	var err error
	if model.Answers() == models.Tokens {
		r.Tokens, err = s.tokens(ctx, figures, src)
	} else {
		r.Actions, err = s.actions(ctx, figures, src)
	}
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", spoken(split), err)
	}
	if t := r.Tokens; t != nil && t.Targets == 0 {
		return Report{}, &NoTargetError{split, src.Len(), model.Padding()}
	}
	if r.Loss, r.Metrics, err = figures.of(); err != nil {
		return Report{}, fmt.Errorf("%s: %w", spoken(split), err)
	}
	for _, m := range r.others() {
		if r.Others == nil {
			r.Others = map[string]float64{}
		}
		r.Others[m.Name] = m.Value
	}
	return r, nil
}

// others are the metrics that the part of the report for its answers lacks.
func (r Report) others() []Measure {
	shown := "l1"
	if r.Tokens != nil {
		shown = "accuracy"
	}
	return slices.DeleteFunc(slices.Clone(r.Metrics), func(m Measure) bool { return m.Name == shown })
}

// figures are a head's loss and metrics in the making.
type figures struct {
	head    models.Head
	learned []bool
	means   []mean // the loss, then the metrics
	total   *figures
}

func newFigures(head models.Head, meta data.Meta) *figures {
	f := &figures{head: head, means: make([]mean, 1+len(head.Metrics()))}
	if meta.Actions != nil {
		f.learned = meta.Actions.Learned()
	}
	return f
}

// add scores a batch.
func (f *figures) add(p predicted) {
	truth := models.Truth{Actions: p.batch.Floats(models.Actions), Valid: p.batch.Floats(models.Valid), Learned: f.learned,
		Labels: p.targets, Loss: p.loss, Count: p.count}
	f.head.Score(p.output, truth, func(figure int, value float64, count int) {
		f.means[figure].add(value, count)
		if f.total != nil {
			f.total.means[figure].add(value, count)
		}
	})
}

// of is the means, which must be finite: JSON could not hold others.
func (f *figures) of() (loss float64, metrics []Measure, err error) {
	for i, m := range append([]job.Metric{{Name: "loss"}}, f.head.Metrics()...) {
		v := f.means[i].of()
		if v-v != 0 {
			return 0, nil, fmt.Errorf("the %s is %v: the weights give outputs that are not finite", m.Name, v)
		}
		if i == 0 {
			loss = v
		} else {
			metrics = append(metrics, Measure{m, v})
		}
	}
	return loss, metrics, nil
}

// Text is the evaluation for people.
func (r Report) Text() string {
	if r.Sets != nil {
		return r.head() + "\n" + r.setsText()
	}
	if r.Tokens != nil {
		return r.head() + " " + r.Tokens.Text() + r.rest()
	}
	return r.head() + "\n" + r.Actions.Text() + r.rest()
}

// head says what was measured.
func (r Report) head() string {
	s := fmt.Sprintf("%s, step %d", r.Split, r.Step)
	switch r.Weights {
	case job.Average:
		s += ", averaged weights (ema)"
	case job.Raw:
		s += ", weights as trained (raw)"
	}
	return s + ":"
}

// rest is a line with the metrics that the table does not have.
func (r Report) rest() string {
	var words []string
	for _, m := range r.others() {
		words = append(words, m.Text(m.Value))
	}
	if words == nil {
		return ""
	}
	return strings.Join(words, ", ") + "\n"
}
