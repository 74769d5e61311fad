package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// run is a part of a piece: what a pattern matches, or what lies between.
type run struct {
	lo, hi int
	match  bool
}

// behaviour is what becomes of what a pattern matches.
type behaviour string

const (
	removed    behaviour = "Removed"
	isolated   behaviour = "Isolated"
	withBefore behaviour = "MergedWithPrevious"
	withNext   behaviour = "MergedWithNext"
	contiguous behaviour = "Contiguous"
)

func (b behaviour) check(at string) error {
	switch b {
	case removed, isolated, withBefore, withNext, contiguous:
		return nil
	}
	return fmt.Errorf("%s.behavior: %q; want Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous", at, string(b))
}

// cut appends the parts of p that runs make.
func (b behaviour) cut(p piece, runs []run, out []piece) []piece {
	var kept []run
	was := false
	switch b {
	case withNext: // seen from behind
		for i := len(runs) - 1; i >= 0; i-- {
			r := runs[i]
			if n := len(kept); r.match && !was && n > 0 {
				kept[n-1].lo = r.lo
			} else {
				kept = append(kept, r)
			}
			was = r.match
		}
		for i, j := 0, len(kept)-1; i < j; i, j = i+1, j-1 {
			kept[i], kept[j] = kept[j], kept[i]
		}
	default:
		for _, r := range runs {
			n := len(kept)
			switch {
			case b == removed && r.match:
			case n > 0 && (b == withBefore && r.match && !was || b == contiguous && r.match == was):
				kept[n-1].hi = r.hi
			default:
				kept = append(kept, r)
			}
			was = r.match
		}
	}
	for _, r := range kept {
		if r.lo < r.hi {
			out = append(out, p.cutAt(r.lo, r.hi))
		}
	}
	return out
}

// characters are the runs of s in which each character that is one is a match.
func characters(s string, is func(rune) bool) (out []run) {
	done := 0
	for i, r := range s {
		if !is(r) {
			continue
		}
		if done < i {
			out = append(out, run{done, i, false})
		}
		done = i + utf8.RuneLen(r)
		out = append(out, run{i, done, true})
	}
	if done < len(s) {
		out = append(out, run{done, len(s), false})
	}
	return out
}

// cutting is a splitter that cuts where a function finds matches.
type cutting struct {
	runs func(s string) []run
	as   behaviour
}

func (c cutting) split(p piece, out []piece) []piece { return c.as.cut(p, c.runs(p.text), out) }

func atCharacters(is func(rune) bool, as behaviour) splitter {
	return cutting{func(s string) []run { return characters(s, is) }, as}
}

// splitters cut one after the other.
type splitters []splitter

func (l splitters) split(p piece, out []piece) []piece {
	parts := []piece{p}
	for _, s := range l {
		var next []piece
		for _, p := range parts {
			if p.text != "" {
				next = s.split(p, next)
			}
		}
		parts = next
	}
	return append(out, parts...)
}

// byteLevel writes every byte as a letter of its own, behind a cut as GPT-2 makes it.
type byteLevel struct {
	Prefix *bool `json:"add_prefix_space"`
	Regex  *bool `json:"use_regex"`
}

// gpt2 cuts contractions, and words, numbers and signs with a space before them.
var gpt2 = mustPattern(`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`)

func (b byteLevel) split(p piece, out []piece) []piece {
	if or(b.Prefix, true) && !strings.HasPrefix(p.text, " ") {
		p.text = " " + p.text
	}
	from := len(out)
	if or(b.Regex, true) {
		out = isolated.cut(p, gpt2.runs(p.text), out)
	} else {
		out = append(out, p)
	}
	for i := range out[from:] {
		out[from+i].text = byteLetters(out[from+i].text)
	}
	return out
}

// letters are the characters that GPT-2 writes for bytes: those of Latin-1 that can
// be seen stand for themselves, the others from U+0100 on.
var letters = func() (of [256]rune) {
	next := rune(256)
	for b := range of {
		of[b] = rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			of[b] = next
			next++
		}
	}
	return of
}()

func byteLetters(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(letters[s[i]])
	}
	return b.String()
}

// metaspace writes spaces as a sign and cuts before each.
type metaspace struct {
	Replacement string `json:"replacement"`
	Scheme      string `json:"prepend_scheme"`
	Prefix      *bool  `json:"add_prefix_space"` // of older files
	Split       *bool  `json:"split"`
	sign        rune   // Replacement's
}

func (m metaspace) split(p piece, out []piece) []piece {
	p.text = strings.ReplaceAll(p.text, " ", m.Replacement)
	if !strings.HasPrefix(p.text, m.Replacement) && (m.Scheme == "always" || m.Scheme == "first" && p.first) {
		p.text = m.Replacement + p.text
	}
	if !or(m.Split, true) {
		return append(out, p)
	}
	return withNext.cut(p, characters(p.text, func(r rune) bool { return r == m.sign }), out)
}

func readMetaspace(at string, raw json.RawMessage) (splitter, error) {
	m, err := decode[metaspace](at, raw)
	if err != nil {
		return nil, err
	}
	if utf8.RuneCountInString(m.Replacement) != 1 {
		return nil, fmt.Errorf("%s.replacement: %q; want one character", at, m.Replacement)
	}
	m.sign, _ = utf8.DecodeRuneInString(m.Replacement)
	switch {
	case m.Scheme == "" && !or(m.Prefix, true):
		m.Scheme = "never"
	case m.Scheme == "":
		m.Scheme = "always"
	case m.Scheme != "always" && m.Scheme != "first" && m.Scheme != "never":
		return nil, fmt.Errorf("%s.prepend_scheme: %q; want always, first or never", at, m.Scheme)
	case m.Scheme != "never" && !or(m.Prefix, true):
		return nil, fmt.Errorf("%s: prepend_scheme %s and add_prefix_space false contradict each other", at, m.Scheme)
	}
	return m, nil
}

// readSplitter reads the pre-tokenizer at the given place of a file.
func readSplitter(at string, raw json.RawMessage) (splitter, error) {
	kind, err := kindOf(at, raw)
	if err != nil || kind == "" {
		return nil, err
	}
	switch kind {
	case "BertPreTokenizer":
		return splitters{atCharacters(isSpace, removed), atCharacters(isPunctuation, isolated)}, nil
	case "Whitespace":
		return cutting{wordsAndSigns, removed}, nil
	case "WhitespaceSplit":
		return atCharacters(isSpace, removed), nil
	case "ByteLevel":
		return decode[byteLevel](at, raw)
	case "Metaspace":
		return readMetaspace(at, raw)
	case "Punctuation":
		x, err := decode[struct{ Behavior behaviour }](at, raw)
		if err == nil && x.Behavior == "" {
			x.Behavior = isolated
		}
		if err == nil {
			err = x.Behavior.check(at)
		}
		return atCharacters(isPunctuation, x.Behavior), err
	case "Digits":
		x, err := decode[struct {
			Single bool `json:"individual_digits"`
		}](at, raw)
		as := contiguous
		if x.Single {
			as = isolated
		}
		return atCharacters(unicode.IsNumber, as), err
	case "CharDelimiterSplit":
		x, err := decode[struct{ Delimiter string }](at, raw)
		if err == nil && utf8.RuneCountInString(x.Delimiter) != 1 {
			err = fmt.Errorf("%s.delimiter: %q; want one character", at, x.Delimiter)
		}
		sign, _ := utf8.DecodeRuneInString(x.Delimiter)
		return atCharacters(func(r rune) bool { return r == sign }, removed), err
	case "Split":
		x, err := decode[struct {
			Pattern  json.RawMessage
			Behavior behaviour
			Invert   bool
		}](at, raw)
		if err == nil {
			err = x.Behavior.check(at)
		}
		if err != nil {
			return nil, err
		}
		p, err := readPattern(at+".pattern", x.Pattern)
		if err != nil {
			return nil, err
		}
		return cutting{func(s string) []run {
			runs := p.runs(s)
			for i := range runs {
				runs[i].match = runs[i].match != x.Invert
			}
			return runs
		}, x.Behavior}, nil
	case "Sequence":
		x, err := decode[struct {
			List []json.RawMessage `json:"pretokenizers"`
		}](at, raw)
		if err != nil {
			return nil, err
		}
		var l splitters
		for i, raw := range x.List {
			one, err := readSplitter(fmt.Sprintf("%s.pretokenizers[%d]", at, i), raw)
			if err != nil {
				return nil, err
			}
			if one != nil {
				l = append(l, one)
			}
		}
		return l, nil
	}
	return nil, unknownKind(at, kind, "BertPreTokenizer, ByteLevel, Whitespace, WhitespaceSplit, Metaspace, Punctuation, Digits, Split, CharDelimiterSplit, Sequence")
}

// wordsAndSigns are the runs of \w+|[^\w\s]+, whose matches are what is kept.
func wordsAndSigns(s string) (out []run) {
	class := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case isSpace(r):
			return 0
		}
		return 2
	}
	was := -1
	for i, r := range s {
		c := class(r)
		if c != was {
			out = append(out, run{i, i, c == 0})
		}
		out[len(out)-1].hi = i + utf8.RuneLen(r)
		was = c
	}
	return out
}
