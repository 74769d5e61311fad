package job

import (
	"bytes"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// YAML is the resolved job as a job file: parsing it gives the same Job. Keys
// that the job's kinds have no use for are left out.
func (j *Job) YAML() []byte {
	base := Default(j.Model.Kind, j.Data.Kind)
	root := section(reflect.ValueOf(j).Elem(), reflect.ValueOf(&base).Elem())
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
func section(v, base reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	keys, omitEmpty := fields(v.Type())
	for i, key := range keys {
		f, b := v.Field(i), base.Field(i)
		if omitEmpty[i] && empty(f) && empty(b) {
			continue
		}
		var val *yaml.Node
		if i, ok := f.Interface().(Init); ok && i.short() {
			val = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: i.Path}
		} else if f.Kind() == reflect.Struct {
			val = section(f, b)
		} else {
			val = new(yaml.Node)
			if err := val.Encode(f.Interface()); err != nil {
				panic("job: " + key + " cannot be written: " + err.Error())
			}
			if val.Kind == yaml.SequenceNode {
				val.Style = yaml.FlowStyle
			}
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, val)
	}
	return n
}

func empty(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 ||
		v.Kind() == reflect.Struct && reflect.DeepEqual(v.Interface(), reflect.Zero(v.Type()).Interface())
}
