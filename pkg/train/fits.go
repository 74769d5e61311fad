package train

import (
	"fmt"
	"math"
	"slices"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Need is the memory that a job's model takes at least, by count.
type Need struct {
	Parameters int
	Weights    int64 // bytes
	Worker     int64 // bytes of one worker: weights, gradient and moments, and the activations of a micro-batch
}

// NeedOf counts what j takes, and allocates nothing: it has to answer for models
// that no machine could hold. Batches, micro-gradients that are kept and the ring's
// windows come on top.
func NeedOf(j *job.Job, meta data.Meta) (Need, error) {
	freezing := func(ps *tensor.Params) error { return freeze(ps, j.Train.Freeze) }
	s, err := models.Count(ModelConfig(j, meta), HeadOf(j), meta.Spec, freezing)
	if err != nil {
		return Need{}, misfit(err)
	}
	all := OptimizerOf(j).Slots()
	slots := int64(len(all))
	n := Need{Parameters: s.Parameters, Weights: s.Bytes()}
	// What is frozen has a gradient and slots in no memory that is touched, unless one
	// of the slots is an average, which is of all parameters.
	trained := 4 * int64(s.Trained)
	kept := trained
	if slices.ContainsFunc(all, func(s Slot) bool { return s.Weights }) {
		kept = s.Bytes()
	}
	n.Worker = s.Bytes() + trained + slots*kept
	// A rank holds two shards of the moments, and as much for those of the step in
	// progress. Up to four ranks that is no less than all moments.
	if w := int64(j.Cluster.Workers); j.Cluster.Optimizer == "sharded" && w > 4 {
		n.Worker = s.Bytes() + trained + 4*slots*kept/w
		for _, slot := range all {
			if slot.Weights { // every rank has it whole until the first commit
				n.Worker += s.Bytes() - 2*s.Bytes()/w
			}
		}
	}
	if j.Cluster.Verify > 0 { // a gradient that is computed again
		n.Worker += s.Bytes()
	}
	if !j.Model.Recompute {
		act, micro := s.Cost.ActivationBytes, int64(j.Batch.Micro)
		if act < 0 || act > (math.MaxInt64-n.Worker)/max(micro, 1) { // beyond what can be counted
			n.Worker = math.MaxInt64
		} else {
			n.Worker += act * micro
		}
	}
	return n, nil
}

// TooLargeError says that a model does not fit into the memory that there is.
type TooLargeError struct{ text string }

func (e *TooLargeError) Error() string { return e.text }

// Model is a *TooLargeError where the weights alone do not fit here.
func (n Need) Model(here machine.Limit) error {
	if n.Weights <= here.Bytes {
		return nil
	}
	return &TooLargeError{fmt.Sprintf("the model has %d parameters, which take %s, and %v: "+
		"make model.d_model, model.n_layers or model.max_len smaller",
		n.Parameters, machine.Bytes(n.Weights), here)}
}

// Workers is a *TooLargeError where so many workers do not fit here.
func (n Need) Workers(workers int, here machine.Limit) error {
	if workers < 1 || n.Worker <= here.Bytes/int64(workers) {
		return nil
	}
	what := "a worker"
	if workers > 1 {
		what = fmt.Sprintf("each of %d workers", workers)
	}
	return &TooLargeError{fmt.Sprintf("%s takes at least %s (weights, gradient and moments of %d parameters, "+
		"and the activations of a micro-batch), "+
		"and %v: fewer workers here (--workers), a smaller batch.micro, model.recompute: true, a smaller model, or more memory",
		what, machine.Bytes(n.Worker), n.Parameters, here)}
}
