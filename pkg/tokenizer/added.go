package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// addedToken is a token that is found in a text before anything else happens to it.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// matcher finds added tokens: at each place the longest, from left to right.
type matcher map[byte][]match

type match struct {
	text string
	of   addedToken
}

func (m matcher) add(text string, of addedToken) {
	if text == "" {
		return
	}
	l := append(m[text[0]], match{text, of})
	slices.SortStableFunc(l, func(a, b match) int { return len(b.text) - len(a.text) })
	m[text[0]] = l
}

func (m matcher) at(s string) *match {
	for i, x := range m[s[0]] {
		if strings.HasPrefix(s, x.text) {
			return &m[s[0]][i]
		}
	}
	return nil
}

// split cuts a piece at the tokens that it has.
func (m matcher) split(p piece) (out []piece) {
	if len(m) == 0 {
		return []piece{p}
	}
	s, done := p.text, 0
	for i := 0; i < len(s); {
		x := m.at(s[i:])
		if x == nil {
			i++
			continue
		}
		lo, hi := i, i+len(x.text)
		i = hi
		if x.of.SingleWord {
			before, _ := utf8.DecodeLastRuneInString(s[:lo])
			after, _ := utf8.DecodeRuneInString(s[hi:])
			if lo > 0 && isWord(before) || hi < len(s) && isWord(after) {
				continue
			}
		}
		if x.of.LStrip {
			lo = max(len(strings.TrimRightFunc(s[:lo], isSpace)), done)
		}
		if x.of.RStrip {
			hi = len(s) - len(strings.TrimLeftFunc(s[hi:], isSpace))
		}
		if done < lo {
			out = append(out, p.cutAt(done, lo))
		}
		out = append(out, piece{id: x.of.ID})
		done = max(done, hi)
		i = max(i, done)
	}
	if done < len(s) {
		out = append(out, p.cutAt(done, len(s)))
	}
	return out
}
