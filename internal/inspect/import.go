package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

// freeAfter is what an import leaves free on the disk, in bytes.
const freeAfter = 256 << 20

// Import decodes the videos of a data set into its frame store. Of from, what is
// empty is the job's, where Arg is a job. It says what it will take before it begins,
// and refuses what the disk has no room for. A run.ResumableError says that ctx has
// ended it: called again it goes on.
func Import(ctx context.Context, o Options, from data.Import) error {
	if from.Size != 0 {
		if err := usage.Within("size", from.Size, 1, data.MaxImageSide); err != nil {
			return err
		}
	}
	t, err := o.target()
	if err != nil {
		return err
	}
	p, err := data.PlanImport(t.cfg, t.wants, t.base, from)
	if err != nil {
		return train.Placed(err, o.Arg, o.Set)
	}
	say := func(format string, a ...any) { fmt.Fprintf(o.Out, format+"\n", a...) }
	if p.Ready == p.Videos {
		say("%s: frames of all %s are in %s already", p.Path, counted(p.Videos, "video"), p.Dir)
		return nil
	}
	say("%s: %s of %s, at most %d pixels a side: about %s in %s", p.Path, counted(p.Videos-p.Ready, "video"), counted(p.Frames, "frame"), p.Size, plain.Bytes(p.Bytes), p.Dir)
	if p.Ready > 0 {
		say("%s of %d are there already", counted(p.Ready, "video"), p.Videos)
	}
	lock, err := hold(p.Dir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if room, err := checkpoint.FreeSpace(p.Dir); err == nil { // what does not say fails when it is written to
		if err := fits(p.Dir, p.Bytes, room); err != nil {
			return err
		}
	}
	say("decoding with ffmpeg %s", p.FFmpeg)
	v := view.NewScan(o.Progress, "importing")
	faults, notes := 0, 0
	told := func(n *int) func(error) {
		return func(err error) {
			if *n++; *n <= FaultsShown {
				v.End()
				say("%s", plain.Line(err.Error(), 600))
			}
		}
	}
	err = p.Run(ctx, o.Threads, v.Progress, told(&faults), told(&notes))
	v.End()
	switch {
	case ctx.Err() != nil:
		return run.ResumableError{Text: "stopped by Ctrl-C; the videos that are done are kept, and the same command goes on with the rest"}
	case err != nil:
		return fmt.Errorf("%w; the videos that are done are kept, and the same command goes on with the rest", err)
	case faults > 0:
		return fmt.Errorf("%s: %s; the other videos are imported. Repair what is named, or train without those episodes (data.split, data.skip)", p.Path, counted(faults, "fault"))
	}
	say("done: frames of %s are in %s", counted(p.Videos, "video"), p.Dir)
	return nil
}

// fits says whether a disk has room for so many bytes of frames.
func fits(dir string, bytes int64, room checkpoint.Space) error {
	need := bytes + freeAfter
	if !room.Known || room.Bytes >= need {
		return nil
	}
	return fmt.Errorf("%s: %s are free there, and %s are needed, of which %s stay free: make room, choose another folder (--frames DIR, and data.frames: DIR in the job), a smaller --size, or some cameras (--camera)",
		dir, plain.Bytes(room.Bytes), plain.Bytes(need), plain.Bytes(freeAfter))
}

// hold makes the folder of a store and keeps others from writing there.
func hold(dir string) (*checkpoint.Lock, error) {
	err := os.MkdirAll(dir, 0o755)
	var l *checkpoint.Lock
	if err == nil {
		l, err = checkpoint.LockRunDir(dir)
	}
	var held *checkpoint.LockedError
	switch {
	case errors.As(err, &held):
		return nil, fmt.Errorf("%s: another import is at work there (process %d on %s): wait for it", dir, held.PID, plain.Line(held.Host, 80))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("%w: frames cannot be written there; choose a folder that every machine of the job sees: --frames DIR, and data.frames: DIR in the job", err)
	}
	return l, err
}
