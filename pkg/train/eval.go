package train

import (
	"context"
	"fmt"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Predict runs model over every sample of src in order, without dropout, and
// hands each batch with its samples and the model's output, [n, A] or [n, T, V],
// to visit. All are valid during the call only.
func Predict(ctx context.Context, rt *tensor.Runtime, model *models.Model, meta data.Meta, loss string, src data.Source, visit func(samples []data.Sample, b *models.Batch, loss float64, out []float32)) error {
	const size = 32
	n := src.Len()
	var prog *models.Program
	var batch *models.Batch
	samples := make([]data.Sample, 0, size)
	collator, err := data.NewCollator(meta)
	if err != nil {
		return err
	}
	for at := 0; at < n; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := min(size, n-at)
		if batch == nil || batch.N != k {
			var err error
			if prog, err = model.Program(rt, k, meta.Spec, models.ProgramOptions{Loss: loss}); err != nil {
				return err
			}
			batch = models.NewBatch(k, meta.Spec)
		}
		samples = samples[:0]
		for i := range k {
			s, err := src.Sample(at + i)
			if err != nil {
				return fmt.Errorf("held-out sample %d: %w", at+i, err)
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
		l := prog.Forward()
		visit(samples, batch, l, prog.Output().Data)
		at += k
	}
	return nil
}

// TokenReport is the quality of a copy-task model.
type TokenReport struct {
	Samples  int     `json:"samples"`
	Loss     float64 `json:"loss"`
	Accuracy float64 `json:"accuracy"` // share of tokens predicted right
	Input    []int32 `json:"input"`    // of the first sample
	Expected []int32 `json:"expected"`
	Output   []int32 `json:"output"`
}

// Report is an evaluation: one of its two parts is set.
type Report struct {
	Split   string       `json:"split"`
	Step    uint64       `json:"step"`
	Actions *data.Report `json:"actions,omitempty"`
	Tokens  *TokenReport `json:"tokens,omitempty"`
}

// Evaluate measures model on src.
func Evaluate(ctx context.Context, rt *tensor.Runtime, model *models.Model, meta data.Meta, loss string, src data.Source) (Report, error) {
	if src.Len() == 0 {
		return Report{}, fmt.Errorf("the split has no samples: set data.holdout.fraction or data.holdout.episodes")
	}
	if meta.Spec.Labels {
		r := &TokenReport{Samples: src.Len()}
		right, tokens := 0, 0
		err := Predict(ctx, rt, model, meta, loss, src, func(_ []data.Sample, b *models.Batch, l float64, out []float32) {
			v := len(out) / len(b.Labels)
			for i, want := range b.Labels {
				best := argmax(out[i*v : (i+1)*v])
				if len(r.Input) < meta.Spec.Tokens {
					r.Input, r.Expected, r.Output = append(r.Input, b.Tokens[i]), append(r.Expected, want), append(r.Output, best)
				}
				if want == models.NoLabel {
					continue
				}
				if best == want {
					right++
				}
				tokens++
			}
			r.Loss += l * float64(b.N)
		})
		r.Loss /= float64(src.Len())
		r.Accuracy = float64(right) / float64(tokens)
		return Report{Tokens: r}, err
	}
	var pred, want []float32
	err := Predict(ctx, rt, model, meta, loss, src, func(samples []data.Sample, _ *models.Batch, _ float64, out []float32) {
		pred = append(pred, out...)
		for i := range samples {
			want = append(want, samples[i].Action...)
		}
	})
	if err != nil {
		return Report{}, err
	}
	rep, err := data.Evaluate(pred, want, meta.Actions)
	return Report{Actions: &rep}, err
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
