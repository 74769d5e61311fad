package trained

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/eval"
)

// Observe makes an observation of what is typed: pictures are FILE or NAME=FILE,
// numbers 0.1,0.2,… or NAME=0.1,0.2,…. A name is left out where only one of the
// card's features can be meant. An instruction that is empty is none.
func (c Card) Observe(pictures, numbers []string, instruction string) (Observation, error) {
	o := Observation{}
	place := func(flag string, kind FeatureKind, arg string, read func(value string) (Given, error)) error {
		name, value, named := strings.Cut(arg, "=")
		if !named {
			var of []string
			for _, x := range c.Observation {
				if x.Kind == kind {
					of = append(of, x.Name)
				}
			}
			if len(of) != 1 {
				return usage.Errorf("--%s %s: give it a name, as NAME=%s; the policy sees %s", flag, arg, arg, strings.Join(c.sees(), ", "))
			}
			name, value = of[0], arg
		}
		if _, twice := o[name]; twice {
			return usage.Errorf("--%s %s: %s is given twice", flag, arg, name)
		}
		g, err := read(value)
		o[name] = g
		return err
	}
	for _, p := range pictures {
		err := place("image", Picture, p, func(path string) (g Given, err error) {
			g.File, err = regular.Read(path, maxPhoto)
			return g, err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, n := range numbers {
		err := place("state", Numbers, n, func(list string) (g Given, err error) {
			for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
				x, err := strconv.ParseFloat(word, 64)
				if err != nil {
					return g, usage.Errorf("--state %s: %q is no number", n, word)
				}
				g.Floats = append(g.Floats, x)
			}
			g.Shape = []int{len(g.Floats)}
			return g, nil
		})
		if err != nil {
			return nil, err
		}
	}
	if instruction != "" {
		o["prompt"] = Given{Text: instruction}
	}
	return o, nil
}

// Answer is what a policy says to an observation.
type Answer struct {
	Dimensions []Dimension `json:"dimensions"` // of an action
	Actions    [][]float32 `json:"actions"`    // [chunk, values], in physical units; the first is for the moment of the observation
	Notes      []string    `json:"notes,omitempty"`
}

// Ask answers what is typed; see Card.Observe and Policy.SetDepth.
func (c *Checkpoint) Ask(pictures, numbers []string, instruction string, threads int, depth eval.Depth) (a Answer, err error) {
	p, err := c.Policy(threads)
	if err != nil {
		return a, err
	}
	defer p.Close()
	if err := p.SetDepth(depth); err != nil {
		return a, err
	}
	o, err := p.card.Observe(pictures, numbers, instruction)
	if err != nil {
		return a, err
	}
	q, notes, err := p.Read(o)
	if errors.As(err, new(*misfit)) {
		err = usage.Wrap(err)
	}
	if err != nil {
		return a, err
	}
	chunks, err := p.Answer([]*Question{q})
	if err != nil {
		return a, err
	}
	a = Answer{Dimensions: p.card.Actions.Dimensions, Notes: notes}
	for x, n := chunks[0], len(chunks[0])/p.card.Chunk; len(x) > 0; x = x[n:] {
		a.Actions = append(a.Actions, x[:n])
	}
	return a, nil
}

// Text is a line an action, a column a dimension.
func (a Answer) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "action\t%s\t\n", strings.Join(namesOf(a.Dimensions), "\t"))
	for i, row := range a.Actions {
		fmt.Fprintf(w, "%d\t", i)
		for _, v := range row {
			fmt.Fprintf(w, "%.6g\t", v)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return b.String()
}
