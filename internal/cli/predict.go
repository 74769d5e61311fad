package cli

import (
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/tensor"
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
			b, err := t.ReadInputs(c.Context(), c.ErrOrStderr(), in)
			if err != nil {
				return err
			}
			rt := tensor.NewRuntime(max(threads, 1))
			defer rt.Close()
			if depth != (eval.Depth{}) {
				tensors, said, err := t.PredictTo(rt, b, depth)
				if err != nil {
					return err
				}
				if err := safetensors.WriteFile(out, tensors, nil); err != nil {
					return err
				}
				fmt.Fprintln(c.OutOrStdout(), said)
				return nil
			}
			tensors, err := t.Predict(rt, b)
			if err != nil {
				return err
			}
			return safetensors.WriteFile(out, tensors, nil)
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

// sameFile says that both paths name one file that is there.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
