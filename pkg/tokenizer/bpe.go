package tokenizer

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// bpe begins with a word's characters and merges neighbours: always the pair that
// was learned first, of equal ones the leftmost.
type bpe struct {
	vocab     map[string]int32
	merges    map[[2]int32]merge
	goesOn    string // stands before characters that continue a word
	ends      string // stands behind a word's last character
	unknown   int32  // negative: what is not in the vocabulary is left out
	fuse      bool   // unknown characters beside each other are one token
	bytes     bool   // what is not in the vocabulary is written in bytes: <0xE2>
	wholeWord bool   // a word that is a token is not merged from its parts
}

type merge struct{ rank, id int32 }

func (m *bpe) append(ids []int32, word string) ([]int32, error) {
	if m.wholeWord {
		if id, ok := m.vocab[word]; ok {
			return append(ids, id), nil
		}
	}
	return append(ids, m.merged(m.symbols(word))...), nil
}

// symbols are what a word's merging begins with.
func (m *bpe) symbols(word string) (out []int32) {
	unknown := false // a token for unknown characters is still to be written
	for i, r := range word {
		end := i + utf8.RuneLen(r)
		s := word[i:end]
		if i > 0 {
			s = m.goesOn + s
		}
		if end == len(word) {
			s += m.ends
		}
		if id, ok := m.vocab[s]; ok {
			if unknown {
				out, unknown = append(out, m.unknown), false
			}
			out = append(out, id)
			continue
		}
		if m.bytes {
			if ids, ok := inBytes(m.vocab, s); ok {
				out = append(out, ids...)
				continue
			}
		}
		if m.unknown >= 0 {
			if unknown && !m.fuse {
				out = append(out, m.unknown)
			}
			unknown = true
		}
	}
	if unknown {
		out = append(out, m.unknown)
	}
	return out
}

// inBytes are the tokens of a text's bytes, if the vocabulary has them all.
func inBytes(vocab map[string]int32, s string) (out []int32, ok bool) {
	for i := range len(s) {
		id, ok := vocab[fmt.Sprintf("<0x%02X>", s[i])]
		if !ok {
			return nil, false
		}
		out = append(out, id)
	}
	return out, true
}

// pair is two neighbours that can be merged: the symbol at left and the next.
type pair struct {
	merge
	left int
	of   [2]int32 // what they were when the pair was found
}

type pairs []pair

func (p pairs) Len() int { return len(p) }
func (p pairs) Less(i, j int) bool {
	return p[i].rank < p[j].rank || p[i].rank == p[j].rank && p[i].left < p[j].left
}
func (p pairs) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *pairs) Push(x any)   { *p = append(*p, x.(pair)) }
func (p *pairs) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

// merged merges symbols until no pair is left.
func (m *bpe) merged(ids []int32) []int32 {
	n := len(ids)
	next, before := make([]int, n), make([]int, n)
	for i := range ids {
		next[i], before[i] = i+1, i-1
	}
	var queue pairs
	find := func(i int) {
		if i < 0 || next[i] >= n {
			return
		}
		of := [2]int32{ids[i], ids[next[i]]}
		if x, ok := m.merges[of]; ok {
			heap.Push(&queue, pair{x, i, of})
		}
	}
	for i := range ids {
		find(i)
	}
	for len(queue) > 0 {
		p := heap.Pop(&queue).(pair)
		i := p.left
		if ids[i] < 0 || next[i] >= n || [2]int32{ids[i], ids[next[i]]} != p.of {
			continue // one of them is part of another merge by now
		}
		gone := next[i]
		ids[i], ids[gone] = p.id, -1
		if next[i] = next[gone]; next[i] < n {
			before[next[i]] = i
		}
		find(before[i])
		find(i)
	}
	out := ids[:0]
	for _, id := range ids {
		if id >= 0 {
			out = append(out, id)
		}
	}
	return out
}

func readBPE(at string, raw json.RawMessage) (model, map[string]int32, int32, error) {
	x, err := decode[struct {
		Vocab     map[string]int32
		Merges    []json.RawMessage
		Dropout   *float64
		Unknown   *string `json:"unk_token"`
		GoesOn    *string `json:"continuing_subword_prefix"`
		Ends      *string `json:"end_of_word_suffix"`
		Fuse      bool    `json:"fuse_unk"`
		Bytes     bool    `json:"byte_fallback"`
		WholeWord bool    `json:"ignore_merges"`
	}](at, raw)
	if err != nil {
		return nil, nil, -1, err
	}
	bad := func(format string, a ...any) (model, map[string]int32, int32, error) {
		return nil, nil, -1, fmt.Errorf("%s.%s", at, fmt.Sprintf(format, a...))
	}
	if x.Dropout != nil && *x.Dropout != 0 {
		return bad("dropout: %v; tokens that are drawn by chance are not had here: want null", *x.Dropout)
	}
	m := &bpe{vocab: x.Vocab, merges: make(map[[2]int32]merge, len(x.Merges)), unknown: -1, fuse: x.Fuse, bytes: x.Bytes, wholeWord: x.WholeWord}
	if x.GoesOn != nil {
		m.goesOn = *x.GoesOn
	}
	if x.Ends != nil {
		m.ends = *x.Ends
	}
	if x.Unknown != nil {
		id, ok := x.Vocab[*x.Unknown]
		if !ok {
			return bad("unk_token: %q is not in the vocabulary", *x.Unknown)
		}
		m.unknown = id
	}
	for rank, raw := range x.Merges {
		var of []string
		if json.Unmarshal(raw, &of) != nil {
			var line string
			if err := json.Unmarshal(raw, &line); err != nil {
				return bad("merges[%d]: neither a text nor a pair of texts", rank)
			}
			of = strings.Split(line, " ")
		}
		if len(of) != 2 {
			return bad("merges[%d]: %q are %d texts; want two", rank, of, len(of))
		}
		a, okA := x.Vocab[of[0]]
		b, okB := x.Vocab[of[1]]
		if !okA || !okB || len(of[1]) < len(m.goesOn) {
			return bad("merges[%d]: %q and %q are not both in the vocabulary", rank, of[0], of[1])
		}
		id, ok := x.Vocab[of[0]+of[1][len(m.goesOn):]]
		if !ok {
			return bad("merges[%d]: %q and %q make %q, which is not in the vocabulary", rank, of[0], of[1], of[0]+of[1][len(m.goesOn):])
		}
		m.merges[[2]int32{a, b}] = merge{int32(rank), id}
	}
	return m, x.Vocab, m.unknown, nil
}
