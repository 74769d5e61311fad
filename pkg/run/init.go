package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/objects"
	"github.com/vlaring/vlaring/pkg/pretrained"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
	"github.com/vlaring/vlaring/pkg/weights"
)

// initName is the file of a run directory that holds the first weights where
// they were put together, from a file of other names or from the parts of a
// sharded one: what workers are sent.
const initName = "init.safetensors"

// firstWeights are those of a run that goes on from no checkpoint.
type firstWeights struct {
	file string            // with all of them; empty: the seed decides
	made *weights.Imported // how they were made of the job's init file; nil: they are it

	pretrained map[string]pretrained.Loaded // encoders of others in them, by their keys in the job file
	odd        *data.Finding                // what is odd about that; nil: nothing
}

// findWeights finds the file with all first weights that job.Init asks for.
func (b *beginning) findWeights(model *models.Model) error {
	if b.job.Init.Path == "" {
		model.Init(b.job.Seed)
		if err := b.findPretrained(model.Params()); err != nil {
			return err
		}
		return b.keepFirst(model)
	}
	f, err := b.openInit()
	if err != nil {
		return err
	}
	defer f.Close()
	if z, ok := data.EndsInZeros(f); ok {
		b.first.odd = &z
	}
	if len(b.job.Init.Map) == 0 && !b.job.Init.Partial && len(model.Params().Adapters()) == 0 {
		if err := weights.LoadFirst(model.Params(), f); err != nil {
			return err
		}
		if !f.Sharded() && b.job.Init.Weights != job.Average { // one file, which workers are sent as it is
			b.first.file = f.Name()
			return nil
		}
	} else {
		t, err := weights.Import(model, b.job.Init, b.job.Seed, f)
		if err != nil {
			return err
		}
		b.first.made = &t
		if err := b.besideInit(model.Params(), &t); err != nil {
			return err
		}
	}
	return b.keepFirst(model)
}

// keepFirst writes the model's weights as the run's first ones.
func (b *beginning) keepFirst(model *models.Model) error {
	b.first.file = b.dir.at(initName)
	_, err := writeModel(b.first.file, model.Params())
	return err
}

// findPretrained loads the encoders that the model takes from files.
func (b *beginning) findPretrained(ps *tensor.Params) (err error) {
	b.first.pretrained, err = train.Shoulders(b.job, b.opt.BaseDir, ps)
	return err
}

// besideInit loads the encoders from files into what init has left fresh: what init
// gives counts more.
func (b *beginning) besideInit(ps *tensor.Params, t *weights.Imported) error {
	given := map[string][]float32{}
	for _, name := range t.Loaded {
		given[name] = slices.Clone(ps.ByName(name).Value)
	}
	if err := b.findPretrained(ps); err != nil {
		return err
	}
	for name, x := range given {
		copy(ps.ByName(name).Value, x)
	}
	for _, l := range b.first.pretrained {
		t.Fresh = slices.DeleteFunc(t.Fresh, func(name string) bool { return slices.Contains(l.Loaded, name) })
	}
	return nil
}

// pretrains says whether the job's model takes encoders from files.
func (b *beginning) pretrains() bool {
	c, ok := b.job.Model.Options.(models.Config)
	return ok && (c.Vision.From != "" || c.Language.From != "")
}

// writeModel writes a model's weights, and returns the file's SHA-256.
func writeModel(path string, ps *tensor.Params) (string, error) {
	var all []safetensors.Tensor
	for _, p := range ps.List() {
		all = append(all, safetensors.Tensor{Name: p.Name, Shape: p.Shape, Data: p.Value})
	}
	h := sha256.New()
	err := atomicfile.WriteFrom(path, 0o644, func(w io.Writer) error { return safetensors.Write(io.MultiWriter(w, h), all, nil) })
	return hex.EncodeToString(h.Sum(nil)), err
}

// openInit opens the job's init file. A run directory is refused: its own
// init.safetensors is where that run began, and not what it learned.
func (b *beginning) openInit() (*safetensors.File, error) {
	path, err := LocalInit(context.Background(), b.job.Init, b.opt.BaseDir, b.opt.UI.Line)
	if err != nil {
		return nil, err
	}
	if checkpoints := filepath.Join(path, "checkpoints"); isDir(checkpoints) {
		found, err := checkpoint.LatestGood(checkpoints)
		if err != nil {
			return nil, fmt.Errorf("%s is a run directory without a good checkpoint: %w", path, err)
		}
		return nil, fmt.Errorf("%s is a run directory: give the weights of one of its checkpoints, such as %s", path, filepath.Join(found.Dir, train.ModelFile))
	}
	open := safetensors.OpenModel
	if b.job.Init.Weights == job.Average {
		open = openAverage
	}
	f, err := open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(path); errors.Is(e, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no %s: check the path; in a job file it starts at the file's own folder", path)
		}
	}
	return f, err
}

// LocalInit is where the init file of a job, whose folder is base, lies on this machine: the
// address of one in an object store is that of a file, or of a checkpoint, of which a verified
// copy is made. say is told what takes long, and of checkpoints that are passed over.
func LocalInit(ctx context.Context, in job.Init, base string, say func(line string)) (string, error) {
	path := job.Abs(base, in.Path)
	if !s3url.Is(path) {
		return path, nil
	}
	if u, err := s3url.Parse(path); err == nil && strings.HasSuffix(u.Prefix, ".safetensors") {
		c, err := objects.UserCopies()
		if err != nil {
			return "", err
		}
		got, err := c.Fetch(ctx, path, nil)
		return got.Path, err
	}
	dir, passed, err := trained.FindSaying(ctx, path, say)
	for _, p := range passed {
		say(p.String())
	}
	if err != nil || in.Weights == job.Average {
		return dir, err
	}
	return filepath.Join(dir, train.ModelFile), nil
}

// openAverage opens the averaged weights of the checkpoint that path is, or whose
// file of weights it is.
func openAverage(path string) (*safetensors.File, error) {
	if !isDir(path) {
		path = filepath.Dir(path)
	}
	f, err := safetensors.Open(filepath.Join(path, train.OptimizerFile))
	if err != nil {
		return nil, fmt.Errorf("init.weights %s wants a checkpoint, whose averaged weights stand in its %s: %w", job.Average, train.OptimizerFile, err)
	}
	if a := train.Averaged(f); len(a.Names()) > 0 {
		return a, nil
	}
	f.Close()
	return nil, fmt.Errorf("%s has no averaged weights, since its job has no optimizer.ema: leave init.weights out", path)
}

// show says what is odd about the init file, and what became of it.
func (w *firstWeights) show(v voice, path string) {
	if f := w.odd; f != nil {
		v.log.Warn("init: " + f.String())
		v.Script("finding", map[string]any{"finding": *f})
	}
	for _, key := range slices.Sorted(maps.Keys(w.pretrained)) {
		l := w.pretrained[key]
		v.Event("pretrained", key+": "+l.String(), map[string]any{"key": key, "pretrained": l})
	}
	if w.made != nil {
		v.Event("init", path+": "+w.made.String(), map[string]any{"transfer": w.made})
	}
}

// peekInit refuses an init file that is none before the data is opened, which
// may take an hour.
func (b *beginning) peekInit() error {
	if b.job.Init.Path == "" || b.start > 0 {
		return nil
	}
	f, err := b.openInit()
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return f.Close()
}

// checkInit reads the job's init file and the files of its encoders once, so that a
// bad one is refused before any worker starts.
func (b *beginning) checkInit(model *models.Model) error {
	if b.job.Init.Path == "" && !b.pretrains() || b.start > 0 {
		return nil
	}
	if err := b.findWeights(model); err != nil {
		if b.job.Init.Path == "" {
			return err
		}
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// firstAgain is the file of the run's first weights, empty where the seed decides:
// those of a run that has gone on from a checkpoint, too.
func (b *beginning) firstAgain() (string, error) {
	if b.first.file != "" || b.job.Init.Path == "" && !b.pretrains() {
		return b.first.file, nil
	}
	made := b.dir.at(initName)
	if _, err := os.Stat(made); err == nil {
		return made, nil
	}
	f, err := b.openInit()
	if err != nil {
		return "", fmt.Errorf("the run's first weights are not here any more: %w", err)
	}
	return f.Name(), f.Close()
}

// checkModel builds the job's model once: its layout is what checkpoints are
// checked against, and its first weights are found.
func (b *beginning) checkModel() (models.Options, error) {
	model, _, err := train.Build(b.job, b.data.meta)
	if err != nil {
		return nil, err
	}
	defer model.Close() // from here on the workers hold one
	b.sayFrozen(model)
	b.layout = train.LayoutOf(model.Params(), train.OptimizerOf(b.job).Slots(), b.job.Cluster.Optimizer == "sharded")
	return model.Options(), b.checkInit(model)
}
