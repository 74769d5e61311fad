package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

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
			return cluster.LoadFailed{Err: fmt.Errorf("%s of step %d has %d bytes: want 0 to %d",
				b.Name, step, b.Size, int64(maxStateBytes))}
		}
		buf := make(bulk.Buffer, b.Size)
		if err := w.Blobs.Fetch(ctx, cluster.CoordinatorName, b.Name, b.Size, b.SHA256, buf); err != nil {
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
	w.pending("fetching the state")
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
