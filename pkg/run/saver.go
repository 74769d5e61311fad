package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// saver stores checkpoints: the parts of each are fetched from the workers that
// have them and made one on the disk, and then what retention does not keep goes.
type saver struct {
	job     *job.Job
	dir     *directory
	meta    data.Meta
	layout  train.Layout
	version string
	voice   voice
	blobs   bulk.Blobs
	mean    func(step uint64) *checkpoint.Training
	eval    *evaluator
	upload  *uploader // nil: none
	offers  *offers
	trace   *tracer // nil: none

	fetching  fetching
	retaining sync.Mutex // one round of retention at a time
}

// save fetches the parts of a checkpoint, each from the worker that has it, and
// makes them one on the disk.
func (s *saver) save(ctx context.Context, step uint64, parts []*cluster.Offer) error {
	began := time.Now()
	defer s.trace.span("checkpoint", map[string]any{"step": step})()
	ctx, end := s.fetching.begin(ctx, parts)
	defer end()
	err := s.dir.lock.Check()
	if err == nil {
		err = s.saveTo(ctx, s.dir.store, step, parts)
	}
	switch {
	case err == nil:
		s.dir.spare.prune(step)
	case ofDisk(err) && s.job.Checkpoint.FallbackDir != "":
		if ferr := s.saveSpare(ctx, step, parts); ferr != nil {
			return &spareError{err, ferr}
		}
		s.voice.log.Warn("a checkpoint was stored in checkpoint.fallback_dir", zap.String("path", s.dir.checkpoint(step)), zap.Error(err))
	default:
		return err
	}
	s.voice.Saved(step)
	s.voice.log.Debug("checkpoint stored", zap.Uint64("step", step), zap.Duration("took", time.Since(began)))
	s.eval.stored(step)
	s.retain()
	s.upload.stored()
	return nil
}

// saveTo has the files of a checkpoint fetched into a store.
func (s *saver) saveTo(ctx context.Context, store *checkpoint.Disk, step uint64, parts []*cluster.Offer) (err error) {
	files, err := assemble(parts, s.layout)
	if err != nil {
		return err
	}
	bytes := int64(0)
	for _, f := range files {
		bytes += f.total
	}
	if err := store.Room(step, bytes); err != nil { // before anything is fetched in vain
		return err
	}
	w, err := store.Begin(step)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	if err := s.fetch(ctx, w, step, parts, files); err != nil {
		return err
	}
	meta, err := json.Marshal(s.meta)
	if err != nil {
		return err
	}
	model, err := json.Marshal(train.ModelConfig(s.job, s.meta))
	if err != nil {
		return err
	}
	m := checkpoint.Manifest{Step: step, Cursor: step * uint64(s.job.Batch.Global), Seed: s.job.Seed, Job: s.job.Name,
		Software: s.version, World: len(parts), Model: model, Data: meta, Config: s.job.YAML(), Training: s.mean(step)}
	return w.Commit(m)
}

// ofDisk says whether it is the run directory's disk that did not take a
// checkpoint, and not a worker or the network that did not send it.
func ofDisk(err error) bool {
	var disk *checkpoint.DiskError
	var moved *checkpoint.MovedError
	return errors.As(err, &disk) || errors.As(err, &moved)
}

// spareError says that neither disk took a checkpoint.
type spareError struct{ first, spare error }

func (e *spareError) Error() string {
	return fmt.Sprintf("%v; nor does checkpoint.fallback_dir take it: %v", e.first, e.spare)
}
func (e *spareError) Unwrap() []error { return []error{e.first, e.spare} }

// Lasting is one state of both disks.
func (e *spareError) Lasting() string {
	var a, b interface{ Lasting() string }
	if !errors.As(e.first, &a) || !errors.As(e.spare, &b) || a.Lasting() == "" || b.Lasting() == "" {
		return ""
	}
	return a.Lasting() + "; " + b.Lasting()
}

func (s *saver) saveSpare(ctx context.Context, step uint64, parts []*cluster.Offer) error {
	store, err := s.dir.spare.open(s.dir.spareDir())
	if err != nil {
		return err
	}
	if err := s.saveTo(ctx, store, step, parts); err != nil {
		return err
	}
	s.dir.spare.prune(step)
	return nil
}

// retain removes the checkpoints that the job's retention does not keep.
func (s *saver) retain() {
	s.retaining.Lock()
	defer s.retaining.Unlock()
	entries, err := s.dir.store.List()
	if err != nil {
		s.voice.log.Warn("checkpoint retention", zap.Error(err))
		return
	}
	p := PolicyOf(s.job)
	inUse := s.eval.inUse()
	s.upload.inUse(inUse)
	if base, loading := s.offers.loaded(); loading {
		inUse[base] = "workers may be loading it"
	}
	for _, d := range checkpoint.Retain(entries, p, scoresOf(p.Metric, entries, s.eval.all()), inUse) {
		s.voice.log.Debug("checkpoint retention", zap.Uint64("step", d.Step), zap.Bool("keep", d.Keep), zap.String("reason", d.Reason))
		if !d.Keep {
			s.offers.withdraw(func(blob string) bool {
				return blob == worker.StateBlobName(train.ModelFile, d.Step) || blob == worker.StateBlobName(train.OptimizerFile, d.Step)
			})
			if err := s.dir.store.Remove(d.Step); err != nil {
				s.voice.log.Warn("removing an old checkpoint", zap.Uint64("step", d.Step), zap.Error(err))
			}
		}
	}
}
