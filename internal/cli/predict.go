package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/eval"
)

func newPredict() *cobra.Command {
	var dir, in, out, instruction, weights, set string
	var images, state []string
	var asJSON bool
	var depth eval.Depth
	var threads int
	c := &cobra.Command{
		Use:   "predict --checkpoint DIR (--image FILE --instruction TEXT … | --inputs IN.safetensors --out OUT.safetensors)",
		Short: "Run a checkpoint on one observation, or on inputs from a file",
		Long: `Answer one observation with actions in the data's units, as serve does: pictures
by --image [NAME=]FILE (PNG, JPEG), numbers by --state [NAME=]0.1,0.2,…, and
--instruction. Names are those of the data, or their ends (front for
observation.images.front).

Or run a checkpoint's model, without dropout, on the inputs of a .safetensors file
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
output file also has layers I64 [N].`,
		Example: "  coordinator predict --checkpoint runs/bridge --image photo.png --instruction \"pick up the red cube\"\n" +
			"  coordinator predict --checkpoint runs/arm --image front=a.png --image wrist=b.png --state 0.1,0.25,0 --instruction \"open the drawer\" --json",
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if len(images)+len(state) > 0 || instruction != "" {
				if in != "" || out != "" {
					return usagef("--image, --state and --instruction are one observation, without --inputs and --out")
				}
				t, err := loadWeights(c, dir, weights, set)
				if err != nil {
					return err
				}
				defer t.Close()
				a, err := t.Ask(images, state, instruction, threads, depth)
				if err != nil {
					return err
				}
				for _, n := range a.Notes {
					fmt.Fprintln(c.ErrOrStderr(), "warning: "+n)
				}
				return answer(c, asJSON, a, words(a.Text))
			}
			if in == "" || out == "" {
				return usagef("give an observation by --image, --state, --instruction, or both --inputs and --out")
			}
			t, err := loadWeights(c, dir, weights, set)
			if err != nil {
				return err
			}
			defer t.Close()
			said, err := t.PredictFile(c.Context(), c.ErrOrStderr(), in, out, threads, depth)
			if said != "" {
				fmt.Fprintln(c.OutOrStdout(), said)
			}
			return err
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	fl.StringArrayVar(&images, "image", nil, "picture of the observation, [NAME=]FILE; may be given several times")
	fl.StringArrayVar(&state, "state", nil, "numbers of the observation, [NAME=]0.1,0.2,…; may be given several times")
	fl.StringVar(&instruction, "instruction", "", "what the robot is to do")
	fl.BoolVar(&asJSON, "json", false, "print the answer to an observation as one JSON object")
	weightsFlag(c, &weights)
	fl.StringVar(&set, "data-set", "", "of a mixture: the set whose statistics count")
	fl.StringVar(&in, "inputs", "", "safetensors file with the inputs")
	fl.StringVar(&out, "out", "", "safetensors file to write")
	depthFlags(c, &depth)
	fl.IntVar(&threads, "threads", runtime.GOMAXPROCS(0), "compute threads")
	return c
}

// depthFlags are for commands that run a model with exits as deep as is needed.
func depthFlags(c *cobra.Command, d *eval.Depth) {
	c.Flags().Float64Var(&d.Threshold, "exit-doubt", 0, "leave a model with model.exits where its doubt is at most this (eval --exits shows what that costs)")
	c.Flags().DurationVar(&d.Budget, "exit-budget", 0, "leave it before a layer that would end after this long, e.g. 5ms")
}
