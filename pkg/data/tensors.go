package data

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
)

// The tensors source reads one .safetensors file, row i being sample i:
//
//	images              [N, C, H, W] F32   used as they are
//	instruction_tokens  [N, T]       I64
//	actions             [N, A]       F32   normalised by data.normalize, none by default
//	labels              [N, T]       I64   targets of the tokens; without it, the tokens themselves
//	vision_features     [N, P, Dv]   F32
//	language_features   [N, T, Dl]   F32
//	episode             [N]          I64   optional: groups rows for the held-out split
//
// The file's metadata may name the actions: action_names and action_units, each
// a JSON list of texts.
//
// Only what the model needs must be there. Images and features stay on disk
// and are read row by row.
type tensorFile struct {
	f    *safetensors.File
	path string
	n    int
}

// rows is one float tensor, read by row.
type rows struct {
	r    *io.SectionReader
	size int // values a row
}

func (t rows) read(i int) ([]float32, error) {
	b := make([]byte, 4*t.size)
	if _, err := t.r.ReadAt(b, int64(i)*int64(len(b))); err != nil {
		return nil, err
	}
	out := make([]float32, t.size)
	for j := range out {
		out[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:]))
	}
	return out, nil
}

// shape checks a tensor's type and shape. want holds -1 for N and for what the
// model leaves open; the tensor's own sizes are returned.
func (t *tensorFile) shape(name, dtype string, names string, want ...int) ([]int, error) {
	info, ok := t.f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("%s: the model needs the tensor %s %s %s, which the file does not have; it has %s", t.path, name, names, dtype, strings.Join(t.f.Names(), ", "))
	}
	bad := info.DType != dtype || len(info.Shape) != len(want)
	for i := 0; !bad && i < len(want); i++ {
		bad = want[i] >= 0 && info.Shape[i] != want[i] || info.Shape[i] < 1
	}
	if bad {
		return nil, fmt.Errorf("%s: %s is %s %v, expected %s %s with %s", t.path, name, info.DType, info.Shape, dtype, names, expected(want))
	}
	if t.n >= 0 && info.Shape[0] != t.n {
		return nil, fmt.Errorf("%s: %s has %d rows, the tensors before it %d", t.path, name, info.Shape[0], t.n)
	}
	t.n = info.Shape[0]
	return info.Shape, nil
}

func expected(want []int) string {
	var s []string
	for _, w := range want {
		if w < 0 {
			s = append(s, "any")
		} else {
			s = append(s, fmt.Sprint(w))
		}
	}
	return "[" + strings.Join(s, ", ") + "]"
}

// orAny turns a need that is left open into shape's -1.
func orAny(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

func (t *tensorFile) rows(name string, size int) (rows, error) {
	r, err := t.f.Bytes(name)
	return rows{r, size}, err
}

func openTensors(o *opening) (*set, error) {
	path, err := o.file()
	if err != nil {
		return nil, err
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	d, err := o.tensors(&tensorFile{f: f, path: path, n: -1})
	if err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func (o *opening) tensors(t *tensorFile) (*set, error) {
	sum, err := o.hashFile(t.path)
	if err != nil {
		return nil, err
	}
	meta, err := o.base(newPrint("tensors").add("file", sum).add("holdout", o.holdoutLabel()).sum())
	if err != nil {
		return nil, err
	}
	meta.ImageMean, meta.ImageStd = [3]float32{}, [3]float32{1, 1, 1} // as they are
	var images, vision, language rows
	var actions []float32
	var tokens, labels []int64
	if im := o.needs.Image; im[0] > 0 {
		if _, err = t.shape("images", "F32", "[N, C, H, W]", -1, im[0], im[1], im[2]); err == nil {
			images, err = t.rows("images", im[0]*im[1]*im[2])
		}
		if err != nil {
			return nil, err
		}
	}
	if o.needs.Tokens {
		s, err := t.shape("instruction_tokens", "I64", "[N, T]", -1, -1)
		if err != nil {
			return nil, err
		}
		meta.Spec.Tokens = s[1]
		if err := o.limitTokens(s[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
		if tokens, err = t.f.Int64("instruction_tokens"); err != nil {
			return nil, err
		}
		if meta.VocabSize, err = t.vocab("instruction_tokens", tokens, s[1], o.needs.VocabSize, 0); err != nil {
			return nil, err
		}
		if o.needs.Labels {
			meta.Spec.Labels, labels = true, tokens
			if _, ok := t.f.Tensor("labels"); ok {
				if _, err = t.shape("labels", "I64", "[N, T]", -1, s[1]); err != nil {
					return nil, err
				}
				if labels, err = t.f.Int64("labels"); err != nil {
					return nil, err
				}
				if _, err = t.vocab("labels", labels, s[1], meta.VocabSize, models.NoLabel); err != nil {
					return nil, err
				}
			}
		}
	}
	if o.needs.Features {
		s, err := t.shape("vision_features", "F32", "[N, P, Dv]", -1, -1, orAny(o.needs.VisionDim))
		if err != nil {
			return nil, err
		}
		if vision, err = t.rows("vision_features", s[1]*s[2]); err != nil {
			return nil, err
		}
		meta.Spec.Vision = [2]int{s[1], s[2]}
		if s, err = t.shape("language_features", "F32", "[N, T, Dl]", -1, -1, orAny(o.needs.LanguageDim)); err != nil {
			return nil, err
		}
		if language, err = t.rows("language_features", s[1]*s[2]); err != nil {
			return nil, err
		}
		meta.Spec.Language = [2]int{s[1], s[2]}
	}
	dim := 0
	if o.needs.Actions {
		s, err := t.shape("actions", "F32", "[N, A]", -1, orAny(o.needs.ActionDim))
		if err != nil {
			return nil, err
		}
		dim = s[1]
		if actions, err = t.f.Float32("actions"); err != nil {
			return nil, err
		}
	}
	if t.n < 1 {
		return nil, fmt.Errorf("%s: nothing in it is needed by the model", t.path)
	}

	n := t.n
	episodes, numbers, of := n, []int64(nil), make([]int32, n)
	for i := range of {
		of[i] = int32(i)
	}
	if _, ok := t.f.Tensor("episode"); ok {
		if _, err := t.shape("episode", "I64", "[N]", n); err != nil {
			return nil, err
		}
		ids, err := t.f.Int64("episode")
		if err != nil {
			return nil, err
		}
		index := map[int64]int32{}
		for i, id := range ids {
			e, ok := index[id]
			if !ok {
				e = int32(len(numbers))
				index[id], numbers = e, append(numbers, id)
			}
			of[i] = e
		}
		episodes = len(numbers)
	}
	held, err := heldOut(o.cfg.Holdout, o.seed, episodes, numbers)
	if err != nil {
		return nil, err
	}
	episode := func(i int) int { return int(of[i]) }
	train, rest := split(n, episodes, held, episode)
	action := func(i int) []float32 { return actions[i*dim : (i+1)*dim] }
	own, err := labelsOf(t.f.Metadata())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	place := func(i int) string { return fmt.Sprintf("%s row %d", t.path, i) }
	err = o.actions(&meta, dim, own, func() (actionRows, actionRows) {
		of := func(index []int32) actionRows {
			return actionRows{len(index), func(i int) []float32 { return action(int(index[i])) }, func(i int) string { return place(int(index[i])) }}
		}
		return of(train), of(rest)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}

	get := func(i int) (Sample, error) {
		s := Sample{ID: uint64(i), Origin: place(i)}
		for _, x := range []struct {
			from rows
			to   *[]float32
		}{{images, &s.Image.Floats}, {vision, &s.Vision}, {language, &s.Language}} {
			if x.from.r == nil {
				continue
			}
			var err error
			if *x.to, err = x.from.read(i); err != nil {
				return Sample{}, fmt.Errorf("%s: row %d: %w", t.path, i, err)
			}
		}
		if images.r != nil {
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

// vocab checks that all tokens are in [0, size), or, with size 0, returns the
// size that holds them.
func (t *tensorFile) vocab(name string, tokens []int64, rowLen, size int, least int64) (int, error) {
	most := int64(0)
	for i, x := range tokens {
		if x < least || x > math.MaxInt32-1 || size > 0 && x >= int64(size) {
			limit := size
			if limit == 0 {
				limit = math.MaxInt32
			}
			return 0, fmt.Errorf("%s: %s: token %d of row %d is %d, outside the vocabulary [0, %d)", t.path, name, i%rowLen, i/rowLen, x, limit)
		}
		most = max(most, x)
	}
	if size == 0 {
		size = int(most) + 1
	}
	return size, nil
}

func narrow(v []int64) []int32 {
	out := make([]int32, len(v))
	for i, x := range v {
		out[i] = int32(x)
	}
	return out
}

// hashFile returns the hex SHA-256 of a file.
func (o *opening) hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	r, h := hashing(&ticking{o: o, r: f, total: info.Size()})
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
