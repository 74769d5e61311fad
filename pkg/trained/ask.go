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
	"github.com/vlaring/vlaring/pkg/models"
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
	Done       [][]float32 `json:"done,omitempty"` // of a frame of the data: the actions that were done there, as far as the episode goes
}

// Asking is what a checkpoint is asked once, in one of three forms.
type Asking struct {
	Pictures, Numbers []string // typed, as Card.Observe has them
	Instruction       string

	OfData  bool   // a frame of the data, as that numbers them
	Data    string // where that is; empty: where the checkpoint's job says
	Episode int64
	Frame   int

	In, Out string // a file of inputs, and one of outputs

	Threads int
	Depth   eval.Depth
}

// Check refuses what is none of the forms, or several.
func (a Asking) Check() error {
	typed, file := len(a.Pictures)+len(a.Numbers) > 0 || a.Instruction != "", a.In != "" || a.Out != ""
	switch {
	case a.OfData && (typed || file):
		return usage.Errorf("--episode is an observation of the data, without --image, --state, --instruction, --inputs and --out")
	case !a.OfData && (a.Data != "" || a.Frame != 0):
		return usage.Errorf("--data and --frame go with --episode, which says what of the data is asked about")
	case typed && file:
		return usage.Errorf("--image, --state and --instruction are one observation, without --inputs and --out")
	case !a.OfData && !typed && (a.In == "" || a.Out == ""):
		return usage.Errorf("give an observation by --image, --state, --instruction, or a frame of the data by --episode, or both --inputs and --out")
	}
	return nil
}

// Ask answers what is typed, or a frame of the data, which is then open.
func (c *Checkpoint) Ask(a Asking) (Answer, error) {
	if a.OfData {
		return c.askFrame(a)
	}
	return c.ask(a, func(p *Policy) (*Question, []string, error) {
		o, err := p.card.Observe(a.Pictures, a.Numbers, a.Instruction)
		if err != nil {
			return nil, nil, err
		}
		q, notes, err := p.Read(o)
		if errors.As(err, new(*misfit)) {
			err = usage.Wrap(err)
		}
		return q, notes, err
	})
}

// askFrame answers what a frame shows, and says what was done there.
func (c *Checkpoint) askFrame(a Asking) (out Answer, err error) {
	s, heldOut, err := c.Set.Frame(a.Episode, a.Frame)
	if err != nil {
		return out, usage.Errorf("--episode %d --frame %d: %w", a.Episode, a.Frame, err)
	}
	out, err = c.ask(a, func(p *Policy) (*Question, []string, error) {
		q, err := p.sample(s)
		return q, nil, err
	})
	if err != nil {
		return out, err
	}
	spec := c.Meta.Spec
	done, valid := s.Values[spec.Index(models.Actions)].Floats, []float32(nil)
	if k := spec.Index(models.Valid); k >= 0 {
		valid = s.Values[k].Floats
	}
	for i, n := 0, len(out.Dimensions); i < len(out.Actions) && (valid == nil || valid[i] != 0); i++ {
		out.Done = append(out.Done, done[i*n:][:n])
	}
	if !heldOut && c.Other == "" {
		out.Notes = append(out.Notes, s.Origin+" is of the training split")
	}
	return out, nil
}

// ask answers the question that read makes.
func (c *Checkpoint) ask(of Asking, read func(p *Policy) (*Question, []string, error)) (a Answer, err error) {
	p, err := c.Policy(of.Threads)
	if err != nil {
		return a, err
	}
	defer p.Close()
	if err := p.SetDepth(of.Depth); err != nil {
		return a, err
	}
	q, notes, err := read(p)
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

// Text is a line an action, a column a dimension; below each that was done what it
// was.
func (a Answer) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "action\t%s\t\n", strings.Join(namesOf(a.Dimensions), "\t"))
	line := func(name any, row []float32) {
		fmt.Fprintf(w, "%v\t", name)
		for _, v := range row {
			fmt.Fprintf(w, "%.6g\t", v)
		}
		fmt.Fprintln(w)
	}
	for i, row := range a.Actions {
		line(i, row)
		if i < len(a.Done) {
			line("done", a.Done[i])
		}
	}
	w.Flush()
	return b.String()
}
