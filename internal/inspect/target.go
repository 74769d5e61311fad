package inspect

import (
	"context"
	"io"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
)

// Options say what is looked at, and who is told.
type Options struct {
	Arg      string        // a job file (.yaml, .yml), or a data set
	Set      []string      // overrides of the job file's keys
	Threads  int           // that decode
	Scans    *data.ScanDir // where scans are kept; nil: none are
	JSON     bool          // Out is for scripts: one object a line
	Out      io.Writer
	Progress io.Writer
	File     string // made for all faults, one JSON object a line; empty: nobody asked
}

// target is one data set to look at: of a job, or one camera of a path.
type target struct {
	cfg   job.Data
	wants models.Spec
	seed  uint64
	base  string
	free  bool // no model says what size pictures become
}

// targets reads Arg: a job file, or a data set.
func (o *Options) targets() ([]target, error) {
	if o.Threads < 1 || o.Threads > 1024 {
		return nil, usage.Errorf("--threads %d: want 1 to 1024", o.Threads)
	}
	if ext := filepath.Ext(o.Arg); ext == ".yaml" || ext == ".yml" {
		j, err := train.Kinds().Load(o.Arg, o.Set)
		if err != nil {
			return nil, err
		}
		base, err := filepath.Abs(filepath.Dir(o.Arg))
		return []target{{j.Data, data.WantsOf(j.Model.Options), j.Seed, base, false}}, err
	}
	if len(o.Set) > 0 {
		return nil, usage.Errorf("--set overrides keys of a job file, and %s is not one (.yaml)", o.Arg)
	}
	found, err := data.Recognise(o.Arg)
	var out []target
	for _, r := range found {
		out = append(out, target{r.Data, r.Wants, 0, ".", true})
	}
	return out, err
}

// survey opens a target and looks at its samples.
func (t target) survey(ctx context.Context, screen io.Writer, what string, s data.Survey, w data.Watch) (data.Summary, error) {
	v := view.NewScan(screen, "scanning")
	defer v.End()
	w.Progress = v.Progress
	d, err := data.OpenContext(ctx, t.cfg, t.wants, t.seed, t.base, nil, w)
	if err != nil {
		return data.Summary{}, err
	}
	defer d.Close()
	v.End()
	v = view.NewScan(screen, what)
	defer v.End()
	s.Progress, s.AnySize = v.Progress, t.free
	return d.Survey(ctx, s)
}
