package run

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/train"
)

// fits refuses a job whose model, or whose local workers together, cannot fit
// into the memory that this process may have.
func (r *Run) fits() error {
	here, ok := machine.Memory()
	if !ok {
		return nil
	}
	need, err := train.NeedOf(r.job, r.meta)
	if err != nil {
		return err
	}
	if err := need.Model(here); err != nil {
		return err
	}
	return need.Workers(r.local, here)
}

// killedForMemory says what to do where a process was killed because its
// control group was out of memory: kills were so many when it began.
func killedForMemory(kills int64) string {
	now, ok := machine.Kills()
	if !ok || now <= kills {
		return ""
	}
	limit := ""
	if here, ok := machine.Memory(); ok {
		limit = fmt.Sprintf(" (%v)", here)
	}
	return fmt.Sprintf("the kernel killed it because memory ran out%s: a smaller batch.micro, model.recompute: true, fewer workers here (--workers), or more memory", limit)
}
