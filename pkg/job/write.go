package job

import (
	"bytes"
	"reflect"

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
	val := new(yaml.Node)
	if err := val.Encode(f.v.Interface()); err != nil {
		panic("job: " + f.key + " cannot be written: " + err.Error())
	}
	if val.Kind == yaml.SequenceNode {
		val.Style = yaml.FlowStyle
	}
	return val
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
