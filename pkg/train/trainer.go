package train

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Options fix what a Trainer computes. All of them belong to the job.
type Options struct {
	Seed        uint64
	Spec        models.Spec
	Loss        string
	Global      int // samples a step
	Micro       int // samples a micro-batch
	Adam        tensor.AdamW
	ClipNorm    float64
	Schedule    LRSchedule
	BucketBytes int
	Recompute   bool                 // see models.ProgramOptions
	Updates     []update             // runs of the slab with settings of their own; nil: one run
	ExitWeights []float64            // of the exits' losses
	Distill     *models.Distillation // a teacher, where there is one
	SkipBad     bool                 // a step whose loss or gradient is not finite is passed over, not an error
	// Samples names the samples of a micro-batch, for messages; nil: no names.
	Samples func(step uint64, m int) []int
}

// Batches yields this rank's micro-batches: those of [lo, hi) of each step, in
// order, without end.
type Batches interface {
	// Next returns the batch of micro-batch m of step (from 0). It is valid
	// until the following call.
	Next(ctx context.Context, step uint64, m int) (*models.Batch, error)
}

// Trainer holds a worker's state, weights, moments and committed step, and
// takes it through steps. It is the part that every worker count shares: what
// a Trainer holds after step s is the same bits on every rank of every world.
//
// The micro-gradients of a step are kept until it is committed, by
// micro-batch: where a generation breaks, the next one computes only what is
// missing. Behind each micro-gradient stands a tail, in which its loss travels
// with it; so the sum's tail holds all losses of the step, and whoever has the
// sum knows whether the step is to be refused.
//
//	micro-gradient m   │ flat gradient │ 0 0 … loss (as two floats) … 0 0 │
//	sum                │ flat gradient │ losses of all micro-batches      │
type Trainer struct {
	rt     *tensor.Runtime
	model  *models.Model
	params *tensor.Params
	prog   *models.Program
	opt    Options
	m, v   []float32 // first and second moments, laid out like the weights
	total  []float32 // gradient and tail
	phase  func(step uint64, phase string)

	held     map[int][]float32 // micro-gradients with their tails, of the step after step
	free     [][]float32
	buckets  []allreduce.Range
	of       map[*tensor.Param]int
	left     []int // parameters of each bucket whose gradient is not written yet
	computed int   // micro-batches, of the step in progress

	mu   sync.RWMutex // of weights, moments and step: written by commits, read by those who copy them
	step uint64
	void bool // no state: an update or a Restore has not come to its end

	op *allreduce.Op // of the backward in progress that feeds the ring
}

// NewTrainer returns a trainer for model, which must hold its first weights,
// at step 0 with zero moments. phase is told what the trainer is doing.
func NewTrainer(rt *tensor.Runtime, model *models.Model, opt Options, phase func(step uint64, phase string)) (*Trainer, error) {
	prog, err := model.Program(rt, opt.Micro, opt.Spec, models.ProgramOptions{Loss: opt.Loss, Train: true, Recompute: opt.Recompute, ExitWeights: opt.ExitWeights, Distill: opt.Distill})
	if err != nil {
		return nil, err
	}
	ps := model.Params()
	t := &Trainer{rt: rt, model: model, params: ps, prog: prog, opt: opt, phase: phase, held: map[int][]float32{},
		m: tensor.Floats(ps.Len()), v: tensor.Floats(ps.Len())}
	t.buckets, t.of = Buckets(ps, opt.BucketBytes)
	t.buckets = append(t.buckets, allreduce.Range{Lo: ps.Len(), Hi: ps.Len() + t.tail()}) // with the losses
	t.total = tensor.Floats(ps.Len() + t.tail())
	t.left = make([]int, len(t.buckets))
	t.prog.OnGrad(t.gradReady)
	return t, nil
}

// micros is the number of micro-batches in a step.
func (t *Trainer) micros() int { return t.opt.Global / t.opt.Micro }

// tail is the length of what follows the flat gradient: two floats a loss, up
// to a cache line.
func (t *Trainer) tail() int { return (2*t.micros() + 15) / 16 * 16 }

// CommittedStep is the number of steps whose update the weights contain.
func (t *Trainer) CommittedStep() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.step
}

// Result is what a committed step says of itself. All but Times and Computed
// are the same on every rank.
type Result struct {
	Losses   []float64 // of all micro-batches, in order
	GradNorm float64   // before clipping
	LR       float64
	Refused  string // why no update was made; empty: it was
	Computed int    // micro-batches that were computed here
	Times    cluster.Times
	Flags    allreduce.Flags
}

// NonFiniteError refuses a step whose loss or gradient is not a number. Every
// rank finds it at the same step, in the same sum.
type NonFiniteError struct {
	Step    uint64 // that would have been committed, from 1
	Micro   int    // -1: seen in the gradient alone
	Samples []int  // of the micro-batch, in the training split
	Tensor  string // first one with a value that is not finite
}

func (e *NonFiniteError) Error() string {
	if e.Micro >= 0 {
		return fmt.Sprintf("step %d: the loss of micro-batch %d (training samples %v) is not finite: lower optimizer.lr or look at these samples; train.non_finite: skip passes over such steps", e.Step, e.Micro, e.Samples)
	}
	return fmt.Sprintf("step %d: the gradient of %s is not finite: lower optimizer.lr, or set optimizer.clip_norm; train.non_finite: skip passes over such steps", e.Step, e.Tensor)
}

// Step computes what is missing of micro-batches [lo, hi), reduces and commits
// one step as a member of the ring. On an error nothing is committed: the state
// is that of the step before, and the micro-gradients are kept.
func (t *Trainer) Step(ctx context.Context, ring *allreduce.Ring, lo, hi int, in Batches, flags func() allreduce.Flags) (Result, error) {
	var res Result
	micro := make([][]float32, 0, hi-lo)
	var missing []int
	for m := lo; m < hi; m++ {
		g, ok := t.held[m]
		if !ok {
			g = t.slot()
			missing = append(missing, m)
		}
		micro = append(micro, g)
	}
	op := ring.Begin(t.step, t.buckets, micro, t.total, flags)
	for i, m := range missing {
		if err := ctx.Err(); err != nil {
			op.Abort()
			t.drop(micro, lo, missing[i:])
			return res, context.Cause(ctx)
		}
		feed := op
		if i < len(missing)-1 {
			feed = nil
		}
		if err := t.compute(ctx, m, micro[m-lo], in, feed, &res.Times); err != nil {
			op.Abort()
			t.drop(micro, lo, missing[i:])
			return res, err
		}
		t.held[m] = micro[m-lo]
		t.computed++
	}
	if len(missing) == 0 {
		for b := range t.buckets {
			op.Ready(b)
		}
	}

	t.phase(t.step, "ring")
	start := time.Now()
	var err error
	if res.Flags, err = op.Wait(ctx); err != nil {
		return res, fmt.Errorf("step %d: %w", t.step+1, err)
	}
	res.Times.Ring = since(&start)
	t.phase(t.step, "optimizer")
	if err := t.commit(&res); err != nil {
		return res, err
	}
	res.Times.Optimizer = since(&start)
	return res, nil
}

// compute runs forward and backward of micro-batch m into g, whose buckets op
// is told of as they fill; nil: nobody is.
func (t *Trainer) compute(ctx context.Context, m int, g []float32, in Batches, op *allreduce.Op, times *cluster.Times) error {
	t.phase(t.step, "data")
	start := time.Now()
	b, err := in.Next(ctx, t.step, m)
	if err != nil {
		return err
	}
	times.Data += since(&start)
	if err := t.prog.Load(b); err != nil {
		return fmt.Errorf("step %d, micro-batch %d: %w", t.step+1, m, err)
	}
	t.phase(t.step, "forward")
	n := t.params.Len()
	t.params.BindGrads(g[:n])
	t.prog.SetStep(t.opt.Seed, t.step, true)
	loss := t.prog.Forward()
	times.Forward += since(&start)
	tail := g[n:]
	clear(tail)
	tail[2*m], tail[2*m+1] = split(loss)
	t.phase(t.step, "backward")
	if op != nil {
		clear(t.left)
		for _, b := range t.of {
			t.left[b]++
		}
		op.Ready(len(t.buckets) - 1)
	}
	t.op = op
	t.prog.Backward()
	t.op = nil
	times.Backward += since(&start)
	return nil
}

// split makes two floats of a loss, 48 bits of it; join is the inverse. Zeros
// added to them change nothing, so they pass through the fold as they are.
func split(loss float64) (hi, lo float32) {
	hi = float32(loss)
	if d := loss - float64(hi); d-d == 0 {
		lo = float32(d)
	}
	return hi, lo
}

func join(hi, lo float32) float64 { return float64(hi) + float64(lo) }

// slot is memory for a micro-gradient.
func (t *Trainer) slot() []float32 {
	if n := len(t.free); n > 0 {
		g := t.free[n-1]
		t.free = t.free[:n-1]
		return g
	}
	return tensor.Floats(t.params.Len() + t.tail())
}

// drop gives back the slots of micro-batches that were not computed to the end.
func (t *Trainer) drop(micro [][]float32, lo int, missing []int) {
	for _, m := range missing {
		t.free = append(t.free, micro[m-lo])
	}
}

// forget drops the micro-gradients of a step that is over, or not to be.
func (t *Trainer) forget() {
	for m, g := range t.held {
		t.free = append(t.free, g)
		delete(t.held, m)
	}
	t.computed = 0
}

// commit applies the reduced step, or refuses it.
func (t *Trainer) commit(res *Result) error {
	n := t.params.Len()
	g, tail := t.total[:n], t.total[n:]
	bad := -1
	for m := range t.micros() {
		l := join(tail[2*m], tail[2*m+1])
		if l-l != 0 && bad < 0 {
			bad = m
		}
		res.Losses = append(res.Losses, l)
	}
	t.rt.Div(g, float32(t.micros()))
	res.GradNorm = t.rt.GradNorm(t.params, g)
	h := t.opt.Adam
	h.LR = t.opt.Schedule.At(t.step)
	res.LR = h.LR
	res.Computed = t.computed
	if bad >= 0 || math.IsNaN(res.GradNorm) || math.IsInf(res.GradNorm, 0) {
		e := &NonFiniteError{Step: t.step + 1, Micro: bad, Tensor: t.rt.FirstNonFinite(t.params, g)}
		if bad >= 0 && t.opt.Samples != nil {
			e.Samples = t.opt.Samples(t.step, bad)
		}
		if !t.opt.SkipBad {
			return e
		}
		res.Refused, res.Losses, res.GradNorm = e.Error(), nil, 0 // JSON has no NaN
		t.mu.Lock()
		defer t.mu.Unlock()
		t.forget()
		t.step++
		return nil
	}
	scale := float32(1)
	if c := t.opt.ClipNorm; c > 0 { // as torch.nn.utils.clip_grad_norm_
		scale = float32(min(c/(res.GradNorm+1e-6), 1))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.void = true // should it panic
	t.apply(h, scale)
	t.void = false
	t.forget()
	t.step++
	return nil
}

func (t *Trainer) gradReady(p *tensor.Param) {
	if t.op == nil {
		return
	}
	b, ok := t.of[p]
	if !ok { // frozen
		return
	}
	if t.left[b]--; t.left[b] == 0 {
		t.op.Ready(b)
	}
}

// since returns the seconds from *start and moves it to now.
func since(start *time.Time) float64 {
	now := time.Now()
	d := now.Sub(*start).Seconds()
	*start = now
	return d
}
