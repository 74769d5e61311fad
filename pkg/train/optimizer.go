package train

import (
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/weights"
)

// setting is what the optimizer does with one parameter.
type setting struct {
	frozen bool
	rate   float64 // times the schedule's learning rate
	decay  float64
}

// update is a contiguous run of the slab, gaps included, with one setting. Runs
// are as long as they can be: the kernels take one in a single pass by all threads.
type update struct {
	lo, hi int
	setting
}

// freeze marks the parameters that train.freeze names, which must be done
// before a tape records. They take no update: neither gradient, nor weight
// decay, nor moments; their gradient is not sent and not part of the norm. Its errors
// are of the key, whoever asks first: Build, or what counts the memory before it.
func freeze(ps *tensor.Params, patterns []string) error {
	adapters := ps.Adapters()
	for i, pattern := range patterns {
		list, err := weights.Matching(ps, fmt.Sprintf("train.freeze[%d]", i), pattern)
		if err != nil {
			return keyError("train.freeze", err)
		}
		for _, p := range list {
			p.Frozen = p.Frozen || !adapters[p] // adapters are there to be trained
		}
	}
	// A job that trains nothing is a mistake of a pattern, and not a wish.
	for _, p := range ps.List() {
		if !p.Frozen {
			return nil
		}
	}
	return keyError("train.freeze", errors.New("train.freeze: every parameter is frozen; leave one to train"))
}

// planUpdates cuts the slab by frozen parameters and optimizer.groups. A
// parameter belongs to the first group that matches it.
func planUpdates(ps *tensor.Params, o job.Optimizer) ([]update, error) {
	of := map[*tensor.Param]setting{}
	for _, p := range ps.List() {
		of[p] = setting{frozen: p.Frozen, rate: 1, decay: o.WeightDecay}
	}
	taken := map[*tensor.Param]bool{}
	for i, g := range o.Groups {
		list, err := weights.Matching(ps, fmt.Sprintf("optimizer.groups[%d].match", i), g.Match)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			if taken[p] {
				continue
			}
			taken[p] = true
			s := of[p]
			// A group's rate follows the schedule as the job's does: it is kept as a
			// multiple of it.
			if g.LR != nil {
				s.rate = *g.LR / o.LR
			}
			if g.WeightDecay != nil {
				s.decay = *g.WeightDecay
			}
			of[p] = s
		}
	}
	var plan []update
	list := ps.List()
	lo := 0
	for i := len(list) - 1; i >= 0; i-- { // in order of the slab
		hi := ps.Len()
		if i > 0 {
			hi = list[i-1].Offset
		}
		if n := len(plan); n > 0 && plan[n-1].setting == of[list[i]] {
			plan[n-1].hi = hi
		} else {
			plan = append(plan, update{lo, hi, of[list[i]]})
		}
		lo = hi
	}
	return plan, nil
}

// optimize does the optimizer's step after t.step on a range of the slab, as far
// as it is trained: w, g and slots are weights, gradient and the optimizer's slots
// of it. rate is the schedule's. It says whether anything of the range is trained.
func (t *Trainer) optimize(r allreduce.Range, w, g []float32, slots [][]float32, rate float64, scale float32) (wrote bool) {
	plan := t.opt.updates
	if plan == nil {
		plan = []update{{0, t.params.Len(), setting{rate: 1, decay: t.opt.WeightDecay}}}
	}
	for _, u := range plan {
		lo, hi := max(u.lo, r.Lo)-r.Lo, min(u.hi, r.Hi)-r.Lo
		if u.frozen || lo >= hi {
			continue
		}
		t.runs = t.runs[:0]
		for _, s := range slots {
			t.runs = append(t.runs, s[lo:hi])
		}
		t.opt.Optimizer.Step(t.rt, Update{Weights: w[lo:hi], Grad: g[lo:hi], Slots: t.runs, Step: t.step + 1, Scale: scale,
			LR: float64(rate * u.rate), WeightDecay: u.decay})
		wrote = true
	}
	return wrote
}

// cutSlots is a range of each slot, in memory that the next call takes again.
func (t *Trainer) cutSlots(r allreduce.Range) [][]float32 {
	t.cuts = t.cuts[:0]
	for _, s := range t.slots {
		t.cuts = append(t.cuts, s[r.Lo:r.Hi])
	}
	return t.cuts
}
