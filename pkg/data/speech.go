package data

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tokenizer"
)

// How instructions become tokens: by the words that the training split has, which
// Meta.Vocab keeps, or by a tokenizer that a pretrained model has learned with
// (data.tokenizer), of which Meta.Tokenizer keeps every byte. Either way what
// training has used is in the checkpoint, and nothing else is looked at later.

// spareRows is how many more rows an embedding may have than its tokenizer has
// tokens: less than the multiple that pretrained ones are rounded up to.
const spareRows = 128

// texts are the instructions of a training split, for what has to be known of them
// all. Each is asked only where it counts.
type texts struct {
	words func() (vocabulary []string, longest int) // the vocabulary that is learned, and the words of the longest
	all   func() []string                           // the longest of which has as many tokens as any; for a tokenizer
}

// Words settles tokens and vocabulary.
func (o *Opening) Words(m *Meta, of texts) error {
	f := m.Spec.Find(models.Instruction)
	if f == nil {
		return nil
	}
	n := o.MaxTokens
	tok, err := o.pretrained(m)
	switch g := o.given; {
	case err != nil:
		return err
	case g != nil:
		if n = g.Spec.Len(models.Instruction, 0); n < 1 || len(g.Vocab) == 0 && g.Tokenizer == nil {
			return fmt.Errorf("the model takes instructions, but %s has no vocabulary", o.owner())
		}
		m.Vocab, m.VocabSize = g.Vocab, g.VocabSize
	case tok != nil:
		m.VocabSize = tok.Size()
		if n == 0 {
			if n, err = longestOf(tok, of.all()); err != nil {
				return err
			}
		}
		if n <= tok.Added() {
			return keyError("data.max_tokens", "data.max_tokens is %d, and %s puts %d tokens around every instruction: want at least %d", n, tok.Name(), tok.Added(), tok.Added()+1)
		}
	default:
		var longest int
		m.Vocab, longest = of.words()
		m.VocabSize = len(m.Vocab)
		if n == 0 {
			n = max(longest, 1)
		}
	}
	f.Shape = []int{n}
	if err := o.fits(m, tok); err != nil {
		return err
	}
	return o.limitTokens(n)
}

// longestOf is how many tokens the longest of some instructions has; at most as many
// as the tokenizer cuts to.
func longestOf(tok *tokenizer.Tokenizer, all []string) (n int, err error) {
	n = tok.Added() + 1
	for _, s := range all {
		ids, err := tok.Encode(s)
		if err != nil {
			return 0, fmt.Errorf("the instruction %.60q: %w", s, err)
		}
		n = max(n, len(ids))
	}
	return n, nil
}

// pretrained is the tokenizer of the given Meta, or that of the job, which m then
// keeps; nil: there is none.
func (o *Opening) pretrained(m *Meta) (*tokenizer.Tokenizer, error) {
	g := o.given
	if o.Tokenizer == "" && (g == nil || g.Tokenizer == nil) {
		return nil, nil
	}
	if g != nil && g.Tokenizer == nil {
		return nil, keyError("data.tokenizer", "data.tokenizer is given, and %s has learned a vocabulary of words, and tokens of %s mean something else: leave the key out, or begin a run of its own", o.owner(), o.Tokenizer)
	}
	var tok *tokenizer.Tokenizer
	if o.Tokenizer != "" {
		var err error
		tok, err = tokenizer.Read(job.Abs(o.base, o.Tokenizer))
		switch {
		case g != nil && errors.Is(err, fs.ErrNotExist): // the checkpoint has it
		case errors.Is(err, fs.ErrNotExist):
			return nil, keyError("data.tokenizer", "data.tokenizer: %w; want a tokenizer.json, a vocab.txt or the folder of one; in a job file the path starts at the file's own folder", err)
		case err != nil:
			return nil, keyError("data.tokenizer", "data.tokenizer: %w", err)
		case g != nil && tok.Sum() != g.Tokenizer.SHA256:
			return nil, keyError("data.tokenizer", "data.tokenizer %s is another tokenizer (SHA-256 %.12s) than that of %s (%s, %.12s): bring that back, or take the file away, as %s keeps it",
				tok.Name(), tok.Sum(), o.owner(), g.Tokenizer.Name, g.Tokenizer.SHA256, o.owner())
		}
	}
	if g != nil {
		m.Tokenizer = g.Tokenizer
		return g.Tokenizer.Open()
	}
	pad, err := o.padding(tok)
	m.Tokenizer = tok.Keep(pad)
	return tok, err
}

// fits holds a vocabulary against the rows that the model has for it, and the
// tokenizer's padding against the model's.
func (o *Opening) fits(m *Meta, tok *tokenizer.Tokenizer) error {
	size, from := o.vocabSize(), ""
	if f := o.Wants.Find(models.Instruction); f != nil {
		from = f.From
	}
	switch {
	case from != "" && tok == nil && o.given == nil:
		return keyError(from, "%s has an embedding of %d rows, numbered by the tokenizer that it was pretrained with, and there is none beside it: name its tokenizer.json or vocab.txt with data.tokenizer", from, size)
	case from != "" && tok != nil && (tok.Size() > size || size-tok.Size() >= spareRows):
		return keyError("data.tokenizer", "%s has %d tokens, and the embedding of %s has %d rows: it was pretrained with another tokenizer; name that one with data.tokenizer", tok.Name(), tok.Size(), from, size)
	case tok == nil && size > 0 && len(m.Vocab) > size:
		return keyError("model.vocab_size", "the instructions' vocabulary has %d words (with padding and unknown), model.vocab_size is %d: raise it, or leave it out to take the data's", len(m.Vocab), size)
	case tok != nil && size > 0 && (tok.Size() > size || size-tok.Size() >= spareRows):
		return keyError("model.vocab_size", "model.vocab_size is %d, and %s has %d tokens: an embedding of %d rows was made with another tokenizer; give that one (data.tokenizer), or leave model.vocab_size out", size, tok.Name(), tok.Size(), size)
	}
	if size > 0 {
		m.VocabSize = size
	}
	return nil
}

// padding is the token that rows are filled with: the tokenizer's own, which has to
// be the one that the model takes out. Where it names none, the model's.
func (o *Opening) padding(tok *tokenizer.Tokenizer) (int32, error) {
	takes := -1
	if f := o.Wants.Find(models.Instruction); f != nil {
		takes = f.Pad
	}
	switch own := tok.Pad(); {
	case own >= 0 && (takes < 0 || takes == own):
		return int32(own), nil
	case own >= 0:
		return 0, keyError("model.pad_token", "model.pad_token is %d, and %s pads with %d (%s): write model.pad_token: %d, or -1 where the model is to see padding", takes, tok.Name(), own, tok.Token(own), own)
	case takes < 0:
		return 0, nil
	case takes >= tok.Size() || !tok.Special(takes):
		return 0, keyError("model.pad_token", "model.pad_token is %d (%q), and %s names no padding: write model.pad_token with one of its special tokens (%s), or -1 where the model is to see padding",
			takes, tok.Token(takes), tok.Name(), tok.Specials())
	}
	return int32(takes), nil
}

// Tokens is what makes the tokens of an instruction; nil where they are given as
// numbers, or there are none.
func (m *Meta) Tokens() (*Tokenizer, error) {
	n := m.Spec.Len(models.Instruction, 0)
	switch {
	case n < 1:
		return nil, nil
	case m.Tokenizer != nil:
		tok, err := m.Tokenizer.Open()
		if err != nil {
			return nil, err
		}
		return &Tokenizer{file: tok, tokens: n, pad: m.Tokenizer.Pad}, nil
	case len(m.Vocab) > 0:
		return newTokenizer(m.Vocab, n)
	}
	return nil, nil
}

// Padding is the token that rows are filled with.
func (m *Meta) Padding() int32 {
	if m.Tokenizer != nil {
		return m.Tokenizer.Pad
	}
	return padToken
}

// Lexicon is the text of each token, for those who show them; nil where tokens are
// given as numbers.
func (m *Meta) Lexicon() []string {
	if m.Tokenizer == nil {
		return m.Vocab
	}
	tok, err := m.Tokenizer.Open()
	if err != nil {
		return nil // whoever encodes says it
	}
	return tok.Tokens()
}
