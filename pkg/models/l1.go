package models

import (
	"math"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// l1 is the mean absolute error of actions [B, A], or [B, L, A].
type l1 struct{}

func (o l1) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (l1) Check(*job.Checker)                                {}
func (l1) Name() string                                      { return L1 }
func (l1) Judges() string                                    { return Actions }
func (l1) Metrics() []job.Metric                             { return []job.Metric{{Name: "l1", Label: "L1"}} }

func (l1) Loss(t *tensor.Tape, answer *tensor.Var, of Expected) *tensor.Loss {
	return t.L1(answer, of.Actions, of.Valid)
}

func (l1) Soft(t *tensor.Tape, answer, teacher *tensor.Var, of Expected, _ float64) *tensor.Loss {
	return t.L1(answer, teacher, of.Valid)
}

func (l1) Score(answer []float32, of Truth, add func(int, float64, int)) {
	of.eachError(answer, func(e float64) {
		add(0, math.Abs(e), 1)
		add(1, math.Abs(e), 1)
	})
}
