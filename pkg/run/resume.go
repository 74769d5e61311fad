package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// nothingToDo says that the run has all steps that are asked for, and which of
// the keys that were given anew have no effect for that reason.
func (r *Run) nothingToDo(from *checkpoint.Found) error {
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
	v := r.ui.Screen(r.start)
	for _, say := range r.said {
		say(v)
	}
	v.Event("end", text, map[string]any{"outcome": "nothing to do", "step": r.start, "steps": r.job.Train.Steps, "reason": "all steps are stored already",
		"checkpoint": from.Dir, "model_sha256": from.Manifest.File(train.ModelFile).SHA256, "ignored": append([]string{}, keys...)})
	return nil
}

// jobOf is the job that made a checkpoint.
func jobOf(from *checkpoint.Found) (*job.Job, error) {
	return train.Kinds().Parse(from.Dir+"/"+checkpoint.ManifestFile, from.Manifest.Config, nil)
}

// plan is what of an earlier coordinator's run goes on under this one's job.
type plan struct {
	otherWorkers bool     // workers that live on compute something else: they are refused, and keep their state
	otherResult  []change // keys by which the lines of metrics.jsonl are of another computation
	unknown      bool     // it is not known which: there is no copy of the job
	data         string   // fingerprint of what it read; empty: unknown
}

// planOf compares the job that the run directory was last used for, nil if that
// is not known, with the one that it is to be used for now. Workers that may
// hold steps are not given up without being asked to.
func planOf(was, is *job.Job, takeover, resume bool) (plan, error) {
	if was == nil {
		return plan{unknown: true}, nil
	}
	p := plan{otherResult: changes(was.Result(), is.Result())}
	diff := changes(was.Computation(), is.Computation())
	p.otherWorkers = len(diff) > 0
	if takeover && !resume && p.otherWorkers {
		return p, usage.Errorf("the run was left unfinished, its workers may live on, and they cannot go on with other values of these keys:\n%s\n"+
			"start with the run's values to go on where they are; or add --resume to go back to the newest checkpoint, or to the beginning, with these values", listed(diff))
	}
	return p, nil
}

// prior is the job that the run directory was last used for; nil where there is none.
func (r *Run) prior() (*job.Job, error) {
	path := filepath.Join(r.dir, JobCopy)
	b, err := regular.Read(path, 1<<20)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	was, err := train.Kinds().Parse(path, b, nil)
	if err != nil { // of another release, or torn: nothing can be said of it
		r.early("prior", fmt.Sprintf("%s cannot be read, so what it says of the run counts for nothing: %v", path, err), map[string]any{"file": path})
		return nil, nil
	}
	return was, nil
}

// clearHistory sets aside what another computation left in the run directory:
// a run that begins anew must not go on in its lines.
func (r *Run) clearHistory() error {
	otherData := r.start == 0 && r.plan.data != "" && r.plan.data != r.meta.Fingerprint // beyond a checkpoint a change is accepted by a flag
	if otherData && r.takeover && !r.resume {
		return usage.Errorf("the run was left unfinished, its workers may live on, and the data is not what they have read\nbring the data back to go on where they are; or add --resume to begin anew with the data as it is")
	}
	r.plan.otherWorkers = r.plan.otherWorkers || otherData
	if r.plan.otherWorkers && r.takeover {
		r.early("refuses", fmt.Sprintf("workers that live on from before compute the job as it was: they are refused and keep their state in %s", filepath.Join(r.dir, "rescue")), nil)
	}
	if r.start > 0 || len(r.plan.otherResult) == 0 && !r.plan.unknown && !otherData {
		return nil
	}
	why := "it is not known of which job"
	switch {
	case otherData:
		why = "of other data"
	case !r.plan.unknown:
		why = "of another computation: " + strings.ReplaceAll(strings.TrimSpace(listed(r.plan.otherResult)), "\n  ", "; ")
	}
	for _, name := range []string{MetricsFile, EvalFile} {
		to, err := setAside(r.dir, name)
		if err != nil {
			return fmt.Errorf("setting aside %s, which is %s: %w", name, why, err)
		}
		if to != "" {
			r.early("aside", fmt.Sprintf("%s is set aside as %s (%s)", name, to, why), map[string]any{"file": name, "as": to})
		}
	}
	return nil
}

// early says something as soon as there is a screen.
func (r *Run) early(kind, text string, fields map[string]any) {
	r.said = append(r.said, func(v Screen) { v.Event(kind, text, fields) })
}

// sayBend says how a changed train.steps bends the learning rate.
func (r *Run) sayBend(was *job.Job, step uint64) {
	b, ok := train.ScheduleOf(r.job).Bends(train.ScheduleOf(was), step)
	if !ok || step >= uint64(r.job.Train.Steps) {
		return
	}
	r.early("schedule", fmt.Sprintf("train.steps is %d and was %d, which bends the learning rate: step %d: lr %.2e where the run so far would have %.2e",
		r.job.Train.Steps, was.Train.Steps, b.Step, b.Is, b.Was), map[string]any{"steps": r.job.Train.Steps, "steps_before": was.Train.Steps, "step": b.Step, "lr": b.Is, "lr_before": b.Was})
}

// noUpdate says whether every step of the run was refused.
func (r *Run) noUpdate() bool { return r.tally.steps > 0 && r.tally.refused == r.tally.steps }

// allRefused makes a failure of a finished run that has learned nothing.
func (r *Run) allRefused(f cluster.Finish) cluster.Finish {
	if f.Outcome == cluster.Done && r.noUpdate() {
		f.Outcome, r.futile = cluster.Failed, true
		f.Reason = fmt.Sprintf("no update was made: all %d of %d steps were refused%s, the last one, %s\n"+
			"the weights are the first ones: mend the data, the first weights or optimizer.lr, and start again with another --run-dir", r.tally.refused, r.tally.steps, r.skips(), r.tally.why)
	}
	return f
}

// skips names the key that has steps passed over, where it does. A step without
// a target is passed over in any case.
func (r *Run) skips() string {
	if r.job.Train.NonFinite == "skip" {
		return " (train.non_finite: skip)"
	}
	return ""
}

// sayRefused says how many steps made no update.
func (r *Run) sayRefused() {
	if t := r.tally; t.refused > 0 {
		r.view.Event("refused", fmt.Sprintf("%d of %d steps made no update%s; the last one, %s", t.refused, t.steps, r.skips(), t.why),
			map[string]any{"refused": t.refused, "of": t.steps})
	}
}
