package run

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/objects"
	"github.com/vlaring/vlaring/pkg/train"
)

// checkStore asks the store of checkpoint.upload whether it is there and this run's,
// before anything is computed. One that cannot be reached now costs a line.
func (b *beginning) checkStore(ctx context.Context) (err error) {
	if b.mirror, err = openMirror(context.Background(), b.job, b.dir.path); b.mirror == nil || err != nil {
		return err
	}
	b.mirror.fresh = !b.opt.Resume && !b.dir.takeover
	if after := b.oversight.now().Uploaded; after != nil {
		b.mirror.disown(*after, b.forgetUploaded)
	}
	ask, cancel := context.WithTimeout(ctx, storeAsk)
	defer cancel()
	look, err := openMirror(ask, b.job, b.dir.path)
	if err != nil {
		return err
	}
	look.fresh = b.mirror.fresh
	look.rid, look.ridden = b.mirror.rid, b.mirror.ridden
	if err = look.ridUp(); err == nil {
		b.mirror.rid = nil
		err = look.ask()
	}
	var foreign *foreignError
	switch {
	case err == nil:
		b.mirror.admitted = true
		return b.fetchNewer(ctx, look)
	case errors.As(err, &foreign):
		return usage.Wrap(err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !objects.Transient(err) && ask.Err() == nil:
		return fmt.Errorf("checkpoint.upload: %w\n(--set checkpoint.upload= trains without it)", err)
	}
	if step, found := b.dir.newest(); b.opt.Resume && !found {
		return fmt.Errorf("checkpoint.upload: whether %s has a checkpoint to go on from cannot be told, and the run directory has none: %w\n(--set checkpoint.upload= begins anew without it)", b.mirror.to, err)
	} else if b.opt.Resume {
		b.opt.UI.Line(fmt.Sprintf("%s cannot be asked for newer checkpoints than that of step %d, which the run directory has: %v", b.mirror.to, step, err))
	}
	return nil
}

// fetchNewer brings the newest checkpoint of the store that verifies into the run
// directory, where that has none as new.
func (b *beginning) fetchNewer(ctx context.Context, look *mirror) error {
	if !b.opt.Resume {
		return nil
	}
	have, _ := b.dir.newest()
	entries, err := b.mirror.to.List()
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		if e.Step <= have {
			return nil
		}
		at := b.mirror.to.Place().In(checkpoint.DirName(e.Step)).Dir
		err := errors.New(e.Problem)
		if e.State == checkpoint.Complete {
			err = b.fetch(ctx, e, at)
		}
		if err == nil {
			return nil
		}
		var disk *checkpoint.DiskError
		if ctx.Err() != nil || errors.Is(err, checkpoint.ErrAway) || errors.As(err, &disk) && disk.Lasting() != "" {
			return fmt.Errorf("fetching %s: %w", at, err)
		}
		b.opt.UI.Line(checkpoint.Passed{Dir: at, Reason: err.Error()}.String())
	}
	return nil
}

func (b *beginning) fetch(ctx context.Context, e checkpoint.Entry, at string) error {
	r, err := b.mirror.to.Open(e.Step)
	if err != nil {
		return err
	}
	defer r.Close()
	said := time.Now()
	if err := b.dir.store.Put(ctx, r, func(n int64) {
		if now := time.Now(); now.Sub(said) > uploadSay {
			said = now
			b.opt.UI.Line(fmt.Sprintf("fetching %s: %s of %s", at, plain.Bytes(n), plain.Bytes(e.Size)))
		}
	}); err != nil {
		return err
	}
	b.opt.UI.Line(fmt.Sprintf("fetched %s, %s, which is newer than what the run directory has", at, plain.Bytes(e.Size)))
	return nil
}

// Uploaded is what Upload has done.
type Uploaded struct {
	To    string   `json:"to"`
	Steps []uint64 `json:"steps"` // uploaded now
	Bytes int64    `json:"bytes"`
	Kept  int      `json:"kept"` // checkpoints that the store has now
}

// Text is for people.
func (u *Uploaded) Text() string {
	if len(u.Steps) == 0 {
		return fmt.Sprintf("%s has all %d checkpoints already\n", u.To, u.Kept)
	}
	return fmt.Sprintf("uploaded %d checkpoints, %s; %s has %d now\n", len(u.Steps), plain.Bytes(u.Bytes), u.To, u.Kept)
}

// Upload brings the checkpoints of the run directory dir to an object store, to
// address or where its job says, as a run does beside training, which must not go on.
// say is told of progress.
func Upload(ctx context.Context, dir, address string, say func(line string)) (*Uploaded, error) {
	j, err := jobIn(dir)
	if err != nil {
		return nil, err
	}
	lock, err := checkpoint.LockRunDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w\n(a run with checkpoint.upload uploads by itself)", err)
	}
	defer lock.Unlock()
	if address != "" {
		j.Checkpoint.Upload = address
	}
	m, err := openMirror(ctx, j, dir)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, usage.Errorf("the job of %s has no checkpoint.upload: say where to, as in coordinator checkpoint upload %s s3://BUCKET/PREFIX", dir, plain.ShellWord(dir))
	}
	said := time.Now()
	m.on = func(step uint64, done, total int64) {
		if now := time.Now(); now.Sub(said) > uploadSay && done < total {
			said = now
			say(fmt.Sprintf("uploading step %d: %s of %s", step, plain.Bytes(done), plain.Bytes(total)))
		}
	}
	out := &Uploaded{To: m.to.String(), Steps: []uint64{}}
	for more, tries := true, 0; more; {
		more, err = m.pass(ctx, func(uint64) {}, func(step uint64, bytes int64, took time.Duration) {
			tries = 0
			out.Steps = append(out.Steps, step)
			out.Bytes += bytes
			say(fmt.Sprintf("uploaded step %d, %s in %.1f s", step, plain.Bytes(bytes), took.Seconds()))
		})
		if err == nil {
			continue
		}
		if tries++; tries > 3 || ctx.Err() != nil || !objects.Transient(err) {
			return out, err
		}
		say(fmt.Sprintf("%v; trying again", err))
		more = true
		select {
		case <-time.After(time.Duration(tries) * 5 * time.Second):
		case <-ctx.Done():
			return out, context.Cause(ctx)
		}
	}
	out.Kept = len(m.has)
	return out, nil
}

// jobIn is the job of a run directory.
func jobIn(dir string) (*job.Job, error) {
	j, err := train.Kinds().Load(filepath.Join(dir, JobCopy), nil)
	if err != nil {
		return nil, usage.Errorf("%s is not the directory of a run: %w", dir, err)
	}
	return j, nil
}
