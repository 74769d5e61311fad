package eval

import (
	"context"
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// scorer says what of an output is compared with a target, and how far off it
// is. Every measure of this package asks it or the loss, and both have one
// definition of a target: a token counts unless models.Targets takes it
// out (it has no label, or it is padding), a value of an action counts where
// training gave its dimension a scale.
type scorer struct {
	words   int    // of the vocabulary; 0: the output is actions
	learned []bool // of each dimension of an action
}

func newScorer(model *models.Model, meta data.Meta) scorer {
	if o := model.Options(); o.Answers() == models.Tokens {
		return scorer{words: o.Wants().Vocab()}
	}
	return scorer{learned: meta.Actions.Learned()}
}

// errors is the sum of an output's errors and the count of what it is the sum
// over: the targets that are named wrong, for out [n, V] and targets [n]; squared
// differences of normalised values, for out [n, A] and as many actions.
func (s scorer) errors(out []float32, truth models.Truth) (sum float64, count int) {
	truth.Learned = s.learned
	if s.words == 0 {
		for i, x := range out {
			if !truth.Counts(i) {
				continue
			}
			d := float64(x) - float64(truth.Actions[i])
			sum += float64(d * d)
			count++
		}
		return sum, count
	}
	for i, want := range truth.Labels {
		if want == models.NoLabel {
			continue
		}
		count++
		if models.Likeliest(out[i*s.words:(i+1)*s.words]) != want {
			sum++
		}
	}
	return sum, count
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
	return fmt.Sprintf("%s has no target: every label of its %d samples is %d%s; give it labels, or other episodes (data.holdout)",
		spoken(e.Split), e.Samples, models.NoLabel, where)
}

// CheckTargets is a *NoTargetError where src has samples of tokens and no
// target among them. It reads src up to the first target, and runs no model.
func CheckTargets(ctx context.Context, c models.Options, meta data.Meta, src data.Source, split string) error {
	n := src.Len()
	if !meta.Spec.Has(models.Labels) || n == 0 {
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
		labels := b.Ints(models.Labels)
		models.Targets(labels, b.Ints(models.Instruction), labels, c.Padding())
		if slices.ContainsFunc(labels, func(y int32) bool { return y != models.NoLabel }) {
			return nil
		}
	}
	return &NoTargetError{split, n, c.Padding()}
}
