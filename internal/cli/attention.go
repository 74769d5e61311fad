package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/attention"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

func newAttention() *cobra.Command {
	var dir, path, out, weights string
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
				m, err = openCheckpoint(dir, nil)
			}
			if err != nil {
				return err
			}
			defer m.Close()
			if err := m.Use(weights); err != nil {
				return err
			}
			var b *models.Batch
			if bySample {
				b, err = m.Sample(sample)
			} else {
				b, err = m.Input(c.Context(), c.ErrOrStderr(), input)
			}
			if err != nil {
				return err
			}
			rt := tensor.NewRuntime(max(threads, 1))
			defer rt.Close()
			rep, err := attention.Look(rt, attention.Subject{Checkpoint: m.Dir, Step: m.Step, Model: m.Model, Meta: m.Meta}, b, b.Spec)
			if err != nil {
				return err
			}
			sayWeights(c.ErrOrStderr(), m.Said())
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
	weightsFlag(c, &weights)
	fl.StringArrayVar(&input, "input", nil, "tokens, an instruction, a picture or a .safetensors file; may be given twice")
	fl.IntVar(&sample, "sample", 0, "sample of the held-out split, from 0")
	fl.StringVar(&path, "data", "", "where the data is here, for --sample (default: as in the job)")
	fl.StringVar(&out, "out", "", "PNG file to write, or a directory")
	fl.BoolVar(&all, "all", false, "list every position of long sequences too")
	threadsFlag(c, &threads, machine.Threads(), "compute threads")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object, with all weights")
	return c
}
