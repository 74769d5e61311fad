package run

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/rollout"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/trained"
)

// rolloutSeed is that of the episodes, which is rollout's own where nothing is said:
// so the command gives the numbers of eval.jsonl again.
const rolloutSeed = 1

// roll has the checkpoint in m act in the world of its data, where the job asks for that:
// with its weights, and with their average where there is one, which then stays in m.
// What goes wrong is said and costs no more than these numbers.
func (e *evaluator) roll(ctx context.Context, m *trained.Checkpoint, threads int) (l []rollout.Report) {
	t := e.job.Train
	if t.RolloutEvery == 0 || m.Step%uint64(t.RolloutEvery) != 0 && m.Step != uint64(t.Steps) {
		return nil
	}
	which := []string{job.Raw}
	if e.job.Optimizer.EMA.Active() {
		which = append(which, job.Average)
	}
	for _, w := range which {
		err := m.Use(w)
		var r rollout.Report
		if err == nil {
			r, err = rollout.Run(ctx, m, rollout.Options{Episodes: t.RolloutEpisodes, Seed: rolloutSeed, Threads: threads})
		}
		if err != nil {
			if ctx.Err() == nil {
				e.voice.log.Warn("rolling a checkpoint out", zap.Uint64("step", m.Step), zap.Error(err))
			}
			return nil
		}
		r.Trials = nil // the command lists them
		l = append(l, r)
	}
	return l
}

// rolledMetrics are the figures of rollouts for eval.jsonl, in roll's order of weights.
func rolledMetrics(l []rollout.Report) (out []HeldoutMetric) {
	for i, r := range l {
		of := ""
		if i > 0 {
			of = job.Averaged
		}
		out = append(out, HeldoutMetric{of + job.Success, r.Success}, HeldoutMetric{of + job.Success + "_low", r.Low}, HeldoutMetric{of + job.Success + "_high", r.High})
	}
	return out
}

// rolledText is a line for people; empty: nothing was rolled out.
func rolledText(l []rollout.Report) (s string) {
	for i, r := range l {
		if i == 0 {
			s = fmt.Sprintf("rollouts, step %d: ", r.Step)
		} else {
			s += "; averaged: "
		}
		s += fmt.Sprintf("success %.1f %% %s", 100*r.Success, r.Interval())
		for _, t := range r.Tasks {
			if t.Episodes > 0 {
				s += fmt.Sprintf(", %s %.0f %%", t.Task, 100*t.Success)
			}
		}
	}
	if l != nil {
		s += fmt.Sprintf(" (%d episodes)", l[0].Episodes)
	}
	return s
}
