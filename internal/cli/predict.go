package cli

import (
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

func newPredict() *cobra.Command {
	var dir, in, out string
	var depth train.Depth
	var threads int
	c := &cobra.Command{
		Use:   "predict --checkpoint DIR --inputs IN.safetensors --out OUT.safetensors",
		Short: "Run a checkpoint on inputs from a file",
		Long: `Run a checkpoint's model, without dropout, on the inputs of a .safetensors file
and write its outputs to another. Inputs, by the model's kind:
  vla          images F32 [N,C,H,W], instruction_tokens I64 [N,T]
  vit          images F32 [N,C,H,W]
  cross_modal  vision_features F32 [N,P,V], language_features F32 [N,T,L]
  encoder, lstm  instruction_tokens I64 [N,T]
Images are used as they are (normalised as in training: the manifest has mean
and standard deviation). Outputs: actions F32 [N,A], normalised as in training,
or logits F32 [N,T,V] where the model names tokens. With --exit-doubt or
--exit-budget samples run one at a time, each as deep as it needs, and the
output also has layers I64 [N].`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if in == "" || out == "" {
				return usagef("--inputs and --out are both needed")
			}
			t, err := loadTrained(dir)
			if err != nil {
				return err
			}
			f, err := safetensors.Open(in)
			if err != nil {
				return err
			}
			defer f.Close()
			b, spec, err := readInputs(f, in, t)
			if err != nil {
				return err
			}
			rt := tensor.NewRuntime(max(threads, 1))
			defer rt.Close()
			if depth != (train.Depth{}) {
				said, err := t.predictExits(rt, b, spec, depth, out)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.OutOrStdout(), said)
				return nil
			}
			prog, err := t.model.Program(rt, b.N, spec, models.ProgramOptions{Loss: t.job.Loss})
			if err != nil {
				return err
			}
			if err := prog.Load(b); err != nil {
				return err
			}
			prog.SetStep(0, 0, false)
			prog.Forward()
			name := "actions"
			if spec.Labels {
				name = "logits"
			}
			return writeOutputs(out, name, prog.Output())
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	fl.StringVar(&in, "inputs", "", "safetensors file with the inputs")
	fl.StringVar(&out, "out", "", "safetensors file to write")
	fl.Float64Var(&depth.Threshold, "exit-doubt", 0, "leave a model with model.exits where its doubt is at most this (eval --exits shows what that costs)")
	fl.DurationVar(&depth.Budget, "exit-budget", 0, "leave it before a layer that would end after this long, e.g. 5ms")
	fl.IntVar(&threads, "threads", runtime.NumCPU(), "compute threads")
	return c
}

// readInputs makes one batch of all of a file's samples. Targets, which the
// file need not have, stay zero.
func readInputs(f *safetensors.File, path string, t *trained) (*models.Batch, models.Spec, error) {
	cfg := t.model.Config()
	spec := t.model.Spec(0)
	n := -1
	shape := func(name string, want ...int) ([]int, error) { // -1 is free
		info, ok := f.Tensor(name)
		if !ok {
			return nil, fmt.Errorf("%s: a %s model needs the tensor %q; the file has %v", path, cfg.Kind, name, f.Names())
		}
		ok = len(info.Shape) == len(want)+1
		for i := 0; ok && i < len(want); i++ {
			ok = want[i] < 0 || info.Shape[i+1] == want[i]
		}
		if !ok || info.Shape[0] < 1 || n >= 0 && info.Shape[0] != n {
			return nil, fmt.Errorf("%s: %s has shape %v; want [N %v] with the same N ≥ 1 in all tensors, where -1 is any size", path, name, info.Shape, want)
		}
		n = info.Shape[0]
		return info.Shape, nil
	}
	var images, vision, language []float32
	var tokens []int32
	var err error
	if spec.Image[0] > 0 {
		if _, err = shape("images", spec.Image[0], spec.Image[1], spec.Image[2]); err != nil {
			return nil, spec, err
		}
		if images, err = f.Float32("images"); err != nil {
			return nil, spec, err
		}
	}
	if cfg.Kind == "vla" || spec.Labels {
		s, err := shape("instruction_tokens", -1)
		if err != nil {
			return nil, spec, err
		}
		spec = t.model.Spec(s[1])
		ids, err := f.Int64("instruction_tokens")
		if err != nil {
			return nil, spec, err
		}
		for i, id := range ids {
			if id < 0 || id >= int64(cfg.VocabSize) {
				return nil, spec, fmt.Errorf("%s: instruction_tokens: token %d of sample %d, at position %d, is outside the vocabulary of %d", path, id, i/s[1], i%s[1], cfg.VocabSize)
			}
			tokens = append(tokens, int32(id))
		}
	}
	if spec.Vision[0] != 0 || cfg.Kind == "cross_modal" {
		vs, err := shape("vision_features", -1, cfg.VisionDim)
		if err != nil {
			return nil, spec, err
		}
		ls, err := shape("language_features", -1, cfg.LanguageDim)
		if err != nil {
			return nil, spec, err
		}
		spec.Vision, spec.Language = [2]int{vs[1], vs[2]}, [2]int{ls[1], ls[2]}
		if vision, err = f.Float32("vision_features"); err != nil {
			return nil, spec, err
		}
		if language, err = f.Float32("language_features"); err != nil {
			return nil, spec, err
		}
	}
	b := models.NewBatch(n, spec)
	copy(b.Images, images)
	copy(b.Tokens, tokens)
	copy(b.Vision, vision)
	copy(b.Language, language)
	for i := range b.IDs {
		b.IDs[i] = uint64(i)
	}
	return b, spec, nil
}

func writeOutputs(path, name string, v *tensor.Var) error {
	return writeTensors(path, []safetensors.Tensor{{Name: name, Shape: v.Shape, Data: v.Data}})
}

func writeTensors(path string, tensors []safetensors.Tensor) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := safetensors.Write(f, tensors, nil); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}
