package train

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// BenchmarkCheckpointPause measures how long training waits at a checkpoint of
// the default VLA, 34.6 M parameters and 415 MB of state: the digest that all
// ranks compare, the call of Hold, and what the next commit waits for the
// copy that goes on beside its step's computing. It is set beside the time of
// a step of the default batch, 64 samples in 8 micro-batches, on the same
// threads; that commit comes after one micro-batch.
//
//	go test ./pkg/train -run '^$' -bench CheckpointPause -benchtime 5x
func BenchmarkCheckpointPause(b *testing.B) {
	ctx := b.Context()
	j, err := Kinds().Parse("job.yaml", []byte("name: bench\nmodel: {kind: vla, vocab_size: 10000}\ndata: {kind: tabletop, episodes: 20}\n"), nil)
	if err != nil {
		b.Fatal(err)
	}
	set, err := OpenData(j, ".", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	model, opt, err := Build(j, set.Meta())
	if err != nil {
		b.Fatal(err)
	}
	const threads = 2
	rt := tensor.NewRuntime(threads)
	defer rt.Close()
	micros := opt.Global / opt.Micro
	opt.Global = opt.Micro // one micro-batch stands for all of them
	model.Init(j.Seed)
	t, err := NewTrainer(rt, model, opt, func(uint64, string) {})
	if err != nil {
		b.Fatal(err)
	}
	port := allreduce.NewMemNetwork(allreduce.Faults{}).Join("w")
	defer port.Close()
	ring, err := allreduce.NewRing(port, allreduce.Group{Generation: 1, Members: []string{"w"}, Micro: []int{0, 1}}, allreduce.Options{Fold: tensor.Fold})
	if err != nil {
		b.Fatal(err)
	}
	defer ring.Close()
	batch := models.NewBatch(opt.Micro, opt.Spec)
	for i := range batch.Ints(models.Instruction) {
		batch.Ints(models.Instruction)[i] = 1
	}
	commits := make(chan time.Time, 1)
	t.phase = func(_ uint64, phase string) {
		if phase == "optimizer" { // it is about to commit
			commits <- time.Now()
		}
	}
	step := func() (seconds float64, commit time.Time) {
		start := time.Now()
		if _, err := t.Step(ctx, ring, 0, 1, sameBatch{batch}, nil); err != nil {
			b.Fatal(err)
		}
		return since(&start) * float64(micros), <-commits
	}
	step()
	var spare []Part
	var steps, digests, calls, copies, waits []float64
	for b.Loop() {
		at := t.CommittedStep()
		start := time.Now()
		t.Digest()
		digests = append(digests, since(&start))
		began := start
		held, ok := t.Hold(at)
		if !ok {
			b.Fatalf("the state of step %d cannot be held", at)
		}
		calls = append(calls, since(&start))
		copied := make(chan time.Time, 1)
		go func() { // as a worker does it
			parts, err := held.Part(0, 1, spare)
			if err != nil {
				b.Error(err)
			}
			spare = parts
			held.Digest()
			if _, err := held.Witnesses(0, 1); err != nil {
				b.Error(err)
			}
			held.Release()
			copied <- time.Now()
		}()
		s, commit := step()
		end := <-copied
		steps = append(steps, s)
		copies = append(copies, end.Sub(began).Seconds())
		waits = append(waits, max(0, end.Sub(commit).Seconds()))
	}
	b.ReportMetric(median(steps), "s/step")
	b.ReportMetric(1e3*copies[0], "ms/first-copy-behind")
	b.ReportMetric(1e3*median(copies), "ms/copy-behind")
	b.ReportMetric(1e3*median(digests), "ms/digest")
	b.ReportMetric(1e3*median(calls), "ms/hold")
	b.ReportMetric(1e3*median(waits), "ms/commit-waits")
	b.ReportMetric(100*(median(digests)+median(calls)+median(waits))/median(steps), "%-of-a-step")
}

func median(l []float64) float64 {
	l = slices.Sorted(slices.Values(l))
	return l[len(l)/2]
}

// sameBatch is the same samples again and again.
type sameBatch struct{ b *models.Batch }

func (s sameBatch) Next(context.Context, uint64, int) (*models.Batch, error) { return s.b, nil }
