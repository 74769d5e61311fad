package train

import (
	"context"
	"fmt"
	"math"
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
	L2          bool // plain Adam: weight decay goes into the gradient
	ClipNorm    float64
	Schedule    LRSchedule
	BucketBytes int
	Recompute   bool                 // see models.ProgramOptions
	Updates     []update             // runs of the slab with settings of their own; nil: one run
	ExitWeights []float64            // of the exits' losses
	Distill     *models.Distillation // a teacher, where there is one
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
type Trainer struct {
	rt      *tensor.Runtime
	model   *models.Model
	params  *tensor.Params
	prog    *models.Program
	opt     Options
	m, v    []float32 // first and second moments, laid out like the weights
	micro   [][]float32
	total   []float32
	buckets []allreduce.Range
	of      map[*tensor.Param]int
	left    []int // parameters of each bucket whose gradient is not written yet
	step    uint64
	phase   func(step uint64, phase string)

	op     *allreduce.Op // of the backward in progress that feeds the ring
	onGrad func(*tensor.Param)
}

// NewTrainer returns a trainer for model, which must hold its first weights,
// at step 0 with zero moments. phase is told what the trainer is doing.
func NewTrainer(rt *tensor.Runtime, model *models.Model, opt Options, phase func(step uint64, phase string)) (*Trainer, error) {
	prog, err := model.Program(rt, opt.Micro, opt.Spec, models.ProgramOptions{Loss: opt.Loss, Train: true, Recompute: opt.Recompute, ExitWeights: opt.ExitWeights, Distill: opt.Distill})
	if err != nil {
		return nil, err
	}
	ps := model.Params()
	t := &Trainer{rt: rt, model: model, params: ps, prog: prog, opt: opt, phase: phase,
		m: tensor.Floats(ps.Len()), v: tensor.Floats(ps.Len()), total: tensor.Floats(ps.Len())}
	t.buckets, t.of = Buckets(ps, opt.BucketBytes)
	t.left = make([]int, len(t.buckets))
	t.prog.OnGrad(t.gradReady)
	return t, nil
}

// CommittedStep is the number of steps whose update the weights contain.
func (t *Trainer) CommittedStep() uint64 { return t.step }

// Result is what a committed step says of itself.
type Result struct {
	Losses   []float64 // of this rank's micro-batches, in order
	GradNorm float64   // before clipping
	LR       float64
	Times    cluster.Times
	Flags    allreduce.Flags
}

// NonFiniteError refuses a step whose loss or gradient is not a number.
type NonFiniteError struct {
	Step   uint64 // that would have been committed, from 1
	Where  string
	Micro  int      // -1: seen in the reduced gradient, the same on every rank
	IDs    []uint64 // samples of the micro-batch
	Tensor string
}

func (e *NonFiniteError) Error() string {
	if e.Micro >= 0 {
		return fmt.Sprintf("step %d: the loss of micro-batch %d (samples %v) is not finite: lower the learning rate or look at these samples", e.Step, e.Micro, e.IDs)
	}
	return fmt.Sprintf("step %d: the gradient of %s is not finite: lower optimizer.lr, or set optimizer.clip_norm", e.Step, e.Tensor)
}

// Step computes, reduces and commits one step as member g of the ring. On an
// error nothing is committed: the state is that of the step before.
func (t *Trainer) Step(ctx context.Context, ring *allreduce.Ring, g allreduce.Group, in Batches, flags func() allreduce.Flags) (Result, error) {
	lo, hi := g.Micro[g.Rank], g.Micro[g.Rank+1]
	for len(t.micro) < hi-lo {
		t.micro = append(t.micro, tensor.Floats(t.params.Len()))
	}
	res := Result{Losses: make([]float64, 0, hi-lo)}
	micro := t.micro[:hi-lo]
	op := ring.Begin(t.step, t.buckets, micro, t.total, flags)
	for m := lo; m < hi; m++ {
		t.phase(t.step, "data")
		start := time.Now()
		b, err := in.Next(ctx, t.step, m)
		if err != nil {
			op.Abort()
			return res, err
		}
		res.Times.Data += since(&start)
		if err := t.prog.Load(b); err != nil {
			op.Abort()
			return res, fmt.Errorf("step %d, micro-batch %d: %w", t.step+1, m, err)
		}
		t.phase(t.step, "forward")
		t.params.BindGrads(micro[m-lo])
		t.prog.SetStep(t.opt.Seed, t.step, true)
		loss := t.prog.Forward()
		res.Times.Forward += since(&start)
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			op.Abort()
			return res, &NonFiniteError{Step: t.step + 1, Micro: m, IDs: append([]uint64(nil), b.IDs...)}
		}
		res.Losses = append(res.Losses, loss)
		t.phase(t.step, "backward")
		if m == hi-1 {
			t.feed(op)
		}
		t.prog.Backward()
		t.op = nil
		res.Times.Backward += since(&start)
	}
	if lo == hi {
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
	t.rt.Div(t.total, float32(t.opt.Global/t.opt.Micro))
	res.GradNorm = t.rt.GradNorm(t.params, t.total)
	if math.IsNaN(res.GradNorm) || math.IsInf(res.GradNorm, 0) {
		return res, &NonFiniteError{Step: t.step + 1, Micro: -1, Tensor: t.rt.FirstNonFinite(t.params, t.total)}
	}
	scale := float32(1)
	if c := t.opt.ClipNorm; c > 0 { // as torch.nn.utils.clip_grad_norm_
		scale = float32(min(c/(res.GradNorm+1e-6), 1))
	}
	h := t.opt.Adam
	h.LR = t.opt.Schedule.At(t.step)
	res.LR = h.LR
	t.apply(h, scale)
	t.step++
	res.Times.Optimizer = since(&start)
	return res, nil
}

// feed lets the backward that follows hand its buckets to op as they fill.
func (t *Trainer) feed(op *allreduce.Op) {
	clear(t.left)
	for _, b := range t.of {
		t.left[b]++
	}
	t.op = op
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
