package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/trained"
)

func newPredict() *cobra.Command {
	var dir, weights, set string
	var ask trained.Asking
	var asJSON bool
	c := &cobra.Command{
		Use:   "predict --checkpoint DIR (--image FILE --instruction TEXT … | --episode N | --inputs IN.safetensors --out OUT.safetensors)",
		Short: "Run a checkpoint on one observation, or on inputs from a file",
		Long: `Answer one observation with actions in the data's units, as serve does: pictures
by --image [NAME=]FILE (PNG, JPEG), numbers by --state [NAME=]0.1,0.2,…, and
--instruction. Names are those of the data, or their ends (front for
observation.images.front). With --episode and --frame the observation is a frame of
the data, and beside each action stands what was done there.

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
			"  coordinator predict --checkpoint runs/arm --image front=a.png --image wrist=b.png --state 0.1,0.25,0 --instruction \"open the drawer\" --json\n" +
			"  coordinator predict --checkpoint runs/arm --episode 3 --frame 40",
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			ask.OfData = c.Flags().Changed("episode")
			if err := ask.Check(); err != nil {
				return err
			}
			t, err := loadWeights(dir, weights, set)
			if err != nil {
				return err
			}
			defer t.Close()
			if ask.In != "" {
				said, err := t.PredictFile(c.Context(), c.ErrOrStderr(), ask)
				if err == nil {
					sayWeights(c.ErrOrStderr(), t.Said())
				}
				fmt.Fprint(c.OutOrStdout(), said)
				return err
			}
			if ask.OfData {
				if err := t.OpenToMeasure(run.BaseDir(t.Dir), ask.Data, "all", scanDir()); err != nil {
					return err
				}
			}
			a, err := t.Ask(ask)
			if err != nil {
				return err
			}
			sayWeights(c.ErrOrStderr(), t.Said())
			for _, n := range a.Notes {
				fmt.Fprintln(c.ErrOrStderr(), "warning: "+n)
			}
			return answer(c, asJSON, a, words(a.Text))
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	fl.StringArrayVar(&ask.Pictures, "image", nil, "picture of the observation, [NAME=]FILE; may be given several times")
	fl.StringArrayVar(&ask.Numbers, "state", nil, "numbers of the observation, [NAME=]0.1,0.2,…; may be given several times")
	fl.StringVar(&ask.Instruction, "instruction", "", "what the robot is to do")
	fl.StringVar(&ask.Data, "data", "", "where the data of --episode is on this machine, or other data of the same features")
	fl.Int64Var(&ask.Episode, "episode", 0, "ask about a frame of the data: its episode, as the data numbers it")
	fl.IntVar(&ask.Frame, "frame", 0, "of --episode, from 0")
	fl.BoolVar(&asJSON, "json", false, "print the answer to an observation as one JSON object")
	weightsFlag(c, &weights)
	fl.StringVar(&set, "data-set", "", "of a mixture: the set whose statistics count")
	fl.StringVar(&ask.In, "inputs", "", "safetensors file with the inputs")
	fl.StringVar(&ask.Out, "out", "", "safetensors file to write")
	depthFlags(c, &ask.Depth)
	threadsFlag(c, &ask.Threads, machine.Threads(), "compute threads")
	return c
}

// depthFlags are for commands that run a model with exits as deep as is needed.
func depthFlags(c *cobra.Command, d *eval.Depth) {
	c.Flags().Float64Var(&d.Threshold, "exit-doubt", 0, "leave a model with model.exits where its doubt is at most this (eval --exits shows what that costs)")
	c.Flags().DurationVar(&d.Budget, "exit-budget", 0, "leave a model with model.exits before a layer that would end after this long, e.g. 5ms (0: run all of it)")
}
