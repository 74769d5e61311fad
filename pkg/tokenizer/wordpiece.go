package tokenizer

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// wordPiece takes the longest token that a word begins with, then the longest that
// goes on with the prefix of continuing ones, and so forth. A word that cannot be
// written so is unknown as a whole.
type wordPiece struct {
	vocab   map[string]int32
	unknown int32
	goesOn  string // begins tokens that continue a word
	most    int    // characters of a word
	longest int    // bytes of a token
}

func (m *wordPiece) append(ids []int32, word string) ([]int32, error) {
	if utf8.RuneCountInString(word) > m.most {
		return append(ids, m.unknown), nil
	}
	was := len(ids)
	for at := 0; at < len(word); {
		end := min(len(word), at+m.longest)
		id, ok := int32(0), false
		for ; end > at; end-- {
			if end < len(word) && !utf8.RuneStart(word[end]) {
				continue
			}
			sub := word[at:end]
			if at > 0 {
				sub = m.goesOn + sub
			}
			if id, ok = m.vocab[sub]; ok {
				break
			}
		}
		if !ok {
			return append(ids[:was], m.unknown), nil
		}
		ids = append(ids, id)
		at = end
	}
	return ids, nil
}

func readWordPiece(at string, raw json.RawMessage) (model, map[string]int32, int32, error) {
	x, err := decode[struct {
		Vocab   map[string]int32
		Unknown *string `json:"unk_token"`
		GoesOn  *string `json:"continuing_subword_prefix"`
		Most    *int    `json:"max_input_chars_per_word"`
	}](at, raw)
	if err != nil {
		return nil, nil, -1, err
	}
	m := &wordPiece{vocab: x.Vocab, goesOn: "##", most: 100}
	if x.GoesOn != nil {
		m.goesOn = *x.GoesOn
	}
	if x.Most != nil {
		m.most = *x.Most
	}
	unknown := "[UNK]"
	if x.Unknown != nil {
		unknown = *x.Unknown
	}
	var ok bool
	if m.unknown, ok = x.Vocab[unknown]; !ok {
		return nil, nil, -1, fmt.Errorf("%s.unk_token: %q is not in the vocabulary", at, unknown)
	}
	for s := range x.Vocab {
		m.longest = max(m.longest, len(s))
	}
	return m, x.Vocab, m.unknown, nil
}

// wordLevel has a token for each whole word.
type wordLevel struct {
	vocab   map[string]int32
	unknown int32 // negative: none
}

func (m *wordLevel) append(ids []int32, word string) ([]int32, error) {
	if id, ok := m.vocab[word]; ok {
		return append(ids, id), nil
	}
	if m.unknown < 0 {
		return ids, fmt.Errorf("%q is not in the vocabulary, which has no token for that", word)
	}
	return append(ids, m.unknown), nil
}

func readWordLevel(at string, raw json.RawMessage) (model, map[string]int32, int32, error) {
	x, err := decode[struct {
		Vocab   map[string]int32
		Unknown *string `json:"unk_token"`
	}](at, raw)
	if err != nil {
		return nil, nil, -1, err
	}
	m := &wordLevel{vocab: x.Vocab, unknown: -1}
	if x.Unknown != nil {
		if id, ok := x.Vocab[*x.Unknown]; ok {
			m.unknown = id
		}
	}
	return m, x.Vocab, m.unknown, nil
}
