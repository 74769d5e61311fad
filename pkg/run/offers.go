package run

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// offers are what workers may fetch from the coordinator: the state that those
// without peers begin with, and beside it what somebody may still be fetching.
type offers struct {
	blobs bulk.Blobs // once the job is this coordinator's

	mu      sync.Mutex     // the coordinator's loop takes it: held for moments alone
	base    uint64         // step of state
	state   []cluster.Blob // what workers without peers begin with
	loading bool           // somebody may be fetching it

	open  sync.Mutex          // of files; withdrawing waits for reads
	files map[string]*os.File // that are on offer, by blob
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

// openState opens and hashes the files of the checkpoint from or, where there is
// none, the file of first weights, which may be empty: then the seed decides.
func openState(from *checkpoint.Found, first string) (_ *firstState, err error) {
	s := &firstState{}
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
	case first != "":
		files[train.ModelFile] = first
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

// put puts s on offer, beside what somebody may still be fetching. It has its
// files from then on.
func (o *offers) put(s *firstState) error {
	for i, b := range s.blobs {
		o.withdraw(func(of string) bool { return of == b.Name }) // where the same state is offered once more
		if err := o.blobs.Offer(b.Name, b.Size, b.SHA256, s.files[i]); err != nil {
			s.close()
			return err
		}
		o.open.Lock()
		o.files[b.Name] = s.files[i]
		o.open.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.base, o.state = s.step, s.blobs
	return nil
}

// withdraw takes back the offers that which chooses and closes their files: one
// that is removed while it is open keeps its place on the disk.
func (o *offers) withdraw(which func(blob string) bool) {
	o.open.Lock()
	defer o.open.Unlock()
	for blob, f := range o.files {
		if which(blob) {
			o.blobs.Withdraw(blob)
			f.Close()
			delete(o.files, blob)
		}
	}
}

// current is what workers without peers begin with, and its step.
func (o *offers) current() (step uint64, state []cluster.Blob) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.base, o.state
}

// members is told of every change: those who load may be fetching the state.
func (o *offers) members(p cluster.Phase, members []cluster.Member) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.loading = p == cluster.Gathering || slices.ContainsFunc(members, func(m cluster.Member) bool { return m.Status == cluster.Loading })
}

// loaded is the step that somebody may be loading.
func (o *offers) loaded() (step uint64, loading bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.base, o.loading
}

// rewind puts the newest state on the disk on offer, or the file of first weights
// where there is none: no worker's newer one counts.
func (o *offers) rewind(dir *directory, first func() (string, error)) (uint64, []cluster.Blob, error) {
	from, _, err := dir.newestGood(dir.job, func(checkpoint.Passed) {})
	file := ""
	if err == nil && from == nil {
		file, err = first()
	}
	if err != nil {
		return 0, nil, err
	}
	s, err := openState(from, file)
	if err == nil {
		err = o.put(s)
	}
	if err != nil {
		return 0, nil, err
	}
	return s.step, s.blobs, nil
}
