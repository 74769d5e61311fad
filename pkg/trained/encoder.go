package trained

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/pretrained"
	"github.com/vlaring/vlaring/pkg/train"
)

// The values of Export.Encoder.
const (
	visionEncoder   = "vision"
	languageEncoder = "language"
)

// encoderParts are the files of the model's pretrained encoder under its family's own
// names, for timm or transformers to load.
func (e *exporter) encoderParts() ([]exportPart, error) {
	c, _ := e.of.Job.Model.Options.(models.Config)
	t, prefix, side := c.Vision, "vision_encoder.", c.ImageSize
	if e.Encoder == languageEncoder {
		t, prefix, side = c.Language, "language_encoder.", 0
	}
	if t.Backbone == nil {
		return nil, usage.Errorf("--encoder %s: the model's own is no pretrained one, and nobody else has its names; leave --encoder out", e.Encoder)
	}
	f, err := openWeights(e.Dir, e.of.Weights)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := mergingOf(train.ModelConfig(e.of.Job, e.of.Meta), f.Names())
	w, err := pretrained.Write(*t.Backbone, side, func(name string) ([]float32, error) { return m.read(f, prefix+name) })
	if err != nil {
		return nil, err
	}
	for i, x := range w.Tensors {
		if w.Tensors[i].Data, err = safetensors.Narrow(e.dtype, x.Data.([]float32)); err != nil {
			return nil, err
		}
	}
	v, err := safetensors.NewView(w.Tensors, map[string]string{"format": "pt"})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(e.Out, 0o755); err != nil {
		return nil, err
	}
	parts := []exportPart{{filepath.Join(e.Out, train.ModelFile), v}, {filepath.Join(e.Out, configFile), bytes.NewBuffer(append(w.Config, '\n'))}}
	if w.See != nil {
		parts = append(parts, exportPart{filepath.Join(e.Out, "preprocessor_config.json"), bytes.NewBuffer(append(w.See, '\n'))})
	}
	if t.Pooled() {
		return e.sentenceParts(parts, t)
	}
	return parts, nil
}

// sentenceParts are the parts, and the files that say what sentence the tower makes of
// words, so that whoever reads the encoder again makes the same.
func (e *exporter) sentenceParts(parts []exportPart, t models.Tower) ([]exportPart, error) {
	files := pretrained.Sentence{Pool: t.Pool, Unit: t.Unit}.Files(t.Backbone.Width)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		b, err := json.MarshalIndent(files[path], "", "  ")
		if err != nil {
			return nil, err
		}
		path = filepath.Join(e.Out, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		parts = append(parts, exportPart{path, bytes.NewBuffer(append(b, '\n'))})
	}
	return parts, nil
}

// checkEncoder says what is wrong with Encoder.
func (x Export) checkEncoder() error {
	switch {
	case x.Encoder == "":
	case x.Encoder != visionEncoder && x.Encoder != languageEncoder:
		return usage.Errorf("--encoder %q: want %s or %s", x.Encoder, visionEncoder, languageEncoder)
	case x.single() || x.Weights == both:
		return usage.Errorf("--encoder writes a folder with one file of weights: give --out DIR, and --weights ema or raw")
	}
	return nil
}
