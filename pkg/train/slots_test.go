package train

import (
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// slotted is an optimizer with any number of slots: slot i holds a sum of
// gradients that forgets by a factor of 1/(i+2), and the weights go against the
// gradient and all of them.
type slotted struct{ n int }

// kindsOfTests are the product's and optimizers of 0, 1 and 3 slots.
func kindsOfTests() job.Kinds {
	k := Kinds()
	for name, n := range map[string]int{"none": 0, "one": 1, "three": 3} {
		k.Optimizers = append(k.Optimizers, job.Kind{Name: name, Options: slotted{n}})
	}
	return k
}

func (o slotted) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (o slotted) Check(*job.Checker)                              {}
func (o slotted) Slots() []Slot                                   { return []Slot{{Name: "a"}, {Name: "b_1"}, {Name: "b_2"}}[:o.n] }

func (o slotted) Step(_ *tensor.Runtime, u Update) {
	lr, keep := float32(u.LR), 1-float32(u.LR*u.WeightDecay)
	for i := range u.Weights {
		g := float32(u.Grad[i] * u.Scale)
		sum := g
		for k, s := range u.Slots {
			s[i] = float32(s[i]/float32(k+2)) + g
			sum += s[i]
		}
		u.Weights[i] = float32(u.Weights[i]*keep) - float32(lr*sum)
	}
}

func TestNamesOfSlots(t *testing.T) {
	for _, c := range []struct {
		names string
		ok    bool
	}{{"", true}, {"m", true}, {"exp_avg exp_avg_sq", true}, {"m v", true}, {"v m", false}, {"m m", false}, {"a.b c", false}, {"exp_avg_sq exp_avg", false}, {"m .", false}} {
		var slots []Slot
		for _, n := range strings.Fields(c.names) {
			slots = append(slots, Slot{Name: n})
		}
		if err := checkSlots(slots); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.names, err)
		}
	}
}
