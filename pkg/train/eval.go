package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Predicted is what a model makes of one batch of a split. All of it is valid
// only until the next batch.
type Predicted struct {
	Samples []data.Sample
	Batch   *models.Batch
	Output  []float32 // [n, A] or [n, T, V]
	Targets []int32   // [n, T], models.NoLabel where there is none; nil where the output is actions
	Sum     float64   // of the losses of what counts
	Count   int       // targets, or action values: Sum/Count is the mean loss
}

// Predict runs model over every sample of src in order, without dropout, and
// hands what it makes of each batch to visit.
func Predict(ctx context.Context, rt *tensor.Runtime, model *models.Model, meta data.Meta, loss string, src data.Source, visit func(p Predicted)) error {
	const size = 32
	n := src.Len()
	samples := make([]data.Sample, 0, size)
	collator, err := data.NewCollator(meta)
	if err != nil {
		return err
	}
	var prog *models.Program
	var batch *models.Batch
	defer func() {
		if prog != nil {
			prog.Close()
		}
	}()
	for at := 0; at < n; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := min(size, n-at)
		if batch == nil || batch.N != k {
			if prog != nil {
				prog.Close()
			}
			if prog, err = model.Program(rt, k, meta.Spec, models.ProgramOptions{Loss: loss, Forward: true}); err != nil {
				return err
			}
			batch = models.NewBatch(k, meta.Spec)
		}
		samples = samples[:0]
		for i := range k {
			s, err := src.Sample(at + i)
			if err != nil {
				return fmt.Errorf("sample %d: %w", at+i, err)
			}
			samples = append(samples, s)
		}
		if err := collator.Collate(samples, batch); err != nil {
			return err
		}
		if err := prog.Load(batch); err != nil {
			return err
		}
		prog.SetStep(0, 0, false)
		prog.Forward()
		l := prog.Losses()[0] // no exits and no teacher: the task's alone
		visit(Predicted{Samples: samples, Batch: batch, Output: prog.Output().Data, Targets: prog.Targets(), Sum: l.Sum(), Count: l.Count()})
		at += k
	}
	return nil
}

// TokenReport is the quality of a copy-task model.
type TokenReport struct {
	Samples  int     `json:"samples"`
	Targets  int     `json:"targets"`  // tokens that are to be predicted: loss and accuracy are over these
	Loss     float64 `json:"loss"`     // mean cross entropy
	Accuracy float64 `json:"accuracy"` // share predicted right
	Input    []int32 `json:"input"`    // of the first sample
	Expected []int32 `json:"expected"` // -1 where there is no target
	Output   []int32 `json:"output"`
}

// Report is an evaluation: one of its two parts is set.
type Report struct {
	Split   string       `json:"split"`
	Step    uint64       `json:"step"`
	Actions *data.Report `json:"actions,omitempty"`
	Tokens  *TokenReport `json:"tokens,omitempty"`
}

// Evaluate measures model on src, which is called split in messages. Its
// figures are means over all that counts in src, whatever the batches are that
// it is run in. A split without samples, or without a target, is an error.
func Evaluate(ctx context.Context, rt *tensor.Runtime, model *models.Model, meta data.Meta, loss string, src data.Source, split string) (Report, error) {
	if src.Len() == 0 {
		return Report{}, emptySplit(split)
	}
	if meta.Spec.Labels {
		r := &TokenReport{Samples: src.Len()}
		sum, right := 0.0, 0
		err := Predict(ctx, rt, model, meta, loss, src, func(p Predicted) {
			v := len(p.Output) / len(p.Targets)
			for i, want := range p.Targets {
				best := argmax(p.Output[i*v : (i+1)*v])
				if len(r.Input) < meta.Spec.Tokens {
					r.Input, r.Expected, r.Output = append(r.Input, p.Batch.Tokens[i]), append(r.Expected, want), append(r.Output, best)
				}
				if want != models.NoLabel && best == want {
					right++
				}
			}
			sum += p.Sum
			r.Targets += p.Count
		})
		if err != nil {
			return Report{}, fmt.Errorf("%s: %w", spoken(split), err)
		}
		if r.Targets == 0 {
			return Report{}, &NoTargetError{split, src.Len(), model.Config().PadToken}
		}
		r.Loss, r.Accuracy = sum/float64(r.Targets), float64(right)/float64(r.Targets)
		if r.Loss-r.Loss != 0 { // JSON could not hold it either
			return Report{}, fmt.Errorf("%s: the loss is %v: the weights give outputs that are not finite", spoken(split), r.Loss)
		}
		return Report{Split: split, Tokens: r}, nil
	}
	var pred, want []float32
	err := Predict(ctx, rt, model, meta, loss, src, func(p Predicted) {
		pred = append(pred, p.Output...)
		for i := range p.Samples {
			want = append(want, p.Samples[i].Action...)
		}
	})
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", spoken(split), err)
	}
	rep, err := data.Evaluate(pred, want, meta.Actions)
	return Report{Split: split, Actions: &rep}, err
}

// spoken is a split's name in messages; in options and reports it is one word.
func spoken(split string) string {
	switch split {
	case "heldout":
		return "the held-out split"
	case "train":
		return "the training split"
	case "all":
		return "the data"
	}
	return "the split " + split
}

func emptySplit(split string) error {
	return fmt.Errorf("%s has no samples: set data.holdout.fraction or data.holdout.episodes", spoken(split))
}

// NoTargetError says that there is nothing in a split by which a model could be
// trained or judged.
type NoTargetError struct {
	Split    string
	Samples  int
	PadToken int // of the model; negative: none
}

func (e *NoTargetError) Error() string {
	where := ""
	if e.PadToken >= 0 {
		where = fmt.Sprintf(", or its instruction token is the padding (model.pad_token %d)", e.PadToken)
	}
	return fmt.Sprintf("%s has no target: every label of its %d samples is %d%s; give it labels, or other episodes (data.holdout)", spoken(e.Split), e.Samples, models.NoLabel, where)
}

// CheckTargets is a *NoTargetError where src has samples of tokens and no
// target among them. It reads src up to the first target, and runs no model.
func CheckTargets(ctx context.Context, c models.Config, meta data.Meta, src data.Source, split string) error {
	n := src.Len()
	if !meta.Spec.Labels || n == 0 {
		return nil
	}
	collator, err := data.NewCollator(meta)
	if err != nil {
		return err
	}
	b := models.NewBatch(1, meta.Spec)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		s, err := src.Sample(i)
		if err != nil {
			return fmt.Errorf("%s: sample %d: %w", spoken(split), i, err)
		}
		if err := collator.Collate([]data.Sample{s}, b); err != nil {
			return fmt.Errorf("%s: sample %d: %w", spoken(split), i, err)
		}
		c.Targets(b.Labels, b.Tokens, b.Labels)
		if slices.ContainsFunc(b.Labels, func(y int32) bool { return y != models.NoLabel }) {
			return nil
		}
	}
	return &NoTargetError{split, n, c.PadToken}
}

// argmax is the index of the largest element, the first of equals.
func argmax(row []float32) int32 {
	best := 0
	for j, x := range row {
		if x > row[best] {
			best = j
		}
	}
	return int32(best)
}
