package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/models"
)

// maxShown bounds what show prints or draws a side of.
const maxShown = 4096

func newShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the parts of a transformer that have no weights: masks, positional encoding",
		Args:  subcommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newShowMasks(), newShowPositional())
	return c
}

// subcommand refuses what is no subcommand of c.
func subcommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q\nsee '%s --help'", args[0], c.CommandPath())
	}
	return nil
}

func within(flag string, v, least, most int) error { return usage.Within(flag, v, least, most) }

// shownMasks is what show masks prints; true is visible.
type shownMasks struct {
	Length    int           `json:"length"`
	LookAhead [][]bool      `json:"look_ahead"` // [query][key]
	PadToken  int           `json:"pad_token"`
	Padding   []paddingMask `json:"padding"`
}

type paddingMask struct {
	Tokens   []int32  `json:"tokens"`
	Visible  []bool   `json:"visible"`  // [key]
	Combined [][]bool `json:"combined"` // [query][key]: look-ahead and padding together
}

func newShowMasks() *cobra.Command {
	var length, pad int
	var tokens []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "masks",
		Short: "Print look-ahead and padding masks: True is visible",
		Long: `Print the look-ahead mask of a sequence, the padding masks of token rows, and
both together, as the models use them. True is visible, False is hidden: the
reference's masks, and the opposite of PyTorch's attn_mask, where True hides.`,
		Example: "  coordinator show masks\n  coordinator show masks --length 8 --tokens \"3 1 4 0 0\" --pad 0 --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := within("length", length, 1, maxShown); err != nil {
				return err
			}
			m := shownMasks{Length: length, LookAhead: square(models.LookAheadMask(length), nil), PadToken: pad}
			for _, row := range tokens {
				ids, err := numbers(row)
				if err != nil {
					return usagef("--tokens %q: %w", row, err)
				}
				if len(ids) == 0 || len(ids) > maxShown {
					return usagef("--tokens %q: want 1 to %d numbers", row, maxShown)
				}
				v := make([]uint8, len(ids))
				models.PaddingMask(v, ids, pad)
				m.Padding = append(m.Padding, paddingMask{ids, bools(v), square(models.LookAheadMask(len(ids)), v)})
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(m)
			}
			fmt.Fprint(c.OutOrStdout(), masksText(m))
			return nil
		},
	}
	fl := c.Flags()
	fl.IntVar(&length, "length", 5, "tokens of the look-ahead mask")
	fl.StringArrayVar(&tokens, "tokens", []string{"1 25 463 78 0 0", "15 234 0 0 0 0"}, "a row of token numbers, for its padding mask; may be given again")
	fl.IntVar(&pad, "pad", 0, "token that is padding; -1: none")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// numbers reads token numbers, separated by spaces or commas.
func numbers(s string) ([]int32, error) {
	var ids []int32
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		n, err := strconv.ParseInt(w, 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is no token number; want whole numbers from 0, such as \"3 1 4\"", w)
		}
		ids = append(ids, int32(n))
	}
	return ids, nil
}

func bools(v []uint8) []bool {
	b := make([]bool, len(v))
	for i, x := range v {
		b[i] = x != 0
	}
	return b
}

// square cuts a mask into rows, and hides the keys that are not visible.
func square(m []uint8, visible []uint8) [][]bool {
	n := 0
	for n*n < len(m) {
		n++
	}
	rows := make([][]bool, n)
	for q := range rows {
		rows[q] = bools(m[q*n : (q+1)*n])
		for k, v := range visible {
			rows[q][k] = rows[q][k] && v != 0
		}
	}
	return rows
}

func masksText(m shownMasks) string {
	var b strings.Builder
	matrix := func(rows [][]bool) {
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprint(w, "  query\\key")
		for k := range rows {
			fmt.Fprintf(w, "\t%d", k)
		}
		fmt.Fprintln(w)
		for q, row := range rows {
			fmt.Fprintf(w, "  %d", q)
			for _, v := range row {
				fmt.Fprint(w, "\t", truth(v))
			}
			fmt.Fprintln(w)
		}
		w.Flush()
	}
	fmt.Fprintf(&b, "True is visible, False is hidden.\n\nLook-ahead mask of %d tokens: a query sees itself and what came before\n", m.Length)
	matrix(m.LookAhead)
	for _, p := range m.Padding {
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprintf(&b, "\nPadding mask of %v, padding is %d\n", p.Tokens, m.PadToken)
		for _, id := range p.Tokens {
			fmt.Fprintf(w, "  %d\t", id)
		}
		fmt.Fprintln(w)
		for _, v := range p.Visible {
			fmt.Fprintf(w, "  %s\t", truth(v))
		}
		fmt.Fprintln(w)
		w.Flush()
		fmt.Fprintln(&b, "both together")
		matrix(p.Combined)
	}
	return b.String()
}

func truth(v bool) string {
	if v {
		return "True"
	}
	return "False"
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
			if err := within("d-model", width, 2, maxShown); err != nil {
				return err
			}
			if err := within("positions", positions, 1, maxShown); err != nil {
				return err
			}
			enc, err := models.NewPositionalEncoding(width, positions)
			if err != nil {
				return usagef("--d-model %d: %w", width, err)
			}
			pe := enc.Table(positions) // [T, D]
			turned := make([]float32, len(pe))
			for t := range positions {
				for d := range width {
					turned[d*positions+t] = pe[t*width+d]
				}
			}
			scale := picture.Scale{Label: "encoding", Min: -1, Max: 1, Colours: picture.RedBlue}
			page := picture.Page{Title: fmt.Sprintf("Positional encoding, %d dimensions", width), Width: 960, Height: 640, Bar: &scale,
				Panels: [][]picture.Panel{{&picture.Heatmap{X: "position", Y: "encoding dimension", Rows: width, Cols: positions, Values: turned, Scale: scale}}}}
			if err := page.WritePNG(out); err != nil {
				return err
			}
			w, h := page.Size()
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(struct {
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
