package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// unigram writes a text with the tokens whose scores (logarithms of likelihoods)
// have the largest sum, found by Viterbi's way from left to right. Of equal sums
// the one that was found first stays: tokens are tried from the leftmost beginning
// on, the shortest first.
type unigram struct {
	vocab   map[string]int32
	scores  []float64
	sorted  []int32 // ids by their text
	texts   []string
	unknown int32 // negative: none
	penalty float64
	bytes   bool
}

// unknownPenalty is how much worse than the worst token an unknown character is.
const unknownPenalty = 10

func (m *unigram) append(ids []int32, s string) ([]int32, error) {
	type node struct {
		score float64
		from  int // -1: not reached
		id    int32
	}
	best := make([]node, len(s)+1)
	for i := range best {
		best[i].from = -1
	}
	for at := 0; at < len(s); {
		here := best[at].score
		_, n := utf8.DecodeRuneInString(s[at:])
		alone := false
		m.prefixes(s[at:], func(id int32) {
			k := len(m.texts[id])
			to := &best[at+k]
			if score := m.scores[id] + here; to.from < 0 || score > to.score {
				*to = node{score, at, id}
			}
			alone = alone || k == n
		})
		if !alone {
			to := &best[at+n]
			if score := m.penalty + here; to.from < 0 || score > to.score {
				if m.unknown < 0 {
					return ids, fmt.Errorf("%q is not in the vocabulary, which has no token for that", s[at:at+n])
				}
				*to = node{score, at, m.unknown}
			}
		}
		at += n
	}
	var parts [][2]int // from behind; unknown ones beside each other are one
	fused := false
	for end := len(s); end > 0; {
		x := best[end]
		unknown := x.id == m.unknown
		if n := len(parts); unknown && fused {
			parts[n-1][0] = x.from
		} else {
			parts = append(parts, [2]int{x.from, end})
		}
		fused = unknown
		end = x.from
	}
	slices.Reverse(parts)
	for _, p := range parts {
		text := s[p[0]:p[1]]
		if id, ok := m.vocab[text]; ok {
			ids = append(ids, id)
			continue
		}
		if m.bytes {
			if b, ok := inBytes(m.vocab, text); ok {
				ids = append(ids, b...)
				continue
			}
		}
		ids = append(ids, m.unknown)
	}
	return ids, nil
}

// prefixes calls f with each token that s begins with, the shortest first.
func (m *unigram) prefixes(s string, f func(id int32)) {
	lo, hi := 0, len(m.sorted)
	for k := range len(s) {
		// those of [lo, hi) whose byte k is s[k]; all have the k bytes before it
		part := m.sorted[lo:hi]
		byteAt := func(i int) int {
			if t := m.texts[part[i]]; len(t) > k {
				return int(t[k])
			}
			return -1
		}
		c := int(s[k])
		from := sort.Search(len(part), func(i int) bool { return byteAt(i) >= c })
		to := from + sort.Search(len(part)-from, func(i int) bool { return byteAt(from+i) > c })
		if from == to {
			return
		}
		lo, hi = lo+from, lo+to
		if first := m.sorted[lo]; len(m.texts[first]) == k+1 {
			f(m.vocab[m.texts[first]])
		}
	}
}

func readUnigram(at string, raw json.RawMessage) (model, map[string]int32, int32, error) {
	x, err := decode[struct {
		Vocab   []json.RawMessage
		Unknown *int32 `json:"unk_id"`
		Bytes   bool   `json:"byte_fallback"`
	}](at, raw)
	if err != nil {
		return nil, nil, -1, err
	}
	m := &unigram{vocab: make(map[string]int32, len(x.Vocab)), unknown: -1, bytes: x.Bytes}
	least := math.Inf(1)
	for i, raw := range x.Vocab {
		var two []json.RawMessage
		var text string
		var score float64
		if json.Unmarshal(raw, &two) != nil || len(two) != 2 || json.Unmarshal(two[0], &text) != nil || json.Unmarshal(two[1], &score) != nil {
			return nil, nil, -1, fmt.Errorf("%s.vocab[%d]: want a text and its score", at, i)
		}
		m.texts, m.scores = append(m.texts, text), append(m.scores, score)
		m.vocab[text] = int32(i)
		if text != "" {
			m.sorted = append(m.sorted, int32(i))
		}
		least = min(least, score)
	}
	if x.Unknown != nil {
		if *x.Unknown < 0 || int(*x.Unknown) >= len(x.Vocab) {
			return nil, nil, -1, fmt.Errorf("%s.unk_id: %d; the vocabulary has 0 to %d", at, *x.Unknown, len(x.Vocab)-1)
		}
		m.unknown = *x.Unknown
	}
	m.penalty = least - unknownPenalty
	slices.SortStableFunc(m.sorted, func(a, b int32) int { return strings.Compare(m.texts[a], m.texts[b]) })
	return m, m.vocab, m.unknown, nil
}
