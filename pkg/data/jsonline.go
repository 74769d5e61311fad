package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The strict reader of a line that holds one JSON object. What Go's own decoder
// takes in silence changes numbers: null becomes 0, a key of another case or a
// second one of the same name wins. Here each is an error that says what to
// write. The grammar is that of JSON, and beside it the words that programs
// write in its place (NaN, Infinity), which are kept as they stand, so that
// whoever reads the value can name them.

// jsonMember is one key of an object with its value as it stands in the line.
type jsonMember struct {
	key   string
	value []byte
}

// errOpenLine is wrapped by errors about a line that ends inside its object.
var errOpenLine = errors.New("the line ends inside its JSON object")

const maxJSONDepth = 64

// parseJSONLine returns the members of the object that line holds, in order.
// No two have keys that are equal or differ in case alone.
func parseJSONLine(line []byte) ([]jsonMember, error) {
	if at := invalidUTF8(line); at >= 0 {
		return nil, fmt.Errorf("byte %d of the line is %02x, which is not UTF-8; save the file as UTF-8", at+1, line[at])
	}
	s := &jsonScanner{b: line}
	if s.space(); s.at < len(line) && line[s.at] == '[' {
		return nil, errors.New("a JSON list begins here, expected an object, which begins with {; write the list's objects one a line, as \"jq -c '.[]'\" does")
	}
	if s.at == len(line) || line[s.at] != '{' {
		return nil, s.expected("a JSON object, which begins with {")
	}
	s.at++
	var out []jsonMember
	folded := map[string]string{}
	for first := true; ; first = false {
		if s.space(); first && s.peek() == '}' {
			s.at++
			break
		}
		key, err := s.key()
		if err != nil {
			return nil, err
		}
		if was, ok := folded[strings.ToLower(key)]; ok && was == key {
			return nil, fmt.Errorf("the key %q stands twice; give it once", clipped(key))
		} else if ok {
			return nil, fmt.Errorf("the keys %q and %q differ in case alone; give one of them", clipped(was), clipped(key))
		}
		folded[strings.ToLower(key)] = key
		if s.space(); s.peek() != ':' {
			return nil, s.expected("a colon after the key %q", clipped(key))
		}
		s.at++
		s.space()
		from := s.at
		if err := s.skipValue(0); err != nil {
			return nil, fmt.Errorf("key %q: %w", clipped(key), err)
		}
		out = append(out, jsonMember{key, line[from:s.at]})
		s.space()
		if c := s.peek(); c == '}' {
			s.at++
			break
		} else if c != ',' {
			return nil, s.expected("a comma or } after the value of %q", clipped(key))
		}
		s.at++
		if s.space(); s.peek() == '}' {
			return nil, fmt.Errorf("column %d: a comma stands before }; leave it out", s.at)
		}
	}
	if s.space(); s.at < len(line) {
		if bytes.IndexByte(line[:s.at], '\r') >= 0 {
			return nil, errors.New("lines end in CR alone, as on an old Mac; have them end in LF, as \"tr '\\r' '\\n'\" does")
		}
		if rest := bytes.TrimSpace(line[s.at:]); len(rest) == 1 && rest[0] == ',' {
			return nil, errors.New("a comma stands behind the object's }; leave it out")
		}
		return nil, s.expected("the end of the line after the object's }; write one object a line")
	}
	return out, nil
}

// clipped is a name of the user's as a message has it: its beginning and end
// where it is longer than a line or two.
func clipped(name string) string {
	const head, tail = 140, 50
	r := []rune(name)
	if len(r) <= head+tail {
		return name
	}
	return string(r[:head]) + "…" + string(r[len(r)-tail:])
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// jsonScanner walks over a line.
type jsonScanner struct {
	b  []byte
	at int
}

// peek is the next byte, 0 at the end of the line.
func (s *jsonScanner) peek() byte {
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

func (s *jsonScanner) space() {
	for s.at < len(s.b) && strings.IndexByte(" \t\r\n", s.b[s.at]) >= 0 {
		s.at++
	}
}

// expected is the error of what stands at the scanner's place.
func (s *jsonScanner) expected(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if s.at >= len(s.b) {
		return fmt.Errorf("%w: expected %s", errOpenLine, what)
	}
	rest := []rune(string(s.b[s.at:min(len(s.b), s.at+64)]))
	return fmt.Errorf("column %d: expected %s; there stands %q", s.at+1, what, string(rest[:min(len(rest), 12)]))
}

// key reads a key.
func (s *jsonScanner) key() (string, error) {
	if s.peek() == '\'' {
		return "", fmt.Errorf("column %d: keys and texts stand in double quotes, not in single ones", s.at+1)
	}
	if s.peek() != '"' {
		return "", s.expected("a key in double quotes")
	}
	from := s.at
	if err := s.skipString(); err != nil {
		return "", err
	}
	return jsonText(s.b[from:s.at])
}

// skipValue passes over a value of any kind.
func (s *jsonScanner) skipValue(depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("more than %d lists and objects inside one another", maxJSONDepth)
	}
	switch c := s.peek(); c {
	case '"':
		return s.skipString()
	case '\'':
		return fmt.Errorf("column %d: keys and texts stand in double quotes, not in single ones", s.at+1)
	case '[', '{':
		end := map[byte]byte{'[': ']', '{': '}'}[c]
		s.at++
		if s.space(); s.peek() == end {
			s.at++
			return nil
		}
		for {
			if s.space(); c == '{' {
				if _, err := s.key(); err != nil {
					return err
				}
				if s.space(); s.peek() != ':' {
					return s.expected("a colon after the key")
				}
				s.at++
				s.space()
			}
			if err := s.skipValue(depth + 1); err != nil {
				return err
			}
			s.space()
			switch s.peek() {
			case end:
				s.at++
				return nil
			case ',':
				s.at++
			default:
				return s.expected("a comma or %c", end)
			}
		}
	}
	from := s.at
	for s.at < len(s.b) && strings.IndexByte(" \t\r\n,]}:[{\"", s.b[s.at]) < 0 {
		s.at++
	}
	if word := s.b[from:s.at]; len(word) > 0 && (notFinite(word) != "" || json.Valid(word)) {
		return nil
	} else if len(word) > 0 && s.at == len(s.b) {
		return fmt.Errorf("%w: its last word is %.20q", errOpenLine, word)
	}
	s.at = from
	return s.expected("a value: a number, a text in double quotes, a list, true, false or null")
}

// skipString passes over a text in double quotes.
func (s *jsonScanner) skipString() error {
	for i := s.at + 1; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '\\':
			i++
		case c == '"':
			s.at = i + 1
			return nil
		case c < 0x20:
			return fmt.Errorf("column %d: a control character in a text; write it as \\u%04x", i+1, c)
		}
	}
	return fmt.Errorf("%w: a text in quotes has no end", errOpenLine)
}

// notFinite is the usual name of a word that programs write for a number that
// is none, empty for any other.
func notFinite(word []byte) string {
	w := strings.ToLower(strings.TrimLeft(string(word), "+-"))
	switch w {
	case "nan":
		return "NaN"
	case "inf", "infinity":
		if bytes.HasPrefix(word, []byte("-")) {
			return "-Infinity"
		}
		return "Infinity"
	}
	return ""
}

// jsonKind says what a value is, with its article.
func jsonKind(v []byte) string {
	switch c := v[0]; {
	case c == '"':
		return "a text"
	case c == '[':
		return "a list"
	case c == '{':
		return "an object"
	case notFinite(v) != "":
		return notFinite(v)
	case c == 't' || c == 'f' || c == 'n':
		return string(v)
	}
	return "a number"
}

// jsonText decodes a text.
func jsonText(v []byte) (s string, err error) {
	if v[0] != '"' {
		return "", fmt.Errorf("it is %s, expected a text in double quotes", jsonKind(v))
	}
	if err := json.Unmarshal(v, &s); err != nil {
		return "", fmt.Errorf("the text %.40s: %w", v, err)
	}
	return s, nil
}

// jsonList returns the values of a list as they stand.
func jsonList(v []byte) (out [][]byte, err error) {
	if v[0] != '[' {
		return nil, fmt.Errorf("it is %s, expected a list", jsonKind(v))
	}
	s := &jsonScanner{b: v, at: 1}
	for s.space(); s.peek() != ']'; s.space() {
		from := s.at
		if err := s.skipValue(0); err != nil {
			return nil, err
		}
		out = append(out, v[from:s.at])
		if s.space(); s.peek() == ',' {
			s.at++
		}
	}
	return out, nil
}
