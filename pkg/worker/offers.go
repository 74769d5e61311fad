package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// pieceName is the blob name of a piece of this worker's part of a checkpoint,
// which begins at an offset of a file.
func pieceName(step uint64, file string, offset int64) string {
	return fmt.Sprintf("snapshot/%d/%s@%d", step, file, offset)
}

// makeOffer has one part of the committed state copied, hashed and put on offer
// beside whatever goes on: the node is told. The state stays as it is until it
// is copied; the next commit, a step's computing away, would wait for it. At
// most one copy exists: where the one before has not been fetched makeOffer
// waits, for as long as the coordinator lives. Nothing comes of it where ctx
// ends or the state moves on.
func (w *Worker) makeOffer(ctx context.Context, step, generation uint64, part, parts int) {
	o := &w.offer
	which := division{step, generation, part, parts}
	if !o.begin(which) {
		return // it is asked for again while it is made: what is made must not be withdrawn for that
	}
	if !o.room(ctx, step, w.coordinated) {
		o.failed(which)
		return
	}
	err := w.stockPart(ctx, part, parts)
	held, ok := w.trainer.Hold(step)
	if ok && err != nil {
		w.Log.Error("gathering a part of a checkpoint", zap.Uint64("step", step), zap.Error(err))
		held.Release()
	}
	if !ok || err != nil {
		o.failed(which)
		o.give(nil)
		return
	}
	w.behind.Go(func() {
		copies, err := held.Part(part, parts, o.spare)
		digest := held.Digest() // parts of different states must never make one checkpoint
		var sums []string
		if err == nil {
			sums, err = held.Witnesses(part, parts)
		}
		held.Release()
		if err != nil {
			w.Log.Error("copying a checkpoint", zap.Uint64("step", step), zap.Error(err))
			o.failed(which)
			o.give(nil)
			return
		}
		ev := cluster.OfferReady{Offer: cluster.Offer{Generation: generation, Step: step, Part: part, Parts: parts,
			Digest: digest, Sums: sums}}
		for _, p := range copies {
			b := cluster.Blob{Name: pieceName(step, p.File, p.Offset), Size: int64(len(p.Data)), SHA256: sha256Of(p.Data)}
			if err := w.Blobs.Offer(b.Name, b.Size, b.SHA256, bulk.Buffer(p.Data)); err != nil {
				w.Log.Error("offering a checkpoint", zap.Uint64("step", step), zap.Error(err))
				o.failed(which)
				o.give(copies)
				return
			}
			ev.Offer.Files = append(ev.Offer.Files, cluster.Piece{File: p.File, Offset: p.Offset, Total: p.Total, Blob: b})
		}
		if o.hold(which, copies) {
			w.say(ev)
		}
	})
}

// coordinated says whether the coordinator has been heard of lately.
func (w *Worker) coordinated() bool {
	return time.Duration(w.silence.Load()) < 5*time.Duration(w.knobs.Load().Cluster.Deadline)
}

// offers are the parts of checkpoints that are on offer: at most one step's,
// whose memory is used again.
type offers struct {
	blobs bulk.Blobs
	mu    sync.Mutex
	step  uint64
	held  []train.Part  // of step, on offer
	of    division      // which they are
	gone  uint64        // steps up to it need not be offered any more
	token chan struct{} // is there while no copy is made or on offer
	spare []train.Part  // memory; of whoever has the token
	made  *division     // the newest that was asked for, while it is made or on offer
}

// division is one part of the state of a step, as one generation divides it.
type division struct {
	step, generation uint64
	part, parts      int
}

// begin says whether a part is to be made: it is not if it is being made, or on offer.
func (o *offers) begin(d division) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made != nil && *o.made == d {
		return false
	}
	o.made = &d
	return true
}

func (o *offers) failed(d division) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made != nil && *o.made == d {
		o.made = nil
	}
}

func (o *offers) init(b bulk.Blobs) {
	o.blobs, o.token = b, make(chan struct{}, 1)
	o.token <- struct{}{}
}

// room waits until no copy is on offer. One of the same step, divided
// otherwise, is withdrawn, and any where nobody is there to fetch it.
func (o *offers) room(ctx context.Context, step uint64, wanted func() bool) bool {
	for {
		o.mu.Lock()
		if o.held != nil && (o.step == step || !wanted()) {
			o.drop()
		}
		o.mu.Unlock()
		late := time.NewTimer(time.Second)
		select {
		case <-o.token:
			late.Stop()
			o.mu.Lock()
			o.gone = 0 // what was said so far was of other copies
			o.mu.Unlock()
			return true
		case <-late.C:
		case <-ctx.Done():
			late.Stop()
			return false
		}
	}
}

// give returns the token, with memory to use again.
func (o *offers) give(memory []train.Part) {
	if memory != nil {
		o.spare = memory
	}
	o.token <- struct{}{}
}

// hold notes what is on offer now, and says whether it is: it may have been
// withdrawn already.
func (o *offers) hold(d division, parts []train.Part) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.step, o.of, o.held = d.step, d, parts
	if d.step <= o.gone {
		o.drop()
	}
	return o.held != nil
}

func (o *offers) withdraw(step uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone = max(o.gone, step)
	if o.held != nil && o.step <= step {
		o.drop()
	}
}

func (o *offers) drop() {
	for _, p := range o.held {
		o.blobs.Withdraw(pieceName(o.step, p.File, p.Offset))
	}
	if o.made != nil && *o.made == o.of {
		o.made = nil
	}
	parts := o.held
	o.held = nil
	o.give(parts)
}
