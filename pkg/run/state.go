package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// peekInit refuses an init file that is none before the data is opened, which
// may take an hour.
func (r *Run) peekInit() error {
	if r.job.Init.Path == "" || r.start > 0 {
		return nil
	}
	f, err := r.openInit()
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return f.Close()
}

// checkInit reads the job's init file once, so that a bad one is refused
// before any worker starts.
func (r *Run) checkInit(model *models.Model) error {
	if r.job.Init.Path == "" || r.start > 0 {
		return nil
	}
	if err := r.firstWeights(model); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// firstState is what workers without peers begin with: a checkpoint's files, the
// init file, or nothing where the seed decides.
type firstState struct {
	step  uint64
	blobs []cluster.Blob
	files []*os.File // of blobs
}

func (s *firstState) close() {
	for _, f := range s.files {
		f.Close()
	}
}

// openState opens and hashes the first state's files.
func (r *Run) openState(from *checkpoint.Found) (s *firstState, err error) {
	s = &firstState{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	files := map[string]string{}
	switch {
	case from != nil:
		s.step = from.Manifest.Step
		files[train.ModelFile] = filepath.Join(from.Dir, train.ModelFile)
		files[train.OptimizerFile] = filepath.Join(from.Dir, train.OptimizerFile)
	case r.initFile != "":
		files[train.ModelFile] = r.initFile
	}
	for _, name := range []string{train.ModelFile, train.OptimizerFile} {
		path, ok := files[name]
		if !ok {
			continue
		}
		f, _, err := regular.Open(path)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
		h := sha256.New()
		size, err := io.Copy(h, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		s.blobs = append(s.blobs, cluster.Blob{Name: worker.StateBlobName(name, s.step), Size: size, SHA256: hex.EncodeToString(h.Sum(nil))})
	}
	return s, nil
}

// offerState puts s on offer, beside what somebody may still be fetching. It has
// its files from then on.
func (r *Run) offerState(l *link, s *firstState) error {
	for i, b := range s.blobs {
		r.offered.withdraw(l, func(of string) bool { return of == b.Name }) // where the same state is offered once more
		if err := l.blobs.Offer(b.Name, b.Size, b.SHA256, s.files[i]); err != nil {
			s.close()
			return err
		}
		r.offered.add(b.Name, s.files[i])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base, r.state = s.step, s.blobs
	return nil
}

// offered are the open files whose contents are on offer to workers.
type offered struct {
	mu    sync.Mutex
	files map[string]*os.File // by blob
}

func (o *offered) add(blob string, f *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.files == nil {
		o.files = map[string]*os.File{}
	}
	o.files[blob] = f
}

// withdraw takes back the offers that which chooses and closes their files: one
// that is removed while it is open keeps its place on the disk.
func (o *offered) withdraw(l *link, which func(blob string) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for blob, f := range o.files {
		if which(blob) {
			l.blobs.Withdraw(blob)
			f.Close()
			delete(o.files, blob)
		}
	}
}

// rewind puts the newest state on the disk on offer: no worker's newer one counts.
func (r *Run) rewind(l *link) (uint64, []cluster.Blob, error) {
	from, _, err := r.newestGood(r.job, func(checkpoint.Passed) {})
	if err != nil {
		return 0, nil, err
	}
	s, err := r.openState(from)
	if err == nil {
		err = r.offerState(l, s)
	}
	if err != nil {
		return 0, nil, err
	}
	return s.step, s.blobs, nil
}

// fetching is the checkpoint that is being fetched. A worker that is lost
// meanwhile would be waited for; with it goes the checkpoint, at once.
type fetching struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc
	owners []string        // of its parts
	last   map[string]bool // the members
}

func (f *fetching) begin(ctx context.Context, parts []*cluster.Offer) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel, f.owners = cancel, nil
	for _, p := range parts {
		f.owners = append(f.owners, p.Worker)
	}
	f.check()
	return ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cancel, f.owners = nil, nil
		cancel(nil)
	}
}

// members is told of every change.
func (f *fetching) members(l []cluster.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = map[string]bool{}
	for _, m := range l {
		f.last[m.Worker] = true
	}
	f.check()
}

func (f *fetching) check() {
	for _, w := range f.owners {
		if f.last != nil && !f.last[w] {
			f.cancel(fmt.Errorf("worker %s was lost before its part was stored", w))
		}
	}
}
