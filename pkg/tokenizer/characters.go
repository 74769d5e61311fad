package tokenizer

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// character reads one character or one escape that stands for a class of them; one
// is that character, or -1.
func (c *compiler) character(fold bool) (is func(rune) bool, one rune, err error) {
	r, n := utf8.DecodeRuneInString(c.rest)
	c.rest = c.rest[n:]
	if r != '\\' {
		return exactly(r, fold), r, nil
	}
	if c.rest == "" {
		return nil, 0, errors.New("ends with a backslash")
	}
	r, n = utf8.DecodeRuneInString(c.rest)
	c.rest = c.rest[n:]
	not := func(f func(rune) bool) func(rune) bool { return func(r rune) bool { return !f(r) } }
	switch r {
	case 's':
		return isSpace, -1, nil
	case 'S':
		return not(isSpace), -1, nil
	case 'd':
		return unicode.IsDigit, -1, nil
	case 'D':
		return not(unicode.IsDigit), -1, nil
	case 'w':
		return isPatternWord, -1, nil
	case 'W':
		return not(isPatternWord), -1, nil
	case 'n':
		r = '\n'
	case 'r':
		r = '\r'
	case 't':
		r = '\t'
	case 'f':
		r = '\f'
	case 'v':
		r = '\v'
	case 'a':
		r = '\a'
	case 'e':
		r = 0x1b
	case 'p', 'P':
		m := property.FindStringSubmatch(c.rest)
		if m == nil {
			return nil, 0, fmt.Errorf("\\%c without a {property}", r)
		}
		c.rest = c.rest[len(m[0]):]
		name := m[2]
		var table *unicode.RangeTable
		for _, tables := range []map[string]*unicode.RangeTable{unicode.Categories, unicode.Scripts, unicode.Properties} {
			if table = tables[name]; table != nil {
				break
			}
		}
		if table == nil {
			return nil, 0, fmt.Errorf("\\%c{%s}: no such category or script of Unicode", r, name)
		}
		is = func(r rune) bool { return unicode.Is(table, r) }
		if (r == 'P') != (m[1] != "") {
			is = not(is)
		}
		return is, -1, nil
	case 'x', 'u':
		m := hexes.FindStringSubmatch(c.rest)
		if r == 'u' {
			m = hexes4.FindStringSubmatch(c.rest)
		}
		if m == nil {
			return nil, 0, fmt.Errorf("\\%c without a number", r)
		}
		c.rest = c.rest[len(m[0]):]
		v, _ := strconv.ParseUint(m[1]+m[2], 16, 32)
		if v > unicode.MaxRune {
			return nil, 0, fmt.Errorf("\\%c%s is no character", r, m[0])
		}
		r = rune(v)
	default:
		if r < 0x80 && isWord(r) {
			return nil, 0, fmt.Errorf("\\%c is not read here", r)
		}
	}
	return exactly(r, fold), r, nil
}

var (
	property = regexp.MustCompile(`^\{(\^?)([A-Za-z_]+)\}`)
	hexes    = regexp.MustCompile(`^(?:\{([0-9A-Fa-f]{1,8})\}|([0-9A-Fa-f]{2}))`)
	hexes4   = regexp.MustCompile(`^([0-9A-Fa-f]{4})()`)
)

// exactly is one character, or with fold all that differ from it in case alone.
func exactly(want rune, fold bool) func(rune) bool {
	return between(want, want, fold)
}

func between(lo, hi rune, fold bool) func(rune) bool {
	if !fold {
		return func(r rune) bool { return r >= lo && r <= hi }
	}
	return func(r rune) bool {
		if r >= lo && r <= hi {
			return true
		}
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			if f >= lo && f <= hi {
				return true
			}
		}
		return false
	}
}

// class reads the rest of a [class].
func (c *compiler) class(fold bool, deep int) (func(rune) bool, error) {
	if deep > maxNesting {
		return nil, fmt.Errorf("classes within more than %d others", maxNesting)
	}
	neg := strings.HasPrefix(c.rest, "^")
	if neg {
		c.rest = c.rest[1:]
	}
	var any []func(rune) bool
	for first := true; ; first = false {
		switch {
		case c.rest == "":
			return nil, errors.New("a class without its ]")
		case strings.HasPrefix(c.rest, "&&"), strings.HasPrefix(c.rest, "[:"):
			return nil, fmt.Errorf("%q in a class is not read here", c.rest[:2])
		case c.rest[0] == ']' && !first:
			c.rest = c.rest[1:]
			return func(r rune) bool {
				for _, is := range any {
					if is(r) {
						return !neg
					}
				}
				return neg
			}, nil
		case c.rest[0] == '[':
			c.rest = c.rest[1:]
			is, err := c.class(fold, deep+1)
			if err != nil {
				return nil, err
			}
			any = append(any, is)
			continue
		}
		is, lo, err := c.character(fold)
		if err != nil {
			return nil, err
		}
		if lo >= 0 && len(c.rest) > 1 && c.rest[0] == '-' && c.rest[1] != ']' {
			c.rest = c.rest[1:]
			_, hi, err := c.character(fold)
			if err != nil {
				return nil, err
			}
			if hi < lo {
				return nil, fmt.Errorf("a range from %q to %q", lo, hi)
			}
			is = between(lo, hi, fold)
		}
		any = append(any, is)
	}
}
