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
// One of the episode's metadata is that of every step.
var rldsTexts = []string{
	"steps/language_instruction", "steps/observation/natural_language_instruction", "steps/natural_language_instruction",
	"steps/observation/language_instruction", "steps/observation/instruction", "steps/instruction",
	episodeData + "language_instruction", episodeData + "natural_language_instruction",
}

const (
	rldsAction  = "steps/action"
	rldsIsFirst = "steps/is_first"
	episodeData = "episode_metadata/"
	maxAction   = 4096 // values of a step's action, or state
	maxTexts    = 64   // features with wordings
)

// rldsFields are the features that are read; empty where the model needs none.
type rldsFields struct {
	cameras []string   // in the order of the model's
	texts   []rldsText // the instruction, and wordings of it
	vectors []rldsVector
}

// rldsVector is a feature of ours that is made of one or several of the data set.
type rldsVector struct {
	name  string     // models.Actions or models.State
	parts []rldsPart // one after the other
}

// rldsPart is a feature of so many numbers a step.
type rldsPart struct {
	name string
	size int
	ints bool // declared as whole numbers or truth values, which records hold as int64
}

// rldsText is a feature of one text a step, or an episode.
type rldsText struct {
	name    string
	letters int // numbers of a text that is given as such, its bytes; 0: it is a text
}

// said are the names of the features with words.
func (f rldsFields) said() (names []string) {
	for _, t := range f.texts {
		names = append(names, t.name)
	}
	return names
}

// vector is that of the name; a zero one where the model needs none.
func (f rldsFields) vector(name string) rldsVector {
	for _, v := range f.vectors {
		if v.name == name {
			return v
		}
	}
	return rldsVector{}
}

// dim is the number of values.
func (v rldsVector) dim() (n int) {
	for _, p := range v.parts {
		n += p.size
	}
	return n
}

// called is the vector's feature, or its features.
func (v rldsVector) called() string {
	var names []string
	for _, p := range v.parts {
		names = append(names, p.name)
	}
	return strings.Join(names, "+")
}

// label names the parts in a fingerprint; empty for the one usual feature.
func (v rldsVector) label() string {
	if l := v.called(); l != rldsAction {
		return l
	}
	return ""
}

// labels are what the data calls the values of a vector: feature, or
// feature[i]; nil for the one usual feature.
func (v rldsVector) labels() (out []string) {
	if v.label() == "" {
		return nil
	}
	for _, p := range v.parts {
		base := shortStep(p.name)
		for i := range p.size {
			if p.size == 1 {
				out = append(out, base)
			} else {
				out = append(out, fmt.Sprintf("%s[%d]", base, i))
			}
		}
	}
	if !usable(out) {
		return nil
	}
	return out
}

// shortStep is a feature's name without what all of its kind begin with.
func shortStep(name string) string {
	for _, before := range []string{rldsAction + "/", "steps/observation/", "steps/"} {
		if rest, ok := strings.CutPrefix(name, before); ok {
			return rest
		}
	}
	return name
}

// rldsSteps are the features of a step by what they can serve as.
type rldsSteps map[string]rldsFeature

func (all rldsSteps) leaves(kind string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name].is(kind) && strings.HasPrefix(name, "steps/") {
			out = append(out, name)
		}
	}
	return out
}

// fields chooses cameras, instruction, state and action by features.json.
func (k RLDS) fields(o *Opening, features rldsSteps, file string) (f rldsFields, err error) {
	if o.Wants.Has(models.Images) {
		for _, v := range views(k.Camera, k.Cameras) {
			camera, err := features.camera(v, file)
			if err != nil {
				return f, err
			}
			if slices.Contains(f.cameras, camera) {
				return f, keyError(v.key, "%s is %s again; want each camera once", v.key, camera)
			}
			f.cameras = append(f.cameras, camera)
		}
	}
	if o.Wants.Has(models.Instruction) {
		if f.texts, err = k.instructions(o, features); err != nil {
			return f, fmt.Errorf("%s: %w", file, err)
		}
		if f.texts == nil {
			return f, fmt.Errorf("%s: no instruction: none of %s is a text or a tensor of one string; those of a step are: %s", file, strings.Join(rldsTexts, ", "), listOr(features.leaves("text"), "none"))
		}
	}
	if o.Wants.Has(models.State) {
		v := rldsVector{name: models.State}
		if len(k.State) == 0 {
			err = keyError("data.state", "data.state is not set; the numbers of a step are %s", listOr(features.known(), "none"))
		} else {
			v.parts, err = features.parts("data.state", k.State)
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", file, err)
		}
		f.vectors = append(f.vectors, v)
	}
	if o.Wants.Has(models.Actions) {
		v := rldsVector{name: models.Actions}
		if v.parts, err = k.actions(o, features); err != nil {
			return f, fmt.Errorf("%s: %w", file, err)
		}
		f.vectors = append(f.vectors, v)
	}
	for _, v := range f.vectors {
		if v.dim() > maxAction {
			return f, fmt.Errorf("%s: %s of %d values a step; at most %d are read", file, v.name, v.dim(), maxAction)
		}
	}
	return f, nil
}

// text is the feature of that name, if it is one with words.
func (all rldsSteps) text(name string) (t rldsText, ok bool) {
	switch f := all[name]; {
	case f.is("text"):
		return rldsText{name: name}, true
	case f.is("letters"):
		return rldsText{name, f.size()}, true
	}
	return t, false
}

// instructions are the features that data.instruction names, the first of which is the
// instruction and the others wordings of it; else the first that data sets have it in.
func (k RLDS) instructions(o *Opening, features rldsSteps) (out []rldsText, err error) {
	for _, want := range k.Instruction {
		var match []rldsText
		for _, name := range []string{want, "steps/" + want, "steps/observation/" + want, episodeData + want} {
			if t, ok := features.text(name); ok && !slices.Contains(match, t) {
				match = append(match, t)
			}
		}
		switch {
		case len(match) == 0:
			return nil, keyError("data.instruction", "data.instruction has %q; the texts are %s", want, listOr(features.texts(), "none"))
		case len(match) > 1:
			return nil, keyError("data.instruction", "data.instruction has %q, which fits several: give the whole of %s or %s", want, match[0].name, match[1].name)
		case slices.Contains(out, match[0]):
			return nil, keyError("data.instruction", "data.instruction has %s twice", match[0].name)
		}
		out = append(out, match[0])
	}
	if out != nil {
		return out, nil
	}
	for _, name := range rldsTexts {
		t, ok := features.text(name)
		if !ok {
			continue
		}
		var more []string
		for i := 2; features[fmt.Sprintf("%s_%d", name, i)].is("text"); i++ { // as in DROID
			more = append(more, fmt.Sprintf("%s_%d", shortStep(name), i))
		}
		if more != nil {
			o.find("more_wordings", name, fmt.Sprintf("data.instruction: [%s, %s] trains on all", shortStep(name), strings.Join(more, ", ")),
				"the data has other wordings of it, which are not read: %s", strings.Join(more, ", "))
		}
		return []rldsText{t}, nil
	}
	return nil, nil
}

// texts are the texts of a step and of an episode.
func (all rldsSteps) texts() (out []string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name].is("text") {
			out = append(out, shortStep(name))
		}
	}
	return out
}

// camera is the feature of pictures that the job means.
func (all rldsSteps) camera(v view, file string) (string, error) {
	cams := all.leaves("image")
	var short, match []string
	for _, c := range cams {
		base := c[strings.LastIndexByte(c, '/')+1:]
		short = append(short, base)
		if v.name == c || "steps/"+v.name == c || v.name == base {
			match = append(match, c)
		}
	}
	switch {
	case len(cams) == 0:
		return "", fmt.Errorf("%s: the steps have no image feature", file)
	case v.name == "" && len(cams) == 1:
		return cams[0], nil
	case v.name == "":
		return "", keyError(v.key, "%s is not set; the cameras of this data are %s", v.key, strings.Join(short, ", "))
	case len(match) == 0:
		return "", keyError(v.key, "%s is %q; the cameras of this data are %s", v.key, v.name, strings.Join(short, ", "))
	case len(match) > 1:
		return "", keyError(v.key, "%s %q fits several: give the whole of %s", v.key, v.name, strings.Join(match, " or "))
	}
	return match[0], nil
}

// known are the numbers of a step, as people say them.
func (all rldsSteps) known() (out []string) {
	for _, name := range all.leaves("numbers") {
		out = append(out, shortStep(name))
	}
	return out
}

// actions are the features that the action is made of: those that
// data.action names, in its order; else steps/action; else, where that is a
// dictionary, all its numbers in ascending order of their names.
func (k RLDS) actions(o *Opening, features rldsSteps) (out []rldsPart, err error) {
	if len(k.Action) > 0 {
		return features.parts("data.action", k.Action)
	}
	if a, ok := features[rldsAction]; ok {
		if !a.is("numbers") {
			return nil, fmt.Errorf("%s is %s; set data.action to features of numbers: %s", rldsAction, a.text(), listOr(features.known(), "none"))
		}
		return []rldsPart{a.part(rldsAction)}, nil
	}
	var names []string
	for _, name := range features.leaves("numbers") {
		if strings.HasPrefix(name, rldsAction+"/") {
			p := features[name].part(name)
			out, names = append(out, p), append(names, fmt.Sprintf("%s (%d)", shortStep(name), p.size))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no %s; set data.action to features of numbers: %s", rldsAction, listOr(features.known(), "none"))
	}
	o.find("action_parts", rldsAction, "data.action chooses features and their order", "the action is a dictionary, and all its numbers are taken, by name: %s", strings.Join(names, ", "))
	return out, nil
}

// parts are the features of numbers that a key names, in its order.
func (all rldsSteps) parts(key string, names []string) (out []rldsPart, err error) {
	seen := map[string]bool{}
	for _, want := range names {
		var match []string
		for _, name := range all.leaves("numbers") {
			if want == name || want == shortStep(name) || "steps/"+want == name {
				match = []string{name}
				break
			}
			if want == name[strings.LastIndexByte(name, '/')+1:] {
				match = append(match, name)
			}
		}
		switch {
		case len(match) == 0:
			for _, before := range []string{"", "steps/", "steps/observation/"} {
				if f, ok := all[before+want]; ok {
					return nil, keyError(key, "%s has %q, which is %s; it can be a vector of numbers: %s", key, want, f.text(), listOr(all.known(), "none"))
				}
			}
			return nil, keyError(key, "%s has %q; the numbers of a step are %s", key, want, listOr(all.known(), "none"))
		case len(match) > 1:
			return nil, keyError(key, "%s has %q, which fits several: give the whole of %s", key, want, strings.Join(match, " or "))
		case seen[match[0]]:
			return nil, keyError(key, "%s has %s twice", key, match[0])
		}
		seen[match[0]] = true
		out = append(out, all[match[0]].part(match[0]))
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
// one string; numbers, which is a tensor of no or one dimension of known size;
// letters, which is one of whole numbers that may be the bytes of a text.
func (f rldsFeature) is(what string) bool {
	if f.kind != "tensor" {
		return f.kind == what
	}
	switch f.dtype {
	case "string", "object":
		return what == "text" && len(f.shape) <= 1 && f.size() == 1
	case "float16", "bfloat16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64":
		plain := f.encoding == "" || f.encoding == "none"
		letters := len(f.shape) == 1 && strings.Contains(f.dtype, "int")
		return (what == "numbers" || what == "letters" && letters) && plain && len(f.shape) <= 1 && f.size() >= 1 && f.size() <= maxAction
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

// part is the feature as a part of the action, or of the state.
func (f rldsFeature) part(name string) rldsPart {
	return rldsPart{name, f.size(), !strings.Contains(f.dtype, "float")}
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
func readFeatures(path string) (rldsSteps, error) {
	var root featureNode
	if err := readJSON(path, &root); err != nil {
		return nil, err
	}
	out := rldsSteps{}
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
