package trained

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// maxPhoto bounds the file of a picture.
const maxPhoto = 256 << 20

// Sample is a batch of sample i of the held-out split, where the data is open.
func (c *Checkpoint) Sample(i int) (*models.Batch, error) {
	return c.SampleOf(c.Set.Heldout(), i)
}

// SampleOf is a batch of one sample of the held-out split that src is.
func (c *Checkpoint) SampleOf(src data.Source, i int) (*models.Batch, error) {
	if i < 0 || i >= src.Len() {
		return nil, usage.Errorf("--sample %d: the held-out split has %d samples, from 0", i, src.Len())
	}
	s, err := src.Sample(i)
	if err != nil {
		return nil, err
	}
	return c.batchOf(s, c.Meta.Spec)
}

// batchOf is a batch of one sample.
func (c *Checkpoint) batchOf(s data.Sample, spec models.Spec) (*models.Batch, error) {
	meta := c.Meta
	meta.Spec = spec
	col, err := data.NewCollator(meta)
	if err != nil {
		return nil, err
	}
	b := models.NewBatch(1, spec)
	return b, col.Collate([]data.Sample{s}, b)
}

// Input is a batch of what a command's --input names: a .safetensors file, or a
// picture, words or token numbers. What is odd about it is written to warn; what
// the model cannot take is a usage.Error.
func (c *Checkpoint) Input(ctx context.Context, warn io.Writer, args []string) (*models.Batch, error) {
	var photo, words string
	for _, a := range args {
		switch ext := strings.ToLower(filepath.Ext(a)); {
		case ext == ".safetensors":
			if len(args) > 1 {
				return nil, usage.Errorf("--input %s holds everything: give no other --input beside it", a)
			}
			return c.readInputs(ctx, warn, a)
		case ext == ".png" || ext == ".jpg" || ext == ".jpeg":
			if photo != "" {
				return nil, usage.Errorf("--input %s: %s is a picture already", a, photo)
			}
			photo = a
		case words != "":
			return nil, usage.Errorf("--input %q: %q is the instruction already", a, words)
		default:
			words = a
		}
	}
	if err := c.oneSet(); err != nil {
		return nil, err
	}
	kind, wants := c.Model.Options().Name(), c.Model.Options().Wants().Inputs()
	wantsImage, wantsTokens := wants.Has(models.Images), wants.Has(models.Instruction)
	switch {
	case !wantsImage && !wantsTokens:
		return nil, usage.Errorf("a %s model takes given features: --input FILE.safetensors or --sample N", kind)
	case wantsImage != (photo != ""):
		return nil, usage.Errorf("a %s model takes %s: --input FILE.png (or .jpg) is %s", kind, wants, givenOr(photo))
	case wantsTokens != (words != ""):
		return nil, usage.Errorf("a %s model takes %s: an --input of words or token numbers is %s", kind, wants, givenOr(words))
	}
	var tokens []int32
	if wantsTokens {
		var err error
		if tokens, err = c.tokens(words); err != nil {
			return nil, err
		}
	}
	spec := c.Model.Spec(len(tokens))
	s := data.Sample{Origin: "--input", Values: make([]data.Value, len(spec))}
	for k, f := range spec {
		v := &s.Values[k]
		switch {
		case f.Name == models.Images:
			var err error
			if v.Encoded, err = regular.Read(photo, maxPhoto); err != nil {
				return nil, err
			}
			s.Origin = photo
		case f.Type == models.Token: // labels too: targets do not touch the maps
			v.Ints = tokens
		default:
			v.Floats = make([]float32, f.Size())
		}
	}
	return c.batchOf(s, spec)
}

func givenOr(s string) string {
	if s == "" {
		return "missing"
	}
	return fmt.Sprintf("not for it (%q)", s)
}

// tokens reads an instruction: numbers as they are, words by the vocabulary,
// padded as in training.
func (c *Checkpoint) tokens(text string) ([]int32, error) {
	ids, err := data.TokenNumbers(text)
	if err == nil && len(ids) > 0 {
		return ids, nil // Program.Load checks them against the vocabulary
	}
	most := c.Meta.Spec.Len(models.Instruction, 0)
	tok, wrong := c.Meta.Tokens()
	if wrong != nil {
		return nil, wrong
	}
	if tok == nil {
		if err == nil {
			err = fmt.Errorf("it is empty")
		}
		return nil, usage.Errorf("--input %q: %w (the checkpoint has no vocabulary of words)", text, err)
	}
	words, err := tok.Words(text)
	if err != nil {
		return nil, usage.Errorf("--input: %w", err)
	}
	if n := len(words); n > most {
		return nil, usage.Errorf("--input %q: %d %s; the model was trained on at most %d", text, n, tok.Unit(), most)
	}
	return tok.Encode(text)
}

// readInputs makes one batch of all of a file's samples, and writes to warn what
// is odd about them. Targets, which the file need not have, stay zero.
func (c *Checkpoint) readInputs(ctx context.Context, warn io.Writer, path string) (*models.Batch, error) {
	if err := c.oneSet(); err != nil {
		return nil, err
	}
	b, findings, err := data.ReadInputs(ctx, path, c.Model.Options().Wants(), c.Job.Data.Options, c.Meta)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage.Errorf("the inputs: there is no %s; want a safetensors file with the tensors that the model takes (docs/formats.md)", path)
	}
	if err != nil {
		return nil, fmt.Errorf("the inputs: %w", err)
	}
	for _, f := range findings {
		fmt.Fprintln(warn, "warning: the inputs: "+f.String())
	}
	return b, nil
}
