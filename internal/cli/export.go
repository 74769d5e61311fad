package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/trained"
)

func newCheckpointExport() *cobra.Command {
	var x trained.Export
	var asJSON bool
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
			if err := x.Check(); err != nil {
				return err
			}
			var err error
			if x.Dir, err = checkpointDir(args[0]); err != nil {
				return err
			}
			done, err := x.Write()
			if err != nil {
				return err
			}
			return answer(c, asJSON, done, func(out io.Writer) error {
				for _, f := range done.Files {
					fmt.Fprintf(out, "%s  %s  sha256 %s\n", f.Path, plain.Bytes(f.Size), f.SHA256)
				}
				sayWeights(out, done.Said)
				return nil
			})
		},
	}
	fl := c.Flags()
	fl.StringVar(&x.Out, "out", "", "directory, or a file whose name ends in .safetensors")
	fl.StringVar(&x.Type, "dtype", "f32", "type of the weights: f32 (as trained), bf16 or f16 (rounded to nearest)")
	fl.StringVar(&x.Weights, "weights", "", "ema, raw, or both: the average in model.safetensors and the weights as trained beside it (default: ema where the checkpoint has it)")
	fl.StringVar(&x.Encoder, "encoder", "", "vision or language: the model's pretrained encoder alone, under its family's own names, as timm or transformers load it")
	fl.BoolVar(&x.Force, "force", false, "replace files that exist")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
