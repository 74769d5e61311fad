package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

func newPredict() *cobra.Command {
	var dir, in, out string
	var depth eval.Depth
	var threads int
	c := &cobra.Command{
		Use:   "predict --checkpoint DIR --inputs IN.safetensors --out OUT.safetensors",
		Short: "Run a checkpoint on inputs from a file",
		Long: `Run a checkpoint's model, without dropout, on the inputs of a .safetensors file
and write its outputs to another. Inputs, by the model's kind:
  vla          images [N,C,H,W] or [N,H,W,C], instruction_tokens [N,T]
  vit          images [N,C,H,W] or [N,H,W,C]
  cross_modal  vision_features [N,P,V], language_features [N,T,L]
  encoder, lstm  instruction_tokens [N,T]
in any float or integer type, tokens in any integer type. Images of uint8 are
normalised as in training; others are used as they are, and are to be
normalised so (the manifest has mean and standard deviation). Values that are
not finite are refused. Outputs: actions F32 [N,A], normalised as in training,
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
			defer t.Close()
			if sameFile(in, out) {
				return usagef("--out %s is the file of --inputs, which it would replace: give another", out)
			}
			b, err := t.readInputs(c.Context(), c.ErrOrStderr(), in)
			if err != nil {
				return err
			}
			rt := tensor.NewRuntime(max(threads, 1))
			defer rt.Close()
			if depth != (eval.Depth{}) {
				said, err := t.predictExits(rt, b, depth, out)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.OutOrStdout(), said)
				return nil
			}
			prog, err := t.Model.Program(rt, b.N, b.Spec, models.ProgramOptions{Head: train.HeadOf(t.Job), Forward: true})
			if err != nil {
				return err
			}
			defer prog.Close()
			if err := prog.Load(b); err != nil {
				return err
			}
			prog.SetStep(0, 0, false)
			prog.Forward()
			name := "actions"
			if t.Model.Options().Answers() == models.Tokens {
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
	fl.IntVar(&threads, "threads", runtime.GOMAXPROCS(0), "compute threads")
	return c
}

// readInputs makes one batch of all of a file's samples, and writes to warn what
// is odd about them. Targets, which the file need not have, stay zero.
func (t opened) readInputs(ctx context.Context, warn io.Writer, path string) (*models.Batch, error) {
	b, findings, err := data.ReadInputs(ctx, path, t.Model.Options().Wants(), t.Job.Data.Options, t.Meta)
	if err != nil {
		return nil, fmt.Errorf("the inputs: %w", err)
	}
	for _, f := range findings {
		fmt.Fprintln(warn, "warning: the inputs: "+f.String())
	}
	return b, nil
}

// sameFile says that both paths name one file that is there.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func writeOutputs(path, name string, v *tensor.Var) error {
	return writeTensors(path, []safetensors.Tensor{{Name: name, Shape: v.Shape, Data: v.Data}})
}

func writeTensors(path string, tensors []safetensors.Tensor) error {
	return safetensors.WriteFile(path, tensors, nil)
}
