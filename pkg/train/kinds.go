package train

import (
	"fmt"
	"strings"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Kinds lists what a job file of this program may name. Whatever adds a kind of
// its own appends to a list and hands that in instead.
func Kinds() job.Kinds {
	return job.Kinds{Models: models.Kinds(), Data: data.Kinds(), Losses: models.Losses(), Optimizers: optimizers(), Roads: roads()}
}

// optimizers lists the kinds of optimizer; the first is that of a job that names
// none.
func optimizers() []job.Kind {
	adam := Adam{Betas: [2]float64{0.9, 0.999}, Eps: 1e-8}
	coupled := adam
	coupled.L2 = true
	return []job.Kind{
		{Name: "adamw", About: "Adam with decoupled weight decay", Options: adam},
		{Name: "adam", About: "Adam with weight decay in the gradient", Options: coupled},
	}
}

// Optimizer is a kind of optimizer: what it keeps of each parameter, and its
// step. The trainer, the files of a checkpoint, digests, the shards of
// cluster.optimizer sharded and the sizes that are expected know of an optimizer
// what Slots says, and nothing else.
type Optimizer interface {
	job.Options
	// Slots are the values that it keeps of each parameter, in the order of
	// optimizer.safetensors, which is that of their names with a dot.
	Slots() []Slot
	// Step updates weights and slots. It does to each element the same, whatever
	// run of a model's parameters it stands in.
	Step(rt *tensor.Runtime, u Update)
}

// Slot is a value that an optimizer keeps of each parameter.
type Slot struct {
	Name    string // in optimizer.safetensors the parameter's follows it and a dot; without a dot itself
	Weights bool   // it begins as the first weights, and not as zero
}

// Update is what an optimizer's step works on: runs of one length.
type Update struct {
	Weights []float32
	Grad    []float32   // is to be multiplied by Scale, which clips it
	Slots   [][]float32 // as Optimizer.Slots has them; the outer slice may be changed

	Step            uint64 // from 1
	Scale           float32
	LR, WeightDecay float64 // of these parameters at this step
}

// Adam is the options of adamw and adam, named as in PyTorch.
type Adam struct {
	Betas [2]float64 `yaml:"betas,flow"`
	Eps   float64    `yaml:"eps"`
	L2    bool       // adam: the decay goes into the gradient
}

var _ Optimizer = Adam{}

// Slots are the means of the gradient and of its square.
func (Adam) Slots() []Slot { return []Slot{{Name: "exp_avg"}, {Name: "exp_avg_sq"}} }

// Step is Optimizer's.
func (a Adam) Step(rt *tensor.Runtime, u Update) {
	rt.AdamWStep(u.Weights, u.Grad, u.Slots[0], u.Slots[1], u.Step,
		tensor.AdamW{LR: u.LR, Beta1: a.Betas[0], Beta2: a.Betas[1], Eps: a.Eps, WeightDecay: u.WeightDecay, L2: a.L2}, u.Scale)
}

// Resolve is job.Options'.
func (a Adam) Resolve(*job.Job, func(string) bool) job.Options { return a }

// Check is job.Options'.
func (a Adam) Check(c *job.Checker) {
	for i, b := range a.Betas {
		if !(b >= 0 && b < 1) {
			c.Bad(fmt.Sprintf("optimizer.betas[%d] optimizer.betas", i), "%v is outside 0 ≤ beta < 1", b)
		}
	}
	if !(a.Eps > 0) {
		c.Bad("optimizer.eps", "%v is not above 0", a.Eps)
	}
}

// OptimizerOf is the job's optimizer, with the average of the weights that
// optimizer.ema asks for.
func OptimizerOf(j *job.Job) Optimizer {
	o := j.Optimizer.Options.(Optimizer)
	if e := j.Optimizer.EMA; e.Active() {
		return averagingOf(o, e)
	}
	return o
}

// checkSlots refuses names of slots that would not lie in a file as the shards
// and the parts of a checkpoint have it.
func checkSlots(slots []Slot) error {
	for i, s := range slots {
		if s.Name == "" || strings.Contains(s.Name, ".") || i > 0 && slotName(slots[i-1].Name, "") >= slotName(s.Name, "") {
			return fmt.Errorf("an optimizer with the slots %v: want different names without a dot, in the order of a file", slots)
		}
	}
	return nil
}
