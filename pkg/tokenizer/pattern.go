package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A pattern of a tokenizer.json is written for Oniguruma: it looks ahead, which
// package regexp does not, and its \s, \d and \w are Unicode's. This one takes what
// such files have (no groups are captured, nothing is referred to) and finds the
// match that backtracking finds: the first alternative that leads to one, not the
// longest. What was tried in vain at a place is not tried there again, so the work
// grows with pattern times text.

// The most that a pattern may have.
const (
	maxPattern = 1 << 14 // bytes
	maxProgram = 1 << 14 // instructions, repeats written out
	maxRepeat  = 1 << 10
	maxNesting = 100
)

type opcode uint8

const (
	opRune   opcode = iota // a character of is, then next
	opFork                 // x, else y
	opJump                 // x
	opLook                 // program x matches here (or not, neg), then next: y
	opAtomic               // the first match of program x, and no other, then y
	opAssert               // holds here
	opDone
)

type instruction struct {
	op   opcode
	is   func(rune) bool
	x, y int
	neg  bool
	at   func(s string, i int) bool
}

// pattern is a compiled one, or with literal set a text that is looked for.
type pattern struct {
	literal string
	prog    []instruction
}

// readPattern reads {"String": …} or {"Regex": …}, or a text.
func readPattern(at string, raw json.RawMessage) (*pattern, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return &pattern{literal: text}, nil
	}
	x, err := decode[struct{ String, Regex *string }](at, raw)
	switch {
	case err != nil:
		return nil, err
	case x.String != nil:
		return &pattern{literal: *x.String}, nil
	case x.Regex == nil:
		return nil, fmt.Errorf("%s: neither a String nor a Regex", at)
	}
	p, err := newPattern(*x.Regex)
	if err != nil {
		return nil, fmt.Errorf("%s.Regex %q: %w", at, *x.Regex, err)
	}
	return p, nil
}

func mustPattern(text string) *pattern {
	p, err := newPattern(text)
	if err != nil {
		panic(err)
	}
	return p
}

// runs are the matches in s and what lies between them.
func (p *pattern) runs(s string) (out []run) {
	done := 0
	add := func(lo, hi int) {
		if done < lo {
			out = append(out, run{done, lo, false})
		}
		out = append(out, run{lo, hi, true})
		done = hi
	}
	if p.prog == nil {
		for p.literal != "" {
			i := strings.Index(s[done:], p.literal)
			if i < 0 {
				break
			}
			add(done+i, done+i+len(p.literal))
		}
	} else {
		m := matching{prog: p.prog, s: s}
		for i, last := 0, -1; i <= len(s); {
			hi := m.match(0, i)
			if hi > i || hi == i && hi != last { // nothing is no match right behind another
				add(i, hi)
				last = hi
			}
			if hi > i {
				i = hi
				continue
			}
			_, n := utf8.DecodeRuneInString(s[i:])
			i += max(n, 1)
		}
	}
	if done < len(s) {
		out = append(out, run{done, len(s), false})
	}
	return out
}

// matching is one search through a text.
type matching struct {
	prog []instruction
	s    string
}

// match returns the end of the first match of the program at pc that begins at i;
// -1: there is none.
func (m *matching) match(pc, i int) int {
	type state struct{ pc, i int }
	stack := []state{{pc, i}}
	tried := map[state]bool{} // forks only: all loops go through one
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for alive := true; alive; {
			switch x := &m.prog[at.pc]; x.op {
			case opDone:
				return at.i
			case opJump:
				at.pc = x.x
			case opRune:
				r, n := utf8.DecodeRuneInString(m.s[at.i:])
				if n == 0 || !x.is(r) {
					alive = false
					break
				}
				at.i += n
				at.pc++
			case opAssert:
				if alive = x.at(m.s, at.i); alive {
					at.pc++
				}
			case opLook:
				if alive = m.match(x.x, at.i) >= 0 != x.neg; alive {
					at.pc = x.y
				}
			case opAtomic:
				if at.i = m.match(x.x, at.i); at.i < 0 {
					alive = false
					break
				}
				at.pc = x.y
			case opFork:
				if tried[at] {
					alive = false
					break
				}
				tried[at] = true
				stack = append(stack, state{x.y, at.i})
				at.pc = x.x
			}
		}
	}
	return -1
}

// newPattern compiles a pattern.
func newPattern(text string) (*pattern, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("%d bytes; a pattern may have %d", len(text), maxPattern)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("is no UTF-8")
	}
	c := &compiler{rest: text}
	if err := c.alternatives(false, 0); err != nil {
		return nil, err
	}
	if c.rest != "" {
		return nil, fmt.Errorf("a %q too many", c.rest[:1])
	}
	c.emit(instruction{op: opDone})
	return &pattern{prog: c.prog}, nil
}

// compiler reads a pattern and appends to its program.
type compiler struct {
	rest string
	prog []instruction
}

func (c *compiler) emit(x instruction) { c.prog = append(c.prog, x) }

// insert makes room for n instructions at i. What stands behind points nowhere
// before i, and what stands before and points at i is to point at what comes there.
func (c *compiler) insert(i, n int) {
	c.prog = slices.Insert(c.prog, i, make([]instruction, n)...)
	for k := i + n; k < len(c.prog); k++ {
		if x := &c.prog[k]; x.jumps() {
			x.x, x.y = x.x+n, x.y+n
		}
	}
}

// jumps says that x and y are places of the program.
func (x instruction) jumps() bool {
	return x.op == opFork || x.op == opJump || x.op == opLook || x.op == opAtomic
}

func (c *compiler) alternatives(fold bool, deep int) error {
	if deep > maxNesting {
		return fmt.Errorf("groups within more than %d others", maxNesting)
	}
	var ends []int
	for {
		from := len(c.prog)
		if err := c.sequence(fold, deep); err != nil {
			return err
		}
		if !strings.HasPrefix(c.rest, "|") {
			for _, e := range ends {
				c.prog[e].x = len(c.prog)
			}
			return nil
		}
		c.rest = c.rest[1:]
		c.insert(from, 1)
		ends = append(ends, len(c.prog))
		c.emit(instruction{op: opJump})
		c.prog[from] = instruction{op: opFork, x: from + 1, y: len(c.prog)}
	}
}

func (c *compiler) sequence(fold bool, deep int) error {
	for c.rest != "" && c.rest[0] != '|' && c.rest[0] != ')' {
		if strings.HasPrefix(c.rest, "(?i)") { // for what follows in this group
			c.rest, fold = c.rest[4:], true
			continue
		}
		from := len(c.prog)
		if err := c.atom(fold, deep); err != nil {
			return err
		}
		if err := c.repeat(from); err != nil {
			return err
		}
		if len(c.prog) > maxProgram {
			return fmt.Errorf("more than %d steps, repeats written out", maxProgram)
		}
	}
	return nil
}

// repeat applies what follows the atom that begins at from: *, +, ?, {n,m}.
func (c *compiler) repeat(from int) error {
	for c.rest != "" {
		least, most := 0, -1
		counted := false
		switch c.rest[0] {
		case '*':
		case '+':
			least = 1
		case '?':
			most = 1
		case '{':
			m := counts.FindStringSubmatch(c.rest)
			if m == nil {
				return errors.New("a { that counts nothing; a plain one is \\{")
			}
			counted = true
			least, _ = strconv.Atoi(m[1])
			switch {
			case m[2] == "":
				most = least
			case m[3] != "":
				most, _ = strconv.Atoi(m[3])
			}
			if least > maxRepeat || most > maxRepeat || most >= 0 && most < least {
				return fmt.Errorf("%s: want counts that ascend, of at most %d", m[0], maxRepeat)
			}
			c.rest = c.rest[len(m[0])-1:]
		default:
			return nil
		}
		c.rest = c.rest[1:]
		lazy, possessive := strings.HasPrefix(c.rest, "?"), !counted && strings.HasPrefix(c.rest, "+")
		if lazy || possessive {
			c.rest = c.rest[1:]
		}
		if err := c.times(from, least, most, lazy); err != nil {
			return err
		}
		if possessive {
			c.enclose(from, instruction{op: opAtomic})
		}
	}
	return nil
}

var counts = regexp.MustCompile(`^\{([0-9]{1,5})(,([0-9]{0,5}))?\}`)

// times repeats the atom at from.
func (c *compiler) times(from, least, most int, lazy bool) error {
	atom := slices.Clone(c.prog[from:])
	c.prog = c.prog[:from]
	again := func() {
		d := len(c.prog) - from
		for _, x := range atom {
			if x.jumps() {
				x.x, x.y = x.x+d, x.y+d
			}
			c.emit(x)
		}
	}
	fork := func(in, out int) instruction {
		if lazy {
			in, out = out, in
		}
		return instruction{op: opFork, x: in, y: out}
	}
	if copies := max(least, most) + 1; copies*(len(atom)+1) > maxProgram {
		return fmt.Errorf("more than %d steps, repeats written out", maxProgram)
	}
	for range least {
		again()
	}
	if most < 0 {
		at := len(c.prog)
		c.emit(instruction{})
		again()
		c.emit(instruction{op: opJump, x: at})
		c.prog[at] = fork(at+1, len(c.prog))
		return nil
	}
	var forks []int
	for range most - least {
		forks = append(forks, len(c.prog))
		c.emit(instruction{})
		again()
	}
	for _, at := range forks {
		c.prog[at] = fork(at+1, len(c.prog))
	}
	return nil
}

// enclose makes a program of its own of what begins at from, under x.
func (c *compiler) enclose(from int, x instruction) {
	c.insert(from, 1)
	c.emit(instruction{op: opDone})
	x.x, x.y = from+1, len(c.prog)
	c.prog[from] = x
}

func (c *compiler) atom(fold bool, deep int) error {
	from := len(c.prog)
	for _, g := range []struct {
		begin string
		as    *instruction // nil: a group
	}{{"(?:", nil}, {"(?i:", nil}, {"(?=", &instruction{op: opLook}}, {"(?!", &instruction{op: opLook, neg: true}}, {"(?>", &instruction{op: opAtomic}}} {
		if !strings.HasPrefix(c.rest, g.begin) {
			continue
		}
		c.rest = c.rest[len(g.begin):]
		if err := c.group(fold || g.begin == "(?i:", deep); err != nil {
			return err
		}
		if g.as != nil {
			c.enclose(from, *g.as)
		}
		return nil
	}
	switch {
	case strings.HasPrefix(c.rest, "(?"):
		return fmt.Errorf("%q: of groups with a question mark only (?:, (?i:, (?i), (?=, (?! and (?> are read", c.rest[:min(len(c.rest), 4)])
	case c.rest[0] == '(':
		c.rest = c.rest[1:]
		return c.group(fold, deep)
	case c.rest[0] == '^':
		c.rest = c.rest[1:]
		c.emit(instruction{op: opAssert, at: func(s string, i int) bool { return i == 0 || s[i-1] == '\n' }})
		return nil
	case c.rest[0] == '$':
		c.rest = c.rest[1:]
		c.emit(instruction{op: opAssert, at: func(s string, i int) bool { return i == len(s) || s[i] == '\n' }})
		return nil
	case strings.ContainsRune("*+?{", rune(c.rest[0])):
		return fmt.Errorf("a %q with nothing to repeat", c.rest[:1])
	case c.rest[0] == '[':
		c.rest = c.rest[1:]
		is, err := c.class(fold, deep)
		if err == nil {
			c.emit(instruction{op: opRune, is: is})
		}
		return err
	case c.rest[0] == '.':
		c.rest = c.rest[1:]
		c.emit(instruction{op: opRune, is: func(r rune) bool { return r != '\n' }})
		return nil
	case c.rest[0] == '\\' && len(c.rest) > 1:
		if at := edges[c.rest[1]]; at != nil {
			c.rest = c.rest[2:]
			c.emit(instruction{op: opAssert, at: at})
			return nil
		}
	}
	is, _, err := c.character(fold)
	if err == nil {
		c.emit(instruction{op: opRune, is: is})
	}
	return err
}

func (c *compiler) group(fold bool, deep int) error {
	if err := c.alternatives(fold, deep+1); err != nil {
		return err
	}
	if !strings.HasPrefix(c.rest, ")") {
		return errors.New("a group without its end")
	}
	c.rest = c.rest[1:]
	return nil
}

// edges are the places that a letter behind a backslash stands for.
var edges = map[byte]func(s string, i int) bool{
	'A': func(_ string, i int) bool { return i == 0 },
	'z': func(s string, i int) bool { return i == len(s) },
	'b': wordEdge,
	'B': func(s string, i int) bool { return !wordEdge(s, i) },
}

func wordEdge(s string, i int) bool {
	a, n := utf8.DecodeLastRuneInString(s[:i])
	b, m := utf8.DecodeRuneInString(s[i:])
	return (n > 0 && isPatternWord(a)) != (m > 0 && isPatternWord(b))
}
