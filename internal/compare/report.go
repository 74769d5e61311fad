package compare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/picture"
)

// Options of a comparison.
type Options struct {
	Threads int               // compute threads, at least 1
	Quick   bool              // sizes that show that it runs, not what is so
	Log     func(what string) // told what is being measured; nil: nobody
}

func (o Options) log(format string, a ...any) {
	if o.Log != nil {
		o.Log(fmt.Sprintf(format, a...))
	}
}

// Report is a comparison.
type Report struct {
	Title   string  `json:"title"`
	Setting string  `json:"setting"` // what was compared, on what
	Quick   bool    `json:"quick"`   // measured at sizes that decide nothing
	Claims  []Claim `json:"claims"`
	Seconds float64 `json:"seconds"`
}

// Claim is one of the text's claims with what was measured about it.
type Claim struct {
	Name    string  `json:"name"`
	Text    string  `json:"text"` // what the text says
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"` // in numbers
	Table   Table   `json:"table"`
	plots   [][]picture.Panel
}

// Verdict is what a measurement says of a claim.
type Verdict string

// The verdicts.
const (
	Confirmed Verdict = "confirmed"
	Corrected Verdict = "corrected" // it is not so, or only in part
	Undecided Verdict = "undecided" // measured at Quick sizes, or on a machine too busy to tell
)

// settled takes back what quick sizes cannot say.
func settled(r *Report, err error) (*Report, error) {
	if err != nil {
		return nil, err
	}
	for i := range r.Claims {
		if r.Quick {
			r.Claims[i].Verdict = Undecided
		}
	}
	return r, nil
}

// Table is measured numbers. A row has a cell a column: text or a number.
type Table struct {
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
}

func (t *Table) add(cells ...any) { t.Rows = append(t.Rows, cells) }

// Text is the report for people.
func (r *Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", r.Title, r.Setting)
	if r.Quick {
		b.WriteString("--quick: these sizes decide nothing\n")
	}
	for _, c := range r.Claims {
		fmt.Fprintf(&b, "\n=== %s ===\nthe text: %s\nmeasured: %s: %s\n\n", c.Name, c.Text, c.Verdict, c.Why)
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
		for _, c := range c.Table.Columns {
			fmt.Fprintf(w, "%s\t", c)
		}
		fmt.Fprintln(w)
		for _, row := range c.Table.Rows {
			for _, c := range row {
				switch v := c.(type) {
				case float64:
					fmt.Fprintf(w, "%.4g\t", v)
				default:
					fmt.Fprintf(w, "%v\t", v)
				}
			}
			fmt.Fprintln(w)
		}
		w.Flush()
	}
	fmt.Fprintf(&b, "\n%.0f seconds\n", r.Seconds)
	return b.String()
}

// Draw writes a PNG a claim to dir, which it makes, and returns their paths.
func (r *Report) Draw(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var paths []string
	for _, c := range r.Claims {
		if len(c.plots) == 0 {
			continue
		}
		path := filepath.Join(dir, strings.ReplaceAll(c.Name, " ", "-")+".png")
		page := picture.Page{Title: c.Name + ": " + string(c.Verdict), Width: 440, Height: 360, Panels: c.plots}
		if err := page.WritePNG(path); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// curves collects lines by name, in order of first use.
type curves struct{ lines []picture.Line }

func (c *curves) add(name string, x, y float64) {
	for i := range c.lines {
		if l := &c.lines[i]; l.Name == name {
			l.X, l.Y = append(l.X, x), append(l.Y, y)
			return
		}
	}
	c.lines = append(c.lines, picture.Line{Name: name, X: []float64{x}, Y: []float64{y}})
}

// ended is ctx's error, asked between two measurements.
func ended(ctx context.Context) error { return context.Cause(ctx) }
