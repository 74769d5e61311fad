package trained

import (
	"fmt"
	"strings"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// cardFormat and cardVersion identify a Card.
const (
	cardFormat  = "vlaring-card"
	cardVersion = 1
)

// Card is what somebody who asks a policy has to know of it: everything that goes
// wrong unseen between a training and a robot. It is made from a checkpoint's
// manifest alone, sent to each client of a server, and each observation is held
// against it.
type Card struct {
	Format      string        `json:"format"`
	Version     int           `json:"version"`
	Job         string        `json:"job"`
	Step        uint64        `json:"step"`
	Weights     string        `json:"weights,omitempty"` // raw or ema: those that answer, of a checkpoint that has both
	Model       string        `json:"model"`             // kind
	Data        string        `json:"data"`              // fingerprint of what it was trained on
	Observation []CardFeature `json:"observation"`       // all of it is to be given
	Actions     CardFeature   `json:"actions"`           // the answer: [chunk, values], in physical units
	Chunk       int           `json:"chunk"`             // actions in an answer; the first is for the moment of the observation
	Rate        float64       `json:"rate,omitempty"`    // actions a second that they were recorded at; 0: the data does not say
}

// CardFeature is a part of an observation, or the actions.
type CardFeature struct {
	Name          string      `json:"name"` // that the data has for it
	Kind          FeatureKind `json:"kind"`
	Shape         []int       `json:"shape,omitempty"`         // numbers: of one time; picture: [H, W, C] that the model sees, to which others are resized; actions: [L, A]
	Frames        int         `json:"frames,omitempty"`        // times that are seen, the oldest first; above 1 they are a leading axis, which may be shorter at an episode's beginning
	Dimensions    []Dimension `json:"dimensions,omitempty"`    // of the last axis
	Normalisation string      `json:"normalisation,omitempty"` // mode, for information: the policy normalises by itself
	Words         int         `json:"words,omitempty"`         // instruction: the most
	Vocabulary    []string    `json:"vocabulary,omitempty"`    // instruction: the words that training had

	known   string   // the model's name of it; of pictures the newest's
	aliases []string // other names under which it may be given
	spec    []int    // places in Meta.Spec; a picture's, the newest first
}

// FeatureKind is in what form a feature is given.
type FeatureKind string

const (
	Picture FeatureKind = "picture"
	Numbers FeatureKind = "numbers"
	Words   FeatureKind = "instruction"
)

// Dimension is one place of a feature's last axis.
type Dimension struct {
	Name string  `json:"name"`
	Unit string  `json:"unit,omitempty"`
	Low  float64 `json:"low"` // of the training split
	High float64 `json:"high"`
}

// Card is the checkpoint's card; an error says why its model is no policy.
func (c *Checkpoint) Card() (Card, error) {
	card := Card{Format: cardFormat, Version: cardVersion, Job: c.Job.Name, Step: c.Step, Model: c.Job.Model.Kind, Data: c.Meta.Fingerprint, Chunk: 1}
	if len(c.weights()) > 1 {
		card.Weights = c.Weights
	}
	if answers := c.Model.Options().Answers(); answers != models.Actions {
		return card, fmt.Errorf("%s: a model of kind %s answers with %s; a policy answers with actions", c.Dir, card.Model, answers)
	}
	if _, err := c.Meta.SetOf(""); err != nil {
		return card, usage.Errorf("%w (--data-set)", err)
	}
	card.describe(c.Meta)
	return card, nil
}

// describe fills in what the data says.
func (card *Card) describe(meta data.Meta) {
	card.Rate = meta.Rate
	views := map[int]int{} // place among the observation, by camera
	for i, f := range meta.Spec {
		camera, past, view := models.ViewOf(f.Name)
		switch {
		case f.Name == models.Actions:
			card.Actions = CardFeature{Name: f.Called(), Kind: Numbers, Shape: f.Shape, known: f.Name}
			card.Actions.measured(meta.StatsOf(f.Name))
			if len(f.Shape) > 1 {
				card.Chunk = f.Shape[0]
			}
		case f.Role != models.Input || f.Name == models.Past: // made of how many frames are given
		case view:
			at, ok := views[camera]
			if !ok {
				at, views[camera] = len(card.Observation), len(card.Observation)
				card.Observation = append(card.Observation, CardFeature{Name: f.Called(), Kind: Picture, Shape: []int{f.Shape[1], f.Shape[2], f.Shape[0]},
					known: models.View(camera, 0)})
			}
			x := &card.Observation[at]
			for len(x.spec) <= past {
				x.spec = append(x.spec, -1)
			}
			x.spec[past], x.Frames = i, len(x.spec)
		case f.Type == models.Token:
			card.Observation = append(card.Observation, CardFeature{Name: f.Called(), Kind: Words, Words: f.Shape[0], Vocabulary: wordsOf(meta.Vocab), known: f.Name,
				spec: []int{i}, aliases: []string{"prompt", "instruction", "task"}})
		default:
			x := CardFeature{Name: f.Called(), Kind: Numbers, Shape: f.Shape, Frames: 1, known: f.Name, spec: []int{i}}
			if f.Name == models.State && len(f.Shape) > 1 {
				x.Frames, x.Shape = f.Shape[0], f.Shape[1:]
			}
			x.measured(meta.StatsOf(f.Name))
			card.Observation = append(card.Observation, x)
		}
	}
}

// wordsOf are those that a vocabulary has beside its marks.
func wordsOf(vocab []string) []string { return vocab[min(2, len(vocab)):] }

// measured adds what the training split says of a feature.
func (x *CardFeature) measured(s *data.Stats) {
	if s == nil {
		return
	}
	x.Normalisation = s.How()
	for d, name := range s.Names {
		x.Dimensions = append(x.Dimensions, Dimension{name, s.Units[d], s.Min[d], s.Max[d]})
	}
}

// String is the feature in words, such as "observation.state (4 numbers: x, y, z, gripper)".
func (x CardFeature) String() string {
	var is string
	switch x.Kind {
	case Picture:
		is = "a picture"
	case Words:
		is = "an instruction, given as prompt"
	default:
		is = numbersOf(x.Shape)
		if len(x.Dimensions) > 0 {
			is += ": " + strings.Join(namesOf(x.Dimensions), ", ")
		}
	}
	if x.Frames > 1 {
		is += fmt.Sprintf(", of %d times", x.Frames)
	}
	return fmt.Sprintf("%s (%s)", x.Name, is)
}

// namesOf are those of dimensions, with their units.
func namesOf(dimensions []Dimension) (l []string) {
	for _, d := range dimensions {
		l = append(l, strings.TrimSpace(d.Name+" "+d.Unit))
	}
	return l
}

// numbersOf is a shape in words.
func numbersOf(shape []int) string {
	words := make([]string, len(shape))
	for i, n := range shape {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, "×") + " numbers"
}

// String is the card in a line for people.
func (c Card) String() string {
	var sees []string
	for _, x := range c.Observation {
		sees = append(sees, x.String())
	}
	rate := ""
	if c.Rate > 0 {
		rate = fmt.Sprintf(", %g a second", c.Rate)
	}
	weights := ""
	if c.Weights != "" {
		weights = " (" + c.Weights + ")"
	}
	return fmt.Sprintf("%s, step %d%s: %s -> %d × %s%s", c.Job, c.Step, weights, strings.Join(sees, ", "), c.Chunk, strings.Join(namesOf(c.Actions.Dimensions), ", "), rate)
}
