package run

import (
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
)

// plan is what of an earlier coordinator's run goes on under this one's job.
type plan struct {
	otherWorkers bool     // workers that live on compute something else: they are refused, and keep their state
	otherResult  []change // keys by which the lines of metrics.jsonl are of another computation
	unknown      bool     // it is not known which: there is no copy of the job
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

// jobOf is the job that made a checkpoint.
func jobOf(from *checkpoint.Found, kinds job.Kinds) (*job.Job, error) {
	return kinds.Parse(from.Dir+"/"+checkpoint.ManifestFile, from.Manifest.Config, nil)
}
