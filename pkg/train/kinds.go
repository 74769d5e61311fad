package train

import (
	"fmt"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Kinds lists what a job file of this program may name.
func Kinds() job.Kinds {
	return job.Kinds{Models: models.Kinds(), Data: data.Kinds(), Losses: models.Losses(), Optimizers: []job.Kind{
		{Name: "adamw", About: "Adam with decoupled weight decay", Options: Adam{Betas: [2]float64{0.9, 0.999}, Eps: 1e-8}},
		{Name: "adam", About: "Adam with weight decay in the gradient", Options: Adam{Betas: [2]float64{0.9, 0.999}, Eps: 1e-8}},
	}}
}

// Adam is the options of adamw and adam.
type Adam struct {
	Betas [2]float64 `yaml:"betas,flow"`
	Eps   float64    `yaml:"eps"`
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
