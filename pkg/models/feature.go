package models

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Feature is one named part of every sample. A model says which features it
// wants, a data source which it has; all between them goes over the list.
type Feature struct {
	Name      string `json:"name"`
	Type      Type   `json:"type"`
	Shape     []int  `json:"shape"` // of one sample; 0 in what a model wants: any length
	Role      Role   `json:"role"`
	Normalise bool   `json:"normalise,omitempty"` // numbers: by the training split's statistics
	Source    string `json:"source,omitempty"`    // what the data calls it; empty: Name

	// Limits of what a model wants, which samples do not have.
	Max   int    `json:"-"` // the most tokens; 0: no limit
	Vocab int    `json:"-"` // tokens are below this; 0: as many as the data has
	From  string `json:"-"` // the key of the pretrained encoder whose tokens they are; empty: the model learns any
	Pad   int    `json:"-"` // the token that is padding; negative: none
	Axes  string `json:"-"` // what messages call the lengths, such as P, Dv

	Mean, Std [3]float32 `json:"-"` // of pictures, (x/255 - mean)/std, that the model was pretrained on; Std 0: the data's own
}

// Type is what a feature's values are.
type Type string

const (
	Image Type = "image" // a picture [C, H, W]: a file, bytes, or numbers; float32 in a batch
	Float Type = "float" // numbers, float32
	Token Type = "token" // whole numbers from 0, int32
)

// Role says what a feature is to a model.
type Role string

const (
	Input  Role = "input"
	Target Role = "target" // known in training and measuring alone
)

// The features that the models of this package know, by name.
const (
	Images           = "images"             // image [C, S, S]; see View for more of them
	State            = "state"              // numbers [S], or [h, S] of h times, the oldest first
	Past             = "past_valid"         // numbers [h]: 0 for a time before the episode began
	Instruction      = "instruction_tokens" // tokens [T]
	VisionFeatures   = "vision_features"    // numbers [P, Dv]
	LanguageFeatures = "language_features"  // numbers [T, Dl]
	Labels           = "labels"             // tokens [T], or NoLabel
	Actions          = "actions"            // numbers [A], or [L, A] of a chunk
	Valid            = "actions_valid"      // numbers [L]: 0 for an action after the episode's end, which counts for nothing
)

// Known is one of those, with the shape given; 0 leaves a length open.
func Known(name string, shape ...int) Feature {
	f := Feature{Name: name, Shape: shape, Type: Float, Role: Input}
	if _, _, ok := ViewOf(name); ok {
		f.Type, f.Axes = Image, "C, H, W"
		return f
	}
	switch name {
	case State:
		f.Normalise, f.Axes = true, "S"
		if len(shape) > 1 {
			f.Axes = "h, S"
		}
	case Past:
		f.Axes = "h"
	case Instruction:
		f.Type, f.Axes = Token, "T"
	case VisionFeatures:
		f.Axes = "P, Dv"
	case LanguageFeatures:
		f.Axes = "T, Dl"
	case Labels:
		f.Type, f.Role, f.Axes = Token, Target, "T"
	case Actions:
		f.Role, f.Normalise, f.Axes = Target, true, "A"
		if len(shape) > 1 {
			f.Axes = "L, A"
		}
	case Valid:
		f.Role, f.Axes = Target, "L"
	default:
		panic("models: no feature is called " + name)
	}
	return f
}

// NoLabel is the label of a token that is no target.
const NoLabel = -1

// Size is the number of values in a sample.
func (f Feature) Size() int {
	n := 1
	for _, d := range f.Shape {
		n *= d
	}
	return n
}

// Called is the feature's name in messages: the data's own.
func (f Feature) Called() string {
	if f.Source != "" {
		return f.Source
	}
	return f.Name
}

// same reports whether both are one feature of one shape.
func (f Feature) same(g Feature) bool {
	return f.Name == g.Name && f.Type == g.Type && f.Role == g.Role && f.Normalise == g.Normalise && slices.Equal(f.Shape, g.Shape)
}

// String is the name and the shape, such as images 3×64×64.
func (f Feature) String() string {
	if len(f.Shape) == 0 {
		return f.Name
	}
	dims := make([]string, len(f.Shape))
	for i, d := range f.Shape {
		dims[i] = fmt.Sprint(d)
		if d == 0 {
			dims[i] = "any"
		}
	}
	return f.Name + " " + strings.Join(dims, "×")
}

// Spec is the features of a sample, each name once: what a model wants, or what
// a data set has. The order is that of a sample's and a batch's values.
type Spec []Feature

// Index is the place of the feature called name, or -1.
func (s Spec) Index(name string) int {
	return slices.IndexFunc(s, func(f Feature) bool { return f.Name == name })
}

// Names are the features' names.
func (s Spec) Names() []string {
	names := make([]string, len(s))
	for i, f := range s {
		names[i] = f.Name
	}
	return names
}

// Has reports whether there is a feature called name.
func (s Spec) Has(name string) bool { return s.Index(name) >= 0 }

// Find returns the feature called name, to be read or changed; nil: there is none.
func (s Spec) Find(name string) *Feature {
	if i := s.Index(name); i >= 0 {
		return &s[i]
	}
	return nil
}

// Len is the length of an axis of the feature called name; 0 where there is none.
func (s Spec) Len(name string, axis int) int {
	if f := s.Find(name); f != nil && axis < len(f.Shape) {
		return f.Shape[axis]
	}
	return 0
}

// Width is the length of the last axis of the feature called name; 0 where there
// is none.
func (s Spec) Width(name string) int {
	if f := s.Find(name); f != nil && len(f.Shape) > 0 {
		return f.Shape[len(f.Shape)-1]
	}
	return 0
}

// Target is what a model is to predict; nil: the samples have no target.
func (s Spec) Target() *Feature {
	if i := slices.IndexFunc(s, func(f Feature) bool { return f.Role == Target }); i >= 0 {
		return &s[i]
	}
	return nil
}

// Vocab is the size of the vocabulary of the instruction in what a model wants; 0:
// the data's, or there is no instruction.
func (s Spec) Vocab() int {
	if f := s.Find(Instruction); f != nil {
		return f.Vocab
	}
	return 0
}

// Inputs are the features that a model reads.
func (s Spec) Inputs() Spec {
	return slices.DeleteFunc(slices.Clone(s), func(f Feature) bool { return f.Role != Input })
}

// Of are the features of a type.
func (s Spec) Of(t Type) Spec {
	return slices.DeleteFunc(slices.Clone(s), func(f Feature) bool { return f.Type != t })
}

// Clone returns a copy that shares nothing with s.
func (s Spec) Clone() Spec {
	c := slices.Clone(s)
	for i := range c {
		c[i].Shape = slices.Clone(c[i].Shape)
	}
	return c
}

// Equal reports whether both are the same features of the same shapes, in the
// same order. What the data calls them does not count, and limits do not.
func (s Spec) Equal(t Spec) bool { return slices.EqualFunc(s, t, Feature.same) }

// String is the features in words.
func (s Spec) String() string {
	if len(s) == 0 {
		return "nothing"
	}
	words := make([]string, len(s))
	for i, f := range s {
		words[i] = f.String()
	}
	return strings.Join(words, ", ")
}

// Check refuses a Spec of a file that no data set has. Sizes are at most limit.
func (s Spec) Check(limit int) error {
	for i, f := range s {
		switch {
		case f.Name == "" || s.Index(f.Name) < i:
			return fmt.Errorf("feature %d is called %q; each has a name of its own", i, f.Name)
		case f.Type != Image && f.Type != Float && f.Type != Token:
			return fmt.Errorf("feature %s is of type %q; want %s, %s or %s", f.Name, f.Type, Image, Float, Token)
		case f.Role != Input && f.Role != Target:
			return fmt.Errorf("feature %s has the role %q; want %s or %s", f.Name, f.Role, Input, Target)
		case f.Type == Image && len(f.Shape) != 3:
			return fmt.Errorf("feature %s is a picture of shape %v; want [channels, height, width]", f.Name, f.Shape)
		case f.Type == Token && len(f.Shape) != 1:
			return fmt.Errorf("feature %s is tokens of shape %v; want [tokens]", f.Name, f.Shape)
		}
		size := 1
		for _, d := range f.Shape {
			if d < 1 || d > limit/size {
				return fmt.Errorf("feature %s: a size is %d, of shape %v", f.Name, d, f.Shape)
			}
			size *= d
		}
	}
	return nil
}

// fixed is the six features that a Spec in JSON has always named. They are
// written still, beside the list, for readers that know no other; a file
// without the list is read by them.
type fixed struct {
	Image    [3]int    `json:"image"`
	Tokens   int       `json:"tokens"`
	Action   int       `json:"action"`
	Labels   bool      `json:"labels"`
	Vision   [2]int    `json:"vision"`
	Language [2]int    `json:"language"`
	Features []Feature `json:"features,omitempty"`
}

// MarshalJSON writes the list, and the six features of old by their old names.
func (s Spec) MarshalJSON() ([]byte, error) {
	x := fixed{Features: s, Tokens: s.Len(Instruction, 0), Action: s.Width(Actions), Labels: s.Has(Labels)}
	for name, to := range map[string][]int{Images: x.Image[:], VisionFeatures: x.Vision[:], LanguageFeatures: x.Language[:]} {
		if f := s.Find(name); f != nil {
			copy(to, f.Shape)
		}
	}
	return json.Marshal(x)
}

// UnmarshalJSON reads both forms.
func (s *Spec) UnmarshalJSON(b []byte) error {
	var x fixed
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if *s = x.Features; *s != nil {
		return nil
	}
	add := func(has bool, name string, shape ...int) {
		if has {
			*s = append(*s, Known(name, shape...))
		}
	}
	add(x.Image != [3]int{}, Images, x.Image[:]...)
	add(x.Tokens != 0, Instruction, x.Tokens)
	add(x.Vision != [2]int{}, VisionFeatures, x.Vision[:]...)
	add(x.Language != [2]int{}, LanguageFeatures, x.Language[:]...)
	add(x.Labels, Labels, x.Tokens)
	add(x.Action != 0, Actions, x.Action)
	return nil
}
