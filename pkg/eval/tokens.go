package eval

import (
	"context"
	"fmt"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// TokenReport is how well a model names the tokens of a split.
type TokenReport struct {
	Samples  int     `json:"samples"`
	Targets  int     `json:"targets"`  // tokens that are to be predicted: loss and accuracy are over these
	Loss     float64 `json:"loss"`     // the head's, such as the mean cross entropy
	Accuracy float64 `json:"accuracy"` // share predicted right
	Input    []int32 `json:"input"`    // of the first sample
	Expected []int32 `json:"expected"` // -1 where there is no target
	Output   []int32 `json:"output"`
}

func (s Subject) tokens(ctx context.Context, f *figures, src data.Source) (*TokenReport, error) {
	r := &TokenReport{Samples: src.Len()}
	score := newScorer(s.Model, s.Meta)
	var right mean
	err := s.predict(ctx, src, func(p predicted) error {
		f.add(p)
		if r.Input == nil {
			for i, want := range p.targets[:s.Meta.Spec.Len(models.Labels, 0)] {
				r.Input, r.Expected = append(r.Input, p.batch.Ints(models.Instruction)[i]), append(r.Expected, want)
				r.Output = append(r.Output, models.Likeliest(p.output[i*score.words:(i+1)*score.words]))
			}
		}
		wrong, count := score.errors(p.output, models.Truth{Labels: p.targets})
		right.add(float64(count)-wrong, count)
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.Targets, r.Loss, r.Accuracy = right.count, f.means[0].of(), right.of()
	if r.Loss-r.Loss != 0 { // JSON could not hold it either
		return nil, fmt.Errorf("the loss is %v: the weights give outputs that are not finite", r.Loss)
	}
	return r, nil
}

// Text is the report for people.
func (t TokenReport) Text() string {
	return fmt.Sprintf("%d sequences with %d targets, token accuracy %.2f %%, loss %.4f\n  input     %v\n  expected  %v\n  predicted %v\n",
		t.Samples, t.Targets, 100*t.Accuracy, t.Loss, t.Input, t.Expected, t.Output)
}
