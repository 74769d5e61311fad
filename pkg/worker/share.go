package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// CoordinatorPeer is the coordinator's name among the owners of blobs.
const CoordinatorPeer = "coordinator"

// Names under which a worker offers its state to peers, and the commits that
// the coordinator may not have heard of.
const (
	stateBlob   = "state/"
	reportsBlob = "reports/"
)

// maxReportsBytes bounds what comes with a peer's state.
const maxReportsBytes = 16 << 20

// serveState puts the living state on offer. It is fetched only where a
// generation begins, before its first commit, and checked by its digest.
func (w *Worker) serveState() error {
	model, optimizer, err := w.trainer.Living()
	if err != nil {
		return err
	}
	state := map[string]train.Living{train.ModelFile: model, train.OptimizerFile: optimizer}
	if w.trainer.Sharded() {
		delete(state, train.OptimizerFile)
		if err := w.serveMoments(); err != nil {
			return err
		}
	}
	for name, v := range state {
		if err := w.Blobs.Offer(stateBlob+name, v.Size(), "", v); err != nil {
			return err
		}
	}
	return w.Blobs.OfferFunc(reportsBlob, func(context.Context, string) ([]byte, error) {
		l := w.reports.Load()
		if l == nil {
			return []byte("[]"), nil
		}
		return json.Marshal(*l)
	})
}

// load takes state from the coordinator: a checkpoint's files, the init file,
// or none where the seed decides.
func (w *Worker) load(ctx context.Context, step uint64, state []cluster.Blob) cluster.NodeEvent {
	files := map[string]*safetensors.File{}
	var from *train.Origin // of moments that are shared out: each takes its own where a generation begins
	for _, b := range state {
		if w.trainer.Sharded() && fileOf(b.Name) == train.OptimizerFile {
			from = &train.Origin{Step: step, File: &b}
			continue
		}
		if b.Size < 0 || b.Size > maxStateBytes {
			return cluster.LoadFailed{Err: fmt.Errorf("%s of step %d has %d bytes: want 0 to %d", b.Name, step, b.Size, int64(maxStateBytes))}
		}
		buf := make(bulk.Buffer, b.Size)
		if err := w.Blobs.Fetch(ctx, CoordinatorPeer, b.Name, b.Size, b.SHA256, buf); err != nil {
			return cluster.LoadFailed{Err: fmt.Errorf("fetching %s of step %d from the coordinator: %w", b.Name, step, err)}
		}
		f, err := safetensors.Read(buf, b.Size, b.Name)
		if err != nil {
			return cluster.LoadFailed{Err: err}
		}
		files[fileOf(b.Name)] = f
	}
	var err error
	if from != nil {
		err = w.trainer.RestoreWeights(step, files[train.ModelFile], "", from)
	} else if files[train.OptimizerFile] == nil { // the beginning
		err = w.trainer.Reset(w.job.Seed, files[train.ModelFile])
	} else {
		err = w.trainer.Restore(step, files[train.ModelFile], files[train.OptimizerFile], "")
	}
	if err != nil {
		return cluster.LoadFailed{Err: err}
	}
	return cluster.Loaded{Step: step, State: true, Digest: w.trainer.Digest()}
}

// maxStateBytes bounds a file of state that is taken on: 2⁴² bytes of moments
// are those of a model of 2³⁹ parameters.
const maxStateBytes = 1 << 42

// fileOf is the checkpoint file that a blob of the coordinator's state is:
// names are FILE@STEP.
func fileOf(blob string) string {
	for i := len(blob) - 1; i >= 0; i-- {
		if blob[i] == '@' {
			return blob[:i]
		}
	}
	return blob
}

// StateBlobName is the blob name of a file of the coordinator's state of a step.
func StateBlobName(file string, step uint64) string { return fmt.Sprintf("%s@%d", file, step) }

// form takes a place in a new generation: it listens on the ring before anyone sends.
func (w *Worker) form(ctx context.Context, a *cluster.Assign) cluster.NodeEvent {
	w.settled(ctx)
	w.leaveRing() // of the generation before, in which all stand
	w.moments.form(a.Group.Members)
	if got := w.trainer.Digest(); len(a.Sources) == 0 && got != a.Digest {
		return cluster.LoadFailed{Err: fmt.Errorf("assigned from state %s, but the state here is %s", a.Digest, got), Digest: got}
	}
	ring, err := w.roads.ring(ctx, a, w.trainer, w.ringOptions())
	var memory *memoryError
	switch {
	case ctx.Err() != nil:
		return nil // recalled
	case errors.As(err, &memory):
		return cluster.LoadFailed{Err: err, Peer: memory.peer, Unshared: true}
	case err != nil:
		return cluster.LoadFailed{Err: err}
	}
	w.ring.Store(&ringRoad{ring})
	return cluster.Listens{Generation: a.Group.Generation}
}

// ringDeadline is when a ring gives up by itself. The dead are found long
// before by others; this is for what nobody foresaw.
const ringDeadline = 30 * time.Minute

// sourceError says that a peer's state could not be had: it is the peer that
// is at fault, or the path to it, and not this machine.
type sourceError struct {
	peer string
	step uint64
	err  error
}

func (e *sourceError) Error() string {
	return fmt.Sprintf("fetching the state of step %d from worker %s: %v", e.step, e.peer, e.err)
}
func (e *sourceError) Unwrap() error { return e.err }

// catchUp takes the state that a generation begins with, while the others
// compute its first step: they cannot commit it before this rank has its part
// in the sum, so what they hold stays as it is until then.
func (w *Worker) catchUp(ctx context.Context, a *cluster.Assign) error {
	words := "fetching the state"
	w.words.Store(&words)
	reports, err := w.fetchState(ctx, a)
	if err != nil {
		return err
	}
	w.say(cluster.Caught{Generation: a.Group.Generation, Reports: reports})
	return nil
}

// fetchState takes weights and moments from the members that have them, each
// file from another, and the commits that they remember.
func (w *Worker) fetchState(ctx context.Context, a *cluster.Assign) ([]*cluster.Report, error) {
	weights, optimizer, err := w.trainer.Living()
	if err != nil {
		return nil, err
	}
	type got struct {
		file *safetensors.File
		err  error
	}
	fetch := func(i int, name string, size int64) <-chan got {
		c := make(chan got, 1)
		go func() {
			peer := a.Sources[i%len(a.Sources)]
			buf := make(bulk.Buffer, size)
			if err := w.Blobs.Fetch(ctx, peer, stateBlob+name, size, "", buf); err != nil {
				c <- got{err: &sourceError{peer, a.Step, err}}
				return
			}
			file, err := safetensors.Read(buf, size, name)
			if err != nil {
				err = &sourceError{peer, a.Step, err}
			}
			c <- got{file, err}
		}()
		return c
	}
	r := a.Group.Rank
	m, moments := fetch(r, train.ModelFile, weights.Size()), got{}
	if !w.trainer.Sharded() {
		moments = <-fetch(r+1, train.OptimizerFile, optimizer.Size())
	}
	model := <-m
	for _, err := range []error{model.err, moments.err} { // one is enough to say
		if err != nil {
			return nil, err
		}
	}
	peer := a.Sources[r%len(a.Sources)]
	b, err := w.Blobs.Get(ctx, peer, fmt.Sprintf("%s%d", reportsBlob, a.Group.Generation), maxReportsBytes)
	reports := []*cluster.Report{}
	if err == nil {
		err = json.Unmarshal(b, &reports)
	}
	if err != nil {
		return nil, &sourceError{peer, a.Step, err}
	}
	if w.trainer.Sharded() {
		err = w.trainer.RestoreWeights(a.Step, model.file, a.Digest, nil)
	} else {
		err = w.trainer.Restore(a.Step, model.file, moments.file, a.Digest)
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(reports, func(r *cluster.Report) bool { return r == nil || r.Step > a.Step }), nil
}

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
		ev := cluster.OfferReady{Offer: cluster.Offer{Generation: generation, Step: step, Part: part, Parts: parts, Digest: digest, Sums: sums}}
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
