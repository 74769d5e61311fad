package run

import (
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
)

// PolicyOf is a job's retention.
func PolicyOf(j *job.Job) checkpoint.Policy {
	k := j.Checkpoint
	return checkpoint.Policy{Keep: k.Keep, KeepEvery: k.KeepEvery, Best: k.Best.Count, Metric: k.Best.Metric, Higher: j.Best().HigherIsBetter}
}

// scoresOf are the checkpoints' values of a metric, which stands in their
// manifests or in the measurements of the held-out split.
func scoresOf(metric string, entries []checkpoint.Entry, lines []Heldout) map[uint64]float64 {
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
