package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

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
//	episode             [N]          whole    optional: groups rows for the held-out split
//
// Numbers are of any float or integer type and become float32; whole numbers
// are of any integer type. All values that the model needs must be finite.
//
// The file's metadata may name the actions: action_names and action_units, each
// a JSON list of texts.
//
// Only what the model needs must be there. Images and features stay on disk
// and are read row by row.
func openTensors(o *opening) (*set, error) {
	path, err := o.file()
	if err != nil {
		return nil, err
	}
	t, err := openTensorFile(path)
	if err != nil {
		return nil, err
	}
	t.fixed = o.given != nil
	d, err := o.tensors(t)
	if err != nil {
		t.f.Close()
		return nil, err
	}
	return d, nil
}

func (o *opening) tensors(t *tensorFile) (*set, error) {
	sum, err := o.hashFile(t.path)
	if err != nil {
		return nil, err
	}
	fp := newPrint("tensors").add("file", sum).add("holdout", o.holdoutLabel())
	var images, vision, language *tensorRows
	if im := o.needs.Image; im[0] > 0 {
		var ambiguous bool
		if images, ambiguous, err = t.images(im, o.cfg.Layout); err != nil {
			return nil, err
		}
		if ambiguous && images.last {
			fp.add("layout", o.cfg.Layout)
		} else if ambiguous && o.cfg.Layout == "" {
			o.find("layout", t.path, "set data.layout to nchw or nhwc", "images %v could be [N, C, H, W] or [N, H, W, C], and are read as the first", images.info.Shape)
		}
	}
	meta, err := o.base(fp.sum())
	if err != nil {
		return nil, err
	}
	meta.ImageMean, meta.ImageStd = [3]float32{}, [3]float32{1, 1, 1} // as they are
	var actions []float32
	var tokens, labels []int64
	if o.needs.Tokens {
		s, err := t.shape("instruction_tokens", "[N, T]", wholeTypes(), -1, -1)
		if err != nil {
			return nil, err
		}
		meta.Spec.Tokens = s[1]
		if err := o.limitTokens(s[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
		if tokens, err = t.whole("instruction_tokens", s[1]); err != nil {
			return nil, err
		}
		if meta.VocabSize, err = o.vocab(t, "instruction_tokens", tokens, s[1], o.needs.VocabSize, 0); err != nil {
			return nil, o.vocabulary(err)
		}
		if o.needs.Labels {
			meta.Spec.Labels, labels = true, tokens
			if _, ok := t.f.Tensor("labels"); ok {
				if _, err = t.shape("labels", "[N, T]", wholeTypes(), -1, s[1]); err != nil {
					return nil, err
				}
				if labels, err = t.whole("labels", s[1]); err != nil {
					return nil, err
				}
				if _, err = o.vocab(t, "labels", labels, s[1], meta.VocabSize, models.NoLabel); err != nil {
					return nil, o.vocabulary(err)
				}
			}
		}
	}
	if o.needs.Features {
		if vision, language, err = t.features(o.needs); err != nil {
			return nil, err
		}
		meta.Spec.Vision = [2]int(vision.info.Shape[1:])
		meta.Spec.Language = [2]int(language.info.Shape[1:])
	}
	own, err := labelsOf(t.f.Metadata())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	dim := 0
	bad := map[int]bool{} // rows that a lenient opening goes on over
	if o.needs.Actions {
		x, err := t.values("actions", "[N, A]", -1, -1)
		if err != nil {
			return nil, err
		}
		if dim = x.size; o.needs.ActionDim > 0 && dim != o.needs.ActionDim {
			return nil, keyError("model.action_dim", "%s: actions is %s %v, that is %d dimensions, and model.action_dim is %d", t.path, x.info.DType, x.info.Shape, dim, o.needs.ActionDim)
		}
		names, err := labelled(dim, labelsIn(o.cfg), own)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
		r, err := o.scan(x, names.names)
		if err != nil {
			return nil, err
		}
		bad = r.bad
		actions = make([]float32, t.n*dim)
		if err := t.f.Values("actions", 0, actions); err != nil {
			return nil, err
		}
	}
	for _, x := range []*tensorRows{images, vision, language} {
		if x == nil {
			continue
		}
		r, err := o.scan(x, nil)
		if err != nil {
			return nil, err
		}
		if x == images {
			o.findRange(x, r, meta.ImageMean, meta.ImageStd)
		}
	}
	o.findZeros(t.f)
	if t.n < 1 {
		return nil, fmt.Errorf("%s: nothing in it is needed by the model", t.path)
	}

	n := t.n
	episodes, ids, of := n, []int64(nil), make([]int32, n)
	for i := range of {
		of[i] = int32(i)
	}
	if _, ok := t.f.Tensor("episode"); ok {
		if _, err := t.shape("episode", "[N]", wholeTypes(), n); err != nil {
			return nil, err
		}
		list, err := t.whole("episode", 1)
		if err != nil {
			return nil, err
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
		episodes = len(ids)
	}
	held, err := o.heldOut(episodes, ids)
	if err != nil {
		return nil, err
	}
	episode := func(i int) int { return int(of[i]) }
	train, rest := o.split(n, episodes, held, episode)
	action := func(i int) []float32 { return actions[i*dim : (i+1)*dim] }
	place := func(i int) string { return fmt.Sprintf("%s row %d", t.path, i) }
	err = o.actions(&meta, dim, own, func() (actionRows, actionRows) {
		of := func(index []int32) actionRows {
			return actionRows{len(index), func(i int) []float32 { return action(int(index[i])) }, func(i int) string { return place(int(index[i])) }}
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

	get := func(i int) (Sample, error) {
		s := Sample{ID: uint64(i), Origin: place(i)}
		for _, x := range []struct {
			from *tensorRows
			to   *[]float32
		}{{images, &s.Image.Floats}, {vision, &s.Vision}, {language, &s.Language}} {
			if x.from == nil {
				continue
			}
			var err error
			if *x.to, err = x.from.read(i); err != nil {
				return Sample{}, fmt.Errorf("%s: row %d: %w", t.path, i, err)
			}
		}
		if images != nil {
			s.Image.H, s.Image.W = o.needs.Image[1], o.needs.Image[2]
		}
		tl := meta.Spec.Tokens
		if tokens != nil {
			s.Tokens = narrow(tokens[i*tl : (i+1)*tl])
		}
		if labels != nil {
			s.Labels = narrow(labels[i*tl : (i+1)*tl])
		}
		if dim > 0 {
			s.Action = slices.Clone(action(i))
		}
		return s, nil
	}
	return newSet(meta, n, episodes, held, episode, get, t.f.Close)
}

// features finds the given features of a model that takes them.
func (t *tensorFile) features(needs Needs) (vision, language *tensorRows, err error) {
	if vision, err = t.values("vision_features", "[N, P, Dv]", -1, -1, orAny(needs.VisionDim)); err != nil {
		return nil, nil, err
	}
	language, err = t.values("language_features", "[N, T, Dl]", -1, -1, orAny(needs.LanguageDim))
	return vision, language, err
}

// vocabulary is an error about tokens, with the key that says how many there are.
func (o *opening) vocabulary(err error) error {
	if bad := (*tokenError)(nil); o.needs.VocabSize == 0 || errors.As(err, &bad) && bad.token < 0 { // no size would hold it
		return err
	}
	return keyError("model.vocab_size", "%w of model.vocab_size", err)
}

// labelsIn are the labels of the job's own.
func labelsIn(c job.Data) labels { return labels{c.ActionNames, c.ActionUnits} }

// hashFile returns the hex SHA-256 of a file.
func (o *opening) hashFile(path string) (string, error) {
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
