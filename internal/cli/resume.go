package cli

import (
	"fmt"
	"strings"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// nothingToDo says that the run has all steps that are asked for, and which of
// the keys that were given anew have no effect for that reason.
func (r *run) nothingToDo(from *checkpoint.Found) error {
	was, err := jobOf(from)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s: step %d of %d is already stored in %s: nothing to do (raise train.steps to go on)", r.job.Name, r.start, r.job.Train.Steps, r.dir)
	var keys []string
	for _, c := range changes(was, r.job) {
		keys = append(keys, c.key)
	}
	if len(keys) > 0 {
		text += "\nwithout effect: " + strings.Join(keys, ", ") + ", which differ from the run's"
	}
	v := newView(r.out, r.asJSON, r.job.Name, r.start, uint64(r.job.Train.Steps))
	if !r.asJSON {
		v = newView(r.errOut, false, r.job.Name, r.start, uint64(r.job.Train.Steps))
	}
	v.event("end", text, map[string]any{"outcome": "nothing to do", "step": r.start, "steps": r.job.Train.Steps, "reason": "all steps are stored already",
		"checkpoint": from.Dir, "model_sha256": from.Manifest.File(train.ModelFile).SHA256, "ignored": append([]string{}, keys...)})
	return nil
}

// jobOf is the job that made a checkpoint.
func jobOf(from *checkpoint.Found) (*job.Job, error) {
	return job.Parse(from.Dir+"/"+checkpoint.ManifestFile, from.Manifest.Config, nil)
}
