package run

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// roomy is how many times what a run needs must be free for its checkpoints to
// go without a line.
const roomy = 10

// showSpace says, before the first step, whether the checkpoints that are to lie
// on the disk together fit, where that may be asked.
func (r *Run) showSpace() {
	dir := r.store.Dir()
	free, err := checkpoint.FreeSpace(dir)
	if err != nil || !free.Known {
		return
	}
	each := r.layout.ModelBytes() + r.layout.OptimizerBytes() // headers aside
	n := r.toStore()
	text := fmt.Sprintf("checkpoints: %s each, up to %d more in %s: %s of %s free", plain.Bytes(each), n, dir, plain.Bytes(int64(n)*each), plain.Bytes(free.Bytes))
	r.view.Script("space", map[string]any{"checkpoint_bytes": each, "checkpoints": n, "needed_bytes": int64(n) * each, "free_bytes": free.Bytes, "path": dir})
	switch {
	case !free.Takes(each) && free.Bytes >= each:
		r.log.Error(text + ": not even the first one fits: no inodes are left (df -i); remove files")
	case !free.Takes(each):
		r.log.Error(text + ": not even the first one fits: make room" + r.orElse())
	case !free.Takes(int64(n) * each):
		r.log.Warn(text + ": they do not all fit: make room, or lower checkpoint.keep" + r.orElse())
	case !free.Takes(roomy * int64(n) * each): // more than that is not worth a line
		r.view.Say(text)
	}
}

func (r *Run) orElse() string {
	if d := r.spareDir(); d != "" {
		return "; meanwhile they go to " + d
	}
	return ", or set checkpoint.fallback_dir"
}

// toStore is how many checkpoints are to come on the disk beyond those that are
// there: as many as are kept, and one that is stored before another is removed.
func (r *Run) toStore() int {
	k, left := r.job.Checkpoint, r.job.Train.Steps-int(r.start)
	n := 1 // the last
	if k.Every > 0 {
		n = (left + k.Every - 1) / k.Every
	}
	if k.Keep > 0 {
		kept := k.Keep + k.Best.Count
		if k.KeepEvery > 0 {
			kept += left / k.KeepEvery
		}
		entries, err := r.store.List()
		if err != nil {
			entries = nil
		}
		n = min(n, max(kept-len(entries), 0)+1)
	}
	return n
}
