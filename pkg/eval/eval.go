package eval

import (
	"context"
	"fmt"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Report is an evaluation: one of its two parts is set.
type Report struct {
	Split   string        `json:"split"`
	Step    uint64        `json:"step"`
	Actions *ActionReport `json:"actions,omitempty"`
	Tokens  *TokenReport  `json:"tokens,omitempty"`
}

// Evaluate measures model on src, which is called split in messages. Its
// figures are means over all that counts in src, whatever the batches are that
// it is run in. A split without samples, or without a target, is an error.
func Evaluate(ctx context.Context, rt *tensor.Runtime, model *models.Model, meta data.Meta, loss string, src data.Source, split string) (Report, error) {
	if src.Len() == 0 {
		return Report{}, emptySplit(split)
	}
	r := Report{Split: split}
	var err error
	if meta.Spec.Has(models.Labels) {
		r.Tokens, err = evaluateTokens(ctx, rt, model, meta, loss, src)
	} else {
		r.Actions, err = evaluateActions(ctx, rt, model, meta, loss, src)
	}
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", spoken(split), err)
	}
	if t := r.Tokens; t != nil && t.Targets == 0 {
		return Report{}, &NoTargetError{split, src.Len(), model.Config().PadToken}
	}
	return r, nil
}

// Text is the evaluation for people.
func (r Report) Text() string {
	if r.Tokens != nil {
		return fmt.Sprintf("%s, step %d: %s", r.Split, r.Step, r.Tokens.Text())
	}
	return fmt.Sprintf("%s, step %d:\n%s", r.Split, r.Step, r.Actions.Text())
}
