package weights

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Imported is what became of a file of weights in a model.
type Imported struct {
	Loaded  []string `json:"loaded"`  // parameters of the model that the file gave
	Resized []string `json:"resized"` // of those, position embeddings of another image size
	Fresh   []string `json:"fresh"`   // parameters that begin as the seed says
	Unused  []string `json:"unused"`  // tensors of the file that the model has no place for
	Dropped []string `json:"dropped"` // tensors that init.map drops
	Idle    []string `json:"idle"`    // rules of init.map, by their left side, that no tensor's name matches
	Values  int      `json:"values"`  // elements loaded
	Of      int      `json:"of"`      // elements of the model
}

// String is the report for people.
func (t Imported) String() string {
	s := fmt.Sprintf("%d parameters loaded (%d of %d values), %d fresh", len(t.Loaded), t.Values, t.Of, len(t.Fresh))
	for _, part := range []struct {
		what  string
		names []string
	}{{"resized", t.Resized}, {"fresh", t.Fresh}, {"in the file and not used", t.Unused},
		{"dropped", t.Dropped}, {"rules of init.map that no name matches", t.Idle}} {
		if len(part.names) > 0 {
			s += fmt.Sprintf("\n  %s: %s", part.what, few(brief(part.names), 10))
		}
	}
	return s
}

// brief puts names that begin alike together where there are many.
func brief(names []string) (out []string) {
	const many = 4
	first := func(name string) string { head, _, _ := strings.Cut(name, "."); return head }
	count, said := map[string]int{}, map[string]bool{}
	for _, n := range names {
		count[first(n)]++
	}
	for _, n := range names {
		switch head := first(n); {
		case count[head] < many:
			out = append(out, n)
		case !said[head]:
			said[head] = true
			out = append(out, fmt.Sprintf("%s.* (%d)", head, count[head]))
		}
	}
	return out
}

// packed are suffixes of a model's name in init.map that mean a third of a
// packed in-projection: for files that keep query, key and value apart.
var packed = []string{"@q", "@k", "@v"}

// Import sets the model's first weights from a file under init's names;
// what the file does not give begins as the seed says. Position embeddings of
// another image size are interpolated: bicubic, A = -0.75.
//
// Unless init.Partial, every parameter must be given and every tensor of the
// file used or dropped; with it, as much as init.AtLeast says. Shapes that do
// not fit and values that are not finite are an error either way.
func Import(model *models.Model, init job.Init, seed uint64, f *safetensors.File) (Imported, error) {
	model.Init(seed)
	ps := model.Params()
	t := Imported{Of: ps.Count()}
	from := map[string]string{} // model's name → file's
	thirds := map[*tensor.Param]int{}
	var wrong []string
	for _, r := range init.Map {
		if !slices.ContainsFunc(f.Names(), func(name string) bool { _, ok := match(r.From, name); return ok }) {
			t.Idle = append(t.Idle, strconv.Quote(r.From))
		}
	}
	for _, name := range f.Names() {
		to, dropped := rename(init.Map, name)
		if dropped {
			t.Dropped = append(t.Dropped, name)
			continue
		}
		part := -1
		for i, suffix := range packed {
			if base, ok := strings.CutSuffix(to, suffix); ok {
				to, part = base, i
			}
		}
		p := ps.ByName(to)
		if p == nil {
			t.Unused = append(t.Unused, name)
			continue
		}
		key := fmt.Sprint(to, part)
		if was, ok := from[key]; ok {
			wrong = append(wrong, fmt.Sprintf("%s and %s both become %s", was, name, to))
			continue
		}
		from[key] = name
		info, _ := f.Tensor(name)
		resized, err := place(p, part, info.Shape, func() ([]float32, error) {
			x, err := f.Float32(name)
			if err == nil {
				err = finite(name, info.DType, info.Shape, x)
			}
			return x, err
		})
		var bad *notFiniteError
		if errors.As(err, &bad) {
			return t, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s (%v): %v", name, info.Shape, err))
			continue
		}
		if part >= 0 {
			if thirds[p]++; thirds[p] < len(packed) {
				continue
			}
		}
		if resized {
			t.Resized = append(t.Resized, fmt.Sprintf("%s from %v to %v", to, info.Shape, p.Shape))
		}
		t.Loaded = append(t.Loaded, to)
		t.Values += p.Size()
	}
	for p, n := range thirds {
		if n < len(packed) {
			wrong = append(wrong, fmt.Sprintf("%s: the file gives %d of the 3 parts @q, @k, @v", p.Name, n))
		}
	}
	for _, p := range ps.List() {
		if !slices.Contains(t.Loaded, p.Name) && thirds[p] == 0 {
			t.Fresh = append(t.Fresh, p.Name)
		}
	}
	slices.Sort(t.Loaded)
	slices.Sort(wrong)
	return t, t.verdict(ps, init, f, wrong)
}

// verdict is the error that what came of a file deserves, if any.
func (t Imported) verdict(ps *tensor.Params, init job.Init, f *safetensors.File, wrong []string) error {
	var advice []string
	r, ok := remedyFor(ps, init.Map, f.Names())
	if ok {
		advice = append(advice, r.String())
	}
	if !init.Partial && ok && r.fits == r.of {
		wrong = append(wrong, fmt.Sprintf("now %d of the file's tensors fit", len(f.Names())-len(t.Unused)-len(t.Dropped)))
	} else if !init.Partial {
		adapters := ps.Adapters() // of which a file of the model without them has nothing
		lacks := slices.DeleteFunc(slices.Clone(t.Fresh), func(name string) bool { return adapters[ps.ByName(name)] })
		missing, extra := brief(lacks), brief(t.Unused)
		if len(missing) > 0 {
			wrong = append(wrong, fmt.Sprintf("the file has nothing for %d of the model's parameters: %s", len(lacks), few(missing, 8)))
		}
		if len(extra) > 0 {
			wrong = append(wrong, fmt.Sprintf("the model has no place for %d of the file's tensors: %s", len(t.Unused), few(extra, 8)))
		}
	}
	if s, ok := shardAlone(f.Name()); ok && (init.AtLeast == nil || len(wrong) > 0) {
		if !init.Partial {
			return fmt.Errorf("%s: %s", f.Name(), s)
		}
		return fmt.Errorf("%s: %s, or set init.at_least, 0 to 1, to take this part alone", f.Name(), s)
	}
	if len(wrong) > 0 {
		hint := "init.map translates and drops names"
		if !init.Partial {
			hint += ", init.partial allows what is missing on either side"
		}
		lines := append(advice, wrong[:min(len(wrong), mostWrong)]...)
		if more := len(wrong) - mostWrong; more > 0 {
			lines = append(lines, fmt.Sprintf("… and %d more", more))
		}
		return fmt.Errorf("%s: %s\n(%s)", f.Name(), strings.Join(lines, "\n  "), hint)
	}
	names := len(f.Names()) - len(t.Dropped)
	if used := names - len(t.Unused); used == 0 || !t.enough(init.AtLeast, used, names) {
		verbs := [2]string{"find", "give"}
		if used == 1 {
			verbs = [2]string{"finds", "gives"}
		}
		s := fmt.Sprintf("%d of its %d tensors %s a place in the model and %s %d of its %d values (%.1f %%)",
			used, names, verbs[0], verbs[1], t.Values, t.Of, 100*float64(t.Values)/float64(max(t.Of, 1)))
		if used == 0 {
			s = fmt.Sprintf("none of its %d tensors has a place in the model", names)
			if len(t.Unused) > 0 {
				s += fmt.Sprintf("; the first is %s", clip(t.Unused[0]))
			}
		}
		if len(advice) == 0 {
			advice = append(advice, "init.map translates names")
		}
		s += ": " + advice[0]
		if used > 0 {
			s += "; if so little is meant, set init.at_least to 0"
			if init.AtLeast != nil {
				s = strings.Replace(s, "set init.at_least to 0", fmt.Sprintf("lower init.at_least, which is %v", *init.AtLeast), 1)
			}
		}
		return fmt.Errorf("%s: %s", f.Name(), s)
	}
	return nil
}

// mostWrong is how many lines of complaints a message has.
const mostWrong = 8

// leastValues is the share of the model's values below which a partial init is
// taken for a mistake, though all of a small file fits, unless at_least is given.
const leastValues = 0.01

// enough says whether a partial init brings what it must: used of the file's
// tensors, all of them names without those that are dropped.
func (t Imported) enough(atLeast *float64, used, names int) bool {
	ofFile, ofModel := float64(used)/float64(max(names, 1)), float64(t.Values)/float64(max(t.Of, 1))
	if atLeast != nil {
		return max(ofFile, ofModel) >= *atLeast
	}
	return max(ofFile, ofModel) >= job.DefaultAtLeast && ofModel >= leastValues
}

// place writes a tensor of the given shape to p, or to a third of it.
func place(p *tensor.Param, part int, shape []int, read func() ([]float32, error)) (resized bool, err error) {
	want := p.Shape
	dst := p.Value
	if part >= 0 {
		if p.Shape[0]%len(packed) != 0 {
			return false, fmt.Errorf("%s %v has no three parts", p.Name, p.Shape)
		}
		want = append([]int{p.Shape[0] / len(packed)}, p.Shape[1:]...)
		dst = p.Value[part*len(p.Value)/len(packed) : (part+1)*len(p.Value)/len(packed)]
	}
	grid := func(shape []int) (side, d int, ok bool) { // of [1, 1+side², d]
		if len(shape) != 3 || shape[0] != 1 || shape[1] < 2 {
			return 0, 0, false
		}
		side = int(math.Sqrt(float64(shape[1] - 1)))
		return side, shape[2], side*side == shape[1]-1
	}
	from, d, ok1 := grid(shape)
	to, wantD, ok2 := grid(want)
	same := slices.Equal(squeezed(shape), squeezed(want))
	if !same && !(strings.HasSuffix(p.Name, "pos_embedding") && ok1 && ok2 && d == wantD) {
		return false, fmt.Errorf("%s has shape %v", p.Name, want)
	}
	x, err := read()
	if err != nil {
		return false, err
	}
	if same {
		copy(dst, x)
		return false, nil
	}
	copy(dst, x[:d]) // the class token has no place
	Resampling{A: -0.75}.Resample(dst[d:], x[d:], to, from, d)
	return true, nil
}

// squeezed is a shape without its ones: [1, 1, D] and [D] are the same numbers.
func squeezed(shape []int) (out []int) {
	for _, n := range shape {
		if n != 1 {
			out = append(out, n)
		}
	}
	return out
}
