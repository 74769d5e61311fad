package worker

import (
	"encoding/json"
	"io"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/train"
)

// rescueShare keeps what this worker holds of the state, where the moments that
// belong to it are with workers that cannot be reached. A resume puts the shares
// of all together.
func (w *Worker) rescueShare(m checkpoint.Manifest) (string, error) {
	model, optimizer, err := w.trainer.Living()
	if err != nil {
		return "", err
	}
	files, err := w.trainer.Share()
	if err != nil {
		return "", err
	}
	return checkpoint.WriteShare(filepath.Join(w.RescueDir, w.ID), checkpoint.Share{Manifest: m, Files: files},
		map[string]io.ReaderAt{train.ModelFile: model, train.OptimizerFile: optimizer})
}

// rescue keeps the committed state on this machine's disk as a checkpoint.
func (w *Worker) rescue() (string, error) {
	// a directory of its own: the workers of a machine are orphans at the same
	// moment, and a store takes what another has half written for a crash's
	store, err := checkpoint.OpenDisk(filepath.Join(w.RescueDir, w.ID))
	if err != nil {
		return "", err
	}
	meta, err := json.Marshal(w.source.meta)
	if err != nil {
		return "", err
	}
	step := w.trainer.CommittedStep()
	m := checkpoint.Manifest{Step: step, Cursor: step * uint64(w.job.Batch.Global), Seed: w.job.Seed, Job: w.job.Name, Software: w.Version,
		World: 1, Data: meta, Config: w.job.YAML()}
	if w.trainer.Sharded() {
		if err := w.collect(); err != nil {
			w.Log.Warn("a share of the state is kept", zap.Error(err))
			return w.rescueShare(m)
		}
	}
	parts, err := w.trainer.Part(0, 1, nil)
	if err != nil {
		return "", err
	}
	out, err := store.Begin(step)
	if err != nil {
		return "", err
	}
	defer out.Abort()
	for _, p := range parts {
		f, err := out.Create(p.File, p.Total)
		if err != nil {
			return "", err
		}
		if _, err := f.WriteAt(p.Data, 0); err != nil {
			return "", err
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
	if err := out.Commit(m); err != nil {
		return "", err
	}
	return store.Dir(), nil
}
