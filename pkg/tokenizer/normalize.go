package tokenizer

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// each is a normalizer that looks at one character at a time: it writes what
// becomes of it.
type each func(b *strings.Builder, r rune)

func (f each) normalize(s string) string {
	var b strings.Builder
	for _, r := range s {
		f(&b, r)
	}
	return b.String()
}

func (f each) first(c string) string { return f.normalize(c) }

// whole is a normalizer that is a function.
type whole func(s string) string

func (f whole) normalize(s string) string { return f(s) }
func (f whole) first(c string) string     { return f(c) }

type normalizers []normalizer

func (l normalizers) normalize(s string) string {
	for _, n := range l {
		s = n.normalize(s)
	}
	return s
}

func (l normalizers) first(c string) string {
	for _, n := range l {
		c = n.first(c)
	}
	return c
}

// strip takes away the white space at a text's ends.
type strip struct {
	Left  bool `json:"strip_left"`
	Right bool `json:"strip_right"`
}

func (n strip) normalize(s string) string {
	if n.Left {
		s = strings.TrimLeftFunc(s, isSpace)
	}
	if n.Right {
		s = strings.TrimRightFunc(s, isSpace)
	}
	return s
}

func (n strip) first(c string) string {
	n.Right = false
	return n.normalize(c)
}

// replacement writes a text for each match of a pattern.
type replacement struct {
	pattern *pattern
	text    string
}

func (n replacement) normalize(s string) string {
	var b strings.Builder
	for _, x := range n.pattern.runs(s) {
		if x.match {
			b.WriteString(n.text)
		} else {
			b.WriteString(s[x.lo:x.hi])
		}
	}
	return b.String()
}

func (n replacement) first(c string) string { return n.normalize(c) }

var lower = each(func(b *strings.Builder, r rune) {
	if r == 'İ' { // the only one that becomes two
		b.WriteString("i̇")
		return
	}
	b.WriteRune(unicode.ToLower(r))
})

var stripMarks = each(func(b *strings.Builder, r rune) {
	if !unicode.Is(unicode.M, r) {
		b.WriteRune(r)
	}
})

// nmt is the normalizer of that name: SentencePiece's rules for white space.
var nmt = each(func(b *strings.Builder, r rune) {
	switch {
	case r >= 1 && r <= 8, r == 0xB, r >= 0xE && r <= 0x1F, r == 0x7F, r == 0x8F, r == 0x9F:
	case r == 9, r == 0xA, r == 0xC, r == 0xD, r == 0x1680, r >= 0x200B && r <= 0x200F, r == 0x2028, r == 0x2029, r == 0x2581, r == 0xFEFF, r == 0xFFFD:
		b.WriteByte(' ')
	default:
		b.WriteRune(r)
	}
})

// bert is the normalizer of BERT.
type bert struct {
	Clean   *bool `json:"clean_text"`
	Chinese *bool `json:"handle_chinese_chars"`
	Accents *bool `json:"strip_accents"` // nil: as Lower
	Lower   *bool `json:"lowercase"`
}

func or(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}

func (n bert) normalizer() normalizer {
	var l normalizers
	if or(n.Clean, true) {
		l = append(l, each(func(b *strings.Builder, r rune) {
			switch {
			case r == 0 || r == 0xFFFD || isOther(r):
			case isSpace(r):
				b.WriteByte(' ')
			default:
				b.WriteRune(r)
			}
		}))
	}
	if or(n.Chinese, true) {
		l = append(l, each(func(b *strings.Builder, r rune) {
			if isIdeograph(r) {
				b.WriteByte(' ')
				b.WriteRune(r)
				b.WriteByte(' ')
				return
			}
			b.WriteRune(r)
		}))
	}
	if or(n.Accents, or(n.Lower, true)) {
		l = append(l, whole(norm.NFD.String), each(func(b *strings.Builder, r rune) {
			if !unicode.Is(unicode.Mn, r) {
				b.WriteRune(r)
			}
		}))
	}
	if or(n.Lower, true) {
		l = append(l, lower)
	}
	return l
}

// readNormalizer reads the part of a file that stands at the given place.
func readNormalizer(at string, raw json.RawMessage) (normalizer, error) {
	kind, err := kindOf(at, raw)
	if err != nil || kind == "" {
		return nil, err
	}
	switch kind {
	case "BertNormalizer":
		n, err := decode[bert](at, raw)
		return n.normalizer(), err
	case "NFC":
		return whole(norm.NFC.String), nil
	case "NFD":
		return whole(norm.NFD.String), nil
	case "NFKC":
		return whole(norm.NFKC.String), nil
	case "NFKD":
		return whole(norm.NFKD.String), nil
	case "Lowercase":
		return lower, nil
	case "StripAccents":
		return stripMarks, nil
	case "Nmt":
		return nmt, nil
	case "ByteLevel":
		return whole(byteLetters), nil
	case "Strip":
		return decode[strip](at, raw)
	case "Prepend":
		n, err := decode[struct{ Prepend string }](at, raw)
		return whole(func(s string) string {
			if s == "" {
				return s
			}
			return n.Prepend + s
		}), err
	case "Replace":
		n, err := decode[struct {
			Pattern json.RawMessage
			Content string
		}](at, raw)
		if err != nil {
			return nil, err
		}
		p, err := readPattern(at+".pattern", n.Pattern)
		if err != nil {
			return nil, err
		}
		return replacement{p, n.Content}, nil
	case "Precompiled":
		n, err := decode[struct {
			Map string `json:"precompiled_charsmap"`
		}](at, raw)
		if err != nil {
			return nil, err
		}
		return readCharsmap(at, n.Map)
	case "Sequence":
		n, err := decode[struct{ Normalizers []json.RawMessage }](at, raw)
		if err != nil {
			return nil, err
		}
		var l normalizers
		for i, raw := range n.Normalizers {
			one, err := readNormalizer(fmt.Sprintf("%s.normalizers[%d]", at, i), raw)
			if err != nil {
				return nil, err
			}
			if one != nil {
				l = append(l, one)
			}
		}
		return l, nil
	}
	return nil, unknownKind(at, kind, "BertNormalizer, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Nmt, Replace, Prepend, Precompiled, ByteLevel, Sequence")
}

// charsmap is SentencePiece's table of replacements: a double array (as darts-clone
// lays it out) that finds keys, and the texts that they become, each ended by a zero.
type charsmap struct {
	units []uint32
	texts string
}

func readCharsmap(at, encoded string) (normalizer, error) {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%s.precompiled_charsmap: %w", at, err)
	}
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) || binary.LittleEndian.Uint32(b)%4 != 0 {
		return nil, fmt.Errorf("%s.precompiled_charsmap: %d bytes that do not hold the table that they announce", at, len(b))
	}
	n := int(binary.LittleEndian.Uint32(b))
	c := &charsmap{units: make([]uint32, n/4), texts: string(b[4+n:])}
	for i := range c.units {
		c.units[i] = binary.LittleEndian.Uint32(b[4+4*i:])
	}
	return c, nil
}

// of is what a run becomes: what its shortest prefix that the table has does, as
// the tokenizers package takes it.
func (c *charsmap) of(run string) (string, bool) {
	offset := func(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }
	if len(c.units) == 0 {
		return "", false
	}
	at := offset(c.units[0])
	for i := 0; i < len(run) && run[i] != 0; i++ {
		at ^= uint32(run[i])
		if int(at) >= len(c.units) {
			return "", false
		}
		u := c.units[at]
		if u&(1<<31|0xFF) != uint32(run[i]) {
			return "", false
		}
		at ^= offset(u)
		if u>>8&1 == 1 {
			if int(at) >= len(c.units) {
				return "", false
			}
			from := int(c.units[at] & (1<<31 - 1))
			if from > len(c.texts) {
				return "", false
			}
			text, _, _ := strings.Cut(c.texts[from:], "\x00")
			return text, true
		}
	}
	return "", false
}

// first is never nothing: the package counts what a charsmap takes away to what
// comes before it.
func (c *charsmap) first(r string) string {
	if s := c.normalize(r); s != "" {
		return s
	}
	return r
}

func (c *charsmap) normalize(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := cluster(s)
		run := s[:n]
		s = s[n:]
		if n < 6 {
			if text, ok := c.of(run); ok {
				b.WriteString(text)
				continue
			}
		}
		for len(run) > 0 {
			_, k := utf8.DecodeRuneInString(run)
			if text, ok := c.of(run[:k]); ok {
				b.WriteString(text)
			} else {
				b.WriteString(run[:k])
			}
			run = run[k:]
		}
	}
	return b.String()
}

// cluster is the length of the first character with the marks that belong to it.
// It is Unicode's grapheme cluster for what can be shorter than six bytes, which is
// all that a charsmap asks about: syllables of Hangul, flags and joined emoji are
// longer.
func cluster(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == '\r' && len(s) > 1 && s[1] == '\n' {
		return 2
	}
	if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) {
		return n
	}
	for n < len(s) && unicode.Is(unicode.Prepended_Concatenation_Mark, r) {
		next, k := utf8.DecodeRuneInString(s[n:])
		if unicode.In(next, unicode.Cc, unicode.Zl, unicode.Zp) {
			return n
		}
		r = next
		n += k
	}
	for n < len(s) {
		r, k := utf8.DecodeRuneInString(s[n:])
		if !(unicode.In(r, unicode.M, unicode.Other_Grapheme_Extend) || r == 0x200D || r == 0x0E33 || r == 0x0EB3) {
			break
		}
		n += k
	}
	return n
}
