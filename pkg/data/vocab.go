package data

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/vlaring/vlaring/pkg/tokenizer"
)

// Token ids that every vocabulary of this package begins with.
const (
	padToken     = 0
	unknownToken = 1
)

// apostrophes are the characters that people and keyboards write for a plain
// one: single quotation marks, the modifier letter, the acute accent, full width.
const apostrophes = "\u2018\u2019\u201b\u02bc\u00b4\uff07"

// splitWords splits an instruction into its tokens: lower-cased runs of letters,
// digits and apostrophes between letters. Everything else separates. What looks
// the same is the same: words are in Unicode's composed form (NFC), whichever
// form the text has, and typographic apostrophes are plain ones.
func splitWords(instruction string) []string {
	r := []rune(norm.NFC.String(strings.ToLower(instruction)))
	for i, c := range r {
		if strings.ContainsRune(apostrophes, c) {
			r[i] = '\''
		}
	}
	letter := func(i int) bool {
		return i >= 0 && i < len(r) && (unicode.IsLetter(r[i]) || unicode.IsDigit(r[i]) || unicode.IsMark(r[i]))
	}
	var out []string
	start := -1
	for i := 0; i <= len(r); i++ {
		in := letter(i) || i < len(r) && r[i] == '\'' && letter(i-1) && letter(i+1)
		switch {
		case in && start < 0:
			start = i
		case !in && start >= 0:
			out = append(out, string(r[start:i]))
			start = -1
		}
	}
	return out
}

// buildVocab returns the vocabulary of instructions: padding, unknown, then
// their words in ascending byte order, whatever the instructions' order.
func buildVocab(instructions []string) []string {
	seen := map[string]bool{}
	var words []string
	for _, s := range instructions {
		for _, w := range splitWords(s) {
			if !seen[w] {
				seen[w] = true
				words = append(words, w)
			}
		}
	}
	slices.Sort(words)
	return append([]string{"<pad>", "<unk>"}, words...)
}

// Tokenizer turns instructions into token ids of a fixed length: those of the words
// that training had, or those of a pretrained tokenizer.
type Tokenizer struct {
	id     map[string]int32
	file   *tokenizer.Tokenizer // nil: words are looked up in id
	pad    int32
	tokens int
}

// newTokenizer makes a tokenizer from a vocabulary, as buildVocab returns, for
// rows of T tokens.
func newTokenizer(vocab []string, tokens int) (*Tokenizer, error) {
	if len(vocab) < 2 {
		return nil, fmt.Errorf("a vocabulary of %d entries lacks padding (0) and unknown (1)", len(vocab))
	}
	t := &Tokenizer{id: make(map[string]int32, len(vocab)), tokens: tokens, pad: padToken}
	for i, w := range vocab {
		if i < 2 {
			continue
		}
		if _, dup := t.id[w]; dup {
			return nil, fmt.Errorf("the vocabulary holds %q twice", w)
		}
		t.id[w] = int32(i)
	}
	return t, nil
}

// Word is a token of an instruction.
type Word struct {
	Text  string
	Known bool // to the vocabulary
}

// Words are all tokens of an instruction, however many the rows have.
func (t *Tokenizer) Words(instruction string) (words []Word, err error) {
	if t.file == nil {
		for _, w := range splitWords(instruction) {
			_, ok := t.id[w]
			words = append(words, Word{w, ok})
		}
		return words, nil
	}
	ids, err := t.file.EncodeAtMost(instruction, 0)
	if err != nil || len(ids) <= t.file.Added() {
		return nil, err
	}
	for _, id := range ids {
		words = append(words, Word{t.file.Token(int(id)), int(id) != t.file.Unknown()})
	}
	return words, nil
}

// Pretrained says that the tokens are those of a pretrained tokenizer, and not the
// words that training had.
func (t *Tokenizer) Pretrained() bool { return t.file != nil }

// Unit is what Words are, in the plural.
func (t *Tokenizer) Unit() string {
	if t.file != nil {
		return "tokens"
	}
	return "words"
}

// Encode returns T token ids: the instruction's words, cut or padded with 0 to
// T. A word outside the vocabulary is 1, and an instruction without any word is
// a single 1, so that no row is padding alone. A pretrained tokenizer has numbers of
// its own for padding and for what it does not know; what it puts behind a text
// stays where the text is cut.
func (t *Tokenizer) Encode(instruction string) ([]int32, error) {
	out := make([]int32, t.tokens)
	for i := range out {
		out[i] = t.pad
	}
	if t.file != nil {
		ids, err := t.file.EncodeAtMost(instruction, t.tokens)
		if err != nil {
			return nil, err
		}
		copy(out, ids)
		if len(ids) == 0 {
			out[0] = int32(max(t.file.Unknown(), 0))
		}
		return out, nil
	}
	words := splitWords(instruction)
	for i := 0; i < len(words) && i < t.tokens; i++ {
		out[i] = unknownToken
		if id, ok := t.id[words[i]]; ok {
			out[i] = id
		}
	}
	if len(words) == 0 && t.tokens > 0 {
		out[0] = unknownToken
	}
	return out, nil
}

// encode returns the tokens of all texts.
func (t *Tokenizer) encode(texts []string) (out [][]int32, err error) {
	out = make([][]int32, len(texts))
	for i, s := range texts {
		if out[i], err = t.Encode(s); err != nil {
			return nil, fmt.Errorf("the instruction %.60q: %w", s, err)
		}
	}
	return out, nil
}
