package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// save fetches the parts of a checkpoint, each from the worker that has it, and
// makes them one on the disk.
func (r *Run) save(ctx context.Context, link *link, step uint64, parts []*cluster.Offer) error {
	began := time.Now()
	ctx, end := r.fetching.begin(ctx, parts)
	defer end()
	err := r.lock.Check()
	if err == nil {
		err = r.saveTo(ctx, r.store, link, step, parts)
	}
	switch {
	case err == nil:
		r.spare.prune(step)
	case ofDisk(err) && r.job.Checkpoint.FallbackDir != "":
		if ferr := r.saveSpare(ctx, link, step, parts); ferr != nil {
			return &spareError{err, ferr}
		}
		r.log.Warn("a checkpoint was stored in checkpoint.fallback_dir", zap.String("path", r.checkpointDir(step)), zap.Error(err))
	default:
		return err
	}
	r.view.Saved(step)
	r.log.Debug("checkpoint stored", zap.Uint64("step", step), zap.Duration("took", time.Since(began)))
	r.eval.stored(step)
	r.retain()
	return nil
}

// saveTo has the files of a checkpoint fetched into a store.
func (r *Run) saveTo(ctx context.Context, store *checkpoint.Disk, link *link, step uint64, parts []*cluster.Offer) (err error) {
	files, err := assemble(parts, r.layout)
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
	if err := r.fetch(ctx, link, w, step, parts, files); err != nil {
		return err
	}
	meta, err := json.Marshal(r.meta)
	if err != nil {
		return err
	}
	model, err := json.Marshal(train.ModelConfig(r.job, r.meta))
	if err != nil {
		return err
	}
	r.mu.Lock()
	training := r.loss.mean(step)
	r.mu.Unlock()
	m := checkpoint.Manifest{Step: step, Cursor: step * uint64(r.job.Batch.Global), Seed: r.job.Seed, Job: r.job.Name,
		Software: r.version, World: len(parts), Model: model, Data: meta, Config: r.job.YAML(), Training: training}
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

// spareStore is the store in checkpoint.fallback_dir, opened when it is needed:
// what it is on may not be there before.
type spareStore struct {
	mu    sync.Mutex
	lock  *checkpoint.Lock
	store *checkpoint.Disk
}

// spareDir is where this job's checkpoints go that its run directory's disk does
// not take; empty where there is none.
func (r *Run) spareDir() string {
	if r.job.Checkpoint.FallbackDir == "" {
		return ""
	}
	return filepath.Join(Abs(r.baseDir, r.job.Checkpoint.FallbackDir), r.job.Name)
}

func (s *spareStore) open(dir string) (*checkpoint.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != nil {
		return s.store, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := checkpoint.LockRunDir(dir)
	if err != nil {
		return nil, err
	}
	store, err := checkpoint.OpenDisk(filepath.Join(dir, "checkpoints"))
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	s.lock, s.store = lock, store
	return store, nil
}

// prune removes what a newer checkpoint, of step, has made superfluous.
func (s *spareStore) prune(step uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return
	}
	entries, err := s.store.List()
	for _, e := range entries {
		if err == nil && e.Step < step {
			s.store.Remove(e.Step) // one that stays is one that stays
		}
	}
}

func (s *spareStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		s.lock.Unlock()
	}
}

func (r *Run) saveSpare(ctx context.Context, link *link, step uint64, parts []*cluster.Offer) error {
	store, err := r.spare.open(r.spareDir())
	if err != nil {
		return err
	}
	if err := r.saveTo(ctx, store, link, step, parts); err != nil {
		return err
	}
	r.spare.prune(step)
	return nil
}

// storeDirs are the stores that a run looks for checkpoints in, its own first.
func (r *Run) storeDirs() []string {
	dirs := []string{filepath.Join(r.dir, "checkpoints")}
	if d := r.spareDir(); d != "" {
		dirs = append(dirs, filepath.Join(d, "checkpoints"))
	}
	kept, _ := filepath.Glob(filepath.Join(globQuote(r.dir), "rescue", "*")) // the pattern is sound
	return append(dirs, kept...)
}

// checkpointDir is where the checkpoint of a step is: in the run directory,
// unless only another store has it.
func (r *Run) checkpointDir(step uint64) string {
	own := filepath.Join(r.dir, "checkpoints", checkpoint.DirName(step))
	if IsDir(own) {
		return own
	}
	for _, dir := range r.storeDirs() {
		if d := filepath.Join(dir, checkpoint.DirName(step)); IsDir(d) {
			return d
		}
	}
	return own
}
