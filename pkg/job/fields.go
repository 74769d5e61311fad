package job

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field is a key of a section and its value.
type field struct {
	key       string
	omitEmpty bool
	v         reflect.Value
	of        string // the kind that has it, where the section's has not, such as model.kind vit
}

// fields lists the keys of a section, those of its kind's Options among them,
// in the order in which they are written. Options are read through a copy, which
// done puts in their place; v need be settable only for that.
func fields(v reflect.Value) (list []field, done func()) {
	done = func() {}
	for i := range v.NumField() {
		key, opt, tagged := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch f := v.Field(i); {
		case opt == "inline" && f.Kind() == reflect.Interface:
			if f.IsNil() {
				continue
			}
			c := reflect.New(f.Elem().Type()).Elem()
			c.Set(f.Elem())
			inner, _ := fields(c)
			list = append(list, inner...)
			if f.CanSet() {
				done = func() { f.Set(c) }
			}
		case opt == "inline":
			inner, _ := fields(f)
			list = append(list, inner...)
		case key != "" || tagged:
			list = append(list, field{key: key, omitEmpty: strings.Contains(opt, "omitempty"), v: f})
		}
	}
	return list, done
}

func keysOf(list []field) (keys []string) {
	for _, f := range list {
		keys = append(keys, f.key)
	}
	return keys
}

func named(list []field, key string) (field, bool) {
	for _, f := range list {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// of returns the kinds that a section of type t can be of; nil: it has none.
func (k Kinds) of(t reflect.Type) []Kind {
	switch t {
	case reflect.TypeFor[Model]():
		return k.Models
	case reflect.TypeFor[Data](), reflect.TypeFor[Set]():
		return k.Data
	case reflect.TypeFor[Loss]():
		return k.Losses
	case reflect.TypeFor[Optimizer]():
		return k.Optimizers
	}
	return nil
}

// options are the fields of a kind's Options, those that it has a use for: a
// copy, with its defaults.
func (k Kind) options() (list []field) {
	all, _ := fields(copyOf(k.Options))
	for _, f := range all {
		if k.uses(f.key) {
			list = append(list, f)
		}
	}
	return list
}

func (k Kind) uses(key string) bool {
	if k.Keys == nil {
		return true
	}
	for _, x := range k.Keys {
		if x == key {
			return true
		}
	}
	return false
}

func copyOf(o Options) reflect.Value {
	c := reflect.New(reflect.TypeOf(o)).Elem()
	c.Set(reflect.ValueOf(o))
	return c
}

// choose gives a section that has no Options yet those of the kind that its
// mapping n names.
func (d *decoder) choose(n *yaml.Node, v reflect.Value) {
	kinds := d.kinds.of(v.Type())
	if kinds == nil || !v.FieldByName("Options").IsNil() {
		return
	}
	name := v.FieldByName("Kind").String()
	for i := 0; i+1 < len(n.Content); i += 2 {
		if val := deref(n.Content[i+1]); n.Content[i].Value == "kind" && isText(val) {
			name = val.Value
		}
	}
	if k := find(kinds, name); k.Options != nil {
		v.FieldByName("Options").Set(reflect.ValueOf(k.Options))
		v.FieldByName("Kind").SetString(name) // which may be read only after keys of another kind
	}
}

// field returns the field of a section v that key names. Where only other kinds
// have the key, it is read into a value that nobody looks at, to say what is
// wrong with it.
func (d *decoder) field(v reflect.Value, own []field, section, key string) (field, bool) {
	if f, ok := named(own, key); ok {
		return f, true
	}
	for _, k := range d.kinds.of(v.Type()) {
		if f, ok := named(k.options(), key); ok {
			if v.FieldByName("Options").IsNil() { // its kind is unknown, which is enough to say
				return field{v: f.v}, true
			}
			f.of = join(section, "kind") + " " + v.FieldByName("Kind").String()
			f.v.SetZero()
			return f, true
		}
	}
	return field{}, false
}

// noted keeps a value that was read for another kind as a finding.
func (d *decoder) noted(f field, name string) {
	if f.of != "" && !empty(f.v) {
		d.strays = append(d.strays, finding{[]string{name}, hasNoMeaning(f.of)})
	}
}

// allKeys lists every dotted key of a section of type t and below, sections
// included, of all kinds.
func (k Kinds) allKeys(t reflect.Type, section string) (out []string) {
	list, _ := fields(reflect.New(t).Elem())
	for _, kind := range k.of(t) {
		list = append(list, kind.options()...)
	}
	for _, f := range list {
		out = append(out, join(section, f.key))
		if f.v.Kind() == reflect.Struct {
			out = append(out, k.allKeys(f.v.Type(), join(section, f.key))...)
		}
	}
	return out
}

// unknown is the message for a key that the section does not have: the nearest
// of the section, else the same key where another section has it, else all.
func (d *decoder) unknown(v reflect.Value, own []field, section, key string) string {
	where := "the job file"
	if section != "" {
		where = section
	}
	var keys []string // those to show
	kinds := d.kinds.of(v.Type())
	for _, f := range own {
		if kinds == nil || !unusedBy(kinds, v, f.key) {
			keys = append(keys, f.key)
		}
	}
	near := slices.Clone(keys)
	for _, k := range kinds {
		near = append(near, keysOf(k.options())...)
	}
	if kinds != nil && v.FieldByName("Options").IsNil() { // of an unknown kind
		keys = unique(near)
	}
	if n, ok := Nearest(key, near); ok {
		return fmt.Sprintf("unknown key; did you mean %s?", join(section, n))
	}
	for _, k := range d.kinds.allKeys(reflect.TypeFor[Job](), "") {
		if k == key || strings.HasSuffix(k, "."+key) {
			return fmt.Sprintf("unknown key; did you mean %s?", k)
		}
	}
	return fmt.Sprintf("unknown key; %s has %s", where, strings.Join(keys, ", "))
}

// unusedBy says that key is of the Options of a section v, whose kind has no use for it.
func unusedBy(kinds []Kind, v reflect.Value, key string) bool {
	k := find(kinds, v.FieldByName("Kind").String())
	if k.Options == nil || k.uses(key) {
		return false
	}
	all, _ := fields(copyOf(k.Options))
	_, ok := named(all, key)
	return ok
}

func unique(words []string) (out []string) {
	for _, w := range words {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}
