package eval

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/pkg/data"
)

// SetReport is the evaluation of one set of a mixture, by the set's own statistics.
type SetReport struct {
	Name    string             `json:"name"`
	Samples int                `json:"samples"`
	Loss    float64            `json:"loss"`
	Metrics map[string]float64 `json:"metrics"` // all of the head's
	Actions *ActionReport      `json:"actions,omitempty"`
	Tokens  *TokenReport       `json:"tokens,omitempty"`
}

// sets measures the model on each set of a mixture. The figures of all are those of
// all samples, as if they were one split.
func (s Subject) sets(ctx context.Context, src data.Source, split string) (Report, error) {
	all := newFigures(s.Model.Head(), data.Meta{})
	r := Report{Split: split, Samples: src.Len()}
	for i, of := range s.Meta.SplitSets(src) {
		name := s.Meta.Sets[i].Name
		if of.Len() == 0 {
			continue
		}
		one := s
		one.Meta = s.Meta.In(i)
		rep, err := one.evaluate(ctx, of, split, all)
		if err != nil {
			return Report{}, fmt.Errorf("set %s: %w", name, err)
		}
		m := SetReport{Name: name, Samples: rep.Samples, Loss: rep.Loss, Metrics: map[string]float64{}, Actions: rep.Actions, Tokens: rep.Tokens}
		for _, x := range rep.Metrics {
			m.Metrics[x.Name] = x.Value
		}
		r.Sets = append(r.Sets, m)
	}
	var err error
	if r.Loss, r.Metrics, err = all.of(); err != nil {
		return Report{}, fmt.Errorf("%s: %w", spoken(split), err)
	}
	r.Others = map[string]float64{"loss": r.Loss}
	for _, m := range r.Metrics {
		r.Others[m.Name] = m.Value
	}
	return r, nil
}

// setsText is the report of a mixture for people: each set's table, and a line a set.
func (r Report) setsText() string {
	var b strings.Builder
	for _, s := range r.Sets {
		fmt.Fprintf(&b, "set %s:\n", s.Name)
		if s.Tokens != nil {
			b.WriteString(s.Tokens.Text())
		} else {
			b.WriteString(s.Actions.Text())
		}
	}
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\tsamples\tloss\t")
	for _, m := range r.Metrics {
		label := m.Label
		if label == "" {
			label = m.Name
		}
		fmt.Fprintf(w, "%s\t", label)
	}
	fmt.Fprintln(w)
	row := func(name string, samples int, loss float64, metric func(m Measure) float64) {
		fmt.Fprintf(w, "%s\t%d\t%.5f\t", name, samples, loss)
		for _, m := range r.Metrics {
			fmt.Fprintf(w, "%.5f\t", metric(m))
		}
		fmt.Fprintln(w)
	}
	for _, s := range r.Sets {
		row(s.Name, s.Samples, s.Loss, func(m Measure) float64 { return s.Metrics[m.Name] })
	}
	row("all sets", r.Samples, r.Loss, func(m Measure) float64 { return m.Value })
	w.Flush()
	return b.String()
}
