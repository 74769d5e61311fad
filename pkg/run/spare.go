package run

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
)

// spareStore is the store in checkpoint.fallback_dir, opened when it is needed:
// what it is on may not be there before.
type spareStore struct {
	mu    sync.Mutex
	lock  *checkpoint.Lock
	store *checkpoint.Disk
}

// spareDir is where this job's checkpoints go that its run directory's disk does
// not take; empty where there is none.
func (d *directory) spareDir() string {
	if d.job.Checkpoint.FallbackDir == "" {
		return ""
	}
	return filepath.Join(job.Abs(d.baseDir, d.job.Checkpoint.FallbackDir), d.job.Name)
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
