package run

import (
	"math"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

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
