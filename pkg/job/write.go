package job

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// YAML is the resolved job as a job file: parsing it gives the same Job. Keys
// that the job's kinds have no use for are left out.
func (j *Job) YAML() []byte {
	base := j.kinds.start(choice{j.Model.Kind, "", j.Data.Kind, j.Loss.Kind, j.Optimizer.Kind})
	base.derive(func(string) bool { return false })
	base.Schedule.Kind = "" // left out, it follows from min_lr
	root := j.kinds.section(reflect.ValueOf(j).Elem(), reflect.ValueOf(&base).Elem())
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		panic("job: a Job cannot be written: " + err.Error()) // every field type is ours
	}
	return b.Bytes()
}

// section writes a struct's fields. One with omitempty is left out where it is
// zero and a reader would find zero too.
func (k Kinds) section(v, base reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	list, _ := fields(v)
	defaults, _ := fields(base)
	for i, f := range list {
		b := reflect.Zero(f.v.Type())
		if i < len(defaults) && defaults[i].key == f.key {
			b = defaults[i].v
		}
		if f.omitEmpty && empty(f.v) && empty(b) {
			continue
		}
		var val *yaml.Node
		if sets, ok := f.v.Interface().([]Set); ok {
			val = k.sets(sets, list)
		} else {
			val = k.node(f, b)
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f.key}, val)
	}
	return n
}

// node writes the value of a key.
func (k Kinds) node(f field, base reflect.Value) *yaml.Node {
	word := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	switch x := f.v.Interface().(type) {
	case Loss:
		if reflect.DeepEqual(x.Options, find(k.Losses, x.Kind).Options) {
			return word(x.Kind)
		}
	case *Model:
		base := Model{Kind: x.Kind, Options: find(k.Models, x.Kind).Options}
		return k.section(f.v.Elem(), reflect.ValueOf(base))
	}
	if text, ok := shortOf(f.v); ok && !more(base) {
		return word(text)
	}
	if f.v.Kind() == reflect.Struct {
		return k.section(f.v, base)
	}
	if val := scalar(f.v); val != nil {
		return val
	}
	val := new(yaml.Node)
	if err := val.Encode(f.v.Interface()); err != nil {
		panic("job: " + f.key + " cannot be written: " + err.Error())
	}
	if val.Kind == yaml.SequenceNode {
		val.Style = yaml.FlowStyle
	}
	return val
}

// scalar is what Node.Encode makes of a plain value, nil where it is not known to be
// that simple. Encode writes and parses a document for each: a millisecond for a job.
func scalar(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode}
	switch x := v.Interface().(type) {
	case Duration:
		n.Tag, n.Value = "!!str", x.String()
		return n
	case Bytes:
		if s := x.String(); strings.HasSuffix(s, "B") {
			n.Tag, n.Value = "!!str", s
			return n
		}
		n.Tag, n.Value = "!!int", strconv.FormatInt(int64(x), 10)
		return n
	}
	if v.Type().PkgPath() != "" { // it may have a form of its own
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return scalar(v.Elem())
		}
		n.Tag, n.Value = "!!null", "null"
	case reflect.Bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		n.Tag, n.Value = "!!int", strconv.FormatInt(v.Int(), 10)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		n.Tag, n.Value = "!!int", strconv.FormatUint(v.Uint(), 10)
	case reflect.Float32, reflect.Float64:
		x := v.Float()
		if x-x != 0 {
			return nil
		}
		n.Value = strconv.FormatFloat(x, 'g', -1, v.Type().Bits()) // without a tag: 1 is an integer to a reader
	case reflect.String:
		if !innocent(v.String()) {
			return nil
		}
		n.Tag, n.Value = "!!str", v.String()
	default:
		return nil
	}
	return n
}

// innocent says that a text can be nothing but a text in YAML, old or new, without
// quotes: no number, date, truth or null, and no sign that means something.
func innocent(s string) bool {
	for _, c := range []byte(s) {
		if c != '_' && c != '/' && (c < 'a' || c > 'z') {
			return false
		}
	}
	switch s {
	case "", "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	return true
}

// more says whether a section has more than the word that may stand in its place: a
// word alone would leave the rest to a reader who finds it elsewhere.
func more(base reflect.Value) bool {
	_, short := shortOf(base)
	return bareOf(base.Type()) >= 0 && !short
}

func empty(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 ||
		v.Kind() == reflect.Struct && reflect.DeepEqual(v.Interface(), reflect.Zero(v.Type()).Interface())
}
