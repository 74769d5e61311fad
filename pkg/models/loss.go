package models

import "github.com/vlaring/vlaring/pkg/job"

// The kinds of loss.
const (
	MSE          = "mse"
	CrossEntropy = "cross_entropy"
)

// Losses lists the kinds of loss for a job file: for each thing that models
// answer, the one of a job that names none comes first.
func Losses() []job.Kind {
	return []job.Kind{
		{Name: MSE, About: "the mean squared error of actions", Options: mse{}},
		{Name: CrossEntropy, About: "the cross entropy of the target tokens", Options: crossEntropy{}},
	}
}

type mse struct{}

func (o mse) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (mse) Check(*job.Checker)                                {}

func (mse) Judges() string        { return Actions }
func (mse) Metrics() []job.Metric { return []job.Metric{{Name: "l1"}} }

type crossEntropy struct{}

func (o crossEntropy) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (crossEntropy) Check(*job.Checker)                                {}

func (crossEntropy) Judges() string { return Tokens }
func (crossEntropy) Metrics() []job.Metric {
	return []job.Metric{{Name: "accuracy", HigherIsBetter: true}}
}
