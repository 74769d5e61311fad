package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/plain"
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
	Page     string // a PNG that is made of some samples; empty: nobody asked
}

// target is the data set to look at: of a job, or of a path with all that it has.
type target struct {
	cfg   job.Data
	wants models.Spec
	seed  uint64
	base  string
	free  bool // no model says what size pictures become
}

// target reads Arg: a job file, or a data set.
func (o *Options) target() (t target, err error) {
	if o.Threads < 1 || o.Threads > 1024 {
		return t, usage.Errorf("--threads %d: want 1 to 1024", o.Threads)
	}
	if err := o.checkPage(); err != nil {
		return t, err
	}
	if ext := filepath.Ext(o.Arg); ext == ".yaml" || ext == ".yml" {
		j, err := train.Load(o.Arg, o.Set)
		if err != nil {
			return t, err
		}
		base, err := filepath.Abs(filepath.Dir(o.Arg))
		return target{j.Data, data.WantsOf(j.Model.Options), j.Seed, base, false}, err
	}
	if len(o.Set) > 0 {
		return t, usage.Errorf("--set overrides keys of a job file, and %s is not one (.yaml)", o.Arg)
	}
	found, err := data.Recognise(o.Arg)
	if err != nil {
		return t, err
	}
	return target{found.Data, found.Wants, 0, ".", true}, nil
}

// survey opens the data and looks at its samples. Then it tells of them and draws the
// page, which is for people, and whose error is not the data's.
func (o *Options) survey(ctx context.Context, t target, what string, s data.Survey, w data.Watch, tell func(data.Summary) error) (sum data.Summary, told, err error) {
	v := view.NewScan(o.Progress, "scanning")
	defer v.End()
	w.Progress, w.Scans = v.Progress, o.Scans
	d, err := data.OpenContext(ctx, t.cfg, t.wants, t.seed, t.base, nil, w)
	if err != nil {
		return sum, nil, err
	}
	defer d.Close()
	v.End()
	v = view.NewScan(o.Progress, what)
	defer v.End()
	s.Threads, s.Progress, s.AnySize = o.Threads, v.Progress, t.free
	if sum, err = d.Survey(ctx, s); err == nil {
		v.End()
		if told = tell(sum); told == nil {
			told = o.page(d, sum.Findings)
		}
	}
	return sum, told, err
}

// opening is the error of data that does not open, with what helps: the place of the key
// that is at fault, or else the command that lists all faults of the data.
func (o *Options) opening(err error) error {
	var key *data.KeyError
	if errors.As(err, &key) {
		return train.Placed(err, o.Arg, o.Set)
	}
	return fmt.Errorf("%w\nlist all that is wrong: coordinator data check %s", err, plain.ShellWord(o.Arg))
}
