package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

func newShow() *cobra.Command {
	return group(&cobra.Command{Use: "show", Short: "Show the parts of a transformer that have no weights: masks, positional encoding"}, newShowMasks(), newShowPositional())
}

// group is a command of commands.
func group(c *cobra.Command, of ...*cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			names := []string{}
			for _, sub := range of {
				names = append(names, sub.Name())
			}
			return usagef("unknown command %q: want %s\nsee '%s --help'", args[0], strings.Join(names, ", "), c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(of...)
	return c
}

// threadsFlag registers --threads; where it is 0 unless given, 0 may be given too.
func threadsFlag(c *cobra.Command, n *int, standard int, what string) {
	*n = standard
	c.Flags().Var(usage.Threads{N: n, Auto: standard == 0}, "threads", what)
}

func within(flag string, v, least, most int) error { return usage.Within(flag, v, least, most) }

func newShowMasks() *cobra.Command {
	var length, pad int
	var tokens []string
	var asJSON, ends bool
	c := &cobra.Command{
		Use:   "masks",
		Short: "Print look-ahead and padding masks: True is visible",
		Long: `Print the look-ahead mask of a sequence, the padding masks of token rows, and
both together, as the models use them. True is visible, False is hidden: the
reference's masks, and the opposite of PyTorch's attn_mask, where True hides.`,
		Example: "  coordinator show masks\n  coordinator show masks --length 8 --tokens \"3 1 4 0 0\" --pad 0 --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := within("length", length, 1, view.MostShown); err != nil {
				return err
			}
			var rows [][]int32
			for _, row := range tokens {
				ids, err := data.TokenNumbers(row)
				if err != nil {
					return usagef("--tokens %q: %w", row, err)
				}
				if len(ids) == 0 || len(ids) > view.MostShown {
					return usagef("--tokens %q: want 1 to %d numbers", row, view.MostShown)
				}
				rows = append(rows, ids)
			}
			m := view.NewMasks(length, pad, ends, rows)
			return answer(c, asJSON, m, words(m.Text))
		},
	}
	fl := c.Flags()
	fl.IntVar(&length, "length", 5, "tokens of the look-ahead mask")
	fl.StringArrayVar(&tokens, "tokens", []string{"1 25 463 78 0 0", "15 234 0 0 0 0"}, "a row of token numbers, for its padding mask; may be given again")
	fl.IntVar(&pad, "pad", 0, "token that is padding; -1: none")
	fl.BoolVar(&ends, "pad-ends", false, "the first padding token of a row ends it, and is visible: model.pad_ends")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func newShowPositional() *cobra.Command {
	var width, positions int
	var out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "positional --out PE.png",
		Short: "Draw the positional encoding: position across, dimension down",
		Long: `Draw the table of sines and cosines that gives tokens their places, as the
models use it: pe[t, 2i] = sin(t·10000^(-2i/D)), pe[t, 2i+1] = cos of the same.`,
		Example: "  coordinator show positional --out pe.png\n  coordinator show positional --d-model 64 --positions 200 --out pe.png",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("--out FILE.png is missing: where the picture goes")
			}
			if err := within("d-model", width, 2, view.MostShown); err != nil {
				return err
			}
			if err := within("positions", positions, 1, view.MostShown); err != nil {
				return err
			}
			enc, err := models.NewPositionalEncoding(width, positions)
			if err != nil {
				return usagef("--d-model %d: %w", width, err)
			}
			page := view.Positional(enc, width, positions)
			if err := page.WritePNG(out); err != nil {
				return err
			}
			w, h := page.Size()
			if asJSON {
				return printJSON(c.OutOrStdout(), struct {
					Out       string `json:"out"`
					DModel    int    `json:"d_model"`
					Positions int    `json:"positions"`
					Width     int    `json:"width"`
					Height    int    `json:"height"`
				}{out, width, positions, w, h})
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d positions of %d dimensions, %d×%d pixels\n", out, positions, width, w, h)
			return nil
		},
	}
	fl := c.Flags()
	fl.IntVar(&width, "d-model", 256, "width of the encoding, even")
	fl.IntVar(&positions, "positions", 100, "positions shown")
	fl.StringVar(&out, "out", "", "PNG file to write")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
