package trained

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/features"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Policy is a checkpoint that answers observations with actions, both in the
// data's names and units:
//
//	p, err := c.Policy(threads)
//	q, notes, err := p.Read(observation) // held against p.Card()
//	chunks, err := p.Answer([]*Question{q})
//
// Equal observations are answered with equal bits, alone or together with others.
type Policy struct {
	c         *Checkpoint
	card      Card
	read      *reader
	collators sync.Pool // of *data.Collator, which has scratch space
	runtime   *tensor.Runtime
	programs  map[int]*asking // by their batch's size
	words     *features.Store // what a frozen encoder makes of instructions: they come again with each question
	stager    *eval.Stager    // nil: every question goes through the whole model
	depth     eval.Depth
}

// asking is a program and its batch.
type asking struct {
	prog  *models.Program
	batch *models.Batch
}

// Question is an observation as the model sees it. It does not change, and may be
// asked again.
type Question struct {
	batch *models.Batch // of one
	now   []float32     // the state, where actions are relative to it
}

// Chunk is the actions of one answer, [chunk, values] of the card's, in physical
// units.
type Chunk []float32

// MaxTogether is the most questions of one Answer.
const MaxTogether = 32

// Policy makes a policy of the checkpoint, which it uses until it is closed.
func (c *Checkpoint) Policy(threads int) (*Policy, error) {
	card, err := c.Card()
	if err != nil {
		return nil, err
	}
	r, err := newReader(card, c.Meta)
	if err != nil {
		return nil, err
	}
	col, err := data.NewCollator(c.Meta)
	if err != nil {
		return nil, err
	}
	p := &Policy{c: c, card: card, read: r, runtime: tensor.NewRuntime(max(threads, 1)), programs: map[int]*asking{},
		words: features.Open(features.Options{Bytes: c.Job.Train.CacheBytes()})}
	p.collators.Put(col)
	return p, nil
}

// SetDepth has each question answered as deep as it needs, alone: by a model with
// exits. A budget of time makes answers depend on the machine. The zero Depth is the
// whole model.
func (p *Policy) SetDepth(d eval.Depth) (err error) {
	if !(d.Threshold >= 0) || d.Budget < 0 {
		return usage.Errorf("--exit-doubt %v, --exit-budget %v: want numbers above 0, or 0 for the whole model", d.Threshold, d.Budget)
	}
	if p.depth = d; d != (eval.Depth{}) && p.stager == nil {
		if p.stager, err = eval.NewStager(p.runtime, p.c.Model, p.c.Meta.Spec); err != nil {
			return usage.Errorf("--exit-doubt and --exit-budget: %w", err)
		}
	}
	return nil
}

// Close gives the memory of everything but the checkpoint back.
func (p *Policy) Close() {
	if p.stager != nil {
		p.stager.Close()
	}
	for _, a := range p.programs {
		a.prog.Close()
	}
	p.words.Close()
	p.runtime.Close()
}

// Card is what the policy sees and answers.
func (p *Policy) Card() Card { return p.card }

// Read holds an observation against the card, decodes and resizes its pictures and
// normalises its numbers, as training did. The error names all
// differences, or what is wrong with a picture. notes
// are for whoever sent it. Read is safe for concurrent use.
func (p *Policy) Read(o Observation) (q *Question, notes []string, err error) {
	s, notes, err := p.read.read(o)
	if err != nil {
		return nil, nil, err
	}
	s.Origin = "the observation"
	q, err = p.sample(s)
	return q, notes, err
}

// sample is what a sample of the data shows.
func (p *Policy) sample(s data.Sample) (q *Question, err error) {
	col, _ := p.collators.Get().(*data.Collator)
	if col == nil {
		if col, err = data.NewCollator(p.c.Meta); err != nil {
			return nil, err
		}
	}
	defer p.collators.Put(col)
	b := models.NewBatch(1, p.c.Meta.Spec)
	if err := col.Collate([]data.Sample{s}, b); err != nil {
		return nil, err
	}
	return &Question{b, p.c.Meta.Now(&s)}, nil
}

// Answer runs the model on 1 to MaxTogether questions. It is not safe for
// concurrent use.
func (p *Policy) Answer(qs []*Question) ([]Chunk, error) {
	if len(qs) < 1 || len(qs) > MaxTogether {
		return nil, fmt.Errorf("%d questions at once; want 1 to %d", len(qs), MaxTogether)
	}
	out, err := p.outputs(qs)
	if err != nil {
		return nil, err
	}
	chunks := make([]Chunk, len(qs))
	for i := range chunks {
		chunks[i] = slices.Clone(out[i])
		if s := p.c.Meta.StatsOf(models.Actions); s != nil {
			for x := chunks[i]; len(x) > 0; x = x[s.Dim():] {
				s.Denormalize(x[:s.Dim()], x)
			}
			s.Absolute(chunks[i], chunks[i], qs[i].now)
		}
	}
	return chunks, nil
}

// outputs are what the model says to each question, valid until the next.
func (p *Policy) outputs(qs []*Question) ([][]float32, error) {
	out := make([][]float32, len(qs))
	if p.depth != (eval.Depth{}) {
		for i, q := range qs {
			if err := p.stager.Run(q.batch, p.depth, func(_ int, x []float32, _ float64, _ time.Duration) { out[i] = x }); err != nil {
				return nil, err
			}
			out[i] = slices.Clone(out[i]) // the next writes there
		}
		return out, nil
	}
	size := 1 // programs are few: of the powers of two
	for size < len(qs) {
		size *= 2
	}
	a, err := p.program(size)
	if err != nil {
		return nil, err
	}
	for i := range size {
		a.place(i, qs[min(i, len(qs)-1)].batch)
	}
	if err := a.prog.Load(a.batch); err != nil {
		return nil, err
	}
	a.prog.SetStep(p.c.Job.Seed, 0, false)
	a.prog.ForwardStage(0) // there is no loss to know
	all := a.prog.Output().Data
	for i := range out {
		out[i] = all[i*len(all)/size:][:len(all)/size]
	}
	return out, nil
}

// place copies a batch of one to row i.
func (a *asking) place(i int, from *models.Batch) {
	for k, v := range from.Values {
		to := a.batch.Values[k]
		copy(to.Floats[i*len(v.Floats):], v.Floats)
		copy(to.Ints[i*len(v.Ints):], v.Ints)
	}
}

// program is that for so many questions.
func (p *Policy) program(size int) (*asking, error) {
	if a := p.programs[size]; a != nil {
		return a, nil
	}
	spec := p.c.Meta.Spec
	prog, err := p.c.Model.Program(p.runtime, size, spec, models.ProgramOptions{Forward: true, Settled: true, Keeper: p.words})
	if err != nil {
		return nil, err
	}
	a := &asking{prog, models.NewBatch(size, spec)}
	p.programs[size] = a
	return a, nil
}
