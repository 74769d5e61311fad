package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vlaring/vlaring/internal/regular"
)

// The file of data.wordings is JSON: for each instruction, as the data has it, other
// wordings of it, or those that training shows instead of it:
//
//	{"open the drawer": ["pull the drawer open", "slide the drawer out"],
//	 "task 12": {"instead": ["put the bowl on the plate", "set the bowl down on the plate"]}}

// wordingsForm is what the file is to be, for messages.
const wordingsForm = `JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}`

const (
	maxWordingsFile = 64 << 20
	maxWordings     = 1000 // of one instruction
	maxWording      = 1000 // characters of one
)

// wordings are what a file says.
type wordings struct {
	path, name, sum string // the file, its last part, and the SHA-256 of its bytes, in hex
	order           []string
	of              map[string]saying
}

// saying are the wordings of one instruction.
type saying struct {
	line    int // of the entry, from 1
	instead bool
	list    []string
}

// readWordings reads and checks a file. Errors name line and column.
func readWordings(path string) (*wordings, error) {
	b, err := regular.Read(path, maxWordingsFile)
	if err != nil {
		return nil, err
	}
	return parseWordings(path, b)
}

// parseWordings checks what a file has in it.
func parseWordings(path string, b []byte) (*wordings, error) {
	sum := sha256.Sum256(b)
	w := &wordings{path: path, name: filepath.Base(path), sum: hex.EncodeToString(sum[:]), of: map[string]saying{}}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	p := &wordingsParser{w: w, b: b, d: json.NewDecoder(bytes.NewReader(b))}
	if at := notUTF8(b); at >= 0 {
		return nil, p.errorAt(at, "is not UTF-8; want %s in UTF-8", wordingsForm)
	}
	var all json.RawMessage
	var bad *json.SyntaxError
	switch err := json.Unmarshal(b, &all); {
	case errors.As(err, &bad) && int(bad.Offset) >= len(b) && strings.HasPrefix(bad.Error(), "unexpected end"):
		return nil, p.errorAt(len(b), "ends too early; want %s", wordingsForm)
	case errors.As(err, &bad):
		return nil, p.errorAt(int(bad.Offset)-1, "is not JSON: %v; want %s", err, wordingsForm)
	case err != nil:
		return nil, fmt.Errorf("%s: %w; want %s", path, err, wordingsForm)
	}
	if err := p.file(); err != nil {
		return nil, err
	}
	return w, nil
}

// notUTF8 is the first byte that is none; -1: all are.
func notUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n < 2 {
			return i
		}
		i += n
	}
	return -1
}

// wordingsParser goes through a file that is JSON token by token, so that it knows where
// each is.
type wordingsParser struct {
	w *wordings
	b []byte
	d *json.Decoder

	lines, upTo int // line ends before byte upTo, where line has counted to
}

// errorAt is an error at a byte of the file, with line and column, in characters, from 1.
func (p *wordingsParser) errorAt(at int, format string, args ...any) error {
	before := p.b[:min(max(at, 0), len(p.b))]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return fmt.Errorf("%s:%d:%d: %s", p.w.path, p.line(at), utf8.RuneCount(line)+1, fmt.Sprintf(format, args...))
}

// line is the line of a byte. It counts on from where it was asked for last: each entry asks.
func (p *wordingsParser) line(at int) int {
	if at = min(max(at, 0), len(p.b)); at < p.upTo {
		p.lines, p.upTo = 0, 0
	}
	p.lines += bytes.Count(p.b[p.upTo:at], []byte("\n"))
	p.upTo = at
	return p.lines + 1
}

// next is the next token and where it begins.
func (p *wordingsParser) next() (t json.Token, at int, err error) {
	at = int(p.d.InputOffset())
	for at < len(p.b) && strings.IndexByte(" \t\r\n,:", p.b[at]) >= 0 {
		at++
	}
	if t, err = p.d.Token(); err != nil {
		return nil, at, p.errorAt(at, "is not JSON: %v; want %s", err, wordingsForm)
	}
	return t, at, nil
}

func (p *wordingsParser) file() error {
	t, at, err := p.next()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return p.errorAt(at, "is %s; want %s", shape(t), wordingsForm)
	}
	for p.d.More() {
		if err := p.entry(); err != nil {
			return err
		}
	}
	if len(p.w.of) == 0 {
		return fmt.Errorf("%s has no instruction in it; want %s", p.w.path, wordingsForm)
	}
	return nil
}

// entry reads an instruction and its wordings.
func (p *wordingsParser) entry() error {
	t, at, err := p.next()
	if err != nil {
		return err
	}
	text, _ := t.(string) // as all keys are
	if was, again := p.w.of[text]; again {
		return p.errorAt(at, "%s has an entry in line %d already: put all of its wordings into one", quoted(text), was.line)
	}
	s := saying{line: p.line(at)}
	open, from, err := p.next()
	if err != nil {
		return err
	}
	if open == json.Delim('{') {
		key, at, err := p.next()
		if err != nil {
			return err
		}
		if key != "instead" {
			return p.errorAt(at, "%s has %s; want a list of wordings, or {\"instead\": a list} where the instruction itself is not to be shown", quoted(text), shape(key))
		}
		s.instead = true
		if open, from, err = p.next(); err != nil {
			return err
		}
	}
	if open != json.Delim('[') {
		return p.errorAt(from, "the wordings of %s are %s; want a list, such as [\"pull the drawer open\"]", quoted(text), shape(open))
	}
	if s.list, err = p.list(text); err != nil {
		return err
	}
	if len(s.list) == 0 {
		return p.errorAt(from, "the wordings of %s are an empty list: give it one, or take the entry out, and it is shown as it is", quoted(text))
	}
	if s.instead {
		end, at, err := p.next()
		if err != nil {
			return err
		}
		if end != json.Delim('}') {
			return p.errorAt(at, "%s has %s behind \"instead\"; want that alone", quoted(text), shape(end))
		}
	}
	p.w.order, p.w.of[text] = append(p.w.order, text), s
	return nil
}

// list reads wordings up to the end of their list.
func (p *wordingsParser) list(text string) (list []string, err error) {
	seen := map[string]bool{}
	for {
		t, at, err := p.next()
		if err != nil {
			return nil, err
		}
		if t == json.Delim(']') {
			return list, nil
		}
		s, ok := t.(string)
		switch {
		case !ok:
			return nil, p.errorAt(at, "a wording of %s is %s; want a text", quoted(text), shape(t))
		case strings.TrimSpace(s) == "":
			return nil, p.errorAt(at, "a wording of %s is empty; want words", quoted(text))
		case utf8.RuneCountInString(s) > maxWording:
			return nil, p.errorAt(at, "a wording of %s has %d characters; want at most %d", quoted(text), utf8.RuneCountInString(s), maxWording)
		case seen[s]:
			return nil, p.errorAt(at, "%s stands twice among the wordings of %s: each is as likely as the others, so give it once", quoted(s), quoted(text))
		case len(list) == maxWordings:
			return nil, p.errorAt(at, "%s has more than %d wordings", quoted(text), maxWordings)
		}
		seen[s] = true
		list = append(list, s)
	}
}

// quoted is a text in a message.
func quoted(s string) string { return fmt.Sprintf("%.60q", s) }

// shape says what a token is, for messages.
func shape(t json.Token) string {
	switch v := t.(type) {
	case json.Delim:
		return map[json.Delim]string{'[': "a list", '{': "an object", ']': "the end of a list", '}': "the end of an object"}[v]
	case string:
		return quoted(v)
	case nil:
		return "null"
	}
	return fmt.Sprint(t)
}

// say returns the wordings of an instruction that the data has in those of own, the plain
// one first: what evaluation shows, and one of those that training does.
func (w *wordings) say(own ...string) []string {
	if w == nil {
		return own
	}
	of, ok := w.of[own[0]]
	if ok && of.instead {
		return of.list
	}
	out := own
	for _, s := range of.list {
		if !slices.Contains(own, s) {
			out = append(slices.Clip(out), s)
		}
	}
	return out
}
