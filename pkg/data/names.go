package data

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Labels are what an action's dimensions are called, and their units; nil
// where it is not said.
type Labels struct{ Names, Units []string }

// numbered are the labels where nobody says what the dimensions are.
func numbered(dim int) Labels {
	l := Labels{make([]string, dim), make([]string, dim)}
	for d := range l.Names {
		l.Names[d] = fmt.Sprintf("a%d", d)
	}
	return l
}

// labelled settles the labels of an action of dim dimensions: the job's, else
// the data's own, else a0, a1, … and no units. Who renames the dimensions
// says their units too: those of other names are not kept.
func labelled(dim int, job, own Labels) (Labels, error) {
	fits := func(who string, v []string, what string) error {
		if v != nil && len(v) != dim {
			return fmt.Errorf("%s has %d %s for actions of %d dimensions", who, len(v), what, dim)
		}
		return nil
	}
	for _, err := range []error{
		fits("data.action_names", job.Names, "names"), fits("data.action_units", job.Units, "units"),
		fits("action_names of the data", own.Names, "names"), fits("action_units of the data", own.Units, "units"),
	} {
		if err != nil {
			return Labels{}, err
		}
	}
	if job.Names == nil {
		for d, name := range own.Names {
			switch first := slices.Index(own.Names, name); {
			case name == "":
				return Labels{}, fmt.Errorf("action_names of the data: the name of dimension %d is empty; data.action_names names them anew", d)
			case first < d:
				return Labels{}, fmt.Errorf("action_names of the data: %q is the name of dimension %d and of %d; data.action_names names them anew", name, first, d)
			}
		}
	}
	l := numbered(dim)
	for _, from := range []Labels{own, job} { // the later counts
		if from.Names != nil && !slices.Equal(from.Names, l.Names) {
			copy(l.Names, from.Names)
			clear(l.Units)
		}
		if from.Units != nil {
			copy(l.Units, from.Units)
		}
	}
	return l, nil
}

// labelsOf reads the names and units of a safetensors file's metadata: action_names
// and action_units of the actions, state_names and state_units of the state.
func labelsOf(metadata map[string]string, of string) (l Labels, err error) {
	for key, to := range map[string]*[]string{of + "_names": &l.Names, of + "_units": &l.Units} {
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
