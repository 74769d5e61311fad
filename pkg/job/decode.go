package job

import (
	"fmt"
	"math"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// decoder reads YAML nodes into a Job by the yaml tags of its fields. It goes
// on after a mistake, to report all of them, and remembers where each key was.
type decoder struct {
	kinds    Kinds
	source   string // of the nodes being read
	set      bool   // the nodes are of a --set option: they have no lines
	problems []Problem
	strays   []finding          // keys of other kinds
	loss     string             // the kind of loss that all of it comes to; empty: not known yet
	at       map[string]Problem // key → place of its value, without text
}

func (d *decoder) bad(n *yaml.Node, key, format string, args ...any) {
	p := d.place(n, key)
	p.Text = fmt.Sprintf(format, args...)
	d.problems = append(d.problems, p)
}

func (d *decoder) place(n *yaml.Node, key string) Problem {
	p := Problem{Source: d.source, Key: key}
	if !d.set && n != nil {
		p.Line, p.Col = n.Line, n.Column
	}
	return p
}

// given reports whether the file or an option has the key.
func (d *decoder) given(key string) bool { _, ok := d.at[key]; return ok }

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// section reads a mapping into the struct v.
func (d *decoder) section(n *yaml.Node, v reflect.Value, section string) {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		d.bad(n, section, "want a section of keys, found %s", found(n))
		return
	}
	d.choose(n, v)
	own, done := fields(v)
	defer done()
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.bad(k, section, "want a key, found %s", found(k))
			continue
		}
		name := join(section, k.Value)
		if line, ok := seen[k.Value]; ok {
			d.bad(k, name, "is given twice; the first is on line %d", line)
			continue
		}
		seen[k.Value] = k.Line
		f, ok := d.field(v, own, section, k.Value)
		if !ok {
			d.bad(k, name, "%s", d.unknown(v, own, section, k.Value))
			continue
		}
		d.value(val, f.v, name)
		d.noted(f, name)
	}
}

// value reads one node into v.
func (d *decoder) value(n *yaml.Node, v reflect.Value, key string) {
	d.at[key] = d.place(n, key)
	n = deref(n)
	if v.Type() == reflect.TypeFor[Duration]() {
		if !isText(n) {
			d.bad(n, key, "want a duration such as 200ms, 1s or 2m, found %s", found(n))
			return
		}
		dur, err := parseDuration(n.Value)
		if err != nil {
			d.bad(n, key, "%v", err)
		}
		v.SetInt(int64(dur))
		return
	}
	if v.Type() == reflect.TypeFor[Bytes]() {
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
			d.bad(n, key, "want a number of bytes such as 512MiB or 1GiB, found %s", found(n))
			return
		}
		size, err := parseBytes(n.Value)
		if err != nil {
			d.bad(n, key, "%v", err)
		}
		v.SetInt(int64(size))
		return
	}
	if d.special(n, v, key) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.section(n, v, key)
	case reflect.Pointer: // null takes the value away
		if n.ShortTag() == "!!null" && n.Kind == yaml.ScalarNode {
			v.SetZero()
			return
		}
		p := reflect.New(v.Type().Elem())
		d.value(n, p.Elem(), key)
		v.Set(p)
	case reflect.String:
		if !isText(n) {
			d.bad(n, key, "want text, found %s%s", found(n), quoteHint(n))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
			d.bad(n, key, "want true or false, found %s", found(n))
			return
		}
		v.SetBool(b)
	case reflect.Int:
		var i int
		if n.ShortTag() != "!!int" || n.Decode(&i) != nil {
			d.bad(n, key, "want a whole number, found %s", found(n))
			return
		}
		v.SetInt(int64(i))
	case reflect.Uint64:
		var u uint64
		if n.ShortTag() != "!!int" || n.Decode(&u) != nil {
			d.bad(n, key, "want a whole number from 0 to 18446744073709551615, found %s", found(n))
			return
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		var f float64
		if t := n.ShortTag(); t != "!!float" && t != "!!int" || n.Decode(&f) != nil {
			d.bad(n, key, "want a number, found %s", found(n))
			return
		}
		if math.IsNaN(f) || math.IsInf(f, 0) || v.OverflowFloat(f) {
			d.bad(n, key, "want a finite number, found %s", n.Value)
			return
		}
		v.SetFloat(f)
	case reflect.Slice, reflect.Array:
		d.list(n, v, key)
	default:
		panic("job: no reader for " + v.Type().String())
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, key string) {
	want := "a list"
	if v.Kind() == reflect.Array {
		want = fmt.Sprintf("a list of %d", v.Len())
	}
	if n.Kind != yaml.SequenceNode {
		d.bad(n, key, "want %s, found %s", want, found(n))
		return
	}
	if v.Kind() == reflect.Array {
		if len(n.Content) != v.Len() {
			d.bad(n, key, "want %s, found one of %d", want, len(n.Content))
			return
		}
	} else if v.SetZero(); len(n.Content) > 0 {
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	}
	for i, e := range n.Content {
		d.value(e, v.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
}

// isText accepts plain and quoted words, and what YAML would take for a date.
func isText(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp")
}

// found describes a node the way its writer thinks of it.
func found(n *yaml.Node) string {
	short := n.Value
	if r := []rune(short); len(r) > 40 {
		short = string(r[:40]) + "…"
	}
	switch {
	case n.Kind == yaml.AliasNode:
		return found(deref(n))
	case n.Kind == yaml.MappingNode:
		return "a section of keys"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return short
	case "!!int", "!!float":
		return "the number " + short
	}
	return fmt.Sprintf("the text %q", short)
}

func quoteHint(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return ""
	}
	return " (put it in quotes)"
}
