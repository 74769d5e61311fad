package pretrained

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Loaded is what became of an encoder's file in a model.
type Loaded struct {
	Path    string   `json:"path"`
	Found   string   `json:"found"`             // what it is
	Family  string   `json:"family"`            // whose names it has
	Loaded  []string `json:"loaded"`            // parameters of the model
	Resized string   `json:"resized,omitempty"` // positions of another size, in words
	Dropped []string `json:"dropped"`           // tensors that have no part in it
	Assumed []string `json:"assumed,omitempty"` // what nothing beside the file says

	Sentence  string `json:"sentence,omitempty"`  // what a policy sees in place of its tokens, and who says so; Load leaves it to whoever has the job
	Tokenizer string `json:"tokenizer,omitempty"` // what makes the words that it reads into tokens: data.tokenizer, which Load leaves to whoever has the job
}

// String is the report for people.
func (l Loaded) String() string {
	s := fmt.Sprintf("%s: %s; %d parameters loaded", l.Path, l.Found, len(l.Loaded))
	if l.Resized != "" {
		s += ", " + l.Resized
	}
	if len(l.Dropped) > 0 {
		s += fmt.Sprintf("\n  dropped: %s", few(l.Dropped))
	}
	if l.Sentence != "" {
		s += "\n  sentence: " + l.Sentence
	}
	if l.Tokenizer != "" {
		s += "\n  tokens: by the tokenizer of " + l.Tokenizer
	}
	for _, a := range l.Assumed {
		s += "\n  assumed: " + a
	}
	return s
}

// Load sets the parameters of the encoder whose names begin with prefix, which is
// made of f.Backbone. Positions of another size are made by the family's rule.
func (f *Found) Load(ps *tensor.Params, prefix string) (Loaded, error) {
	l := Loaded{Path: f.Path, Found: f.String(), Family: f.Backbone.Family, Dropped: f.Dropped, Assumed: f.Assumed}
	for _, p := range ps.List() {
		name, mine := strings.CutPrefix(p.Name, prefix)
		if !mine {
			continue
		}
		if strings.HasSuffix(name, ".lora_A.weight") || strings.HasSuffix(name, ".lora_B.weight") {
			continue // an adapter begins as the seed says
		}
		stem, block, kind := split(name)
		parts, ok := f.s.way(stem, block, kind)
		if !ok {
			return l, fmt.Errorf("%s: it is %s, and has nothing for %s", f.Path, f.about, p.Name)
		}
		if stem == "pos_embedding" {
			from, to, err := f.positions(p, parts[0])
			if err != nil {
				return l, err
			}
			if from != to {
				l.Resized = fmt.Sprintf("positions of %d×%d patches made of %d×%d", to, to, from, from)
			}
		} else if err := f.fill(p, stem, parts); err != nil {
			return l, err
		}
		l.Loaded = append(l.Loaded, p.Name)
	}
	if len(l.Loaded) == 0 {
		return l, fmt.Errorf("%s: the model has no parameter that begins with %s", f.Path, prefix)
	}
	return l, nil
}

// values reads a tensor and refuses it where it is not finite.
func (f *Found) values(name string) ([]float32, safetensors.Info, error) {
	info, _ := f.s.file.Tensor(name)
	x, err := f.s.file.Float32(name)
	if err != nil {
		return nil, info, err
	}
	for i, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, info, fmt.Errorf("%s: tensor %s: the value at %v is %v, and a model that begins with it learns nothing", f.Path, name, info.Index(i), v)
		}
	}
	return x, info, nil
}

// fill sets p of its parts, one behind the other.
func (f *Found) fill(p *tensor.Param, stem string, parts []string) error {
	at := 0
	for _, name := range parts {
		x, info, err := f.values(name)
		if err != nil {
			return err
		}
		if stem == "patch_embedding" && len(info.Shape) == 2 && len(p.Shape) == 4 {
			x = pixelsFirst(x, p.Shape)
		} else if !fits(p.Shape, info.Shape, len(parts)) {
			return f.misfit(p, name, info.Shape)
		}
		if at+len(x) > len(p.Value) {
			return f.misfit(p, name, info.Shape)
		}
		copy(p.Value[at:], x)
		at += len(x)
	}
	if at != len(p.Value) {
		return f.misfit(p, parts[0], nil)
	}
	return nil
}

func (f *Found) misfit(p *tensor.Param, name string, shape []int) error {
	return fmt.Errorf("%s: tensor %s is %v, which is no part of %s %v: its tensors contradict each other", f.Path, name, shape, p.Name, p.Shape)
}

// fits says whether a tensor can be one of so many parts, along the first dimension.
func fits(want, shape []int, parts int) bool {
	a, b := squeezed(want), squeezed(shape)
	if len(a) == 0 || len(b) == 0 || parts == 1 {
		return slices.Equal(a, b)
	}
	return len(a) == len(b) && slices.Equal(a[1:], b[1:])
}

func squeezed(shape []int) []int {
	return slices.DeleteFunc(slices.Clone(shape), func(n int) bool { return n == 1 })
}

// pixelsFirst turns the weights of patches that come as rows of pixels, [D, P·P·C],
// into those of a convolution, [D, C, P, P].
func pixelsFirst(x []float32, shape []int) []float32 {
	d, c, n := shape[0], shape[1], shape[2]*shape[3]
	out := make([]float32, len(x))
	if len(x) != d*c*n {
		return x
	}
	for o := range d {
		for i := range n {
			for ch := range c {
				out[(o*c+ch)*n+i] = x[(o*n+i)*c+ch]
			}
		}
	}
	return out
}

// positions sets p, [1, (1+)N, D], of those in the file, and returns the sides.
func (f *Found) positions(p *tensor.Param, name string) (from, to int, err error) {
	x, info, err := f.values(name)
	if err != nil {
		return 0, 0, err
	}
	b := f.Backbone
	lead, d := 0, b.Width
	if b.ClassPos {
		lead = 1
	}
	from, to = b.Grid, root(p.Shape[1]-lead)
	if len(x) != (from*from+lead)*d || to*to+lead != p.Shape[1] || p.Shape[2] != d {
		return 0, 0, f.misfit(p, name, info.Shape)
	}
	copy(p.Value, x[:lead*d])
	if from == to {
		copy(p.Value[lead*d:], x[lead*d:])
		return from, to, nil
	}
	f.s.resample.Resample(p.Value[lead*d:], x[lead*d:], to, from, d)
	return from, to, nil
}
