package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/attention"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

func newAttention() *cobra.Command {
	var dir, path, out string
	var input []string
	var sample, threads int
	var asJSON, all bool
	c := &cobra.Command{
		Use:   "attention --checkpoint DIR (--input … | --sample N)",
		Short: "Show where a checkpoint's heads look",
		Long: `Show where each head of each layer looks for one input: the position that gets
most of each position's attention, the entropy of the weights, how far they
reach; for images also what the class token sees, and attention rollout (Abnar
and Zuidema 2020: all layers of a stack and its residual path multiplied out).

An input is one of
  --input "pick up the red cube"   words, where the checkpoint has a vocabulary
  --input "3 17 4"                 token numbers
  --input IN.safetensors           the first sample of a file such as predict reads
  --input PHOTO.png                a picture (PNG, JPEG); a vla also wants the
                                   instruction, as a second --input
  --sample N                       sample N of the held-out split

--out FILE.png draws the maps of all heads in a grid, a row a layer; where there
is an image, FILE-picture.png shows them laid over it, with the rollout. --out
DIR calls them attention.png and attention-picture.png.`,
		Example: "  coordinator attention --checkpoint runs/copy --input \"5 9 2 7\"\n" +
			"  coordinator attention --checkpoint runs/bridge --input photo.png --input \"pick up the red cube\" --out maps.png\n" +
			"  coordinator attention --checkpoint runs/tabletop --sample 3 --json",
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			bySample := c.Flags().Changed("sample")
			if bySample == (len(input) > 0) {
				return usagef("give --input (tokens, an instruction, a picture or a .safetensors file) or --sample N, and not both")
			}
			var m opened
			var err error
			if bySample {
				m, err = openTrained(dir, path)
			} else {
				m, err = loadTrained(dir)
			}
			if err != nil {
				return err
			}
			defer m.Close()
			var b *models.Batch
			if bySample {
				b, err = m.sampleInput(sample)
			} else {
				b, err = m.input(c.Context(), c.ErrOrStderr(), input)
			}
			if err != nil {
				return err
			}
			rt := tensor.NewRuntime(max(threads, 1))
			defer rt.Close()
			rep, err := attention.Look(rt, attention.Subject{Checkpoint: m.Dir, Step: m.Step, Model: m.Model, Meta: m.Meta, Head: train.HeadOf(m.Job)}, b, b.Spec)
			if err != nil {
				return err
			}
			if out != "" {
				if err := rep.Draw(out); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), rep)
			}
			fmt.Fprint(c.OutOrStdout(), rep.Text(all))
			return nil
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	fl.StringArrayVar(&input, "input", nil, "tokens, an instruction, a picture or a .safetensors file; may be given twice")
	fl.IntVar(&sample, "sample", 0, "sample of the held-out split, from 0")
	fl.StringVar(&path, "data", "", "where the data is here, for --sample (default: as in the job)")
	fl.StringVar(&out, "out", "", "PNG file to write, or a directory")
	fl.BoolVar(&all, "all", false, "list every position of long sequences too")
	fl.IntVar(&threads, "threads", runtime.GOMAXPROCS(0), "compute threads")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object, with all weights")
	return c
}

// maxPhoto bounds the file of a picture.
const maxPhoto = 256 << 20

// sampleInput is sample i of the held-out split.
func (t opened) sampleInput(i int) (*models.Batch, error) {
	src := t.Set.Heldout()
	if i < 0 || i >= src.Len() {
		return nil, usagef("--sample %d: the held-out split has %d samples, from 0", i, src.Len())
	}
	s, err := src.Sample(i)
	if err != nil {
		return nil, err
	}
	return t.batchOf(s, t.Meta.Spec)
}

// batchOf is a batch of one sample.
func (t opened) batchOf(s data.Sample, spec models.Spec) (*models.Batch, error) {
	meta := t.Meta
	meta.Spec = spec
	col, err := data.NewCollator(meta)
	if err != nil {
		return nil, err
	}
	b := models.NewBatch(1, spec)
	return b, col.Collate([]data.Sample{s}, b)
}

// input reads what --input names, and writes to warn what is odd about it.
func (t opened) input(ctx context.Context, warn io.Writer, args []string) (*models.Batch, error) {
	var photo, words string
	for _, a := range args {
		switch ext := strings.ToLower(filepath.Ext(a)); {
		case ext == ".safetensors":
			if len(args) > 1 {
				return nil, usagef("--input %s holds everything: give no other --input beside it", a)
			}
			return t.readInputs(ctx, warn, a)
		case ext == ".png" || ext == ".jpg" || ext == ".jpeg":
			if photo != "" {
				return nil, usagef("--input %s: %s is a picture already", a, photo)
			}
			photo = a
		case words != "":
			return nil, usagef("--input %q: %q is the instruction already", a, words)
		default:
			words = a
		}
	}
	kind, wants := t.Model.Options().Name(), t.Model.Options().Wants().Inputs()
	wantsImage, wantsTokens := wants.Has(models.Images), wants.Has(models.Instruction)
	switch {
	case !wantsImage && !wantsTokens:
		return nil, usagef("a %s model takes given features: --input FILE.safetensors or --sample N", kind)
	case wantsImage != (photo != ""):
		return nil, usagef("a %s model takes %s: --input FILE.png (or .jpg) is %s", kind, wants, givenOr(photo))
	case wantsTokens != (words != ""):
		return nil, usagef("a %s model takes %s: an --input of words or token numbers is %s", kind, wants, givenOr(words))
	}
	var tokens []int32
	if wantsTokens {
		var err error
		if tokens, err = t.tokens(words); err != nil {
			return nil, err
		}
	}
	spec := t.Model.Spec(len(tokens))
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
	return t.batchOf(s, spec)
}

func givenOr(s string) string {
	if s == "" {
		return "missing"
	}
	return fmt.Sprintf("not for it (%q)", s)
}

// tokens reads an instruction: numbers as they are, words by the vocabulary,
// padded as in training.
func (t opened) tokens(text string) ([]int32, error) {
	ids, err := numbers(text)
	if err == nil && len(ids) > 0 {
		return ids, nil // Program.Load checks them against the vocabulary
	}
	if len(t.Meta.Vocab) == 0 {
		if err == nil {
			err = fmt.Errorf("it is empty")
		}
		return nil, usagef("--input %q: %w (the checkpoint has no vocabulary of words)", text, err)
	}
	most := t.Meta.Spec.Len(models.Instruction, 0)
	if n := len(data.Words(text)); n > most {
		return nil, usagef("--input %q: %d words; the model was trained on at most %d", text, n, most)
	}
	tok, err := data.NewTokenizer(t.Meta.Vocab, most)
	if err != nil {
		return nil, err
	}
	return tok.Encode(text), nil
}
