package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/transport"
)

// Run is one coordinator's run of a job.
type Run struct {
	opt    Options
	dir    *directory
	stops  stops
	leader atomic.Pointer[cluster.Coordinator] // once there is one
}

// New returns a run that has not begun. Whoever wants it to end calls Stop.
func New(o Options) *Run {
	if o.Server.Transport == nil {
		o.Server.Transport = transport.Of(o.Server.URL)
	}
	r := &Run{opt: o, stops: stops{make(chan string, 2)}}
	r.dir = newDirectory(&r.opt)
	return r
}

// Stop asks the coordinator to stop the job; asking again changes nothing, but
// ends a wait for a disk.
func (r *Run) Stop(reason string) { r.stops.ask(reason) }

// Pulse says how the coordinator does; it may be asked at any time.
func (r *Run) Pulse() cluster.Pulse {
	if c := r.leader.Load(); c != nil {
		return c.Pulse()
	}
	return cluster.Pulse{}
}

// WaitsForDisk says whether the last state waits for a disk that does not take it.
func (r *Run) WaitsForDisk() bool {
	c := r.leader.Load()
	return c != nil && c.WaitsForDisk()
}

// Newest is what can be resumed from, in words.
func (r *Run) Newest() string {
	if step, found := r.dir.newest(); found {
		return fmt.Sprintf("the newest checkpoint is of step %d\nresume with: %s", step, r.opt.Again)
	}
	return "no checkpoint was stored, so there is nothing to go on from\nstart again with: " + r.opt.Again
}

// Train is the whole run, in order. It returns nil where all steps are done, a
// ResumableError where the run can go on from a checkpoint, and otherwise what
// was wrong; ctx ends it at once, ErrHandover as its cause without its workers.
func (r *Run) Train(ctx context.Context) error {
	if err := tensor.CPUError(); err != nil {
		return usage.Wrap(err)
	}
	if err := r.dir.open(r.opt.Resume); err != nil {
		return err
	}
	defer r.dir.close()
	b, err := begin(ctx, &r.opt, r.dir, &r.stops)
	if err != nil {
		return err
	}
	defer b.close()
	if b.done() {
		return b.nothingToDo(ctx, &r.stops)
	}
	s, err := openSession(ctx, b, &r.stops)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := s.connect(ctx, &r.stops); err != nil {
		return err
	}
	fin, err := s.lead(ctx, &r.stops, &r.leader)
	if err != nil {
		return err
	}
	fin, futile := s.rec.allRefused(fin)
	if err := r.dir.conclude(fin, b.data.meta.Fingerprint); err != nil { // after what the job has to say this is a detail
		s.log.Warn("the run directory does not say that the run has ended: the next start will look for its workers first", zap.Error(err))
	}
	return r.finish(ctx, s, fin, futile)
}

// finish says how the job ended, and how good the model is.
func (r *Run) finish(ctx context.Context, s *session, fin cluster.Finish, futile bool) error {
	dir := r.dir.checkpoint(fin.Step)
	hash := ""
	if fin.Stored {
		m, err := checkpoint.ReadManifest(dir)
		if err != nil {
			return err
		}
		hash = m.File(train.ModelFile).SHA256
	}
	fields := map[string]any{"outcome": fin.Outcome.String(), "step": fin.Step, "reason": fin.Reason, "refused_steps": s.rec.tally.refused}
	if hash != "" {
		fields["checkpoint"], fields["model_sha256"] = dir, hash
	}
	if fin.Outcome == cluster.Done {
		s.finished = true
		s.Event("end", fmt.Sprintf("done: %d steps; weights in %s\nmodel.safetensors sha256 %s", fin.Step, dir, hash), fields)
		s.eval.finish(true)
		var err error
		if s.data.meta.Heldout > 0 {
			err = s.eval.last(ctx, dir, r.opt.Threads*max(r.opt.Local, 1))
		}
		s.rec.sayRefused()
		return err
	}
	s.Script("end", fields)
	if futile {
		return errors.New(fin.Reason)
	}
	s.rec.sayRefused()
	again := r.opt.Again
	if strings.Contains(fin.Reason, AcceptFlag) { // a sample that has to be repaired or left out
		again += " " + AcceptFlag
	}
	return endError(fin, "resume with: "+again, r.Newest())
}

// AcceptFlag is what a command has to go on with changed data. An error of a
// sample that has to be repaired or left out first names it.
const AcceptFlag = "--accept-data-change"
