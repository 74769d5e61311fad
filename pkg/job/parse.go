package job

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/sniff"
)

// maxFile bounds a job file; a larger one is something else.
const maxFile = limits.JobFile

// Load reads the job file at path and applies the --set options to it, each
// "dotted.key=value". Mistakes are returned together, as an *Error.
func (k Kinds) Load(path string, set []string) (*Job, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return k.Parse(path, data, set)
}

func unreadable(path string, err error) error {
	text := err.Error()
	var pe *os.PathError
	if errors.As(err, &pe) {
		text = pe.Err.Error()
	}
	var other *regular.KindError
	if errors.As(err, &other) {
		text = "it is " + other.Kind
	}
	if info, e := os.Stat(path); e == nil && info.IsDir() {
		text = "it is a folder; give the job file itself"
		if inside := filepath.Join(path, "job.yaml"); exists(inside) {
			text += ", such as " + inside
		}
	}
	return &Error{Problems: []Problem{{Source: path, Text: "cannot read the job file: " + text}}, Err: err}
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// insteadOfJob says what data is that is no job; empty where it may be one.
func insteadOfJob(data []byte) string {
	what := sniff.Instead(data, sniff.Text)
	if what == "" && sniff.Of(data) == sniff.JSON {
		what = "it is JSON text that is no job; a job file is YAML with keys such as name, model and data"
	}
	return what
}

// Parse is Load for a file's content; name stands for it in messages. The Job
// is complete: every default is filled in.
func (k Kinds) Parse(name string, data []byte, set []string) (*Job, error) {
	if len(data) > maxFile {
		return nil, &Error{Problems: []Problem{{Source: name, Text: fmt.Sprintf("is over %d bytes: not a job file", maxFile)}}}
	}
	root, err := parseYAML(name, data)
	if err != nil {
		return nil, err
	}

	if root != nil && deref(root).Kind != yaml.MappingNode {
		d := &decoder{source: name}
		if what := insteadOfJob(data); what != "" {
			return nil, &Error{Problems: []Problem{{Source: name, Text: what}}}
		}
		d.bad(root, "", "want a section of keys, found %s", found(root))
		return nil, &Error{Problems: d.problems}
	}
	// Once to learn which defaults apply, and once over them.
	var probe Job
	k.read(name, root, set, &probe)
	j := k.start(choice{probe.Model.Kind, probe.Model.Preset, probe.Data.Kind, probe.Loss.Kind, probe.Optimizer.Kind})
	d := k.read(name, root, set, &j)
	j.derive(d.given)

	problems := d.problems
	for _, key := range slices.Sorted(maps.Keys(d.at)) { // by an option: what a file gives for all is for sets to come, too
		if at := d.at[key]; strings.HasPrefix(at.Source, "--set "+key+"=") && strings.HasPrefix(key, "data.") {
			if at.Text = j.unreached(key, d.given); at.Text != "" {
				problems = append(problems, at)
			}
		}
	}
	unread, faulty := map[string]bool{}, map[string]bool{}
	for _, p := range problems {
		unread[p.Key], faulty[p.Key] = true, true
	}
	for _, f := range append(d.strays, j.check().found...) {
		if slices.ContainsFunc(f.keys, func(k string) bool { return unread[k] }) {
			continue // said already, and the value checked is not the one written
		}
		if !d.given(f.keys[0]) && slices.ContainsFunc(f.keys, func(k string) bool { return faulty[k] }) {
			continue // a default that follows from a wrong value
		}
		p := Problem{Source: name}
		for _, k := range f.keys { // a default has no place; what made it wrong may
			if at, ok := d.at[k]; ok {
				p = at
				break
			}
		}
		p.Key, p.Text = f.keys[0], f.text
		faulty[p.Key] = true
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		return nil, &Error{Problems: sorted(problems, name)}
	}
	return &j, nil
}

// read decodes the file and then the options over j.
func (k Kinds) read(name string, root *yaml.Node, set []string, j *Job) *decoder {
	d := &decoder{kinds: k, source: name, loss: j.Loss.Kind, at: map[string]Problem{}}
	if root != nil {
		d.section(root, reflect.ValueOf(j).Elem(), "")
	}
	for _, option := range set {
		d.source, d.set = "--set "+option, true
		d.option(option, j)
	}
	return d
}

// option applies one "dotted.key=value".
func (d *decoder) option(option string, j *Job) {
	key, text, ok := strings.Cut(option, "=")
	if !ok {
		d.bad(nil, "", "want key=value, e.g. --set train.steps=50")
		return
	}
	d.within(reflect.ValueOf(j).Elem(), "", strings.Split(key, "."), text)
}

// within reads the text of an option into the value that path leads to from v.
func (d *decoder) within(v reflect.Value, section string, path []string, text string) {
	if len(path) == 0 {
		d.text(v, section, text)
		return
	}
	if v.Kind() != reflect.Struct {
		d.bad(nil, join(section, strings.Join(path, ".")), "unknown key; %s has no keys below it", section)
		return
	}
	own, done := fields(v)
	defer done()
	key, at, inList := element(path[0])
	f, ok := d.field(v, own, section, key)
	if !ok {
		d.bad(nil, join(section, strings.Join(path, ".")), "%s", d.unknown(v, own, section, key))
		return
	}
	name := join(section, path[0])
	if inList {
		if f.v.Kind() != reflect.Slice || at >= f.v.Len() {
			d.bad(nil, name, "there is none in the job file")
			return
		}
		f.v = f.v.Index(at)
	}
	d.within(f.v, name, path[1:], text)
	if len(path) == 1 && key == wordKey(v.Type()) { // what the section says is said here
		d.at[section] = d.at[name]
	}
	d.noted(f, name)
}

// text reads the text of an option into v.
func (d *decoder) text(v reflect.Value, key, text string) {
	if v.Kind() == reflect.String { // as it stands: names need no quotes here
		d.at[key] = d.place(nil, key)
		v.SetString(text)
		return
	}
	if d.at[key] = d.place(nil, key); !strings.HasPrefix(text, "{") && d.bare(v, text, key) {
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) != 1 {
		doc.Content = []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}}
		if text == "" {
			doc.Content[0].Tag = "!!null"
		}
	}
	d.value(doc.Content[0], v, key)
}

// parserSays tells the library's parser errors from its scanner's.
func parserSays(text string) bool {
	for _, t := range [...]string{"<stream-start>", "<document start>", "node content", "'-' indicator", "key", "',' or ']'", "',' or '}'"} {
		if text == "did not find expected "+t {
			return true
		}
	}
	return false
}

// parseYAML returns the one document of a job file, nil if it is empty.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	fail := func(line int, text string) error {
		return &Error{Problems: []Problem{{Source: name, Line: line, Text: text}}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if err == io.EOF {
		return nil, nil
	}
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			return nil, fail(second.Content[0].Line, "a second document starts here; a job file holds one job")
		} else if err == io.EOF {
			return doc.Content[0], nil
		}
	}
	if what := insteadOfJob(data); what != "" {
		return nil, fail(0, what)
	}
	// The library's form is "yaml: line 3: could not find expected ':'".
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if num, what, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(num); err == nil {
				line, text = n, what
				if parserSays(text) {
					line++ // the library counts these from 0
				}
			}
		}
	}
	return nil, fail(line, "not YAML: "+text+unseen(data, line))
}

// unseen names what an editor does not show and YAML does not take for a blank,
// where it stands in line or the one before.
func unseen(data []byte, line int) string {
	lines := bytes.Split(data, []byte("\n"))
	for l := max(line-1, 1); l <= min(line, len(lines)); l++ {
		text := lines[l-1]
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		switch {
		case bytes.IndexByte(indent, '\t') >= 0:
			return fmt.Sprintf("; line %d is indented with a tab: YAML wants spaces", l)
		case bytes.Contains(text, []byte("\u00a0")):
			return fmt.Sprintf("; line %d has a no-break space (U+00A0), as copied from a web page: write a plain one", l)
		}
	}
	return ""
}
