package data

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// labels are what an action's dimensions are called, and their units; nil
// where it is not said.
type labels struct{ names, units []string }

// numbered are the labels where nobody says what the dimensions are.
func numbered(dim int) labels {
	l := labels{make([]string, dim), make([]string, dim)}
	for d := range l.names {
		l.names[d] = fmt.Sprintf("a%d", d)
	}
	return l
}

// labelled settles the labels of an action of dim dimensions: the job's, else
// the data's own, else a0, a1, … and no units. Who renames the dimensions
// says their units too: those of other names are not kept.
func labelled(dim int, job, own labels) (labels, error) {
	fits := func(who string, v []string, what string) error {
		if v != nil && len(v) != dim {
			return fmt.Errorf("%s has %d %s for actions of %d dimensions", who, len(v), what, dim)
		}
		return nil
	}
	for _, err := range []error{
		fits("data.action_names", job.names, "names"), fits("data.action_units", job.units, "units"),
		fits("action_names of the data", own.names, "names"), fits("action_units of the data", own.units, "units"),
	} {
		if err != nil {
			return labels{}, err
		}
	}
	if job.names == nil {
		for d, name := range own.names {
			switch first := slices.Index(own.names, name); {
			case name == "":
				return labels{}, fmt.Errorf("action_names of the data: the name of dimension %d is empty; data.action_names names them anew", d)
			case first < d:
				return labels{}, fmt.Errorf("action_names of the data: %q is the name of dimension %d and of %d; data.action_names names them anew", name, first, d)
			}
		}
	}
	l := numbered(dim)
	for _, from := range []labels{own, job} { // the later counts
		if from.names != nil && !slices.Equal(from.names, l.names) {
			copy(l.names, from.names)
			clear(l.units)
		}
		if from.units != nil {
			copy(l.units, from.units)
		}
	}
	return l, nil
}

// labelsOf reads action_names and action_units of a safetensors file's metadata.
func labelsOf(metadata map[string]string) (l labels, err error) {
	for key, to := range map[string]*[]string{"action_names": &l.names, "action_units": &l.units} {
		if text, ok := metadata[key]; ok {
			if err := json.Unmarshal([]byte(text), to); err != nil {
				return l, fmt.Errorf("metadata %s is %.60q, expected a JSON list of texts such as [\"x\", \"y\"]", key, text)
			}
			for _, s := range *to {
				if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || len(s) > 100 {
					return l, fmt.Errorf("metadata %s: %.60q is too long for a table or has characters that cannot be printed", key, s)
				}
			}
		}
	}
	return l, nil
}
