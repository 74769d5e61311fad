package worker

import (
	"context"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

const tinyJob = `
name: tiny
seed: 3
model: {kind: vla, vocab_size: 64, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, dropout: 0.1}
data: {kind: tabletop, episodes: 40}
batch: {global: 4, micro: 2}
optimizer: {lr: 0.01, weight_decay: 0.1, clip_norm: 0}
cluster: {bucket_bytes: 4096}
`

// rank is a trainer with its own runtime, beside the worker that holds it.
type rank struct {
	*train.Trainer
	name   string
	feed   *data.Prefetcher
	net    allreduce.Network
	ring   allreduce.Reducer
	waits  chan struct{}                     // told when it waits for the ring
	cancel context.CancelFunc                // of the step in progress
	ctx    context.Context                   // of it
	done   chan func() (train.Result, error) // how it ended
}

// squad is a job's trainers on one network in memory.
type squad struct {
	t   *testing.T
	job *job.Job
	net *allreduce.MemNetwork
	set data.Dataset
	gen uint64
}

func newSquad(t *testing.T, set ...string) *squad {
	t.Helper()
	j, err := train.Kinds().Parse("tiny.yaml", []byte(tinyJob), append([]string{"batch.global=8", "batch.micro=1"}, set...))
	if err != nil {
		t.Fatal(err)
	}
	d, err := train.OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &squad{t: t, job: j, net: allreduce.NewMemNetwork(allreduce.Faults{}), set: d}
}

func (s *squad) rank(name string) *rank {
	s.t.Helper()
	model, opt, err := train.Build(s.job, s.set.Meta())
	if err != nil {
		s.t.Fatal(err)
	}
	model.Init(s.job.Seed)
	order := train.Order(s.job, s.set.Meta())
	opt.Samples = func(step uint64, m int) ([]int, bool) { return order.Slice(step, m, nil), false }
	rt := tensor.NewRuntime(1)
	s.t.Cleanup(rt.Close)
	r := &rank{name: name, waits: make(chan struct{}, 1)}
	r.Trainer, err = train.NewTrainer(rt, model, opt, func(_ uint64, phase string) {
		if phase == "ring" {
			select {
			case r.waits <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	feed, err := data.NewLocalFeed(s.set.Train(), order)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.feed, err = data.NewPrefetcher(feed, s.set.Meta(), s.job.Batch.Micro, 1, data.Range{Hi: 8}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.feed.Close() })
	r.net = s.net.Join(name)
	s.t.Cleanup(func() { r.net.Close() })
	return r
}

// form makes a new generation of ranks.
func (s *squad) form(bounds []int, ranks ...*rank) {
	s.t.Helper()
	s.gen++
	var names []string
	for _, r := range ranks {
		names = append(names, r.name)
	}
	for i, r := range ranks {
		if r.ring != nil {
			r.ring.Close()
		}
		var err error
		r.ring, err = allreduce.NewRing(r.net, allreduce.Group{Generation: s.gen, Rank: i, Members: names, Micro: bounds}, allreduce.Options{ChunkBytes: 4096, Fold: tensor.Fold})
		if err != nil {
			s.t.Fatal(err)
		}
		ring := r.ring
		s.t.Cleanup(func() { ring.Close() })
	}
}

// begin runs one step of a rank beside the test.
func (r *rank) begin(lo, hi int) {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.done = make(chan func() (train.Result, error), 1)
	go func() {
		res, err := r.Step(r.ctx, r.ring, lo, hi, r.feed, nil)
		r.done <- func() (train.Result, error) { return res, err }
	}()
}

func (r *rank) end() (train.Result, error) {
	f := <-r.done
	r.cancel()
	return f()
}

// step runs one step of all ranks.
func (s *squad) step(bounds []int, ranks ...*rank) (out []train.Result) {
	s.t.Helper()
	for i, r := range ranks {
		r.begin(bounds[i], bounds[i+1])
	}
	for _, r := range ranks {
		res, err := r.end()
		if err != nil {
			s.t.Fatalf("%s: %v", r.name, err)
		}
		out = append(out, res)
	}
	return out
}

// alone is what a job's steps give on one worker without any trouble.
func alone(t *testing.T, steps int, set ...string) (digests []string, losses []float64) {
	t.Helper()
	s := newSquad(t, set...)
	r := s.rank("alone")
	bounds := []int{0, s.job.Groups()}
	s.form(bounds, r)
	for range steps {
		losses = append(losses, s.step(bounds, r)[0].Loss)
		digests = append(digests, r.Digest())
	}
	return digests, losses
}
