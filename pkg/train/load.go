package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/pretrained"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tokenizer"
)

// Load reads the job file at path with its --set options. Encoders that its model is
// to take from files (model.vision.from, model.language.from) are looked at: what
// they are becomes a part of the job, so that nobody else needs the files to build the
// model. Where words are read by such an encoder, data.tokenizer is the one that lies
// beside it, unless the job says otherwise.
func Load(path string, set []string) (*job.Job, error) {
	return LoadAgain(path, set, func(string) *job.Job { return nil })
}

// LoadAgain is Load of a job whose run may go on. was gives the job as the run called
// name has it, nil where there is none: what a file that is gone had in it is taken
// from there, since a checkpoint has all that came of it.
func LoadAgain(path string, set []string, was func(name string) *job.Job) (*job.Job, error) {
	k := Kinds()
	j, err := k.Load(path, set)
	if err != nil {
		return nil, err
	}
	c, ok := j.Model.Options.(models.Config)
	if !ok || c.Vision.From == "" && c.Language.From == "" {
		return j, nil
	}
	l := loading{kinds: k, path: path, set: set, base: filepath.Dir(path)}
	var old models.Config
	if l.was = was(j.Name); l.was != nil {
		old, _ = l.was.Model.Options.(models.Config)
	}
	if j, err = l.words(j, c.Language.From); err != nil {
		return nil, err
	}
	c = j.Model.Options.(models.Config)
	before := towers(&old)
	for i, t := range towers(&c) {
		if t.of.From == "" || t.of.Backbone != nil {
			continue
		}
		b, err := l.look(t, before[i].of.Backbone)
		if err != nil {
			return nil, l.problems(job.Problem{Key: t.key + ".from", Text: err.Error()})
		}
		t.of.Backbone = b
		if err := l.pool(t, *before[i].of); err != nil {
			return nil, l.problems(job.Problem{Key: t.key + ".pool", Text: err.Error()})
		}
		if t.role == pretrained.Pictures {
			for _, size := range []struct {
				key string
				to  *int
				is  int
			}{
				{"model.image_size", &c.ImageSize, b.Grid * b.Patch},
				{"model.patch_size", &c.PatchSize, b.Patch},
				{"model.channels", &c.Channels, b.Channels},
			} {
				if !l.given(size.key) {
					*size.to = size.is
				}
			}
		}
	}
	// What was checked before did not know the encoders' sizes.
	j.Model.Options = c
	check := &job.Checker{Job: j}
	c.Check(check)
	var wrong *job.Error
	if errors.As(check.Err(), &wrong) {
		return nil, l.problems(wrong.Problems...)
	}
	return j, nil
}

// loading is one call of Load.
type loading struct {
	kinds job.Kinds
	path  string
	set   []string
	base  string   // where paths of the job begin
	was   *job.Job // of the run that goes on; nil: none
}

// given says whether the file or an option has the key: then it is not the encoder's
// to say.
func (l loading) given(key string) bool {
	p := l.kinds.Where(l.path, l.set, key)
	return p.Source != l.path || p.Line > 0
}

// problems are mistakes that show only now, at the places of their keys.
func (l loading) problems(found ...job.Problem) error {
	for i, p := range found {
		at := l.kinds.Where(l.path, l.set, p.Key)
		at.Text = p.Text
		found[i] = at
	}
	return &job.Error{Problems: found}
}

// look is what stands in the tower's file; before, where there is one and the file
// cannot be read. A run that goes on has the weights in its checkpoint. One that has no
// checkpoint yet loads them from the file (see Shoulders), and says then what is wrong
// with it.
func (l loading) look(t tower, before *models.Backbone) (*models.Backbone, error) {
	f, err := pretrained.Open(job.Abs(l.base, t.of.From), t.role)
	if err != nil && before != nil {
		return before, nil
	}
	// A name of a hub's, such as facebook/dinov2-small, is no path either: nothing is
	// fetched here, and the message says what a path has to lead to.
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; want the folder of an encoder of timm or transformers, with model.safetensors and config.json; "+
			"in a job file the path starts at the file's own folder", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := f.Backbone
	return &b, nil
}

// pool finds out whether the sentence that the tower makes is a unit vector, as what
// lies beside its weights says, unless the job does. A pooling that they were not trained
// for is an error. Where the weights are gone, before says it, the tower of the run that
// goes on: a checkpoint's bits are those of the sentence that it was trained with.
func (l loading) pool(t tower, before models.Tower) error {
	if !t.of.Pooled() || t.role != pretrained.Words {
		return nil
	}
	at := job.Abs(l.base, t.of.From)
	if _, err := os.Stat(at); err != nil && before.Pooled() {
		if !l.given(t.key + ".unit") {
			t.of.Unit = before.Unit
		}
		return nil
	}
	s, err := pretrained.SentenceOf(at)
	switch {
	// What is not known there might change what a sentence is.
	case err != nil:
		return err
	case s.Path != "" && s.Pool != t.of.Pool:
		return fmt.Errorf("is %s, and the encoder was trained for %s, as %s says: write %s", t.of.Pool, s.Pool, s.Path, s.Pool)
	case !l.given(t.key + ".unit"):
		t.of.Unit = s.Unit
	}
	return nil
}

// words is j with the tokenizer that lies beside the weights at from, which read its
// words, and with that one's padding; j where it names one itself, or there is none.
// The job is read anew with both as if they had been options, so that a mixture hands
// the tokenizer to its sets, and everything is checked, as with any other.
func (l loading) words(j *job.Job, from string) (*job.Job, error) {
	if own, has := data.TokenizerOf(j.Data.Options); from == "" || own != "" || !has {
		return j, nil
	}
	// A file of weights has its tokenizer beside it, a folder in it.
	if filepath.Ext(from) != "" && !isDir(job.Abs(l.base, from)) {
		from = filepath.Dir(from)
	}
	set := slices.Clone(l.set)
	tok, err := tokenizer.Read(job.Abs(l.base, from))
	switch {
	case err == nil:
		set = append(set, "data.tokenizer="+from)
		// CLIP's files name no padding, and rows of it are filled with the mark that ends
		// a text, which its encoder reads: the first one is to be seen.
		pad, end := tok.Pad(), tok.End()
		if pad < 0 {
			pad = end
		}
		if o, ok := j.Model.Options.(models.Config); ok && l.given("model.pad_token") {
			pad = o.PadToken
		} else if pad >= 0 {
			set = append(set, fmt.Sprintf("model.pad_token=%d", pad))
		}
		if pad == end && end >= 0 && !l.given("model.pad_ends") {
			set = append(set, "model.pad_ends=true")
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, l.problems(job.Problem{Key: "model.language.from", Text: "the tokenizer beside it: " + err.Error()})
	case l.was != nil: // the checkpoint has it
		if name, _ := data.TokenizerOf(l.was.Data.Options); name != "" {
			set = append(set, "data.tokenizer="+name)
		}
		if old, ok := l.was.Model.Options.(models.Config); ok && !l.given("model.pad_token") {
			set = append(set, fmt.Sprintf("model.pad_token=%d", old.PadToken))
			if old.PadEnds && !l.given("model.pad_ends") {
				set = append(set, "model.pad_ends=true")
			}
		}
	}
	if len(set) == len(l.set) {
		return j, nil
	}
	return l.kinds.Load(l.path, set)
}

// EndsUnseen says, in words for people, of a job whose tokenizer ends texts with the very
// token that is padding, that its model sees no end; empty: it does, or the job's encoder is
// from a file, with which Load sees to it.
func EndsUnseen(j *job.Job, meta data.Meta) string {
	c, ok := j.Model.Options.(models.Config)
	if !ok || meta.Tokenizer == nil || c.PadEnds || c.Language.From != "" {
		return ""
	}
	tok, err := meta.Tokenizer.Open()
	if err != nil || tok.Pad() >= 0 || tok.End() < 0 || tok.End() != c.PadToken {
		return "" // what is wrong with it is said where it is used
	}
	return fmt.Sprintf("%s ends instructions with %s (%d), which is the padding too and hidden (model.pad_token): "+
		"the model does not see where they end; CLIP's encoder reads the first one, as model.pad_ends: true has it",
		tok.Name(), tok.Token(c.PadToken), c.PadToken)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// tower is one of a model's that may be from a file: an encoder of pictures, or of
// words.
type tower struct {
	of     *models.Tower
	key    string // in the job file
	prefix string // of its parameters
	role   pretrained.Role
}

// towers are those of c, to be read and to be changed.
func towers(c *models.Config) []tower {
	return []tower{
		{&c.Vision, "model.vision", "vision_encoder.", pretrained.Pictures},
		{&c.Language, "model.language", "language_encoder.", pretrained.Words},
	}
}

// Shoulders loads the encoders that the job's model takes from files into it, and
// returns what became of each, by its key in the job file. Paths start at base. Only
// the encoders' parameters are written to; the coordinator does it once, and workers
// are sent the first weights as they are then.
func Shoulders(j *job.Job, base string, ps *tensor.Params) (loaded map[string]pretrained.Loaded, err error) {
	c, ok := j.Model.Options.(models.Config)
	if !ok {
		return nil, nil
	}
	loaded = map[string]pretrained.Loaded{}
	for _, t := range towers(&c) {
		if t.of.From == "" {
			continue
		}
		l, err := t.load(job.Abs(base, t.of.From), ps)
		if err != nil {
			return nil, fmt.Errorf("%s.from: %w", t.key, err)
		}
		if own, _ := data.TokenizerOf(j.Data.Options); t.role == pretrained.Words {
			l.Tokenizer = own
		}
		if t.of.Pooled() {
			s, err := pretrained.SentenceOf(job.Abs(base, t.of.From))
			if err != nil {
				return nil, fmt.Errorf("%s.pool: %w", t.key, err)
			}
			l.Sentence = s.Describe(*t.of)
		}
		loaded[t.key] = l
	}
	return loaded, nil
}

// load fills the tower's parameters from the file at path.
func (t tower) load(path string, ps *tensor.Params) (pretrained.Loaded, error) {
	f, err := pretrained.Open(path, t.role)
	if err != nil {
		return pretrained.Loaded{}, err
	}
	defer f.Close()
	// The file may have been changed since the job was read, or be another machine's.
	if t.of.Backbone == nil || f.Backbone != *t.of.Backbone {
		return pretrained.Loaded{}, fmt.Errorf("%s: it is %s, and the job was made for another: %+v", path, f, t.of.Backbone)
	}
	return f.Load(ps, t.prefix)
}
