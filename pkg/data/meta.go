package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/models"
)

// ErrOtherData says that a checkpoint's data is not the data that was opened:
// other content, or the same content split or read in another way.
var ErrOtherData = errors.New("the data is not what the checkpoint was trained on")

// imageMean and imageStd bring pixels from [0, 1] to [-1, 1].
var imageMean, imageStd = [3]float32{0.5, 0.5, 0.5}, [3]float32{0.5, 0.5, 0.5}

// Check refuses a Meta that no data set could have made. Whoever reads one from
// a file calls it; Open does.
func (m *Meta) Check() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("description of the data (kind %q): %s", m.Kind, fmt.Sprintf(format, a...))
	}
	s := m.Spec
	for _, v := range []int{m.Train, m.Heldout, m.VocabSize} {
		if v < 0 || v > maxSamples {
			return bad("a size is %d", v)
		}
	}
	if err := s.Check(maxSamples); err != nil {
		return bad("%v", err)
	}
	if slices.ContainsFunc(s, isImage) {
		if err := checkImageScale(m.ImageMean, m.ImageStd); err != nil {
			return bad("%v", err)
		}
	}
	if a := m.Augment; a != nil {
		if err := a.check(); err != nil {
			return bad("augment.%s %s", err.key, err.text)
		}
	}
	if w := m.Worded; w != nil && (w.Instructions < 0 || w.Wordings < 0) {
		return bad("%d wordings of %d instructions", w.Wordings, w.Instructions)
	}
	if len(m.Vocab) > m.VocabSize {
		return bad("the vocabulary has %d words, vocab_size is %d", len(m.Vocab), m.VocabSize)
	}
	if t := m.Tokenizer; t != nil {
		tok, err := t.Open()
		switch {
		case err != nil:
			return bad("%v", err)
		case len(m.Vocab) > 0 || m.VocabSize < tok.Size():
			return bad("its tokenizer has %d tokens, and beside it there are %d words and a vocab_size of %d", tok.Size(), len(m.Vocab), m.VocabSize)
		}
	}
	if err := m.checkChange(); err != nil {
		return bad("%v", err)
	}
	if err := m.checkSets(); err != nil {
		return bad("%v", err)
	}
	if err := m.checkRelative(); err != nil {
		return bad("%v", err)
	}
	for _, f := range s {
		if !f.Normalise || m.Sets != nil {
			continue
		}
		stats, dim := m.StatsOf(f.Name), f.Shape[len(f.Shape)-1]
		if stats == nil {
			return bad("it has %s, but no statistics of them", f.Name)
		}
		if err := stats.check(); err != nil {
			return bad("statistics of %s: %v", f.Name, err)
		}
		if stats.Dim() != dim {
			return bad("statistics of %d dimensions for %s of %d", stats.Dim(), f.Name, dim)
		}
	}
	return nil
}

// Text says what samples are made of and what is made of their values, a line a
// feature.
func (m *Meta) Text() string {
	var b strings.Builder
	for _, f := range m.Spec {
		role := "sees"
		if f.Role == models.Target {
			role = "predicts"
		}
		fmt.Fprintf(&b, "%-8s  %s", role, f)
		if f.Called() != f.Name {
			fmt.Fprintf(&b, ", the data's %s", f.Called())
		}
		if s := m.StatsOf(f.Name); f.Normalise && s != nil {
			fmt.Fprintf(&b, " (%s): %s", few(s.Names), s.How())
		}
		if w := m.Worded; w != nil && f.Name == models.Instruction {
			fmt.Fprintf(&b, ": training shows %s", w)
		}
		if a := m.Augment; a != nil && f.Type == models.Image {
			fmt.Fprintf(&b, ": %s", a)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func checkImageScale(mean, std [3]float32) error {
	for c := range mean {
		m, s := float64(mean[c]), float64(std[c])
		if math.IsNaN(m) || math.IsInf(m, 0) || !(s > 0) || math.IsInf(s, 0) {
			return fmt.Errorf("image_mean %v and image_std %v: each must be finite, and std above 0", mean, std)
		}
	}
	return nil
}

// Fingerprint collects what names data: SHA-256 over labelled parts, each with its
// length, so that no two lists of parts run together.
type Fingerprint struct{ h hash.Hash }

func NewFingerprint(kind string) Fingerprint {
	p := Fingerprint{sha256.New()}
	return p.Add("kind", kind)
}

func (p Fingerprint) Add(label string, v any) Fingerprint {
	s := fmt.Sprint(v)
	fmt.Fprintf(p.h, "%d:%s=%d:%s;", len(label), label, len(s), s)
	return p
}

func (p Fingerprint) Sum() string { return "sha256:" + hex.EncodeToString(p.h.Sum(nil)) }

// hashing wraps r so that everything read from it enters the returned hash.
func hashing(r io.Reader) (io.Reader, hash.Hash) {
	h := sha256.New()
	return io.TeeReader(r, h), h
}
