package runlist

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
)

// Diff is how two runs differ.
type Diff struct {
	A       Summary      `json:"a"`
	B       Summary      `json:"b"`
	Job     []run.Change `json:"job"` // keys of the resolved job files, in their order
	Data    bool         `json:"same_data"`
	Bits    Bits         `json:"bits"`
	Curves  []Curve      `json:"curves"`
	Finally []Measure    `json:"measures"` // of the last measurement of each
}

// Bits says how far two runs computed the same.
type Bits struct {
	Compared uint64 `json:"compared"`                // steps that both have
	Differ   uint64 `json:"first_differs,omitempty"` // the first step whose loss or weights differ; 0: none
	What     string `json:"what,omitempty"`
}

// Curve is a figure by step, of both.
type Curve struct {
	Name string `json:"name"`
	A    Points `json:"a"`
	B    Points `json:"b"`
}

// Points are values by step.
type Points struct {
	Step  []uint64  `json:"step"`
	Value []float64 `json:"value"`
}

// Measure is a figure at the end of both; nil where one has none.
type Measure struct {
	Name string   `json:"name"`
	A    *float64 `json:"a"`
	B    *float64 `json:"b"`
}

// mostPoints bounds a curve: what is longer is told in means.
const mostPoints = 1000

// Compare looks at the runs in two directories.
func Compare(a, b string, kinds job.Kinds, now time.Time) (*Diff, error) {
	d := &Diff{}
	var steps [2][]run.Metrics
	var held [2][]run.Heldout
	var prints [2]string
	for i, dir := range []string{a, b} {
		s, err := open(dir, kinds, now)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			d.A = s
		} else {
			d.B = s
		}
		if steps[i], err = run.ReadMetrics(dir); err != nil {
			return nil, err
		}
		if held[i], _, err = run.ReadEval(dir, math.MaxUint64); err != nil {
			return nil, err
		}
		o, err := run.ReadOrigin(dir)
		if err != nil {
			return nil, err
		}
		prints[i] = o.Data
	}
	d.Data = prints[0] == prints[1]
	d.Job = run.Changes(d.A.job, d.B.job)
	d.Bits = sameBits(steps[0], steps[1])
	d.Curves = append(d.Curves, Curve{"loss", lossOf(steps[0]), lossOf(steps[1])})
	for _, name := range metricsOf(held[0], held[1]) {
		x, y := heldOf(held[0], name), heldOf(held[1], name)
		d.Curves = append(d.Curves, Curve{job.Held + name, x, y})
		d.Finally = append(d.Finally, Measure{job.Held + name, last(x), last(y)})
	}
	for _, name := range dimensionsOf(held[0], held[1]) {
		d.Finally = append(d.Finally, Measure{name, dimension(held[0], name), dimension(held[1], name)})
	}
	return d, nil
}

// sameBits compares the steps that both have.
func sameBits(a, b []run.Metrics) (out Bits) {
	of := map[uint64]run.Metrics{}
	for _, m := range b {
		of[m.Step] = m
	}
	for _, m := range a {
		o, ok := of[m.Step]
		if !ok {
			continue
		}
		out.Compared++
		switch {
		case out.Differ > 0:
		case m.Loss != o.Loss || m.Refused != o.Refused:
			out.Differ, out.What = m.Step, "loss"
		case m.GradNorm != o.GradNorm:
			out.Differ, out.What = m.Step, "gradient norm"
		case m.Weights != "" && o.Weights != "" && m.Weights != o.Weights:
			out.Differ, out.What = m.Step, "weights"
		}
	}
	return out
}

func (b Bits) text() string {
	switch {
	case b.Compared == 0:
		return "no step stands in both records"
	case b.Differ == 0:
		return fmt.Sprintf("the same in all %d steps that both have", b.Compared)
	}
	return fmt.Sprintf("not the same from step %d on (%s); both have %d steps", b.Differ, b.What, b.Compared)
}

func lossOf(steps []run.Metrics) (p Points) {
	per := (len(steps) + mostPoints - 1) / mostPoints
	sum, n := 0.0, 0
	for i, m := range steps {
		if m.Refused == "" {
			sum, n = sum+m.Loss, n+1
		}
		if (i+1)%per == 0 && n > 0 {
			p.Step, p.Value = append(p.Step, m.Step), append(p.Value, sum/float64(n))
			sum, n = 0, 0
		}
	}
	return p
}

// metricsOf are the metrics of two runs, the loss first.
func metricsOf(a, b []run.Heldout) (names []string) {
	if len(a)+len(b) > 0 {
		names = append(names, "loss")
	}
	for _, h := range append(slices.Clone(a), b...) {
		for _, m := range h.Metrics {
			if !slices.Contains(names, m.Name) {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

func heldOf(lines []run.Heldout, name string) (p Points) {
	for _, h := range lines {
		if v, ok := h.Metric(name); ok {
			p.Step, p.Value = append(p.Step, h.Step), append(p.Value, v)
		}
	}
	return p
}

func last(p Points) *float64 {
	if len(p.Value) == 0 {
		return nil
	}
	return &p.Value[len(p.Value)-1]
}

// dimensionsOf are the action dimensions that the last measurements of two runs have,
// with their units.
func dimensionsOf(a, b []run.Heldout) (names []string) {
	seen := map[string]bool{}
	for _, l := range [][]run.Heldout{a, b} {
		if len(l) == 0 {
			continue
		}
		for _, d := range l[len(l)-1].DoF {
			if n := dimensionName(d.Name, d.Unit); !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	return names
}

func dimensionName(name, unit string) string {
	if unit == "" {
		return name
	}
	return name + " [" + unit + "]"
}

func dimension(lines []run.Heldout, name string) *float64 {
	if len(lines) == 0 {
		return nil
	}
	for _, d := range lines[len(lines)-1].DoF {
		if dimensionName(d.Name, d.Unit) == name {
			return &d.MAE
		}
	}
	return nil
}

// Text is the difference for people.
func (d *Diff) Text() string {
	out := Table([]Summary{d.A, d.B}) + "\n"
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	if len(d.Job) == 0 {
		out += "job: no key differs\n"
	} else {
		fmt.Fprintln(w, "JOB\tA\tB")
		for _, c := range d.Job {
			fmt.Fprintf(w, "%s\t%s\t%s\n", c.Key, plain.Line(orNone(c.A), 60), plain.Line(orNone(c.B), 60))
		}
		w.Flush()
		out += b.String()
	}
	data := "the same"
	if !d.Data {
		data = "not the same"
	}
	out += fmt.Sprintf("data: %s\nbits: %s\n", data, d.Bits.text())
	for _, c := range d.Curves {
		out += "\n" + c.text()
	}
	if len(d.Finally) > 0 {
		b.Reset()
		w = tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "last measured\tA\tB\tB of A\t")
		for _, m := range d.Finally {
			of := ""
			if m.A != nil && m.B != nil && *m.A > 0 {
				of = fmt.Sprintf("%.0f %%", 100**m.B / *m.A)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", m.Name, figure(m.A), figure(m.B), of)
		}
		w.Flush()
		out += "\n" + b.String()
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// columns is how wide a curve is drawn.
const columns = 60

// text draws both over the same steps, between the same bounds.
func (c *Curve) text() string {
	lo, hi, to := math.Inf(1), math.Inf(-1), uint64(0)
	for _, p := range []Points{c.A, c.B} {
		for i, v := range p.Value {
			lo, hi, to = min(lo, v), max(hi, v), max(to, p.Step[i])
		}
	}
	if to == 0 {
		return ""
	}
	draw := func(p Points) string {
		sums, n := make([]float64, columns), make([]int, columns)
		for i, v := range p.Value {
			k := min(int(uint64(columns)*(p.Step[i]-1)/to), columns-1)
			sums[k], n[k] = sums[k]+v, n[k]+1
		}
		var s strings.Builder
		held := -1 // where points are few, a value stands until the next
		for k := range sums {
			if n[k] > 0 {
				held = k
			}
			if held < 0 || len(p.Step) == 0 || uint64(columns)*(p.Step[len(p.Step)-1]-1)/to < uint64(k) {
				s.WriteByte(' ')
				continue
			}
			level := 0
			if hi > lo {
				level = int((sums[held]/float64(n[held]) - lo) / (hi - lo) * 7.999)
			}
			s.WriteRune([]rune("▁▂▃▄▅▆▇█")[max(0, min(level, 7))])
		}
		return s.String()
	}
	return fmt.Sprintf("%s, steps 1 to %d, from %s to %s\n  A %s\n  B %s\n", c.Name, to, number(lo), number(hi), draw(c.A), draw(c.B))
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 5, 64) }

// Draw writes the curves as a PNG file.
func (d *Diff) Draw(path string) error {
	page := picture.Page{Title: plain.Line(d.A.Dir, 60) + " and " + plain.Line(d.B.Dir, 60), Width: 560, Height: 360}
	for _, c := range d.Curves {
		l := &picture.Lines{Title: c.Name, X: "step", Y: c.Name}
		for i, p := range []Points{c.A, c.B} {
			var x []float64
			for _, s := range p.Step {
				x = append(x, float64(s))
			}
			if len(x) > 0 {
				l.Lines = append(l.Lines, picture.Line{Name: string("AB"[i]), X: x, Y: p.Value})
			}
		}
		page.Panels = append(page.Panels, []picture.Panel{l})
	}
	return page.WritePNG(path)
}
