package models

import (
	"math"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Head is a kind of loss: how what a model answers is judged, in training and
// on data that is held out. Everything that asks "which loss, and what does its
// report say?" asks a Head. A Head is a Judge, of what a network answers by itself,
// or Layered, with layers of its own that make the answer.
type Head interface {
	job.LossOptions
	Name() string // of the kind
	// Score hands the figures of the answers of some samples to add: number 0 is
	// the loss, 1 + k the k-th of Metrics; each is the sum of value over the sum
	// of count. Values are added one by one in the order of the samples, so that
	// no figure depends on how a split is cut into batches.
	Score(answer []float32, of Truth, add func(figure int, value float64, count int))
}

// Judge is a Head of a network's own answer.
type Judge interface {
	Head
	// Loss records the loss of an answer on t.
	Loss(t *tensor.Tape, answer *tensor.Var, of Expected) *tensor.Loss
	// Soft records the loss of an answer against a teacher's, of the same shape.
	// temperature is that of two softmaxes, where there are any.
	Soft(t *tensor.Tape, answer, teacher *tensor.Var, of Expected, temperature float64) *tensor.Loss
}

// Expected is what a batch is to be answered with, on the tape: Actions or Labels.
type Expected struct {
	Actions *tensor.Var  // [B, A], or [B, L, A]
	Valid   *tensor.Var  // [B, L], 1 for an action that counts, 0 for one that does not; nil: all count
	Labels  *tensor.Ints // [B, T], NoLabel where there is no target
}

// Truth is what some samples should have been answered with.
type Truth struct {
	Actions []float32 // [n, A] or [n, L, A], normalised; nil where the answer is tokens
	Valid   []float32 // [n, L], 0 for an action that does not count; nil: all count
	Learned []bool    // [A], the dimensions that training gave a scale; the others do not count
	Labels  []int32   // [n, T], NoLabel where there is no target; nil where the answer is actions
	Loss    float64   // the sum of the recorded loss over these samples, and
	Count   int       // what it is a sum over
}

// The kinds of loss.
const (
	MSE          = "mse"
	L1           = "l1"
	flowLoss     = "flow"
	binsLoss     = "bins"
	CrossEntropy = "cross_entropy"
)

// Losses lists the kinds of loss for a job file: for each thing that models
// answer, the one of a job that names none comes first.
func Losses() []job.Kind {
	return []job.Kind{
		{Name: MSE, About: "the mean squared error of actions", Options: mse{}},
		{Name: L1, About: "the mean absolute error of actions", Options: l1{}},
		{Name: flowLoss, About: "flow matching: actions are made of noise in a few steps", Options: flow{Steps: 10}},
		{Name: binsLoss, About: "the cross entropy of each action value's bin", Options: bins{Bins: 256}},
		{Name: CrossEntropy, About: "the cross entropy of the target tokens", Options: crossEntropy{}},
	}
}

// ownHead is the head of a model of o where nothing else is asked for.
func ownHead(o Options) Head {
	for _, k := range Losses() {
		if h := k.Options.(Head); h.Judges() == o.Answers() {
			return h
		}
	}
	return nil
}

// Counts says whether value i of Actions counts.
func (of *Truth) Counts(i int) bool {
	a := len(of.Learned)
	return of.Learned[i%a] && (of.Valid == nil || of.Valid[i/a] != 0)
}

// eachError calls f with the error of each answered action value that counts.
func (of *Truth) eachError(answer []float32, f func(e float64)) {
	for i, x := range answer {
		if of.Counts(i) {
			f(float64(x) - float64(of.Actions[i]))
		}
	}
}

// mse is the mean squared error of actions [B, A], or [B, L, A].
type mse struct{}

func (o mse) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (mse) Check(*job.Checker)                                {}
func (mse) Name() string                                      { return MSE }
func (mse) Judges() string                                    { return Actions }
func (mse) Metrics() []job.Metric                             { return []job.Metric{{Name: "l1", Label: "L1"}} }

func (mse) Loss(t *tensor.Tape, answer *tensor.Var, of Expected) *tensor.Loss {
	return squared(t, answer, of.Actions, of.Valid)
}

func (mse) Soft(t *tensor.Tape, answer, teacher *tensor.Var, of Expected, _ float64) *tensor.Loss {
	return squared(t, answer, teacher, of.Valid)
}

func squared(t *tensor.Tape, x, want, valid *tensor.Var) *tensor.Loss {
	if valid == nil {
		return t.MSE(x, want)
	}
	return t.ChunkMSE(x, want, valid)
}

func (mse) Score(answer []float32, of Truth, add func(int, float64, int)) {
	of.eachError(answer, func(e float64) {
		add(0, float64(e*e), 1)
		add(1, math.Abs(e), 1)
	})
}

// crossEntropy is that of the target tokens of logits [B, T, V].
type crossEntropy struct{}

func (o crossEntropy) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (crossEntropy) Check(*job.Checker)                                {}
func (crossEntropy) Name() string                                      { return CrossEntropy }
func (crossEntropy) Judges() string                                    { return Tokens }
func (crossEntropy) Metrics() []job.Metric {
	return []job.Metric{{Name: "accuracy", Label: "token accuracy", Share: true, HigherIsBetter: true}}
}

func (crossEntropy) Loss(t *tensor.Tape, answer *tensor.Var, of Expected) *tensor.Loss {
	return t.CrossEntropy(answer, of.Labels)
}

func (crossEntropy) Soft(t *tensor.Tape, answer, teacher *tensor.Var, of Expected, temperature float64) *tensor.Loss {
	return t.SoftTargets(answer, teacher, of.Labels, temperature)
}

func (crossEntropy) Score(answer []float32, of Truth, add func(int, float64, int)) {
	add(0, of.Loss, of.Count)
	words := len(answer) / max(len(of.Labels), 1)
	right, count := 0, 0
	for i, want := range of.Labels {
		if want == NoLabel {
			continue
		}
		count++
		if Likeliest(answer[i*words:(i+1)*words]) == want {
			right++
		}
	}
	add(1, float64(right), count)
}

// Likeliest is the index of the largest element, the first of equals.
func Likeliest(row []float32) int32 {
	best := 0
	for j, x := range row {
		if x > row[best] {
			best = j
		}
	}
	return int32(best)
}
