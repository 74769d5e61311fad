package trained

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
	"reflect"
	"strings"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tokenizer"
	"github.com/vlaring/vlaring/pkg/train"
)

// configFile stands beside an exported model.safetensors, and rawFile beside both
// where the weights as they were trained are exported beside their average.
const (
	configFile = "config.json"
	rawFile    = "model-raw.safetensors"
)

// both asks an Export for the average in model.safetensors and for the weights as
// they were trained beside it.
const both = "both"

// exportFormat and exportVersion identify it.
const (
	exportFormat  = "vlaring-model"
	exportVersion = 1
)

// Config is config.json: all that is needed to use the weights elsewhere.
type Config struct {
	Format     string                 `json:"format"`
	Version    int                    `json:"version"`
	DType      string                 `json:"torch_dtype"` // as PyTorch names it
	Model      json.RawMessage        `json:"model"`
	Loss       exportedLoss           `json:"loss"`
	Inputs     any                    `json:"inputs"`
	Vocabulary []string               `json:"vocabulary"`          // empty where a tokenizer makes the tokens
	Tokenizer  *exportedTokenizer     `json:"tokenizer,omitempty"` // which lies beside it as tokenizer.json, or in the file's metadata
	Images     *imageScale            `json:"images,omitempty"`
	Actions    *data.Stats            `json:"actions,omitempty"`
	Stats      map[string]*data.Stats `json:"stats,omitempty"` // of other features, by name
	Sets       []data.SetMeta         `json:"sets,omitempty"`  // of a mixture, each with its own actions and stats
	Checkpoint exportedFrom           `json:"checkpoint"`
}

type imageScale struct {
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
	Crop float64    `json:"crop,omitempty"` // share of the area of a picture, in its middle, that the model sees; 0: all of it
}

// exportedTokenizer names the tokenizer of the instructions.
type exportedTokenizer struct {
	SHA256 string `json:"sha256"` // of tokenizer.json
	Pad    int32  `json:"pad"`    // the token that fills rows
	Tokens int    `json:"tokens"` // of a row
}

// exportedLoss says what the tokens or the numbers that come out are.
type exportedLoss struct {
	Kind    string `json:"kind"`
	Options any    `json:"options,omitempty"` // of kinds that have any
}

type exportedFrom struct {
	Job      string `json:"job"`
	Step     uint64 `json:"step"`
	Seed     uint64 `json:"seed"`
	Software string `json:"software"`
	SHA256   string `json:"model_sha256"`      // of the checkpoint's model.safetensors
	Weights  string `json:"weights,omitempty"` // raw or ema: those in the file, of a checkpoint that has both
}

// exportTypes are the values of --dtype.
var exportTypes = map[string]struct{ dtype, torch string }{
	"f32": {"F32", "float32"}, "bf16": {"BF16", "bfloat16"}, "f16": {"F16", "float16"},
}

// File is one that was written.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Export is a checkpoint's model, written for use elsewhere.
type Export struct {
	Dir     string // of the checkpoint
	Out     string // a directory, for model.safetensors and config.json; or one file that ends in .safetensors, with the same configuration in its metadata
	Type    string // of the weights: f32 (as trained), bf16, f16 (rounded to nearest)
	Weights string // job.Raw, job.Average or both; empty: the average where there is one
	Encoder string // vision or language: of the model its pretrained encoder alone, under its family's own names; empty: all of it under this program's
	Force   bool   // replaces files that exist
}

// single says that one file is asked for.
func (x Export) single() bool { return strings.HasSuffix(x.Out, ".safetensors") }

// Check says what is wrong with Out, Type and Weights.
func (x Export) Check() error {
	if _, ok := exportTypes[x.Type]; !ok {
		return usage.Errorf("--dtype %q: want f32, bf16 or f16", x.Type)
	}
	if x.Out == "" {
		return usage.Errorf("--out DIR or --out FILE.safetensors is missing")
	}
	switch x.Weights {
	case "", job.Raw, job.Average:
	case both:
		if x.single() {
			return usage.Errorf("--weights both writes two files, and --out %s is one: give a directory, or --weights ema or raw", x.Out)
		}
	default:
		return usage.Errorf("--weights %q: want ema, raw or both", x.Weights)
	}
	return x.checkEncoder()
}

type exporter struct {
	Export
	dtype, torch string
	m            checkpoint.Manifest
	of           *Checkpoint // without a model
}

// Exported is what an Export has written.
type Exported struct {
	Dir     string `json:"checkpoint"`
	Step    uint64 `json:"step"`
	Weights string `json:"weights,omitempty"` // raw or ema: those of the first file, of a checkpoint that has both
	Files   []File `json:"files"`
	Said    string `json:"-"` // Weights in words
}

// Write verifies every byte of the checkpoint and writes the files, whole or not at
// all.
func (x Export) Write() (out Exported, err error) {
	if err := x.Check(); err != nil {
		return out, err
	}
	typ := exportTypes[x.Type]
	e := exporter{Export: x, dtype: typ.dtype, torch: typ.torch}
	files, err := e.run()
	if err != nil {
		return out, err
	}
	out = Exported{Dir: x.Dir, Step: e.m.Step, Weights: e.exported(), Files: files, Said: e.of.Said()}
	return out, nil
}

// exported names the weights of the first file, where there is a choice.
func (e *exporter) exported() string {
	if len(e.of.weights()) == 1 {
		return ""
	}
	return e.of.Weights
}

func (e *exporter) run() ([]File, error) {
	if err := checkpoint.Verify(e.Dir).Err(); err != nil {
		return nil, err
	}
	var err error
	if e.m, err = checkpoint.ReadManifest(e.Dir); err != nil {
		return nil, err
	}
	if e.of, err = parse(e.Dir, e.m, train.Kinds()); err != nil {
		return nil, err
	}
	first := e.Weights
	if first == both {
		first = job.Average
	}
	if e.of.Weights, err = e.of.choose(first); err != nil {
		return nil, err
	}
	if e.Encoder != "" {
		parts, err := e.encoderParts()
		if err != nil {
			return nil, err
		}
		return e.writeAll(parts)
	}
	config, err := e.config()
	if err != nil {
		return nil, err
	}
	tensors, err := e.tensors(e.of.Weights)
	if err != nil {
		return nil, err
	}
	meta := map[string]string{"format": "pt"}
	var words []byte // the tokenizer, as it was read
	if kept := e.of.Meta.Tokenizer; kept != nil {
		tok, err := kept.Open()
		if err != nil {
			return nil, err
		}
		words = tok.JSON()
	}
	single := e.single()
	path := e.Out
	if single {
		if words != nil {
			meta["tokenizer"] = string(words)
		}
		var flat bytes.Buffer
		if err := json.Compact(&flat, config); err != nil {
			return nil, err
		}
		meta["config"] = flat.String()
	} else {
		if err := os.MkdirAll(e.Out, 0o755); err != nil {
			return nil, err
		}
		path = filepath.Join(e.Out, train.ModelFile)
	}
	v, err := safetensors.NewView(tensors, meta)
	if err != nil {
		return nil, err
	}
	parts := []exportPart{{path, v}}
	if e.Weights == both {
		raw, err := e.tensors(job.Raw)
		if err != nil {
			return nil, err
		}
		v, err := safetensors.NewView(raw, meta)
		if err != nil {
			return nil, err
		}
		parts = append(parts, exportPart{filepath.Join(e.Out, rawFile), v})
	}
	if !single {
		parts = append(parts, exportPart{filepath.Join(e.Out, configFile), bytes.NewBuffer(config)})
		if words != nil {
			parts = append(parts, exportPart{filepath.Join(e.Out, tokenizer.JSONFile), bytes.NewBuffer(words)})
		}
	}
	return e.writeAll(parts)
}

// writeAll writes the files.
func (e *exporter) writeAll(parts []exportPart) ([]File, error) {
	for _, p := range parts { // all, before any is written
		if _, err := os.Lstat(p.path); !e.Force && !errors.Is(err, os.ErrNotExist) {
			if err == nil {
				err = usage.Errorf("%s exists; --force replaces it", p.path)
			}
			return nil, err
		}
	}
	var out []File
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
	var err error
	t := e.of
	x := Config{Format: exportFormat, Version: exportVersion, DType: e.torch, Model: e.m.Model, Inputs: t.Meta.Spec, Vocabulary: t.Meta.Vocab, Actions: t.Meta.Actions, Stats: t.Meta.Stats, Sets: t.Meta.Sets,
		Checkpoint: exportedFrom{Job: e.m.Job, Step: e.m.Step, Seed: e.m.Seed, Software: e.m.Software, SHA256: e.m.File(train.ModelFile).SHA256, Weights: e.exported()}}
	x.Loss.Kind = t.Job.Loss.Kind
	if o := reflect.ValueOf(t.Job.Loss.Options); o.Kind() == reflect.Struct && o.NumField() > 0 {
		x.Loss.Options = o.Interface()
	}
	if x.Vocabulary == nil {
		x.Vocabulary = []string{}
	}
	if k := t.Meta.Tokenizer; k != nil {
		x.Tokenizer = &exportedTokenizer{k.SHA256, k.Pad, t.Meta.Spec.Len(models.Instruction, 0)}
	}
	if t.Meta.Spec.Has(models.Images) {
		x.Images = &imageScale{Mean: t.Meta.ImageMean, Std: t.Meta.ImageStd}
		if a := t.Meta.Augment; a != nil && a.Crop < 1 {
			x.Images.Crop = a.Crop
		}
	}
	if x.Model, err = e.mergedModel(x.Model); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(x, "", "  ")
	return append(b, '\n'), err
}

// tensors are the weights in the type that was asked for.
func (e *exporter) tensors(which string) ([]safetensors.Tensor, error) {
	f, err := openWeights(e.Dir, which)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []safetensors.Tensor
	m := mergingOf(train.ModelConfig(e.of.Job, e.of.Meta), f.Names())
	for _, name := range f.Names() {
		if m.parts[name] {
			continue
		}
		info, _ := f.Tensor(name)
		x, err := m.read(f, name)
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
func (p exportPart) write() (File, error) {
	out := File{Path: p.path}
	h := sha256.New()
	err := atomicfile.WriteFrom(p.path, 0o644, func(w io.Writer) (err error) {
		out.Size, err = p.from.WriteTo(io.MultiWriter(w, h))
		return err
	})
	out.SHA256 = hex.EncodeToString(h.Sum(nil))
	return out, err
}
