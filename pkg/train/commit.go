package train

import (
	"context"
	"fmt"
	"math"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/models"
)

// Result is what a committed step says of itself. All but Times and Computed
// are the same on every rank.
type Result struct {
	Loss     float64           // the mean over the global batch, before the update
	Sets     []cluster.SetLoss // of a mixture of data, what each set has of the task's loss; nil: it is none, or has several losses in one
	Targets  int               // in the global batch; action values where the model predicts those
	GradNorm float64           // before clipping
	LR       float64
	Refused  string // why no update was made; empty: it was
	Computed int    // groups of micro-batches that were computed here
	Times    cluster.Times
	Flags    allreduce.Flags
}

// NonFiniteError refuses a step whose loss or gradient is not a number. Every
// rank finds it at the same step, in the same sum.
type NonFiniteError struct {
	Step    uint64 // that would have been committed, from 1
	Micro   int    // -1: seen in the gradient alone
	Samples []int  // of the micro-batch
	Whole   bool   // Samples are numbers in the whole data set, as data.skip takes them; else in the training split
	Tensor  string // first one with a value that is not finite
}

func (e *NonFiniteError) Error() string {
	return e.words() + "; train.non_finite: skip passes over such steps"
}

// words are Error without what the job may say already.
func (e *NonFiniteError) words() string {
	if e.Micro < 0 {
		return fmt.Sprintf("step %d: the gradient of %s is not finite: lower optimizer.lr, or set optimizer.clip_norm", e.Step, e.Tensor)
	}
	const most = 16
	list := fmt.Sprint(e.Samples[:min(len(e.Samples), most)])
	if n := len(e.Samples) - most; n > 0 {
		list += fmt.Sprintf(" and %d more", n)
	}
	kind := "training samples"
	if e.Whole {
		kind = "samples"
	}
	return fmt.Sprintf("step %d: the loss of micro-batch %d (%s %s) is not finite: lower optimizer.lr or look at these samples",
		e.Step, e.Micro, kind, list)
}

// settle makes the mean over the global batch of a reduced step: it divides
// each gradient once by its count, in units of a micro-batch in which
// everything counts, and adds them up. void is whether a loss has no count to
// be divided by; bad is the first micro-batch whose loss is not finite, or -1.
// mean is memory for the result: sum itself, or other memory where others read
// sum.
func (t *Trainer) settle(res *Result, sum, mean []float32) (g []float32, void bool, bad int) {
	n := t.params.Len()
	tail := sum[t.gradients():]
	bad = t.micros()
	for k, l := range t.prog.Losses() {
		loss, count := 0.0, 0.0
		for m := range t.micros() {
			at := tail[t.place(m, k):]
			x := join(at[0], at[1])
			if x-x != 0 {
				bad = min(bad, m)
			}
			loss, count = loss+x, count+float64(at[2])
		}
		if k == 0 {
			res.Targets = int(count)
		}
		part := mean[k*n : (k+1)*n]
		if k == 0 {
			g = part
		}
		if count == 0 { // a quotient of zeros would stay where nothing is reduced, at frozen parameters
			void = true
			continue
		}
		by := count / float64(l.Nominal())
		res.Loss += loss / by
		t.rt.Div(part, sum[k*n:(k+1)*n], float32(by))
		if k > 0 {
			t.rt.Fold(g, part)
		}
	}
	if bad == t.micros() {
		bad = -1
	}
	if t.opt.Sets > 0 && t.prog.Losses()[0].Shared() {
		res.Sets = t.settleSets(tail)
	}
	return g, void, bad
}

// settleSets is the mean loss of each set of a mixture over the global batch, of a
// reduced step's tail.
func (t *Trainer) settleSets(tail []float32) []cluster.SetLoss {
	out := make([]cluster.SetLoss, t.opt.Sets)
	for set := range out {
		loss, count := 0.0, 0.0
		for m := range t.micros() {
			at := tail[t.placeOfSet(m, set):]
			loss, count = loss+join(at[0], at[1]), count+float64(at[2])
		}
		if out[set].Targets = int(count); count > 0 {
			out[set].Loss = loss * float64(t.prog.Losses()[0].Nominal()) / count
		}
	}
	return out
}

// commit applies the reduced step, or refuses it.
func (t *Trainer) commit(ctx context.Context, ring allreduce.Reducer, res *Result, op allreduce.Reduction) error {
	sum, own := op.Sum()
	mean := sum
	if !own { // other ranks of this host read the sum: the division needs memory of this rank's
		var err error
		if mean, err = t.slabs.any(); err != nil {
			return err
		}
	}
	if t.total == nil || &mean[0] != &t.total[0] { // it is a slab that was kept
		t.slabs.torn = true
	}
	// From here on everything is a function of the sum, and the sum is the same on
	// every rank: all refuse the step, or pass over it, or take it.
	g, void, bad := t.settle(res, sum, mean)
	res.GradNorm = t.rt.GradNorm(t.params, g)
	rate := t.opt.Schedule.At(t.step)
	res.LR = rate
	res.Computed = t.computed
	if void {
		t.pass(res, t.noTarget())
		return nil
	}
	if bad >= 0 || math.IsNaN(res.GradNorm) || math.IsInf(res.GradNorm, 0) {
		e := &NonFiniteError{Step: t.step + 1, Micro: bad, Tensor: t.rt.FirstNonFinite(t.params, g)}
		if bad >= 0 && t.opt.Samples != nil {
			e.Samples, e.Whole = t.opt.Samples(t.step, bad)
		}
		if !t.opt.SkipBad {
			return e
		}
		t.pass(res, e.words())
		return nil
	}
	if err := t.disputed(sum); err != nil {
		return err
	}
	scale := float32(1)
	if c := t.opt.ClipNorm; c > 0 { // as torch.nn.utils.clip_grad_norm_
		scale = float32(min(c/(res.GradNorm+1e-6), 1))
	}
	if t.shards != nil && t.shards.world >= leastSharded {
		t.update(g, rate, scale)
		t.phase(t.step, "gather")
		return t.gather(ctx, ring, res, mean)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.void = true // should it panic
	for _, r := range t.whole {
		t.updateWhole(r, g, rate, scale)
	}
	t.void = false
	t.forget()
	t.step++
	if t.shards != nil { // it updates all there is, and so do the others
		t.shards.restored(t.step)
	}
	return nil
}

// pass passes over a step: it counts as committed and changes no weight. It has to
// count: the data order goes by the step, and the same samples would come again.
func (t *Trainer) pass(res *Result, why string) {
	res.Refused, res.Loss, res.GradNorm, res.Targets, res.Sets = why, 0, 0, 0, nil // JSON has no NaN
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	t.step++
	if t.shards != nil {
		t.shards.passed(t.step, t.slots)
	}
}

// noTarget says why there is nothing to learn from a step.
func (t *Trainer) noTarget() string {
	return fmt.Sprintf("step %d: none of its %d samples has a target: each label is %d or stands at padding",
		t.step+1, t.opt.Global, models.NoLabel)
}
