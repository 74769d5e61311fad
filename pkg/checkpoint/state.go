package checkpoint

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// Prefixes of the optimizer's tensors; the parameter's name follows.
const (
	FirstMoment  = "exp_avg."
	SecondMoment = "exp_avg_sq."
)

// Tensor is one tensor of a model's state. Data is row-major; its length is the
// product of Shape.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

// ModelState is a checkpoint in memory. The three lists are sorted by name; the
// moments carry their parameter's name, without prefix.
type ModelState struct {
	Manifest      Manifest
	Model         []Tensor
	First, Second []Tensor // exp_avg, exp_avg_sq
}

// ReadState verifies the checkpoint in dir and loads all of it.
func ReadState(dir string) (*ModelState, error) {
	if err := Verify(dir).Err(); err != nil {
		return nil, err
	}
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	s := &ModelState{Manifest: m}
	if s.Model, err = readTensors(filepath.Join(dir, ModelFile)); err != nil {
		return nil, err
	}
	moments, err := readTensors(filepath.Join(dir, OptimizerFile))
	if err != nil {
		return nil, err
	}
	for _, t := range moments {
		if name, ok := strings.CutPrefix(t.Name, FirstMoment); ok {
			s.First = append(s.First, Tensor{name, t.Shape, t.Data})
		} else if name, ok := strings.CutPrefix(t.Name, SecondMoment); ok {
			s.Second = append(s.Second, Tensor{name, t.Shape, t.Data})
		} else {
			return nil, fmt.Errorf("%s: tensor %q is neither %s… nor %s…", filepath.Join(dir, OptimizerFile), t.Name, FirstMoment, SecondMoment)
		}
	}
	return s, nil
}

func readTensors(path string) ([]Tensor, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := make([]Tensor, 0, len(f.Names()))
	for _, name := range f.Names() {
		info, _ := f.Tensor(name)
		data, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		out = append(out, Tensor{name, info.Shape, data})
	}
	return out, nil
}

// WriteState stores a state as the checkpoint of state.Manifest.Step.
func WriteState(s Store, state *ModelState) error {
	var model, moments []safetensors.Tensor
	for _, t := range state.Model {
		model = append(model, safetensors.Tensor{Name: t.Name, Shape: t.Shape, Data: t.Data})
	}
	for _, t := range state.First {
		moments = append(moments, safetensors.Tensor{Name: FirstMoment + t.Name, Shape: t.Shape, Data: t.Data})
	}
	for _, t := range state.Second {
		moments = append(moments, safetensors.Tensor{Name: SecondMoment + t.Name, Shape: t.Shape, Data: t.Data})
	}
	w, err := s.Begin(state.Manifest.Step)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, f := range []struct {
		name    string
		tensors []safetensors.Tensor
	}{{ModelFile, model}, {OptimizerFile, moments}} {
		v, err := safetensors.NewView(f.tensors, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		dst, err := w.Create(f.name, v.Size())
		if err != nil {
			return err
		}
		if _, err := v.WriteTo(io.Writer(dst)); err != nil {
			return err
		}
		if err := dst.Close(); err != nil {
			return err
		}
	}
	return w.Commit(state.Manifest)
}

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
