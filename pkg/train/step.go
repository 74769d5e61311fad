package train

import (
	"context"
	"fmt"
	"slices"
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
	Global      int  // samples a step
	Micro       int  // samples a micro-batch
	Group       int  // micro-batches that are folded before the ring; 0: 1
	Fast        bool // each rank folds all that is its own: the bits are the world size's
	Optimizer   Optimizer
	WeightDecay float64 // of parameters without a setting of their own
	Sharded     bool    // the ranks share the moments out among them: see shards
	ClipNorm    float64
	Schedule    LRSchedule
	BucketBytes int
	Recompute   bool                 // see models.ProgramOptions
	Keeper      models.Keeper        // of what frozen parts make; nil: nothing is kept. It changes no bit
	updates     []update             // runs of the slab with settings of their own; nil: one run
	Distill     *models.Distillation // a teacher, where there is one
	Sets        int                  // of a mixture of data, whose losses are told apart; 0: it is none
	Verify      bool                 // gradients go with their checksums, and other ranks' may be computed again
	SkipBad     bool                 // a step whose loss or gradient is not finite is passed over, not an error
	// Samples names the samples of a micro-batch, for messages: by their numbers
	// in the whole data set, or else in the training split. nil: no names.
	Samples func(step uint64, m int) (samples []int, whole bool)
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
// The gradients of a step are kept until it is committed, by group of
// micro-batches (see slabs): where a generation breaks, the next one computes
// only what is missing. Behind each micro-gradient stands a tail, in which its losses travel
// with it: each as a sum over what counts, which is scaled by a constant, and
// the count. So the sum's tail holds all of the step, and whoever has it knows
// by what to divide, once, and whether the step is to be refused.
//
//	micro-gradient m   │ flat gradient │ 0 0 … loss (as two floats), count … 0 0 │
//	sum                │ flat gradient │ losses and counts of all micro-batches  │
//
// A program whose losses are means over different counts (see
// models.Program.Losses) has a flat gradient for each, one behind the other,
// and they are added when each is divided.
type Trainer struct {
	rt     *tensor.Runtime
	model  *models.Model
	params *tensor.Params
	prog   *models.Program
	opt    Options
	slots  [][]float32   // of the optimizer, each laid out like the weights; no memory is touched where the optimizer keeps nothing
	frozen bool          // some parameter is
	runs   [][]float32   // scratch of optimize, and
	cuts   [][]float32   // of cutSlots
	sums   *sums         // of the weights
	verify *verification // nil: nothing is verified
	total  []float32     // gradients and tail, where the ring has no memory for them; nil until then
	phase  func(step uint64, phase string)

	shards   *shards           // whose moments are here; nil: all are
	whole    []allreduce.Range // of the slab: what an optimizer without shards updates
	slabs    slabs
	buckets  []allreduce.Range
	of       map[*tensor.Param]int
	left     []int // parameters of each bucket whose gradient is not written yet
	first    int   // bucket of the gradient that is being written
	computed int   // micro-batches, of the step in progress

	todo []int       // groups, of the step in progress; kept, as the next, so that a step allocates nothing
	onto [][]float32 // of write

	mu   sync.RWMutex // of weights, moments and step: written by commits, read by those who copy them
	step uint64
	void bool // no state: an update or a Restore has not come to its end

	write writing // of the backward in progress: gradReady has no other way to know
}

// writing is what becomes of a micro-gradient, bucket by bucket, as backward
// writes it: it is folded onto each of a chain of slabs, and the ring is told.
type writing struct {
	from []float32   // the micro-gradient
	onto [][]float32 // each gets the one before it added
	op   allreduce.Reduction
	late bool // its checksum is taken when it is handed over
}

// NewTrainer returns a trainer for model, which must hold its first weights,
// at step 0 with slots as they begin. phase is told what the trainer is doing.
func NewTrainer(rt *tensor.Runtime, model *models.Model, opt Options, phase func(step uint64, phase string)) (*Trainer, error) {
	if err := checkSlots(opt.Optimizer.Slots()); err != nil {
		return nil, err
	}
	prog, err := model.Program(rt, opt.Micro, opt.Spec, models.ProgramOptions{
		Train: true, Recompute: opt.Recompute, Keeper: opt.Keeper, Distill: opt.Distill})
	if err != nil {
		return nil, err
	}
	ps := model.Params()
	t := &Trainer{rt: rt, model: model, params: ps, prog: prog, opt: opt, phase: phase}
	t.frozen = slices.ContainsFunc(ps.List(), func(p *tensor.Param) bool { return p.Frozen })
	for range opt.Optimizer.Slots() {
		t.slots = append(t.slots, tensor.Floats(ps.Len()))
	}
	t.beginSlots()
	t.sums = sumsOf(ps.Values(), summed)
	// Every loss has a flat gradient of its own, and each of those its buckets: one
	// numbering for all of them, in the order in which backward writes.
	for i, l := range prog.Losses() {
		if l.Nominal() > maxCount {
			prog.Close()
			return nil, fmt.Errorf("batch.micro %d has %d targets or values: want at most %d in a micro-batch",
				opt.Micro, l.Nominal(), maxCount)
		}
		at := i * ps.Len()
		var one []allreduce.Range
		one, t.of = cutBuckets(ps, opt.BucketBytes)
		for _, b := range one {
			t.buckets = append(t.buckets, allreduce.Range{Lo: at + b.Lo, Hi: at + b.Hi})
		}
	}
	t.left = make([]int, len(t.buckets)/t.losses())
	t.buckets = append(t.buckets, allreduce.Range{Lo: t.gradients(), Hi: t.gradients() + t.tail()})
	if opt.Verify {
		t.verify = newVerification(ps, t.of, len(t.buckets), t.losses())
	}
	t.slabs = slabs{floats: t.gradients() + t.tail(), held: map[int][]float32{}, fast: opt.Fast}
	if opt.Sharded {
		t.shards = newShards(ps, opt.Optimizer.Slots())
		t.shards.restored(0)
	}
	t.whole = wholeOf(ps, t.shards)
	t.prog.OnGrad(t.gradReady)
	return t, nil
}

// micros is the number of micro-batches in a step.
func (t *Trainer) micros() int { return t.opt.Global / t.opt.Micro }

// group is how many micro-batches are folded before the ring.
func (t *Trainer) group() int { return max(t.opt.Group, 1) }

// losses is how many means over different counts the loss is the sum of.
func (t *Trainer) losses() int { return len(t.prog.Losses()) }

// gradients is the length of the flat gradients, one for each of the losses.
func (t *Trainer) gradients() int { return t.losses() * t.params.Len() }

// told is what the tail has of one loss of one micro-batch, in floats.
const told = 3

// maxCount is the largest count that a float32 tells exactly.
const maxCount = 1 << 24

// tail is the length of what follows the flat gradients, up to a cache line.
func (t *Trainer) tail() int {
	n := told * (t.losses() + t.opt.Sets) * t.micros()
	if t.opt.Verify {
		n += cluster.StatementFloats * t.micros()
	}
	return (n + 15) / 16 * 16
}

// place is where loss k of micro-batch m stands in the tail.
func (t *Trainer) place(m, k int) int { return told * (m*t.losses() + k) }

// placeOfSet is where the first loss of the samples of a set in micro-batch m stands
// in the tail: behind the losses of all micro-batches.
func (t *Trainer) placeOfSet(m, set int) int {
	return told * (t.losses()*t.micros() + m*t.opt.Sets + set)
}

// tellSets writes to a tail what each set of a mixture has of the first loss.
func (t *Trainer) tellSets(tail []float32, m int, b *models.Batch) {
	l := t.prog.Losses()[0]
	if t.opt.Sets == 0 || !l.Shared() {
		return
	}
	sums, counts := make([]float64, t.opt.Sets), make([]int, t.opt.Sets)
	for i, set := range b.Sets {
		sum, count := l.Share(i, b.N)
		sums[set], counts[set] = sums[set]+sum, counts[set]+count
	}
	for set := range sums {
		at := tail[t.placeOfSet(m, set):]
		at[0], at[1] = split(sums[set] / float64(l.Nominal()))
		at[2] = float32(counts[set])
	}
}

// Shape is what a step reduces, for whoever gives it memory to share.
type Shape struct {
	Buckets  int // that are reduced, that of the losses included
	Micros   int // micro-batches of a step
	Gradient int // floats
	Floats   int // of a slab: the gradient and its tail
}

// Shape is that of the trainer's steps.
func (t *Trainer) Shape() Shape {
	return Shape{len(t.buckets), t.micros(), t.gradients(), t.slabs.floats}
}

// MoveTo has the gradients that are kept lie in memory that more gives, a slab
// of Shape.Floats a call, from now on.
func (t *Trainer) MoveTo(more func() ([]float32, error)) error { return t.slabs.moveTo(more) }

// CommittedStep is the number of steps whose update the weights contain.
func (t *Trainer) CommittedStep() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.step
}

// Step computes what is missing of groups [lo, hi) of micro-batches, reduces and
// commits one step as a member of the ring. On an error nothing is committed:
// the state is that of the step before, and the gradients are kept.
func (t *Trainer) Step(ctx context.Context, ring allreduce.Reducer, lo, hi int, in Batches, flags func() allreduce.Flags) (Result, error) {
	var res Result
	if t.shards != nil {
		t.drop(true)
	}
	if t.verify != nil {
		t.claimHeld() // of an attempt that was broken off
	}
	t.slabs.fit(lo, hi)
	if t.verify != nil {
		t.unsay()
	}
	missing := t.todo[:0]
	for k := lo; k < hi; k++ {
		if !t.slabs.has(k) {
			missing = append(missing, k)
		}
	}
	t.todo = missing
	begin := func(k int, g []float32) allreduce.Reduction {
		if t.verify != nil {
			t.claimHeld()
		}
		return ring.Begin(t.step, t.buckets, t.slabs.list(k, g), t.out(ring), flags)
	}
	var op allreduce.Reduction
	for i, k := range missing {
		// The reduction begins with the last of the missing groups: from then on every
		// group that this rank adds to the sum is there, or is being written.
		feed := begin
		if i < len(missing)-1 {
			feed = nil
		}
		var err error
		if op, err = t.compute(ctx, k, in, feed, &res.Times); err != nil {
			if op != nil {
				op.Abort()
			}
			return res, err
		}
		t.computed++
	}
	if op == nil {
		// Nothing was missing: the generation before broke in its ring, and this rank
		// had computed its part. All buckets are ready at once.
		op = begin(0, nil)
		for b := range len(t.buckets) - 1 {
			op.Ready(b)
		}
		if l := t.slabs.listed; t.verify != nil && len(l) > 0 {
			if err := t.check(ctx, l[0][t.gradients():], in); err != nil {
				op.Abort()
				return res, err
			}
		}
		op.Ready(len(t.buckets) - 1)
	}

	t.phase(t.step, "ring")
	start := time.Now()
	var err error
	if res.Flags, err = op.Wait(ctx); err != nil {
		return res, fmt.Errorf("step %d: %w", t.step+1, err)
	}
	res.Times.Ring = since(&start)
	t.phase(t.step, "optimizer")
	waited := res.Times.Ring // gathering adds to it, and is no time of the optimizer's
	if err := t.commit(ctx, ring, &res, op); err != nil {
		return res, err
	}
	res.Times.Optimizer = since(&start) - (res.Times.Ring - waited)
	return res, nil
}

// out is memory for the sum, where the ring has none of its own.
func (t *Trainer) out(ring allreduce.Reducer) []float32 {
	if ring.KeepsSum() {
		return nil
	}
	if t.total == nil {
		t.total = tensor.Floats(t.slabs.floats)
	}
	return t.total
}

// compute computes what is missing of group k, whose fold is kept; where
// there is a run before it (see slabs), as a part of that. feed, where
// it is not nil, begins the reduction, which then gets the buckets of the last
// micro-batch as backward writes them.
func (t *Trainer) compute(ctx context.Context, k int, in Batches, feed func(k int, g []float32) allreduce.Reduction,
	times *cluster.Times) (op allreduce.Reduction, err error) {
	s := &t.slabs
	p, err := s.begin(k)
	if err != nil {
		return nil, err
	}
	// A group that was broken off goes on where it was: its micro-batches up to
	// p.done are folded into p.slab.
	onto := s.extends(k)
	for p.done < t.group() {
		if ctx.Err() != nil {
			return op, context.Cause(ctx)
		}
		w := writing{from: p.slab, onto: t.onto[:0]}
		if p.done > 0 {
			if w.from, err = s.take(); err != nil {
				return op, err
			}
			w.onto = append(w.onto, p.slab)
		}
		last := p.done == t.group()-1
		if last && onto {
			w.onto = append(w.onto, s.held[s.run.Lo])
		}
		if last && feed != nil {
			g := p.slab
			if onto {
				g = nil // the run that it is folded onto is in the list already
			}
			op = feed(k, g)
			w.op = op
		}
		t.onto = w.onto
		w.late = t.verify != nil && w.op == nil && t.holds()
		err := t.micro(ctx, k*t.group()+p.done, w, in, times)
		if p.done > 0 {
			s.give(w.from)
		}
		if err != nil {
			return op, err
		}
		p.done++
	}
	if onto {
		s.run.Hi++
		s.give(p.slab)
	} else {
		s.held[k] = p.slab
	}
	s.part = part{}
	if op == nil {
		s.join()
	}
	return op, nil
}

// micro runs forward and backward of micro-batch m, and does with its gradient
// what w says.
func (t *Trainer) micro(ctx context.Context, m int, w writing, in Batches, times *cluster.Times) error {
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
	t.prog.SetStep(t.opt.Seed, t.step, true)
	t.prog.Forward()
	times.Forward += since(&start)
	// Each micro-batch has places of its own in the tail and zeros elsewhere: the sum
	// of all tails is their union, whatever the order.
	tail := w.from[t.gradients():]
	clear(tail)
	for k, l := range t.prog.Losses() {
		at := tail[t.place(m, k):]
		at[0], at[1] = split(l.Scaled())
		at[2] = float32(l.Count())
	}
	t.tellSets(tail, m, b)
	t.phase(t.step, "backward")
	t.slabs.torn = len(w.onto) > 0 // should it panic
	t.write = w
	if t.verify == nil {
		t.written(len(t.buckets) - 1) // the tail is whole before backward begins
	}
	for k := range t.prog.Losses() {
		t.backward(k, w.from)
	}
	switch {
	case t.verify == nil:
	case w.late:
		t.verify.late[m] = true // groups are of one
	default:
		t.claim(tail, m)
		if w.op != nil { // this rank's last: its gradients are with the ring
			times.Backward += since(&start) // by which a rank's pace is known
			if err := t.check(ctx, tail, in); err != nil {
				t.write = writing{}
				return err
			}
			start = time.Now()
		}
		t.written(len(t.buckets) - 1)
	}
	t.write = writing{}
	t.slabs.torn = false
	times.Backward += since(&start)
	return nil
}

// backward writes the gradient of loss k of what was run forward to its place
// in g. Frozen parameters are in no bucket: their part of g keeps what was there,
// and nothing reads it.
func (t *Trainer) backward(k int, g []float32) {
	n := t.params.Len()
	t.params.BindGrads(g[k*n : (k+1)*n])
	clear(t.left)
	for _, b := range t.of {
		t.left[b]++
	}
	t.first = k * len(t.left)
	t.prog.BackwardOf(k)
}

// gradReady is told by backward of each parameter whose gradient is written. A
// bucket is written when the last of its parameters is.
func (t *Trainer) gradReady(p *tensor.Param) {
	b, ok := t.of[p]
	if !ok { // frozen
		return
	}
	if t.left[b]--; t.left[b] == 0 {
		t.written(t.first + b)
	}
}

// written does what is to be done with a bucket that backward has written. It
// runs on backward's goroutine, so the folds are in the order of the buckets, and
// what it says to the reduction is said once a bucket is whole.
func (t *Trainer) written(bucket int) {
	r, from := t.buckets[bucket], t.write.from
	if t.verify != nil && !t.write.late && bucket < len(t.buckets)-1 {
		t.verify.written(t.rt, bucket, from)
	}
	for _, g := range t.write.onto {
		t.rt.Fold(g[r.Lo:r.Hi], from[r.Lo:r.Hi])
		from = g
	}
	if t.write.op != nil {
		t.write.op.Ready(bucket)
	}
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

// forget drops the gradients of a step that is over, or not to be.
func (t *Trainer) forget() {
	t.slabs.forget()
	t.computed = 0
}

// since returns the seconds from *start and moves it to now.
func since(start *time.Time) float64 {
	now := time.Now()
	d := now.Sub(*start).Seconds()
	*start = now
	return d
}
