package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// piece is a run of bytes of a checkpoint's file, and who has it.
type piece struct {
	cluster.Piece
	worker string
	sum    hash.Hash32 // of what came
}

type wholeFile struct {
	name   string
	total  int64
	pieces []piece
}

// assemble checks that the parts of a checkpoint make its two files, each byte
// once, of a size that a state of that layout can have.
func assemble(parts []*cluster.Offer, layout train.Layout) ([]wholeFile, error) {
	const header = 16 << 20
	most := map[string]int64{train.ModelFile: layout.ModelBytes() + header, train.OptimizerFile: layout.OptimizerBytes() + header}
	var out []wholeFile
	for _, name := range []string{train.ModelFile, train.OptimizerFile} {
		f := wholeFile{name: name, total: -1}
		for _, o := range parts {
			for _, p := range o.Files {
				if p.File == name {
					f.pieces = append(f.pieces, piece{p, o.Worker, train.PartSum()})
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
				return nil, fmt.Errorf("worker %s offers a part of a %s of %d bytes: a model of %d parameters has at most %d", p.worker, name, p.Total, layout.Parameters(), most[name])
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

// saveStall is how long the fetch of a checkpoint may bring nothing at all. How
// long it takes in all is a matter of its size and of the network.
const saveStall = 5 * time.Minute

// fetch brings the files' pieces, each from the worker that has it, to w, and
// sees whether they make the state that the workers hold.
func (s *saver) fetch(ctx context.Context, w checkpoint.Writer, step uint64, parts []*cluster.Offer, files []wholeFile) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var came atomic.Int64
	defer watchProgress(&came, saveStall, cancel)()

	dsts := make([]checkpoint.File, len(files))
	group, ctx := errgroup.WithContext(ctx) // of one that fails the others are in vain
	for i, f := range files {
		dst, err := w.Create(f.name, f.total)
		if err != nil {
			cancel(err)
			group.Wait()
			return err
		}
		dsts[i] = dst
		for _, p := range f.pieces {
			group.Go(func() error {
				to := io.WriterAt(&arriving{dst, p.Offset, p.sum, &came})
				if err := s.blobs.Fetch(ctx, p.worker, p.Name, p.Size, p.SHA256, to); err != nil {
					return fmt.Errorf("fetching %s from worker %s: %w", p.Name, p.worker, err)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.checkState(step, parts, files, dsts); err != nil {
		return err
	}
	for _, dst := range dsts {
		if err := dst.Close(); err != nil {
			return err
		}
	}
	return nil
}

// watchProgress cancels where nothing has come for as long as stall says, until end.
func watchProgress(came *atomic.Int64, stall time.Duration, cancel context.CancelCauseFunc) (end func()) {
	done := make(chan struct{})
	go func() {
		last := came.Load()
		for t := time.NewTicker(stall); ; {
			select {
			case <-t.C:
			case <-done:
				t.Stop()
				return
			}
			now := came.Load()
			if now == last {
				cancel(fmt.Errorf("nothing has come for %v; %d bytes before", stall, now))
			}
			last = now
		}
	}()
	return func() { close(done) }
}

// arriving is where a piece is written: into its file from an offset on, in
// order, and into its checksum.
type arriving struct {
	w      io.WriterAt
	offset int64
	sum    hash.Hash32
	came   *atomic.Int64
}

func (a *arriving) WriteAt(p []byte, off int64) (int, error) {
	n, err := a.w.WriteAt(p, a.offset+off)
	a.sum.Write(p[:n])
	a.came.Add(int64(n))
	return n, err
}

// checkState says whether the assembled files are the state that the parts'
// workers say they hold. The hash of a part is of what its worker hands out,
// which need not be what it holds: memory fails, and programs do.
func (s *saver) checkState(step uint64, parts []*cluster.Offer, files []wholeFile, dsts []checkpoint.File) error {
	opened := map[string]*safetensors.File{}
	var broken error // a header may be hit as well
	for i, f := range files {
		var err error
		if opened[f.name], err = safetensors.Read(dsts[i], f.total, f.name); err != nil {
			broken = errors.Join(broken, err)
		}
	}
	want := parts[0].Digest // all say the same, or they would not be fetched
	got := ""
	if broken == nil {
		got, broken = s.layout.Digest(step, opened[train.ModelFile], opened[train.OptimizerFile])
	}
	lie, all := liars(parts, files)
	if broken == nil && got == want && (all || !s.layout.Sharded()) { // no digest speaks of moments that are shared out: witnesses do
		return nil
	}
	bad := &cluster.PartError{Workers: lie, Reason: fmt.Sprintf("its files make the state %s, and the workers hold %s", got, want)}
	if broken != nil {
		bad.Reason = fmt.Sprintf("its parts make no checkpoint: %v", broken)
	} else if got == want {
		bad.Reason = "two workers hold other moments of the same shard"
	}
	switch len(bad.Workers) {
	case 0:
		bad.Reason += "; whose part is wrong cannot be told"
	case 1:
		bad.Reason += fmt.Sprintf("; the part that worker %s handed out is not what it holds", bad.Workers[0])
	default:
		bad.Reason += fmt.Sprintf("; the parts that workers %s handed out are not what they hold", strings.Join(bad.Workers, ", "))
	}
	return bad
}

// liars are the workers whose part came otherwise than they themselves and the
// workers before them, who vouch for it too, say that it is. all says that of
// every part all who speak of it say what came.
func liars(parts []*cluster.Offer, files []wholeFile) (ids []string, all bool) {
	all = true
	came := map[string]string{} // by worker, as Offer.Sums has it
	for _, f := range files {
		for _, p := range f.pieces {
			came[p.worker] += fmt.Sprintf("%08x", p.sum.Sum32())
		}
	}
	for i, o := range parts {
		votes := map[string]int{}
		for k := range min(len(parts), train.MaxWitnesses) {
			if said := parts[(i-k+len(parts))%len(parts)].Sums; k < len(said) {
				votes[said[k]]++
			}
		}
		most, n, tie := "", 0, true
		for v, c := range votes {
			if c > n {
				most, n, tie = v, c, false
			} else if c == n {
				tie = true
			}
		}
		if !tie && came[o.Worker] != most {
			ids = append(ids, o.Worker)
		}
		all = all && votes[came[o.Worker]] > 0 && len(votes) == 1
	}
	return ids, all
}
