package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/natsbus"
	"github.com/vlaring/vlaring/pkg/train"
)

// blobAdapter gives natsbus's bulk transfer the shape that pkg/train wants.
type blobAdapter struct{ *natsbus.Blobs }

var _ train.Blobs = blobAdapter{}

// peekInit refuses an init file that is none before the data is opened, which
// may take an hour.
func (r *run) peekInit() error {
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
func (r *run) checkInit(model *models.Model) error {
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
func (r *run) openState(from *checkpoint.Found) (s *firstState, err error) {
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
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
		h := sha256.New()
		size, err := io.Copy(h, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		s.blobs = append(s.blobs, cluster.Blob{Name: train.StateBlobName(name, s.step), Size: size, SHA256: hex.EncodeToString(h.Sum(nil))})
	}
	return s, nil
}

// offerState puts s on offer, beside what somebody may still be fetching. It has
// its files from then on.
func (r *run) offerState(l *link, s *firstState) error {
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
func (r *run) rewind(l *link) (uint64, []cluster.Blob, error) {
	found, err := checkpoint.LatestGood(filepath.Join(r.dir, "checkpoints"))
	from := &found
	if errors.Is(err, checkpoint.ErrNone) && len(found.Passed) == 0 {
		from, err = nil, nil
	}
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

// piece is a run of bytes of a checkpoint's file, and who has it.
type piece struct {
	cluster.Piece
	worker string
}

type wholeFile struct {
	name   string
	total  int64
	pieces []piece
}

// saveTimeout bounds the fetch of one checkpoint.
const saveTimeout = 10 * time.Minute

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

// assemble checks that the parts of a checkpoint make its two files, each byte
// once, of a size that a model of so many parameters can have.
func assemble(parts []*cluster.Offer, parameters int) ([]wholeFile, error) {
	const header = 16 << 20
	most := map[string]int64{train.ModelFile: 4*int64(parameters) + header, train.OptimizerFile: 8*int64(parameters) + header}
	var out []wholeFile
	for _, name := range []string{train.ModelFile, train.OptimizerFile} {
		f := wholeFile{name: name, total: -1}
		for _, o := range parts {
			for _, p := range o.Files {
				if p.File == name {
					f.pieces = append(f.pieces, piece{p, o.Worker})
				}
			}
		}
		slices.SortFunc(f.pieces, func(a, b piece) int { return cmp.Compare(a.Offset, b.Offset) })
		end := int64(0)
		for _, p := range f.pieces {
			if f.total < 0 {
				f.total = p.Total
			}
			if p.Total > most[name] {
				return nil, fmt.Errorf("worker %s offers a part of a %s of %d bytes: a model of %d parameters has at most %d", p.worker, name, p.Total, parameters, most[name])
			}
			if p.Offset != end || p.Size < 0 || p.Total != f.total {
				return nil, fmt.Errorf("the parts of %s do not fit: one of worker %s is of bytes %d to %d of %d, and the one before it ends at %d", name, p.worker, p.Offset, p.Offset+p.Size, p.Total, end)
			}
			end += p.Size
		}
		if end != f.total {
			return nil, fmt.Errorf("the parts of %s end at byte %d of %d", name, end, f.total)
		}
		out = append(out, f)
	}
	return out, nil
}

// at writes into a file from an offset on.
type at struct {
	w      io.WriterAt
	offset int64
}

func (a at) WriteAt(p []byte, off int64) (int, error) { return a.w.WriteAt(p, a.offset+off) }

// serveMicro answers workers that do not hold the data: the samples of one
// micro-batch by the name micro/<step>/<m>.
func (r *run) serveMicro() (func(ctx context.Context, name string) ([]byte, error), error) {
	feed, err := data.NewLocalFeed(r.dataset.Train(), train.Order(r.job, r.meta))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string) ([]byte, error) {
		parts := strings.Split(strings.TrimPrefix(name, train.MicroPrefix), "/")
		if len(parts) == 2 {
			step, err1 := strconv.ParseUint(parts[0], 10, 64)
			m, err2 := strconv.Atoi(parts[1])
			if err1 == nil && err2 == nil && m >= 0 && m < r.job.Batch.Global/r.job.Batch.Micro && step < uint64(r.job.Train.Steps) {
				samples, err := feed.Micro(ctx, step, m)
				if err != nil {
					return nil, err
				}
				return data.EncodeSamples(nil, step, m, samples), nil
			}
		}
		return nil, fmt.Errorf("no such micro-batch: %.80q", name)
	}, nil
}
