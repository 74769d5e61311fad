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
func (b *beginning) showSpace(v voice) {
	dir := b.dir.store.Dir()
	free, err := checkpoint.FreeSpace(dir)
	if err != nil || !free.Known {
		return
	}
	each := b.layout.ModelBytes() + b.layout.OptimizerBytes() // headers aside
	n := b.toStore()
	text := fmt.Sprintf("checkpoints: %s each, up to %d more in %s: %s of %s free", plain.Bytes(each), n, dir, plain.Bytes(int64(n)*each), plain.Bytes(free.Bytes))
	v.Script("space", map[string]any{"checkpoint_bytes": each, "checkpoints": n, "needed_bytes": int64(n) * each, "free_bytes": free.Bytes, "path": dir})
	switch {
	case !free.Takes(each) && free.Bytes >= each:
		v.log.Error(text + ": not even the first one fits: no inodes are left (df -i); remove files")
	case !free.Takes(each):
		v.log.Error(text + ": not even the first one fits: make room" + b.orElse())
	case !free.Takes(int64(n) * each):
		v.log.Warn(text + ": they do not all fit: make room, or lower checkpoint.keep" + b.orElse())
	case !free.Takes(roomy * int64(n) * each): // more than that is not worth a line
		v.Say(text)
	}
}

func (b *beginning) orElse() string {
	if d := b.dir.spareDir(); d != "" {
		return "; meanwhile they go to " + d
	}
	return ", or set checkpoint.fallback_dir"
}

// toStore is how many checkpoints are to come on the disk beyond those that are
// there: as many as are kept, and one that is stored before another is removed.
func (b *beginning) toStore() int {
	k, left := b.job.Checkpoint, b.job.Train.Steps-int(b.start)
	n := 1 // the last
	if k.Every > 0 {
		n = (left + k.Every - 1) / k.Every
	}
	if k.Keep > 0 {
		kept := k.Keep + k.Best.Count
		if k.KeepEvery > 0 {
			kept += left / k.KeepEvery
		}
		entries, err := b.dir.store.List()
		if err != nil {
			entries = nil
		}
		n = min(n, max(kept-len(entries), 0)+1)
	}
	return n
}
