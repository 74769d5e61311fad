package compare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// subject is a job's model with its data, on its way to a measurement.
type subject struct {
	job   *job.Job
	set   data.Dataset
	meta  data.Meta
	model *models.Model
	opt   train.Options
}

// open reads a job from YAML and builds what it names, with first weights.
func open(text string) (*subject, error) {
	j, err := train.Kinds().Parse("compare", []byte(text), nil)
	if err != nil {
		return nil, err
	}
	s := &subject{job: j}
	if s.set, err = train.OpenData(j, ".", nil); err != nil {
		return nil, err
	}
	s.meta = s.set.Meta()
	if s.model, s.opt, err = train.Build(j, s.meta); err != nil {
		s.set.Close()
		return nil, err
	}
	s.model.Init(j.Seed)
	return s, nil
}

// Close gives back the model's memory, which no program may need any more, and
// closes the data.
func (s *subject) Close() error {
	s.model.Close()
	return s.set.Close()
}

// fitted is a subject after its training.
type fitted struct {
	losses  []float64 // by step
	seconds float64
}

// ahead is how many micro-batches are read before they are needed.
const ahead = 4

// fit trains s to the end of its job, as a world of one.
func (s *subject) fit(ctx context.Context, rt *tensor.Runtime) (*fitted, error) {
	trainer, err := train.NewTrainer(rt, s.model, s.opt, func(uint64, string) {})
	if err != nil {
		return nil, err
	}
	micros := s.job.Batch.Global / s.job.Batch.Micro
	ring := allreduce.NewSolo(rt.Fold)
	defer ring.Close()
	feed, err := data.NewLocalFeed(&cached{Source: s.set.Train()}, train.Order(s.job, s.meta))
	if err != nil {
		return nil, err
	}
	in, err := data.NewPrefetcher(feed, s.meta, s.job.Batch.Micro, ahead, data.Range{End: uint64(s.job.Train.Steps), Hi: micros})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f := &fitted{}
	start := time.Now()
	for range s.job.Train.Steps {
		res, err := trainer.Step(ctx, ring, 0, micros, in, func() allreduce.Flags { return 0 })
		if err != nil {
			return nil, err
		}
		if res.Refused != "" {
			return nil, errors.New(res.Refused)
		}
		f.losses = append(f.losses, res.Loss)
	}
	f.seconds = time.Since(start).Seconds()
	return f, nil
}

// evaluate measures s on its held-out split.
func (s *subject) evaluate(ctx context.Context, rt *tensor.Runtime) (eval.Report, error) {
	m := eval.Subject{Runtime: rt, Model: s.model, Meta: s.meta, Seed: s.job.Seed}
	return m.Evaluate(ctx, s.set.Heldout(), "heldout")
}

// cached remembers the samples of a split: drawing a scene anew each epoch
// would be timed and teaches nothing.
type cached struct {
	data.Source
	mu   sync.Mutex
	seen map[int]data.Sample
}

// mostCached bounds what is remembered.
const mostCached = 1 << 15

func (c *cached) Sample(i int) (data.Sample, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.seen[i]; ok {
		return s, nil
	}
	s, err := c.Source.Sample(i)
	if err == nil && len(c.seen) < mostCached {
		if c.seen == nil {
			c.seen = map[int]data.Sample{}
		}
		c.seen[i] = s
	}
	return s, err
}

// timing is what one batch of a model costs on this machine.
type timing struct {
	forward float64 // seconds, the best of several: what else runs on the machine only adds
	step    float64 // forward and backward
	memory  int64   // bytes that the tape holds for it
}

// timed runs a model of text on a batch of n samples, by turns with each number
// of threads, for about budget each and at least three times: what else the
// machine does meanwhile meets them all alike.
func timed(text string, n int, threads []int, budget time.Duration) ([]timing, error) {
	s, err := open(text)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	b, err := s.batch(n)
	if err != nil {
		return nil, err
	}
	ps := s.model.Params()
	ps.BindGrads(make([]float32, ps.Len()))
	out, programs := make([]timing, len(threads)), make([]*models.Program, len(threads))
	for i, t := range threads {
		rt := tensor.NewRuntime(t)
		defer rt.Close()
		p, err := s.model.Program(rt, n, s.meta.Spec, models.ProgramOptions{Train: true})
		if err != nil {
			return nil, err
		}
		defer p.Close()
		if err := p.Load(b); err != nil {
			return nil, err
		}
		p.SetStep(0, 0, true)
		programs[i], out[i] = p, timing{math.Inf(1), math.Inf(1), p.MemoryBytes()}
	}
	begin := time.Now()
	for round := 0; round < 4 || time.Since(begin) < budget*time.Duration(len(threads)); round++ {
		for i, p := range programs {
			at := time.Now()
			p.Forward()
			f := time.Since(at).Seconds()
			p.Backward()
			if round > 0 { // the first touches the memory
				out[i].forward, out[i].step = min(out[i].forward, f), min(out[i].step, time.Since(at).Seconds())
			}
		}
	}
	return out, nil
}

// batch is the first n training samples.
func (s *subject) batch(n int) (*models.Batch, error) {
	col, err := data.NewCollator(s.meta)
	if err != nil {
		return nil, err
	}
	samples := make([]data.Sample, n)
	src := s.set.Train()
	for i := range samples {
		if samples[i], err = src.Sample(i % src.Len()); err != nil {
			return nil, err
		}
	}
	b := models.NewBatch(n, s.meta.Spec)
	return b, col.Collate(samples, b)
}

// parameters counts a model's.
func (s *subject) parameters() int { return s.model.Params().Count() }

// machine says what timings are of.
func machine(threads int) string {
	return fmt.Sprintf("%s, %d thread(s)", tensor.CPULevel(), threads)
}
