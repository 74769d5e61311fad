package trained

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// Observation is what a robot sees at a moment, by the names that the data has:
// the whole (observation.images.front), what it ends with (front), dots or slashes
// between the parts; an instruction also as prompt, instruction or task.
type Observation map[string]Given

// Given is one value of an observation, in one of these forms.
type Given struct {
	Text   string    // an instruction, or
	File   []byte    // a PNG or JPEG file, or
	Bytes  []byte    // whole numbers of 0 to 255, row-major, or
	Floats []float64 // numbers, row-major
	Shape  []int     // of Bytes or Floats. A picture is [H, W, C] or [C, H, W], of C 1 or 3; its Floats go from 0 to 1
	Sure   bool      // Floats are of the very quantity that training's were: they may lie anywhere
	Times  []Given   // or one of these for each time of a feature that has several, the oldest first
}

// misfit is an observation that is not what the policy was trained on. Its text
// names every difference.
type misfit struct{ Differences []string }

func (m *misfit) Error() string {
	return "the observation does not fit the policy: " + strings.Join(m.Differences, "; ")
}

// reader turns observations into samples of a data set. It is safe for concurrent use.
type reader struct {
	card Card
	meta data.Meta
	tok  *data.Tokenizer // nil: tokens are given as numbers, or there are none
}

func newReader(card Card, meta data.Meta) (*reader, error) {
	r := &reader{card: card, meta: meta}
	var err error
	if r.tok, err = meta.Tokens(); err != nil {
		return nil, err
	}
	return r, nil
}

// read holds o against the card, and makes a sample of it, whose targets are
// zeros. notes say what is odd about it and no error.
func (r *reader) read(o Observation) (s data.Sample, notes []string, err error) {
	given, bad := r.match(o)
	if len(bad) > 0 {
		return s, nil, &misfit{bad}
	}
	s.Values = make([]data.Value, len(r.meta.Spec))
	for k, f := range r.meta.Spec {
		switch {
		case f.Type == models.Token: // labels too: targets do not touch the answer
			s.Values[k].Ints = make([]int32, f.Size())
		case f.Type == models.Float:
			s.Values[k].Floats = make([]float32, f.Size())
		}
	}
	frames := 0 // that are given; 0: nothing has several
	for i, x := range r.card.Observation {
		g, n := given[i], 0
		var err error
		switch x.Kind {
		case Picture:
			n, err = x.picture(s.Values, g)
		case Numbers:
			n, err = x.numbers(s.Values, g)
		default:
			var note string
			if note, err = r.instruction(s.Values[x.spec[0]].Ints, g); note != "" {
				notes = append(notes, x.Name+": "+note)
			}
		}
		switch {
		case err != nil:
			bad = append(bad, fmt.Sprintf("%s: %v", x.Name, err))
		case x.Frames > 1 && frames > 0 && n != frames:
			bad = append(bad, fmt.Sprintf("%s has %d frames, others have %d", x.Name, n, frames))
		case x.Frames > 1:
			frames = n
		}
	}
	if len(bad) > 0 {
		return s, nil, &misfit{bad}
	}
	if k := r.meta.Spec.Index(models.Past); k >= 0 {
		flags := s.Values[k].Floats
		for i := range flags {
			if i >= len(flags)-frames {
				flags[i] = 1
			}
		}
	}
	return s, notes, nil
}

// match finds the values of the card's features in o, in their order, and says
// what is missing and what is too much.
func (r *reader) match(o Observation) (given []Given, bad []string) {
	given = make([]Given, len(r.card.Observation))
	from := make([]string, len(given))
	for _, name := range slices.Sorted(maps.Keys(o)) {
		at := r.card.find(name)
		switch {
		case len(at) == 0:
			bad = append(bad, fmt.Sprintf("%s is not looked at; leave it out, or give it the name of what it is (the policy sees %s)", name, strings.Join(r.card.sees(), ", ")))
		case len(at) > 1:
			bad = append(bad, fmt.Sprintf("%s can be %s: give the whole name", name, strings.Join(at.of(r.card), " or ")))
		case from[at[0]] != "":
			bad = append(bad, fmt.Sprintf("%s and %s are both %s", from[at[0]], name, r.card.Observation[at[0]].Name))
		default:
			given[at[0]], from[at[0]] = o[name], name
		}
	}
	for i, x := range r.card.Observation {
		if from[i] == "" {
			bad = append(bad, x.String()+" is missing")
		}
	}
	return given, bad
}

// sees are the names of all that the policy looks at.
func (c Card) sees() (names []string) {
	for _, x := range c.Observation {
		names = append(names, x.Name)
	}
	return names
}

// places are those of features among Card.Observation.
type places []int

func (p places) of(c Card) (names []string) {
	for _, i := range p {
		names = append(names, c.Observation[i].Name)
	}
	return names
}

// Features are the names of those parts of the observation that name may mean: one,
// none, or several of which it is the end.
func (c Card) Features(name string) []string { return c.find(name).of(c) }

// find is the features that name may mean: the one that is called so, or those of
// which one name is the end of the other.
func (c Card) find(name string) (at places) {
	dotted := strings.ReplaceAll(name, "/", ".")
	for i, x := range c.Observation {
		is := strings.ReplaceAll(x.Name, "/", ".")
		if dotted == is || name == x.known || slices.Contains(x.aliases, name) {
			return places{i}
		}
		if strings.HasSuffix(is, "."+dotted) || strings.HasSuffix(dotted, "."+is) {
			at = append(at, i)
		}
	}
	return at
}

// picture places the frames of a picture: those before the first that is given
// are the first. It returns how many are given.
func (x CardFeature) picture(to []data.Value, g Given) (int, error) {
	frames, err := g.frames(x, 3)
	if err != nil {
		return 0, err
	}
	var images []data.Value
	for _, g := range frames {
		v, err := g.pixels(x)
		if err != nil {
			return 0, err
		}
		images = append(images, v)
	}
	for past, k := range x.spec {
		to[k] = images[max(len(images)-1-past, 0)]
	}
	return len(images), nil
}

// pixels is a picture as a sample has it.
func (g Given) pixels(x CardFeature) (v data.Value, err error) {
	if g.File != nil {
		v.Encoded = g.File
		return v, nil
	}
	last := g.Shape[2]
	h, w, first := g.Shape[0], g.Shape[1], false
	if last != 3 && last != 1 {
		h, w, last, first = g.Shape[1], g.Shape[2], g.Shape[0], true
	}
	if n := x.Shape[2]; n != 1 && n != 3 { // no RGB: the model's own values
		if want := []int{n, x.Shape[0], x.Shape[1]}; g.Floats == nil || !slices.Equal(g.Shape, want) {
			return v, fmt.Errorf("has the shape %v; want numbers of %v", g.Shape, want)
		}
		v.H, v.W, v.Floats = x.Shape[0], x.Shape[1], narrow(g.Floats)
		return v, nil
	}
	switch {
	case last != 3 && last != 1:
		return v, fmt.Errorf("has the shape %v; want [height, width, 3] or [3, height, width]", g.Shape)
	case h < 1 || w < 1 || h > data.MaxImageSide || w > data.MaxImageSide || h*w > data.MaxImagePixels:
		return v, fmt.Errorf("has %d×%d pixels; a side may have 1 to %d and the picture at most %d", w, h, data.MaxImageSide, data.MaxImagePixels)
	}
	v.H, v.W, v.RGB = h, w, make([]byte, 3*h*w)
	for i := range h * w {
		for c := range 3 {
			from := i*last + min(c, last-1)
			if first {
				from = min(c, last-1)*h*w + i
			}
			if g.Bytes != nil {
				v.RGB[3*i+c] = g.Bytes[from]
				continue
			}
			p := g.Floats[from]
			if !(p >= 0 && p <= 1) {
				return v, fmt.Errorf("has the value %v; a picture of floats goes from 0 to 1, one of bytes (uint8) from 0 to 255", p)
			}
			v.RGB[3*i+c] = byte(math.RoundToEven(255 * p))
		}
	}
	return v, nil
}

// narrow are the values as float32.
func narrow(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// frames cuts g into its times, each of the so many axes that a feature of one
// time has.
func (g Given) frames(x CardFeature, axes int) ([]Given, error) {
	if g.Times != nil {
		if len(g.Times) > x.Frames || len(g.Times) < 1 {
			return nil, fmt.Errorf("is given at %d times; the policy sees %d", len(g.Times), x.Frames)
		}
		x.Frames = 1
		var all []Given
		for _, one := range g.Times {
			if one.Times != nil {
				return nil, fmt.Errorf("is given at times within times")
			}
			f, err := one.frames(x, axes)
			if err != nil {
				return nil, err
			}
			all = append(all, f...)
		}
		return all, nil
	}
	if g.Text != "" {
		return nil, fmt.Errorf("is a text; want %s", x)
	}
	if g.File != nil {
		if x.Frames > 1 {
			return nil, fmt.Errorf("is one picture file; the policy sees %d times: give an array of [times, height, width, 3]", x.Frames)
		}
		return []Given{g}, nil
	}
	if x.Frames <= 1 {
		if len(g.Shape) != axes {
			return nil, fmt.Errorf("has the shape %v; want %s", g.Shape, x.wanted())
		}
		return []Given{g}, nil
	}
	if len(g.Shape) != axes+1 || g.Shape[0] < 1 || g.Shape[0] > x.Frames {
		return nil, fmt.Errorf("has the shape %v; the policy sees %d times: want them as a first axis, the oldest first, fewer only at an episode's beginning", g.Shape, x.Frames)
	}
	n := g.Shape[0]
	out := make([]Given, n)
	for i := range out {
		out[i] = Given{Shape: g.Shape[1:]}
		if size := len(g.Bytes) / n; g.Bytes != nil {
			out[i].Bytes = g.Bytes[i*size : (i+1)*size]
		}
		if size := len(g.Floats) / n; g.Floats != nil {
			out[i].Floats = g.Floats[i*size : (i+1)*size]
		}
	}
	return out, nil
}

// wanted is the shape that a feature is to be given in.
func (x CardFeature) wanted() string {
	if x.Kind == Picture {
		return "[height, width, 3], of any size"
	}
	return fmt.Sprint(x.Shape)
}

// numbers places numbers of one or several times, and returns of how many.
func (x CardFeature) numbers(to []data.Value, g Given) (int, error) {
	if g.File != nil {
		return 0, fmt.Errorf("is a byte string; want an array of %s", numbersOf(x.Shape))
	}
	if g.Floats == nil && g.Bytes != nil {
		g.Floats = make([]float64, len(g.Bytes))
		for i, b := range g.Bytes {
			g.Floats[i] = float64(b)
		}
		g.Bytes = nil
	}
	frames, err := g.frames(x, len(x.Shape))
	if err != nil {
		return 0, err
	}
	out := to[x.spec[0]].Floats
	size := len(out) / x.Frames
	for k := range x.Frames {
		f := frames[max(len(frames)-x.Frames+k, 0)]
		if !slices.Equal(f.Shape, x.Shape) {
			return 0, fmt.Errorf("has the shape %v; want %s", f.Shape, x.wanted())
		}
		for i, v := range f.Floats {
			if err := x.within(i, v); err != nil && !(g.Sure && v-v == 0) {
				return 0, err
			}
			out[k*size+i] = float32(v)
		}
	}
	return len(frames), nil
}

// within refuses a number that training never came near: one that lies farther
// outside the training split's range than that is wide.
func (x CardFeature) within(i int, v float64) error {
	name := fmt.Sprintf("value %d", i)
	if len(x.Dimensions) == 0 {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s is %v", name, v)
		}
		return nil
	}
	d := x.Dimensions[i%len(x.Dimensions)]
	width := d.High - d.Low
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return fmt.Errorf("%s is %v", d.Name, v)
	case width > 0 && (v < d.Low-width || v > d.High+width):
		unit := ""
		if d.Unit != "" {
			unit = " " + d.Unit
		}
		return fmt.Errorf("%s is %.6g, training had %.6g to %.6g%s: are these other units, or other dimensions?", d.Name, v, d.Low, d.High, unit)
	}
	return nil
}

// instruction places the tokens of an instruction. note names the words that
// training had not.
func (r *reader) instruction(to []int32, g Given) (note string, err error) {
	if g.Text == "" && (g.Bytes != nil || g.Floats != nil || g.File != nil) {
		return "", fmt.Errorf("is no text")
	}
	ids, note, err := tokensOf(g.Text, r.meta.Vocab, r.tok, len(to))
	copy(to, ids)
	return note, err
}

// tokensOf reads an instruction of at most so many tokens: words by tok where there is a
// vocabulary, else numbers.
func tokensOf(text string, vocab []string, tok *data.Tokenizer, most int) (ids []int32, note string, err error) {
	if tok == nil {
		ids, err := data.TokenNumbers(text)
		switch {
		case err != nil:
			return nil, "", fmt.Errorf("%q: %w (the checkpoint has no vocabulary of words)", text, err)
		case len(ids) != most:
			return nil, "", fmt.Errorf("%q has %d token numbers; the model was trained on %d", text, len(ids), most)
		}
		return ids, "", nil
	}
	words, err := tok.Words(text)
	if err != nil {
		return nil, "", err
	}
	if len(words) > most {
		return nil, "", fmt.Errorf("%.200q has %d %s; the model was trained on at most %d (data.max_tokens of its job)", text, len(words), tok.Unit(), most)
	}
	var odd []string
	for _, w := range words {
		if !w.Known {
			odd = append(odd, w.Text)
		}
	}
	switch {
	case tok.Pretrained() && len(words) == 0:
		return nil, "", fmt.Errorf("%q has no token", text)
	case tok.Pretrained() && len(odd) > 0:
		note = "the tokenizer has no token for a part of it"
	case len(odd) == len(words):
		return nil, "", fmt.Errorf("%q has no word that training had; it had %s", text, strings.Join(wordsOf(vocab), ", "))
	case len(odd) > 0:
		note = "training had no " + strings.Join(odd, ", ")
	}
	ids, err = tok.Encode(text)
	return ids, note, err
}
