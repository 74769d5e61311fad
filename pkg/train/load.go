package train

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/pretrained"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Load reads the job file at path with its --set options. Encoders that its model is
// to take from files (model.vision.from, model.language.from) are looked at: what
// they are becomes a part of the job, so that nobody else needs the files to build the
// model.
func Load(path string, set []string) (*job.Job, error) {
	k := Kinds()
	j, err := k.Load(path, set)
	if err != nil {
		return nil, err
	}
	c, ok := j.Model.Options.(models.Config)
	if !ok {
		return j, nil
	}
	// given says whether the file or an option has the key: then it is not the
	// encoder's to say.
	given := func(key string) bool {
		p := k.Where(path, set, key)
		return p.Source != path || p.Line > 0
	}
	// problems are mistakes that show only now, at the places of their keys.
	problems := func(found ...job.Problem) error {
		for i, p := range found {
			at := k.Where(path, set, p.Key)
			at.Text = p.Text
			found[i] = at
		}
		return &job.Error{Problems: found}
	}
	base := filepath.Dir(path)
	for _, t := range towers(&c) {
		if t.of.From == "" || t.of.Backbone != nil {
			continue
		}
		f, err := pretrained.Open(job.Abs(base, t.of.From), t.role)
		if err != nil {
			return nil, problems(job.Problem{Key: t.key + ".from", Text: err.Error()})
		}
		defer f.Close()
		b := f.Backbone
		t.of.Backbone = &b
		if t.role == pretrained.Pictures {
			for _, size := range []struct {
				key string
				to  *int
				is  int
			}{{"model.image_size", &c.ImageSize, f.Side}, {"model.patch_size", &c.PatchSize, b.Patch}, {"model.channels", &c.Channels, b.Channels}} {
				if !given(size.key) {
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
		return nil, problems(wrong.Problems...)
	}
	return j, nil
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
