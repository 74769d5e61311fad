package run

import (
	"math"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// PolicyOf is a job's retention.
func PolicyOf(j *job.Job) checkpoint.Policy {
	k := j.Checkpoint
	return checkpoint.Policy{Keep: k.Keep, KeepEvery: k.KeepEvery, Best: k.Best.Count, Metric: k.Best.Metric, Higher: j.Best().HigherIsBetter}
}

// ScoresOf are the checkpoints' values of a metric, which stands in their
// manifests or in the measurements of the held-out split.
func ScoresOf(metric string, entries []checkpoint.Entry, lines []Heldout) map[uint64]float64 {
	if metric != "loss" {
		return heldoutScores(lines, metric)
	}
	out := map[uint64]float64{}
	for _, e := range entries {
		if e.Training != nil {
			out[e.Step] = e.Training.Loss
		}
	}
	return out
}

// retain removes the checkpoints that the job's retention does not keep.
func (r *Run) retain() {
	r.retaining.Lock()
	defer r.retaining.Unlock()
	entries, err := r.store.List()
	if err != nil {
		r.log.Warn("checkpoint retention", zap.Error(err))
		return
	}
	p := PolicyOf(r.job)
	inUse := r.eval.inUse()
	r.mu.Lock()
	base, loading := r.base, r.loading
	r.mu.Unlock()
	if loading {
		inUse[base] = "workers may be loading it"
	}
	for _, d := range checkpoint.Retain(entries, p, ScoresOf(p.Metric, entries, r.eval.all()), inUse) {
		r.log.Debug("checkpoint retention", zap.Uint64("step", d.Step), zap.Bool("keep", d.Keep), zap.String("reason", d.Reason))
		if !d.Keep {
			r.offered.withdraw(r.link, func(blob string) bool {
				return blob == worker.StateBlobName(train.ModelFile, d.Step) || blob == worker.StateBlobName(train.OptimizerFile, d.Step)
			})
			if err := r.store.Remove(d.Step); err != nil {
				r.log.Warn("removing an old checkpoint", zap.Uint64("step", d.Step), zap.Error(err))
			}
		}
	}
}

// losses are those of a run's newest steps, for the manifests' mean.
type losses struct {
	window int
	by     map[uint64]stepLoss
	newest uint64
}

// stepLoss is a step's loss, and the number of targets that it is the mean over.
type stepLoss struct {
	mean    float64
	targets int
}

// defaultWindow is the number of steps of the mean where checkpoint.every
// gives none.
const defaultWindow = 100

func newLosses(every int) *losses {
	if every == 0 {
		every = defaultWindow
	}
	return &losses{window: every, by: map[uint64]stepLoss{}}
}

// add notes a committed step; one that was refused has no loss.
func (l *losses) add(step uint64, loss float64, targets int, refused bool) {
	l.newest = max(l.newest, step)
	if !refused {
		l.by[step] = stepLoss{loss, targets}
	}
	if len(l.by) <= 4*l.window {
		return
	}
	for s := range l.by { // a checkpoint is stored some steps late, never two windows
		if s+3*uint64(l.window) <= l.newest {
			delete(l.by, s)
		}
	}
}

// mean is that over the targets of the window's steps up to step; nil where
// there are none.
func (l *losses) mean(step uint64) *checkpoint.Training {
	var t checkpoint.Training
	first, total := 0, 0.0
	for s := step - min(step, uint64(l.window)) + 1; s <= step; s++ {
		if x, ok := l.by[s]; ok {
			if first == 0 {
				first = x.targets
			}
			w := 1.0 // exactly, where all steps have as many; lines of older versions do not say
			if x.targets > 0 {
				w = float64(x.targets) / float64(first)
			}
			t.Loss = float64(t.Loss + float64(w*x.mean))
			total += w
			t.Steps++
		}
	}
	t.Loss /= total
	if t.Steps == 0 || math.IsInf(t.Loss, 0) || math.IsNaN(t.Loss) {
		return nil
	}
	return &t
}
