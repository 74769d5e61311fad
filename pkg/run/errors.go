package run

import (
	"fmt"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// ResumableError ends a run that can be resumed.
type ResumableError struct{ Text string }

func (e ResumableError) Error() string { return e.Text }

// ErrHandover, as the cause of a context's end, ends a coordinator whose job goes on.
var ErrHandover = ResumableError{"left the job to the next coordinator; its workers wait for cluster.orphan_timeout"}

// endError turns a job's end into the command's error. hint is what to type
// where the last step is stored, and newest what there is where it is not.
func endError(f cluster.Finish, hint, newest string) error {
	switch {
	case f.Outcome == cluster.Done:
		return nil
	case f.Outcome == cluster.Failed && !f.Stored:
		return fmt.Errorf("%s\n%s", f.Reason, newest)
	case f.Outcome == cluster.Failed:
		return fmt.Errorf("%s\n%s", f.Reason, hint)
	case !f.Stored:
		return fmt.Errorf("%s; no step was committed\n%s", f.Reason, newest)
	}
	return ResumableError{fmt.Sprintf("%s at step %d\n%s", f.Reason, f.Step, hint)}
}
