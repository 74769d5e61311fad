package worker

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// rescueWeights keeps the weights alone, where the moments that belong to them
// were with workers that are gone, and says so.
func (w *Worker) rescueWeights(step uint64, why error) error {
	model, _, err := w.trainer.Living()
	if err != nil {
		return err
	}
	dir := filepath.Join(w.RescueDir, w.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, fmt.Sprintf("weights-%08d.safetensors", step))
	if err := atomicfile.WriteFrom(path, 0o644, func(out io.Writer) error {
		_, err := io.Copy(out, io.NewSectionReader(model, 0, model.Size()))
		return err
	}); err != nil {
		return err
	}
	return &weightsError{path, why}
}

// weightsError says that no more than the weights of a state could be kept.
type weightsError struct {
	path string
	why  error
}

func (e *weightsError) Error() string {
	return fmt.Sprintf("%v; the weights alone are in %s\nresume from the last checkpoint, or begin a new run from them (init.path: %s)",
		e.why, e.path, e.path)
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
	if w.trainer.Sharded() {
		if err := w.collect(); err != nil {
			return "", w.rescueWeights(step, err)
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
	m := checkpoint.Manifest{Step: step, Cursor: step * uint64(w.job.Batch.Global), Seed: w.job.Seed, Job: w.job.Name, Software: w.Version,
		World: 1, Data: meta, Config: w.job.YAML()}
	if err := out.Commit(m); err != nil {
		return "", err
	}
	return store.Dir(), nil
}
