package run

import (
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/train"
)

// fits refuses a job whose model, or whose local workers together, cannot fit
// into the memory that this process may have.
func (b *beginning) fits() error {
	here, ok := machine.Memory()
	if !ok {
		return nil
	}
	need, err := train.NeedOf(b.job, b.data.meta)
	if err != nil {
		return err
	}
	if err := need.Model(here); err != nil {
		return err
	}
	return need.Workers(b.opt.Local, here)
}
