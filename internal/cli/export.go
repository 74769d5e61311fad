package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

// configFile stands beside an exported model.safetensors.
const configFile = "config.json"

// exportFormat and exportVersion identify it.
const (
	exportFormat  = "vlaring-model"
	exportVersion = 1
)

// exported is config.json: all that is needed to use the weights elsewhere.
type exported struct {
	Format     string                 `json:"format"`
	Version    int                    `json:"version"`
	DType      string                 `json:"torch_dtype"` // as PyTorch names it
	Model      json.RawMessage        `json:"model"`
	Inputs     any                    `json:"inputs"`
	Vocabulary []string               `json:"vocabulary"`
	Images     *imageScale            `json:"images,omitempty"`
	Actions    *data.Stats            `json:"actions,omitempty"`
	Stats      map[string]*data.Stats `json:"stats,omitempty"` // of other features, by name
	Checkpoint exportedFrom           `json:"checkpoint"`
}

type imageScale struct {
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
}

type exportedFrom struct {
	Job      string `json:"job"`
	Step     uint64 `json:"step"`
	Seed     uint64 `json:"seed"`
	Software string `json:"software"`
	SHA256   string `json:"model_sha256"` // of the checkpoint's model.safetensors
}

// exportTypes are the values of --dtype.
var exportTypes = map[string]struct{ dtype, torch string }{
	"f32": {"F32", "float32"}, "bf16": {"BF16", "bfloat16"}, "f16": {"F16", "float16"},
}

func newCheckpointExport() *cobra.Command {
	var out, dtype string
	var force, asJSON bool
	c := &cobra.Command{
		Use:   "export CHECKPOINT --out DIR|FILE.safetensors",
		Short: "Write a checkpoint's model the way PyTorch users expect it",
		Long: `Write a checkpoint's model for use elsewhere. CHECKPOINT is a checkpoint, or a
run directory for its newest; every byte of it is verified first.

To a directory: model.safetensors, with PyTorch's names and layouts, and
config.json with the model's sizes, the vocabulary and the normalisation of
images and actions. To FILE.safetensors: one file, with the same configuration
in its metadata under "config".

In PyTorch: model.load_state_dict(safetensors.torch.load_file(FILE)).`,
		Example: "  coordinator checkpoint export runs/bridge --out export/\n  coordinator checkpoint export runs/bridge/checkpoints/step-00000100 --out bridge.safetensors --dtype bf16",
		Args:    exactArgs("CHECKPOINT"),
		RunE: func(c *cobra.Command, args []string) error {
			typ, ok := exportTypes[dtype]
			switch {
			case !ok:
				return usagef("--dtype %q: want f32, bf16 or f16", dtype)
			case out == "":
				return usagef("--out DIR or --out FILE.safetensors is missing")
			}
			dir, err := checkpointDir(args[0])
			if err != nil {
				return err
			}
			e := exporter{dir: dir, dtype: typ.dtype, torch: typ.torch, out: out, force: force}
			files, err := e.run()
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(map[string]any{"checkpoint": dir, "step": e.m.Step, "files": files})
			}
			for _, f := range files {
				fmt.Fprintf(c.OutOrStdout(), "%s  %s  sha256 %s\n", f.Path, plain.Bytes(f.Size), f.SHA256)
			}
			return nil
		},
	}
	fl := c.Flags()
	fl.StringVar(&out, "out", "", "directory, or a file whose name ends in .safetensors")
	fl.StringVar(&dtype, "dtype", "f32", "type of the weights: f32 (as trained), bf16 or f16 (rounded to nearest)")
	fl.BoolVar(&force, "force", false, "replace files that exist")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

type exportedFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

type exporter struct {
	dir, dtype, torch, out string
	force                  bool
	m                      checkpoint.Manifest
}

func (e *exporter) run() ([]exportedFile, error) {
	if err := checkpoint.Verify(e.dir).Err(); err != nil {
		return nil, err
	}
	var err error
	if e.m, err = checkpoint.ReadManifest(e.dir); err != nil {
		return nil, err
	}
	config, err := e.config()
	if err != nil {
		return nil, err
	}
	tensors, err := e.tensors()
	if err != nil {
		return nil, err
	}
	meta := map[string]string{"format": "pt"}
	single := strings.HasSuffix(e.out, ".safetensors")
	path := e.out
	if single {
		var flat bytes.Buffer
		if err := json.Compact(&flat, config); err != nil {
			return nil, err
		}
		meta["config"] = flat.String()
	} else {
		if err := os.MkdirAll(e.out, 0o755); err != nil {
			return nil, err
		}
		path = filepath.Join(e.out, train.ModelFile)
	}
	v, err := safetensors.NewView(tensors, meta)
	if err != nil {
		return nil, err
	}
	parts := []exportPart{{path, v}}
	if !single {
		parts = append(parts, exportPart{filepath.Join(e.out, configFile), bytes.NewBuffer(config)})
	}
	for _, p := range parts { // all, before any is written
		if _, err := os.Lstat(p.path); !e.force && !errors.Is(err, os.ErrNotExist) {
			if err == nil {
				err = usagef("%s exists; --force replaces it", p.path)
			}
			return nil, err
		}
	}
	var out []exportedFile
	for _, p := range parts {
		x, err := p.write()
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// config is config.json.
func (e *exporter) config() ([]byte, error) {
	t, err := run.Parse(e.dir, e.m)
	if err != nil {
		return nil, err
	}
	x := exported{Format: exportFormat, Version: exportVersion, DType: e.torch, Model: e.m.Model, Inputs: t.Meta.Spec, Vocabulary: t.Meta.Vocab, Actions: t.Meta.Actions, Stats: t.Meta.Stats,
		Checkpoint: exportedFrom{Job: e.m.Job, Step: e.m.Step, Seed: e.m.Seed, Software: e.m.Software, SHA256: e.m.File(train.ModelFile).SHA256}}
	if x.Vocabulary == nil {
		x.Vocabulary = []string{}
	}
	if t.Meta.Spec.Has(models.Images) {
		x.Images = &imageScale{t.Meta.ImageMean, t.Meta.ImageStd}
	}
	if x.Model == nil { // a checkpoint that a worker rescued
		if x.Model, err = json.Marshal(train.ModelConfig(t.Job, t.Meta)); err != nil {
			return nil, err
		}
	}
	b, err := json.MarshalIndent(x, "", "  ")
	return append(b, '\n'), err
}

// tensors are the weights in the type that was asked for.
func (e *exporter) tensors() ([]safetensors.Tensor, error) {
	f, err := safetensors.Open(filepath.Join(e.dir, train.ModelFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []safetensors.Tensor
	for _, name := range f.Names() {
		info, _ := f.Tensor(name)
		x, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		raw, err := safetensors.Narrow(e.dtype, x)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; --dtype bf16 has the range of f32", name, err)
		}
		out = append(out, safetensors.Tensor{Name: name, Shape: info.Shape, Data: raw})
	}
	return out, nil
}

// exportPart is a file to be written.
type exportPart struct {
	path string
	from io.WriterTo
}

// write makes the file whole or not at all.
func (p exportPart) write() (exportedFile, error) {
	out := exportedFile{Path: p.path}
	h := sha256.New()
	err := atomicfile.WriteFrom(p.path, 0o644, func(w io.Writer) (err error) {
		out.Size, err = p.from.WriteTo(io.MultiWriter(w, h))
		return err
	})
	out.SHA256 = hex.EncodeToString(h.Sum(nil))
	return out, err
}
