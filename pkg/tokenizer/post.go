package tokenizer

import (
	"encoding/json"
	"fmt"
)

// post is what a post-processor puts before and behind a text's tokens.
type post struct{ before, behind []int32 }

func (p post) added() int { return len(p.before) + len(p.behind) }

func (p post) process(ids []int32) []int32 {
	if p.added() == 0 {
		return ids
	}
	out := make([]int32, 0, len(ids)+p.added())
	return append(append(append(out, p.before...), ids...), p.behind...)
}

// truncation is how a file cuts what is too long.
type truncation struct {
	length int
	left   bool // the beginning goes
}

func readTruncation(raw json.RawMessage) (*truncation, error) {
	if isNull(raw) {
		return nil, nil
	}
	x, err := decode[struct {
		Most      int `json:"max_length"`
		Direction string
	}]("truncation", raw)
	if err != nil {
		return nil, err
	}
	if x.Most < 1 {
		return nil, fmt.Errorf("truncation.max_length: %d; want at least 1", x.Most)
	}
	switch x.Direction {
	case "", "Right", "Left":
		return &truncation{x.Most, x.Direction == "Left"}, nil
	}
	return nil, fmt.Errorf("truncation.direction: %q; want Left or Right", x.Direction)
}

// readPost reads the post-processor at the given place of a file.
func readPost(at string, raw json.RawMessage, known func(int32) bool) (p post, err error) {
	kind, err := kindOf(at, raw)
	if err != nil || kind == "" {
		return p, err
	}
	defer func() {
		for _, id := range append(p.before, p.behind...) {
			if err == nil && !known(id) {
				err = fmt.Errorf("%s: adds the token %d, which the vocabulary lacks", at, id)
			}
		}
	}()
	switch kind {
	case "ByteLevel": // trims offsets, which nobody asks for here
		return p, nil
	case "BertProcessing", "RobertaProcessing":
		x, err := decode[struct{ Sep, Cls []json.RawMessage }](at, raw)
		if err != nil {
			return p, err
		}
		of := func(name string, pair []json.RawMessage) (id int32, err error) {
			if len(pair) != 2 || json.Unmarshal(pair[1], &id) != nil {
				err = fmt.Errorf("%s.%s: want a token and its number", at, name)
			}
			return id, err
		}
		cls, err := of("cls", x.Cls)
		if err != nil {
			return p, err
		}
		sep, err := of("sep", x.Sep)
		return post{[]int32{cls}, []int32{sep}}, err
	case "TemplateProcessing":
		return readTemplate(at, raw)
	case "Sequence":
		x, err := decode[struct{ Processors []json.RawMessage }](at, raw)
		if err != nil {
			return p, err
		}
		for i, raw := range x.Processors {
			here := fmt.Sprintf("%s.processors[%d]", at, i)
			next, err := readPost(here, raw, known)
			switch {
			case err != nil:
				return p, err
			case next.added() > 0 && p.added() > 0:
				return p, fmt.Errorf("%s: is the second that adds tokens; want one", here)
			case next.added() > 0:
				p = next
			}
		}
		return p, nil
	}
	return p, unknownKind(at, kind, "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, Sequence")
}

func readTemplate(at string, raw json.RawMessage) (p post, err error) {
	type place struct{ ID string }
	x, err := decode[struct {
		Single []struct {
			Special  *place `json:"SpecialToken"`
			Sequence *place `json:"Sequence"`
		}
		Tokens map[string]struct{ IDs []int32 } `json:"special_tokens"`
	}](at, raw)
	if err != nil {
		return p, err
	}
	seen := false
	for i, s := range x.Single {
		switch {
		case s.Special != nil:
			t, ok := x.Tokens[s.Special.ID]
			if !ok {
				return p, fmt.Errorf("%s.single[%d]: %q is not among special_tokens", at, i, s.Special.ID)
			}
			if seen {
				p.behind = append(p.behind, t.IDs...)
			} else {
				p.before = append(p.before, t.IDs...)
			}
		case s.Sequence == nil || seen || s.Sequence.ID != "A":
			return p, fmt.Errorf("%s.single[%d]: want special tokens and the sequence A, once", at, i)
		default:
			seen = true
		}
	}
	if !seen {
		return p, fmt.Errorf("%s.single: the sequence A is missing", at)
	}
	return p, nil
}
