package view

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/pkg/models"
)

// MostShown bounds what is printed or drawn a side of.
const MostShown = 4096

// Masks are the masks of a look-ahead and of rows of tokens; true is visible.
type Masks struct {
	Length    int           `json:"length"`
	LookAhead [][]bool      `json:"look_ahead"` // [query][key]
	PadToken  int           `json:"pad_token"`
	PadEnds   bool          `json:"pad_ends,omitempty"` // the first padding of a row ends it, and is visible
	Padding   []PaddingMask `json:"padding"`
}

// PaddingMask is that of one row of tokens.
type PaddingMask struct {
	Tokens   []int32  `json:"tokens"`
	Visible  []bool   `json:"visible"`  // [key]
	Combined [][]bool `json:"combined"` // [query][key]: look-ahead and padding together
}

// NewMasks makes the look-ahead mask of length tokens, and the masks of each row,
// in which pad is padding; -1: nothing is. ends: the first padding of a row ends it, and is visible.
func NewMasks(length, pad int, ends bool, rows [][]int32) Masks {
	m := Masks{Length: length, LookAhead: square(models.LookAheadMask(length), nil), PadToken: pad, PadEnds: ends}
	for _, ids := range rows {
		v := make([]uint8, len(ids))
		models.Visible(v, ids, len(ids), models.Config{PadToken: pad, PadEnds: ends})
		m.Padding = append(m.Padding, PaddingMask{ids, bools(v), square(models.LookAheadMask(len(ids)), v)})
	}
	return m
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

// Text is the masks for people.
func (m Masks) Text() string {
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

// Positional is the picture of a positional encoding: position across, dimension
// down.
func Positional(enc *models.PositionalEncoding, width, positions int) picture.Page {
	pe := enc.Table(positions) // [T, D]
	turned := make([]float32, len(pe))
	for t := range positions {
		for d := range width {
			turned[d*positions+t] = pe[t*width+d]
		}
	}
	scale := picture.Scale{Label: "encoding", Min: -1, Max: 1, Colours: picture.RedBlue}
	return picture.Page{Title: fmt.Sprintf("Positional encoding, %d dimensions", width), Width: 960, Height: 640, Bar: &scale,
		Panels: [][]picture.Panel{{&picture.Heatmap{X: "position", Y: "encoding dimension", Rows: width, Cols: positions, Values: turned, Scale: scale}}}}
}
