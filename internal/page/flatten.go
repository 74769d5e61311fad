package page

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// pair is a number of a line, by its key: time.ring for that of an object within.
type pair struct {
	key   string
	value float64
}

// flattener reads the numbers of JSON objects. Lines of metrics are many and short, and
// encoding/json would take longer over them than a page may take to open. What a line
// has beside numbers is passed over, but for one text, refused.
type flattener struct {
	b       []byte
	i       int
	path    []byte
	pairs   []pair
	refused string
	keys    map[string]string // so that a key is one string, however many lines have it
}

const (
	maxDepth = 6
	maxKeys  = 96 // of all lines: a mixture of many sets has many losses
)

// line reads b, which stays the caller's. The result lasts until the next call.
func (f *flattener) line(b []byte) (pairs []pair, refused string, ok bool) {
	if f.keys == nil {
		f.keys = map[string]string{}
	}
	f.b, f.i, f.path, f.pairs, f.refused = b, 0, f.path[:0], f.pairs[:0], ""
	f.space()
	if !f.object(0) {
		return nil, "", false
	}
	f.space()
	return f.pairs, f.refused, f.i == len(b)
}

func (f *flattener) space() {
	for f.i < len(f.b) && (f.b[f.i] == ' ' || f.b[f.i] == '\t' || f.b[f.i] == '\r') {
		f.i++
	}
}

func (f *flattener) take(c byte) bool {
	f.space()
	if f.i < len(f.b) && f.b[f.i] == c {
		f.i++
		return true
	}
	return false
}

// object reads one whose keys go behind what f.path holds.
func (f *flattener) object(depth int) bool {
	if depth > maxDepth || !f.take('{') {
		return false
	}
	if f.take('}') {
		return true
	}
	begin := len(f.path)
	for {
		key, ok := f.text()
		if !ok || !f.take(':') {
			return false
		}
		if begin > 0 {
			f.path = append(f.path, '.')
		}
		f.path = append(f.path, key...)
		if !f.value(depth, true) {
			return false
		}
		f.path = f.path[:begin]
		if f.take(',') {
			continue
		}
		return f.take('}')
	}
}

// value reads any value; numbers count where keep is set.
func (f *flattener) value(depth int, keep bool) bool {
	f.space()
	if f.i >= len(f.b) {
		return false
	}
	switch c := f.b[f.i]; {
	case c == '{':
		if !keep { // in a list: it has no key of its own
			n := len(f.pairs)
			ok := f.object(depth + 1)
			f.pairs = f.pairs[:n]
			return ok
		}
		return f.object(depth + 1)
	case c == '[':
		f.i++
		if depth > maxDepth {
			return false
		}
		if f.take(']') {
			return true
		}
		for f.value(depth+1, false) {
			if !f.take(',') {
				return f.take(']')
			}
		}
		return false
	case c == '"':
		s, ok := f.text()
		if ok && keep && string(f.path) == "refused" {
			f.refused = string(s)
		}
		return ok
	case c == '-' || c >= '0' && c <= '9':
		j := f.i + 1
		for j < len(f.b) && (f.b[j] >= '0' && f.b[j] <= '9' || f.b[j] == '.' || f.b[j] == 'e' || f.b[j] == 'E' || f.b[j] == '+' || f.b[j] == '-') {
			j++
		}
		v, err := strconv.ParseFloat(string(f.b[f.i:j]), 64)
		f.i = j
		if err != nil {
			return false
		}
		if keep {
			f.add(v)
		}
		return true
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(f.b[f.i:], []byte(word)) {
			f.i += len(word)
			return true
		}
	}
	return false
}

func (f *flattener) add(v float64) {
	key, known := f.keys[string(f.path)]
	if !known {
		if len(f.keys) >= maxKeys || len(f.path) > 200 {
			return
		}
		key = string(f.path)
		f.keys[key] = key
	}
	f.pairs = append(f.pairs, pair{key, v})
}

// text reads a string; escapes are undone where there are any.
func (f *flattener) text() ([]byte, bool) {
	f.space()
	if f.i >= len(f.b) || f.b[f.i] != '"' {
		return nil, false
	}
	begin, plain := f.i, true
	for f.i++; f.i < len(f.b); f.i++ {
		switch f.b[f.i] {
		case '\\':
			plain = false
			f.i++
		case '"':
			f.i++
			if plain {
				return f.b[begin+1 : f.i-1], true
			}
			s, ok := unquote(f.b[begin:f.i])
			return s, ok
		}
	}
	return nil, false
}

// unquote undoes the escapes of a JSON string.
func unquote(b []byte) ([]byte, bool) {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, false
	}
	return []byte(s), true
}
