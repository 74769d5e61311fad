package eval

import (
	"context"
	"fmt"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// predicted is what a model makes of one batch of a split. All of it is valid
// only until the next batch.
type predicted struct {
	samples []data.Sample
	batch   *models.Batch
	output  []float32 // [n, A] or [n, L, A], or [n, T, V]
	targets []int32   // [n, T], models.NoLabel where there is none; nil where the output is actions
	loss    float64   // the sum over what counts
	count   int       // targets, or action values: loss/count is the mean loss
}

// predict runs the model over every sample of src in order, without dropout, and
// hands what it makes of each batch to visit, whose error ends it.
func (s Subject) predict(ctx context.Context, src data.Source, visit func(p predicted) error) error {
	const size = 32
	n := src.Len()
	samples := make([]data.Sample, 0, size)
	collator, err := data.NewCollator(s.Meta)
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
			if prog, err = s.Model.Program(s.Runtime, k, s.Meta.Spec, models.ProgramOptions{Forward: true, Keeper: s.Keeper}); err != nil {
				return err
			}
			batch = models.NewBatch(k, s.Meta.Spec)
		}
		samples = samples[:0]
		for i := range k {
			x, err := src.Sample(at + i)
			if err != nil {
				return fmt.Errorf("sample %d: %w", at+i, err)
			}
			samples = append(samples, x)
		}
		if err := collator.Collate(samples, batch); err != nil {
			return err
		}
		if err := prog.Load(batch); err != nil {
			return err
		}
		prog.SetStep(s.Seed, 0, false)
		prog.Forward()
		l := prog.Losses()[0] // no exits and no teacher: the task's alone
		p := predicted{samples: samples, batch: batch, output: prog.Output().Data, targets: prog.Targets(), loss: l.Sum(), count: l.Count()}
		if err := visit(p); err != nil {
			return err
		}
		at += k
	}
	return nil
}
