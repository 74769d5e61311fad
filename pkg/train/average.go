package train

import (
	"cmp"
	"slices"

	"github.com/vlaring/vlaring/internal/portable"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// averageSlot is the slot of the averaged weights (optimizer.ema).
const averageSlot = "ema"

// Averaged is the averaged weights in a checkpoint's file of the optimizer, by the
// names of the parameters; without a tensor where there is no average.
func Averaged(optimizer *safetensors.File) *safetensors.File {
	return optimizer.Under(slotName(averageSlot, ""))
}

// averaging is an optimizer that keeps, as one more slot, an exponential moving
// average of the weights that it makes. Where nothing is updated, at frozen
// parameters and in steps that are passed over, weights and average both stay.
type averaging struct {
	Optimizer
	ema   job.EMA
	slots []Slot // the optimizer's, and
	at    int    // the average's place among them
}

func averagingOf(o Optimizer, e job.EMA) averaging {
	a := averaging{o, e, append(slices.Clone(o.Slots()), Slot{Name: averageSlot, Weights: true}), 0}
	slices.SortStableFunc(a.slots, func(x, y Slot) int { return cmp.Compare(slotName(x.Name, ""), slotName(y.Name, "")) })
	a.at = slices.IndexFunc(a.slots, func(s Slot) bool { return s.Name == averageSlot })
	return a
}

// Slots is Optimizer's.
func (a averaging) Slots() []Slot { return a.slots }

// Step is Optimizer's.
func (a averaging) Step(rt *tensor.Runtime, u Update) {
	average := u.Slots[a.at]
	u.Slots = slices.Delete(u.Slots, a.at, a.at+1)
	a.Optimizer.Step(rt, u)
	rt.Average(average, u.Weights, decayOf(a.ema, u.Step-1))
}

// decayOf is the decay of the average in the step after t steps:
// min(max, 1 - (1+t)^-power). So the weights of the first step take the place of
// the first weights, and what is remembered grows with what there is.
func decayOf(e job.EMA, t uint64) float64 {
	if e.Decay != nil {
		return *e.Decay
	}
	return min(e.Max, 1-portable.Pow(1+float64(t), -e.Power))
}
