package job

import (
	"cmp"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The values whose written form is not their Go type's: a section that may be one
// word, a loss that is a bare name, sections that may be a bare true, names, and
// renames, which are a mapping in the order of the file.

// Names are names, or numbers that stand for them. One may stand without a list.
type Names []string

// bareOf is the field of a section of type t that a bare word in the section's
// place means, the one with the tag job:"bare"; -1 where there is none. Text and
// nothing else takes the place: {path: w} and w are the same init.
func bareOf(t reflect.Type) int {
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if t.Field(i).Tag.Get("job") == "bare" {
				return i
			}
		}
	}
	return -1
}

// shortOf is the word that says all of a section v, if one does.
func shortOf(v reflect.Value) (word string, ok bool) {
	k := bareOf(v.Type())
	if k < 0 {
		return "", false
	}
	for i := range v.NumField() {
		if i != k && !empty(v.Field(i)) {
			return "", false
		}
	}
	return v.Field(k).String(), true
}

// bare reads text into v, which stands at key, if v is a section that may be a bare
// word.
func (d *decoder) bare(v reflect.Value, text, key string) bool {
	if v.Type() == reflect.TypeFor[Loss]() { // of the kind that an option behind it may say
		kind := cmp.Or(d.loss, text)
		v.Set(reflect.ValueOf(Loss{kind, find(d.kinds.Losses, kind).Options}))
		return true
	}
	k := bareOf(v.Type())
	if k >= 0 {
		v.SetZero()
		v.Field(k).SetString(text)
		d.at[join(key, bareKey(v.Type()))] = d.at[key]
	}
	return k >= 0
}

// bareKey is the key of the field that bareOf finds in a section of type t.
func bareKey(t reflect.Type) string {
	key, _, _ := strings.Cut(t.Field(bareOf(t)).Tag.Get("yaml"), ",")
	return key
}

// wordKey is the key that a bare word in the place of a section of type t stands for;
// empty: no word stands in its place.
func wordKey(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Loss]():
		return "kind"
	case bareOf(t) >= 0:
		return bareKey(t)
	}
	return ""
}

// standard is a section that true, and a section without keys, fill with what it
// calls Standard; false takes it away.
type standard interface{ Standard() any }

// special reads n into v if v is one of those.
func (d *decoder) special(n *yaml.Node, v reflect.Value, key string) bool {
	if s, ok := v.Interface().(standard); ok {
		switch {
		case n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!bool" || n.ShortTag() == "!!null"):
			v.SetZero()
			if on := false; n.Decode(&on) == nil && on {
				v.Set(reflect.ValueOf(s.Standard()))
			}
		case n.Kind != yaml.MappingNode:
			d.bad(n, key, "want true, or any of %s, found %s", strings.Join(keysOf(first(fields(v))), ", "), found(n))
		case len(n.Content) == 0:
			v.Set(reflect.ValueOf(s.Standard()))
		default:
			return false
		}
		return true
	}
	switch t := v.Type(); {
	case t == reflect.TypeFor[Loss]():
		switch {
		case isText(n):
			d.bare(v, n.Value, key)
		case n.Kind != yaml.MappingNode:
			d.bad(n, key, "want a kind of loss, or a section with its kind, found %s%s", found(n), quoteHint(n))
		default:
			return false
		}
		return true
	case t == reflect.TypeFor[Renames]():
		d.renames(n, v, key)
		return true
	case t == reflect.TypeFor[Names]():
		d.names(n, v, key)
		return true
	case bareOf(t) >= 0:
		switch {
		case isText(n):
			d.bare(v, n.Value, key)
		case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
			v.SetZero()
		case n.Kind != yaml.MappingNode:
			list, _ := fields(v)
			keys := keysOf(list)
			last := len(keys) - 1
			d.bad(n, key, "want a %s, or %s and %s, found %s%s", keys[0], strings.Join(keys[:last], ", "), keys[last], found(n), quoteHint(n))
		default:
			return false
		}
		return true
	}
	return false
}

func first(list []field, _ func()) []field { return list }

// names reads a list of names and whole numbers, or one.
func (d *decoder) names(n *yaml.Node, v reflect.Value, key string) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	var all Names
	for _, item := range items {
		switch x := deref(item); {
		case isText(x), x.Kind == yaml.ScalarNode && x.ShortTag() == "!!int":
			all = append(all, x.Value)
		default:
			d.bad(item, key, "want a list of names or numbers, found %s%s", found(x), quoteHint(x))
		}
	}
	v.Set(reflect.ValueOf(all))
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
