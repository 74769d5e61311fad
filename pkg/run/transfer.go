package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/weights"
)

// initName is the file of a run directory that holds the first weights where
// they were put together, from a file of other names or from the parts of a
// sharded one: what workers are sent.
const initName = "init.safetensors"

// firstWeights finds the file with all first weights that job.Init asks for.
func (r *Run) firstWeights(model *models.Model) error {
	f, err := r.openInit()
	if err != nil {
		return err
	}
	defer f.Close()
	if z, ok := data.EndsInZeros(f); ok {
		r.initOdd = &z
	}
	if len(r.job.Init.Map) == 0 && !r.job.Init.Partial {
		if err := weights.LoadFirst(model.Params(), f); err != nil {
			return err
		}
		if !f.Sharded() { // one file, which workers are sent as it is
			r.initFile = f.Name()
			return nil
		}
	} else {
		t, err := weights.Import(model, r.job.Init, r.job.Seed, f)
		if err != nil {
			return err
		}
		r.transfer = &t
	}
	r.initFile = filepath.Join(r.dir, initName)
	var all []safetensors.Tensor
	for _, p := range model.Params().List() {
		all = append(all, safetensors.Tensor{Name: p.Name, Shape: p.Shape, Data: p.Value})
	}
	return atomicfile.WriteFrom(r.initFile, 0o644, func(w io.Writer) error { return safetensors.Write(w, all, nil) })
}

// openInit opens the job's init file. A run directory is refused: its own
// init.safetensors is where that run began, and not what it learned.
func (r *Run) openInit() (*safetensors.File, error) {
	path := Abs(r.baseDir, r.job.Init.Path)
	if checkpoints := filepath.Join(path, "checkpoints"); IsDir(checkpoints) {
		found, err := checkpoint.LatestGood(checkpoints)
		if err != nil {
			return nil, fmt.Errorf("%s is a run directory without a good checkpoint: %w", path, err)
		}
		return nil, fmt.Errorf("%s is a run directory: give the weights of one of its checkpoints, such as %s", path, filepath.Join(found.Dir, train.ModelFile))
	}
	f, err := safetensors.OpenModel(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(path); errors.Is(e, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no %s: check the path; in a job file it starts at the file's own folder", path)
		}
	}
	return f, err
}

// showTransfer says what is odd about the init file, and what became of it.
func (r *Run) showTransfer() {
	if f := r.initOdd; f != nil {
		r.log.Warn("init: " + f.String())
		r.view.Script("finding", map[string]any{"finding": *f})
	}
	if r.transfer != nil {
		r.view.Event("init", r.job.Init.Path+": "+r.transfer.String(), map[string]any{"transfer": r.transfer})
	}
}
