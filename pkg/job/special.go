package job

import (
	"reflect"

	"go.yaml.in/yaml/v3"
)

// The values whose written form is not their Go type's: an init that is a bare
// path, a loss that is a bare name, an average that is a bare true, and renames, which are a mapping in the order
// of the file.

// bare reads text into v if v is a section that may be a bare word.
func (d *decoder) bare(v reflect.Value, text string) bool {
	switch v.Type() {
	case reflect.TypeFor[Init]():
		v.Set(reflect.ValueOf(Init{Path: text}))
	case reflect.TypeFor[Loss]():
		v.Set(reflect.ValueOf(Loss{text, find(d.kinds.Losses, text).Options}))
	default:
		return false
	}
	return true
}

// special reads n into v if v is one of those.
func (d *decoder) special(n *yaml.Node, v reflect.Value, key string) bool {
	switch v.Type() {
	case reflect.TypeFor[Init]():
		switch {
		case isText(n):
			d.bare(v, n.Value)
		case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
			v.SetZero()
		case n.Kind != yaml.MappingNode:
			d.bad(n, key, "want a path, or path, map, partial and at_least, found %s%s", found(n), quoteHint(n))
		default:
			return false
		}
		return true
	case reflect.TypeFor[Loss]():
		switch {
		case isText(n):
			d.bare(v, n.Value)
		case n.Kind != yaml.MappingNode:
			d.bad(n, key, "want text, found %s%s", found(n), quoteHint(n))
		default:
			return false
		}
		return true
	case reflect.TypeFor[EMA]():
		switch {
		case n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!bool" || n.ShortTag() == "!!null"):
			v.SetZero()
			if n.Value == "true" {
				v.Set(reflect.ValueOf(averaged))
			}
		case n.Kind != yaml.MappingNode:
			d.bad(n, key, "want true, or max and power, or decay, found %s", found(n))
		case len(n.Content) == 0:
			v.Set(reflect.ValueOf(averaged))
		default:
			return false
		}
		return true
	case reflect.TypeFor[Renames]():
		d.renames(n, v, key)
		return true
	}
	return false
}

func (d *decoder) renames(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, key, "want names in the file and names in the model, {from: to, …}, found %s", found(n))
		return
	}
	var all Renames
	for i := 0; i+1 < len(n.Content); i += 2 {
		from, to := deref(n.Content[i]), deref(n.Content[i+1])
		r := Rename{From: from.Value}
		switch {
		case from.Kind != yaml.ScalarNode:
			d.bad(n.Content[i], key, "want a name, found %s", found(from))
			continue
		case isText(to):
			r.To = to.Value
		case to.Kind != yaml.ScalarNode || to.ShortTag() != "!!null":
			d.bad(n.Content[i+1], key, "want the model's name of %s, or nothing to drop it, found %s", r.From, found(to))
			continue
		}
		all = append(all, r)
	}
	v.Set(reflect.ValueOf(all))
}

// MarshalYAML writes the mapping.
func (r Renames) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, x := range r {
		for _, s := range []string{x.From, x.To} {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle})
		}
	}
	return n, nil
}
