package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The tensors source reads one .safetensors file, row i being sample i:
//
//	images              [N, C, H, W] or [N, H, W, C]
//	                                 numbers  used as they are; bytes (U8) as b/255
//	instruction_tokens  [N, T]       whole
//	actions             [N, A]       numbers  normalised by data.normalize, none by default
//	labels              [N, T]       whole    targets of the tokens; without it, the tokens themselves
//	vision_features     [N, P, Dv]   numbers
//	language_features   [N, T, Dl]   numbers
//	state               [N, S]       numbers  likewise; data.state names the tensors that it is made of
//	any other name      [N, …]       as the model that wants a feature of it says
//	episode             [N]          whole    optional: groups rows for the held-out split
//
// data.cameras names tensors of pictures. With data.history, and with data.chunk
// where actions are [N, A], episode is needed: the rows of an episode are its
// frames, in order. A chunk may also be given whole:
//
//	actions             [N, L, A]    numbers
//	actions_valid       [N, L]       numbers  0 or 1; without it, all count
//
// Numbers are of any float or integer type and become float32; whole numbers
// are of any integer type. All values that the model needs must be finite.
//
// The file's metadata may name the actions: action_names and action_units, each
// a JSON list of texts; state_names and state_units name the state.
//
// Only what the model needs must be there. Images and features stay on disk
// and are read row by row.
type Tensors struct {
	FrameKeys  `yaml:",inline"`
	Layout     string `yaml:"layout,omitempty"` // nchw | nhwc, of images; empty: the one that fits, nchw where both do
	TextKeys   `yaml:",inline"`
	FileKeys   `yaml:",inline"`
	ActionKeys `yaml:",inline"`
}

func tensorsKind() job.Kind {
	return job.Kind{Name: "tensors", About: "a safetensors file of ready tensors", Options: Tensors{ActionKeys: ActionKeys{Normalize: Scaling{Mode: None}}}}
}

// Gives is job.DataOptions': a tensor is looked up by the feature's name.
func (Tensors) Gives() []string { return []string{job.Any} }

// Padding is job.DataOptions'.
func (Tensors) Padding() int { return -1 }

// Resolve is job.Options'.
func (k Tensors) Resolve(j *job.Job, given func(string) bool) job.Options {
	holdout(j, given, 0)
	return k
}

// Check is job.Options'.
func (k Tensors) Check(c *job.Checker) {
	checkNoSplits(c)
	k.FrameKeys.check(c, "")
	k.TextKeys.check(c)
	c.Unused("data.relative", len(k.Relative) == 0, "data.kind tensors, whose actions are as they are in the file: take the state off them there")
	k.FileKeys.check(c)
	k.ActionKeys.check(c)
	if k.Layout != "" {
		c.OneOf("data.layout", k.Layout, []string{"nchw", "nhwc"})
	}
}

// Open is Options'.
func (k Tensors) Open(o *Opening) (*Set, error) {
	path, err := o.file()
	if err != nil {
		return nil, err
	}
	t, err := openTensorFile(path)
	if err != nil {
		return nil, err
	}
	t.fixed, o.asIs = o.given != nil, true
	d, err := k.open(o, t)
	if err != nil {
		t.f.Close()
		return nil, err
	}
	return d, nil
}

func (k Tensors) open(o *Opening, t *tensorFile) (*Set, error) {
	sum, keep, err := o.recallTensors(t)
	if err != nil {
		return nil, err
	}
	fp := NewFingerprint("tensors").Add("file", sum).Add("holdout", o.Division())
	k.sign(fp)
	o.callsViews(k.Cameras)
	if k.State != nil {
		o.calls(models.State, strings.Join(k.State, "+"))
	}
	columns := make([]tensorColumn, len(o.Wants))
	for i, f := range o.Wants {
		if f.Type != models.Image {
			continue
		}
		camera, past, _ := models.ViewOf(f.Name)
		if past > 0 {
			columns[i].past, columns[i].view = past, o.Wants.Index(models.View(camera, 0))
			continue
		}
		f.Name = k.tensors(f)[0]
		x, ambiguous, err := t.images(f, k.Layout)
		if err != nil {
			return nil, err
		}
		if ambiguous && x.last {
			fp.Add("layout", k.Layout)
		} else if ambiguous && k.Layout == "" {
			o.find("layout", t.path, "set data.layout to nchw or nhwc", "%s %v could be [N, C, H, W] or [N, H, W, C], and are read as the first", f.Name, x.info.Shape)
		}
		columns[i].values = x
	}
	meta, err := o.Meta(fp.Sum())
	if err != nil {
		return nil, err
	}
	meta.ImageMean, meta.ImageStd = [3]float32{}, [3]float32{1, 1, 1} // as they are
	own := map[string]Labels{}
	for feature, key := range map[string]string{models.Actions: "action", models.State: "state"} {
		if own[feature], err = labelsOf(t.f.Metadata(), key); err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
	}
	bad := map[int]bool{} // rows that a lenient opening goes on over
	for i, f := range o.Wants {
		c := &columns[i]
		switch {
		case f.Name == models.Labels && !t.has(models.Labels): // then the tokens themselves
			tokens := meta.Spec.Index(models.Instruction)
			*c, meta.Spec[i].Shape = columns[tokens], meta.Spec[tokens].Shape
		case f.Type == models.Token:
			err = o.tensorTokens(t, &meta, f.Name, c)
		case f.Type == models.Float && f.Normalise:
			err = o.tensorNumbers(t, f, k.tensors(f), own, c, bad)
		case f.Name == models.Valid && t.has(f.Name):
			err = o.tensorValid(t, f, columns[o.Wants.Index(models.Actions)], c)
		case f.Name == models.Valid || f.Name == models.Past:
			c.window = f.Name == models.Past || columns[o.Wants.Index(models.Actions)].window
			c.whole = !c.window
		case f.Type == models.Float:
			if c.values, err = t.values(f.Name, axes(f), append([]int{-1}, open(f.Shape)...)...); err == nil {
				meta.Spec[i].Shape = slices.Clone(c.values.info.Shape[1:])
			}
		}
		if err != nil {
			return nil, err
		}
	}
	for i, f := range o.Wants {
		x := columns[i].values
		if x == nil {
			continue
		}
		r, err := o.scan(x, nil)
		if err != nil {
			return nil, err
		}
		if f.Type == models.Image {
			o.findRange(x, r, meta.ImageMean, meta.ImageStd)
		}
	}
	o.findZeros(t.f)
	if t.n < 1 {
		return nil, fmt.Errorf("%s: nothing in it is needed by the model", t.path)
	}

	n := t.n
	episodes, ids, of, err := t.episodes()
	if err != nil {
		return nil, err
	}
	held, err := o.HeldOut(episodes, ids)
	if err != nil {
		return nil, err
	}
	windows, err := o.tensorWindows(t, columns, episodes, of)
	if err != nil {
		return nil, err
	}
	episode := func(i int) int { return int(of[i]) }
	train, rest := o.split(n, episodes, held, episode)
	place := func(i int) string { return fmt.Sprintf("%s row %d", t.path, i) }
	for i, f := range o.Wants {
		c := &columns[i]
		if c.floats == nil || !f.Normalise {
			continue
		}
		shape := c.shape
		if c.window {
			shape = []int{f.Shape[0], c.size}
		}
		err = o.Numbers(&meta, f.Name, shape, own[f.Name], func() (Rows, Rows) {
			d := c.shape[len(c.shape)-1]
			per := c.size / d
			if valid := o.Wants.Index(models.Valid); f.Name == models.Actions && valid >= 0 && columns[valid].floats != nil {
				return c.chunks(train, bad, &columns[valid], place), c.chunks(rest, bad, &columns[valid], place)
			}
			of := func(index []int32) Rows {
				return Rows{per * len(index), func(i int) []float32 { return c.float(int(index[i/per]))[i%per*d:][:d] }, func(i int) string { return place(int(index[i/per])) }}
			}
			sound := func(index []int32) (out []int32) {
				for _, i := range index {
					if !bad[int(i)] {
						out = append(out, i)
					}
				}
				return out
			}
			return of(sound(train)), of(sound(rest))
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
	}

	get := func(i int) (Sample, error) {
		s := Sample{ID: uint64(i), Origin: place(i), Values: make([]Value, len(columns))}
		for col := range columns {
			c, v := &columns[col], &s.Values[col]
			switch {
			case c.past > 0:
				at := windows.frameAt(i, c.past)
				x := columns[c.view].values
				var err error
				if v.Floats, err = x.read(at); err != nil {
					return Sample{}, fmt.Errorf("%s: row %d: %w", t.path, at, err)
				}
				v.H, v.W = x.h, x.w
			case c.window:
				v.Floats = windows.number(meta.Spec[col], i)
			case c.whole:
				n := meta.Spec[col].Shape[0]
				v.Floats = marks(n, n)
			case c.values != nil:
				var err error
				if v.Floats, err = c.values.read(i); err != nil {
					return Sample{}, fmt.Errorf("%s: row %d: %w", t.path, i, err)
				}
				v.H, v.W = c.values.h, c.values.w
			case c.floats != nil:
				v.Floats = c.float(i)
			default:
				v.Ints = c.int(i)
			}
		}
		return s, nil
	}
	if err := keep(); err != nil {
		return nil, err
	}
	return NewSet(meta, Samples{n, episodes, held, episode, get, t.f.Close})
}

// episodes groups the rows: their number, what the file calls each of them (nil:
// its index), and the episode of each row.
func (t *tensorFile) episodes() (n int, ids []int64, of []int32, err error) {
	of = make([]int32, t.n)
	if !t.has("episode") {
		for i := range of {
			of[i] = int32(i)
		}
		return t.n, nil, of, nil
	}
	if _, err := t.shape("episode", "[N]", wholeTypes(), t.n); err != nil {
		return 0, nil, nil, err
	}
	list, err := t.whole("episode", 1)
	if err != nil {
		return 0, nil, nil, err
	}
	index := map[int64]int32{}
	for i, id := range list {
		e, ok := index[id]
		if !ok {
			e = int32(len(ids))
			index[id], ids = e, append(ids, id)
		}
		of[i] = e
	}
	return len(ids), ids, of, nil
}

// tensorColumn is a feature in a file of tensors. One of the first three is set, or
// what stands for them.
type tensorColumn struct {
	values *tensorRows // of values that are read row by row, or
	floats []float32   // all of them, [N, shape…], or
	ints   []int32     // all tokens, [N, shape…]
	shape  []int       // of floats and ints, a row
	size   int         // values of a row

	past, view int  // of a picture of before: frames ago, and the column that has it
	window     bool // made of floats of several rows of the episode, or says which of them are there
	whole      bool // every action of a chunk counts
}

func (c *tensorColumn) float(i int) []float32 { return c.floats[i*c.size : (i+1)*c.size] }
func (c *tensorColumn) int(i int) []int32     { return c.ints[i*c.size : (i+1)*c.size] }

// tensorTokens reads a feature of tokens.
func (o *Opening) tensorTokens(t *tensorFile, m *Meta, name string, c *tensorColumn) error {
	length, least, size := -1, int64(0), o.vocabSize()
	if name == models.Labels {
		length, least, size = orAny(m.Spec.Len(models.Instruction, 0)), models.NoLabel, m.VocabSize
	}
	s, err := t.shape(name, "[N, T]", wholeTypes(), -1, length)
	if err != nil {
		return err
	}
	if name == models.Instruction {
		if err := o.limitTokens(s[1]); err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
	}
	all, err := t.whole(name, s[1])
	if err != nil {
		return err
	}
	if size, err = o.vocab(t, name, all, s[1], size, least); err != nil {
		return o.vocabulary(err)
	}
	if name == models.Instruction {
		m.VocabSize = size
	}
	m.Spec.Find(name).Shape = s[1:2]
	c.ints, c.shape, c.size = narrow(all), s[1:2], s[1]
	return nil
}

// axes is the shape of a feature's tensor in messages, such as [N, P, Dv].
func axes(f models.Feature) string {
	if f.Axes != "" {
		return "[N, " + f.Axes + "]"
	}
	s := "[N"
	for i := range f.Shape {
		s += fmt.Sprintf(", D%d", i+1)
	}
	return s + "]"
}

// open is a shape with -1 where the model leaves a length open.
func open(shape []int) []int {
	out := slices.Clone(shape)
	for i, n := range out {
		out[i] = orAny(n)
	}
	return out
}

// vocabulary is an error about tokens, with the key that says how many there are.
func (o *Opening) vocabulary(err error) error {
	if bad := (*tokenError)(nil); o.vocabSize() == 0 || errors.As(err, &bad) && bad.token < 0 { // no size would hold it
		return err
	}
	if f := o.Wants.Find(models.Instruction); f.From != "" {
		return keyError(f.From, "%w of the encoder of %s: its tokens were made with another tokenizer", err, f.From)
	}
	return keyError("model.vocab_size", "%w of model.vocab_size", err)
}

// hashFile returns the hex SHA-256 of a file.
func (o *Opening) hashFile(path string) (string, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, h := hashing(&ticking{o: o, r: f, total: size})
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
