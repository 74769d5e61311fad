package tokenizer

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxText is the most bytes of a text that Encode takes.
const maxText = 1 << 16

// Tokenizer is one that was read. It is safe for concurrent use.
type Tokenizer struct {
	name   string // of the file, for messages
	source []byte // of the tokenizer.json that it is

	raw, normal matcher // of added tokens: in the text as it is, and as it is normalized
	normalizer  normalizer
	splitter    splitter
	model       model
	post        post
	cut         *truncation // nil: none is asked for
	pad         int32       // negative: the file names none

	vocabulary map[string]int32 // the model's and what is added
	names      []string         // by id; "" where no token has it
	special    []int32          // added tokens that are marks, ascending
	unknown    int32            // negative: there is none
}

// piece is a run of the text on its way. A model that has learned to tell a
// text's first word from others asks where it begins.
type piece struct {
	text  string
	first bool  // what it begins with is what the text begins with
	id    int32 // an added token, which goes no further; negative: text
}

// cutAt is the part of p from lo to hi.
func (p piece) cutAt(lo, hi int) piece {
	return piece{text: p.text[lo:hi], first: p.first && lo == 0, id: -1}
}

// normalizer changes a text.
type normalizer interface {
	normalize(s string) string
	// first is what becomes of the character that a text begins with. Where nothing
	// does, as where leading spaces are stripped, no word is the text's first.
	first(c string) string
}

// splitter cuts a piece, and may change the parts.
type splitter interface {
	split(p piece, out []piece) []piece
}

// model appends the tokens of a word that is not empty.
type model interface {
	append(ids []int32, word string) ([]int32, error)
}

// Encode returns the token numbers of a text, those that the post-processor adds
// among them, without padding. Where the file asks for truncation they are cut.
func (t *Tokenizer) Encode(text string) ([]int32, error) {
	most := 0
	if t.cut != nil {
		most = t.cut.length
	}
	return t.EncodeAtMost(text, most)
}

// EncodeAtMost is Encode of at most so many numbers: the text's are cut so that
// those which the post-processor adds find room. 0 is no limit.
func (t *Tokenizer) EncodeAtMost(text string, most int) ([]int32, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("a text of %d bytes; a tokenizer takes at most %d", len(text), maxText)
	}
	var ids []int32
	var err error
	for _, p := range t.pieces(strings.ToValidUTF8(text, "\uFFFD")) {
		if p.id >= 0 {
			ids = append(ids, p.id)
			continue
		}
		words := []piece{p}
		if t.splitter != nil {
			words = t.splitter.split(p, nil)
		}
		for _, w := range words {
			if w.text == "" {
				continue
			}
			if ids, err = t.model.append(ids, w.text); err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	if most > 0 {
		if most <= t.post.added() {
			return nil, fmt.Errorf("%d tokens are wanted, and %s adds %d to every text: want at least %d", most, t.name, t.post.added(), t.post.added()+1)
		}
		if n := most - t.post.added(); len(ids) > n {
			if t.cut != nil && t.cut.left {
				ids = ids[len(ids)-n:]
			} else {
				ids = ids[:n]
			}
		}
	}
	return t.post.process(ids), nil
}

// pieces are the runs of a text between its added tokens, normalized, and those
// tokens.
func (t *Tokenizer) pieces(text string) (out []piece) {
	for _, p := range t.raw.split(piece{text: text, first: true, id: -1}) {
		if p.id >= 0 {
			out = append(out, p)
			continue
		}
		if t.normalizer != nil {
			if p.first {
				_, n := utf8.DecodeRuneInString(p.text)
				p.first = t.normalizer.first(p.text[:n]) != ""
			}
			p.text = t.normalizer.normalize(p.text)
		}
		out = append(out, t.normal.split(p)...)
	}
	return slices.DeleteFunc(out, func(p piece) bool { return p.text == "" && p.id < 0 })
}

// Size is how many rows an embedding of these tokens has at least: the largest
// number is one less.
func (t *Tokenizer) Size() int { return len(t.names) }

// Added is how many tokens the post-processor adds to a text.
func (t *Tokenizer) Added() int { return t.post.added() }

// Limit is how many tokens the file cuts a text to; 0: it does not.
func (t *Tokenizer) Limit() int {
	if t.cut == nil {
		return 0
	}
	return t.cut.length
}

// Pad is the number of the token that pads a row; negative: the file names none.
func (t *Tokenizer) Pad() int { return int(t.pad) }

// End is the number of the mark that the file puts behind every text; negative: it
// puts none there.
func (t *Tokenizer) End() int {
	ids, err := t.EncodeAtMost("a", 0)
	if err != nil || len(ids) == 0 || !t.Special(int(ids[len(ids)-1])) {
		return -1
	}
	return int(ids[len(ids)-1])
}

// Unknown is the number of the token for what the vocabulary lacks; negative:
// there is none.
func (t *Tokenizer) Unknown() int { return int(t.unknown) }

// Token is the text of a number, as the vocabulary has it; "" where it has none.
func (t *Tokenizer) Token(id int) string {
	if id < 0 || id >= len(t.names) {
		return ""
	}
	return t.names[id]
}

// Tokens are the texts of all numbers. They are to be read only.
func (t *Tokenizer) Tokens() []string { return t.names }

// Special says that a number is an added token that is a mark, which no text means.
func (t *Tokenizer) Special(id int) bool { return slices.Contains(t.special, int32(id)) }

// Specials names some of those, for messages.
func (t *Tokenizer) Specials() string {
	var s []string
	for _, id := range t.special[:min(len(t.special), 8)] {
		s = append(s, fmt.Sprintf("%d %s", id, t.names[id]))
	}
	if len(s) == 0 {
		return "it has none"
	}
	return strings.Join(s, ", ")
}

// Name is the file that it was read from.
func (t *Tokenizer) Name() string { return t.name }
