package data

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/pkg/models"
)

// What features.json says of the steps, and which of it is read.

// rldsTexts are the places where data sets keep the instruction, by preference.
var rldsTexts = []string{"steps/language_instruction", "steps/observation/natural_language_instruction", "steps/natural_language_instruction"}

const (
	rldsAction  = "steps/action"
	rldsIsFirst = "steps/is_first"
	maxAction   = 4096 // values of a step's action
)

// rldsFields are the features that are read; empty where the model needs none.
type rldsFields struct {
	camera, text string
	action       []rldsVector // one after the other
	dim          int          // of the action; 0: not needed
}

// rldsVector is a feature of so many numbers a step.
type rldsVector struct {
	name string
	size int
	ints bool // declared as whole numbers or truth values, which records hold as int64
}

// actionName is the action's feature, or its features.
func (f rldsFields) actionName() string {
	var names []string
	for _, v := range f.action {
		names = append(names, v.name)
	}
	return strings.Join(names, "+")
}

// label names the parts of the action in a fingerprint; empty for the one usual feature.
func (f rldsFields) label() string {
	if l := f.actionName(); l != rldsAction {
		return l
	}
	return ""
}

// names are what the data calls the values of an action that is made of several
// features: feature, or feature[i]; nil for the one usual feature.
func (f rldsFields) names() (out []string) {
	if f.label() == "" {
		return nil
	}
	for _, v := range f.action {
		base := strings.TrimPrefix(strings.TrimPrefix(v.name, rldsAction+"/"), "steps/")
		for i := range v.size {
			if v.size == 1 {
				out = append(out, base)
			} else {
				out = append(out, fmt.Sprintf("%s[%d]", base, i))
			}
		}
	}
	return out
}

// fields chooses camera, instruction and action by features.json.
func (k RLDS) fields(o *Opening, features map[string]rldsFeature, file string) (f rldsFields, err error) {
	leaves := func(kind string) (out []string) {
		for _, name := range slices.Sorted(maps.Keys(features)) {
			if features[name].is(kind) && strings.HasPrefix(name, "steps/") {
				out = append(out, name)
			}
		}
		return out
	}
	if o.Wants.Has(models.Images) {
		cams := leaves("image")
		var short, match []string
		for _, c := range cams {
			base := c[strings.LastIndexByte(c, '/')+1:]
			short = append(short, base)
			if k.Camera == c || k.Camera == base {
				match = append(match, c)
			}
		}
		switch {
		case len(cams) == 0:
			return f, fmt.Errorf("%s: the steps have no image feature", file)
		case k.Camera == "" && len(cams) == 1:
			f.camera = cams[0]
		case k.Camera == "":
			return f, fmt.Errorf("data.camera is not set; the cameras of this data are %s", strings.Join(short, ", "))
		case len(match) == 0:
			return f, fmt.Errorf("data.camera is %q; the cameras of this data are %s", k.Camera, strings.Join(short, ", "))
		case len(match) > 1:
			return f, fmt.Errorf("data.camera %q fits several: give the whole of %s", k.Camera, strings.Join(match, " or "))
		default:
			f.camera = match[0]
		}
	}
	if o.Wants.Has(models.Instruction) {
		for _, name := range rldsTexts {
			if features[name].is("text") && f.text == "" {
				f.text = name
			}
		}
		if f.text == "" {
			return f, fmt.Errorf("%s: no instruction: none of %s is a text or a tensor of one string; those of a step are: %s", file, strings.Join(rldsTexts, ", "), listOr(leaves("text"), "none"))
		}
	}
	if o.Wants.Has(models.Actions) {
		if f.action, err = k.actions(o, features, leaves("numbers")); err != nil {
			return f, fmt.Errorf("%s: %w", file, err)
		}
		for _, v := range f.action {
			f.dim += v.size
		}
		if f.dim > maxAction {
			return f, fmt.Errorf("%s: the action has %d values a step; at most %d are read", file, f.dim, maxAction)
		}
	}
	return f, nil
}

// actions are the features that the action is made of: those that
// data.action names, in its order; else steps/action; else, where that is a
// dictionary, all its numbers in ascending order of their names.
func (k RLDS) actions(o *Opening, features map[string]rldsFeature, vectors []string) (out []rldsVector, err error) {
	short := func(name string) string {
		return strings.TrimPrefix(strings.TrimPrefix(name, rldsAction+"/"), "steps/")
	}
	var known []string
	for _, name := range vectors {
		known = append(known, short(name))
	}
	names := k.Action
	if len(names) == 0 {
		if a, ok := features[rldsAction]; ok {
			if !a.is("numbers") {
				return nil, fmt.Errorf("%s is %s; set data.action to features of numbers: %s", rldsAction, a.text(), listOr(known, "none"))
			}
			return []rldsVector{a.vector(rldsAction)}, nil
		}
		for _, name := range vectors {
			if strings.HasPrefix(name, rldsAction+"/") {
				names = append(names, name)
				out = append(out, features[name].vector(name))
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("there is no %s; set data.action to features of numbers: %s", rldsAction, listOr(known, "none"))
		}
		var parts []string
		for _, v := range out {
			parts = append(parts, fmt.Sprintf("%s (%d)", short(v.name), v.size))
		}
		o.find("action_parts", rldsAction, "data.action chooses features and their order", "the action is a dictionary, and all its numbers are taken, by name: %s", strings.Join(parts, ", "))
		return out, nil
	}
	seen := map[string]bool{}
	for _, want := range names {
		var match []string
		for _, name := range vectors {
			if want == name || want == short(name) || "steps/"+want == name {
				match = []string{name}
				break
			}
			if want == name[strings.LastIndexByte(name, '/')+1:] {
				match = append(match, name)
			}
		}
		switch {
		case len(match) == 0:
			if f, ok := features["steps/"+strings.TrimPrefix(want, "steps/")]; ok {
				return nil, fmt.Errorf("data.action has %q, which is %s; it can be a vector of numbers: %s", want, f.text(), listOr(known, "none"))
			}
			return nil, fmt.Errorf("data.action has %q; the numbers of a step are %s", want, listOr(known, "none"))
		case len(match) > 1:
			return nil, fmt.Errorf("data.action has %q, which fits several: give the whole of %s", want, strings.Join(match, " or "))
		case seen[match[0]]:
			return nil, fmt.Errorf("data.action has %s twice", match[0])
		}
		seen[match[0]] = true
		out = append(out, features[match[0]].vector(match[0]))
	}
	return out, nil
}

// rldsFeature is a leaf of features.json.
type rldsFeature struct {
	kind     string // image | text | tensor
	dtype    string // of a tensor
	encoding string // of a tensor
	shape    []int
}

// is says what a feature can serve as: image; text, which is also a tensor of
// one string; numbers, which is a tensor of no or one dimension of known size.
func (f rldsFeature) is(what string) bool {
	if f.kind != "tensor" {
		return f.kind == what
	}
	switch f.dtype {
	case "string", "object":
		return what == "text" && len(f.shape) == 0
	case "float16", "bfloat16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64":
		plain := f.encoding == "" || f.encoding == "none"
		return what == "numbers" && plain && len(f.shape) <= 1 && f.size() >= 1 && f.size() <= maxAction
	}
	return false
}

// size is the number of values.
func (f rldsFeature) size() int {
	n := 1
	for _, d := range f.shape {
		n *= d
	}
	return n
}

// vector is the feature as a part of the action.
func (f rldsFeature) vector(name string) rldsVector {
	return rldsVector{name, f.size(), !strings.Contains(f.dtype, "float")}
}

// text says what the feature is, for messages.
func (f rldsFeature) text() string {
	switch {
	case f.kind == "image":
		return "a picture"
	case f.kind != "tensor":
		return "a " + f.kind
	case f.encoding != "" && f.encoding != "none":
		return fmt.Sprintf("a tensor of %s %v in the encoding %s, which is not read", f.dtype, f.shape, f.encoding)
	}
	return fmt.Sprintf("a tensor of %s %v", f.dtype, f.shape)
}

// featureNode is a node of features.json: one of its members is set.
type featureNode struct {
	Dict *struct {
		Features map[string]featureNode `json:"features"`
	} `json:"featuresDict"`
	Sequence *struct {
		Feature featureNode `json:"feature"`
	} `json:"sequence"`
	Tensor *struct {
		Shape    tensorShape `json:"shape"`
		DType    string      `json:"dtype"`
		Encoding string      `json:"encoding"`
	} `json:"tensor"`
	Image *struct {
		Shape tensorShape `json:"shape"`
	} `json:"image"`
	Text *struct{} `json:"text"`
}

type tensorShape struct {
	Dimensions []wireNumber `json:"dimensions"` // texts or numbers
}

func (s tensorShape) ints() ([]int, error) {
	var out []int
	for _, d := range s.Dimensions {
		n, err := strconv.Atoi(string(d))
		if err != nil || n < -1 || n > maxSamples {
			return nil, fmt.Errorf("dimension %q", d)
		}
		out = append(out, n)
	}
	return out, nil
}

// readFeatures returns the leaves of features.json by path ("steps/observation/image_0").
func readFeatures(path string) (map[string]rldsFeature, error) {
	var root featureNode
	if err := readJSON(path, &root); err != nil {
		return nil, err
	}
	out := map[string]rldsFeature{}
	var walk func(prefix string, n featureNode) error
	walk = func(prefix string, n featureNode) error {
		var f rldsFeature
		var err error
		switch {
		case n.Dict != nil:
			for name, child := range n.Dict.Features {
				if prefix != "" {
					name = prefix + "/" + name
				}
				if err := walk(name, child); err != nil {
					return err
				}
			}
			return nil
		case n.Sequence != nil:
			return walk(prefix, n.Sequence.Feature)
		case n.Image != nil:
			f.kind = "image"
			f.shape, err = n.Image.Shape.ints()
		case n.Text != nil:
			f.kind = "text"
		case n.Tensor != nil:
			f.kind, f.dtype, f.encoding = "tensor", n.Tensor.DType, n.Tensor.Encoding
			f.shape, err = n.Tensor.Shape.ints()
		default:
			return nil // a kind that is not needed here
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", path, prefix, err)
		}
		out[prefix] = f
		return nil
	}
	if root.Dict == nil {
		return nil, fmt.Errorf("%s: it has no featuresDict: TFDS before 4.5 wrote another form; have a newer one write features.json again (builder.info.write_to_directory)", path)
	}
	if err := walk("", root); err != nil {
		return nil, err
	}
	return out, nil
}
