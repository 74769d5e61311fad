package checkpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// Want is a tensor that a reader expects.
type Want struct {
	Name  string
	Shape []int
}

// MismatchError lists how a file's tensors differ from what was expected. Each
// list is sorted by name. The text has a few of each, so that it fits a screen.
type MismatchError struct {
	File                      string
	Missing, Extra, Misshapen []string // Misshapen says what was found and expected
}

func (e *MismatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s does not fit the model: %d tensors missing, %d extra, %d misshapen", e.File, len(e.Missing), len(e.Extra), len(e.Misshapen))
	for _, l := range []struct {
		word  string
		names []string
	}{{"missing", e.Missing}, {"extra", e.Extra}, {"misshapen", e.Misshapen}} {
		for _, n := range l.names[:min(len(l.names), shown)] {
			fmt.Fprintf(&b, "\n  %-9s %s", l.word, clip(n))
		}
		if more := len(l.names) - shown; more > 0 {
			fmt.Fprintf(&b, "\n  … and %d more %s", more, l.word)
		}
	}
	return b.String()
}

// shown is how many names of each kind a message has.
const shown = 5

// clip shortens a name that would fill lines of a message, and quotes one that
// would break them.
func clip(name string) string {
	const most = 160
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = strconv.Quote(name)
	}
	if r := []rune(name); len(r) > most {
		return string(r[:most/2]) + "…" + string(r[len(r)-most/2:])
	}
	return name
}

// Match compares f with the tensors that are expected of it: names and shapes,
// in types that convert to float32. All differences are in the one error, a
// *MismatchError.
func Match(f *safetensors.File, want []Want) error {
	e := &MismatchError{File: f.Name()}
	expected := make(map[string]bool, len(want))
	for _, w := range want {
		expected[w.Name] = true
		info, ok := f.Tensor(w.Name)
		switch {
		case !ok:
			e.Missing = append(e.Missing, fmt.Sprintf("%s %v", w.Name, w.Shape))
		case !slices.Equal(info.Shape, w.Shape):
			e.Misshapen = append(e.Misshapen, fmt.Sprintf("%s is %v, want %v", w.Name, info.Shape, w.Shape))
		case !slices.Contains([]string{"F32", "F16", "BF16", "F64"}, info.DType):
			e.Misshapen = append(e.Misshapen, fmt.Sprintf("%s is of type %s; save it as float32", w.Name, info.DType))
		}
	}
	for _, name := range f.Names() {
		if !expected[name] {
			info, _ := f.Tensor(name)
			e.Extra = append(e.Extra, fmt.Sprintf("%s %v", name, info.Shape))
		}
	}
	if len(e.Missing)+len(e.Extra)+len(e.Misshapen) == 0 {
		return nil
	}
	slices.Sort(e.Missing)
	slices.Sort(e.Misshapen)
	return e
}
