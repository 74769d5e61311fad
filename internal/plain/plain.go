// Package plain makes texts of others fit for a terminal and a log: without
// control characters, escape sequences and the invisible characters that turn
// the direction of what follows, and of bounded length. A name from the network
// or from a file may hold any bytes. It also has the one way in which texts give
// a number of bytes.
package plain

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line is s as a part of one line, of most bytes at most; what is cut off shows
// as an ellipsis. Lines are joined by semicolons.
func Line(s string, most int) string {
	if clean(s) && len(s) <= most {
		return s
	}
	var b strings.Builder
	for line := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' }) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if so := b.String(); strings.HasSuffix(so, ":") {
			b.WriteByte(' ')
		} else if so != "" {
			b.WriteString("; ")
		}
		write(&b, line)
		if b.Len() > most {
			break
		}
	}
	out := b.String()
	if len(out) <= most {
		return out
	}
	for most > 0 && !utf8.RuneStart(out[most]) {
		most--
	}
	return out[:most] + "…"
}

// Text is s with its lines and tabs, and without the rest.
func Text(s string) string {
	if clean(strings.NewReplacer("\n", "", "\t", "").Replace(s)) {
		return s
	}
	var b strings.Builder
	for i, line := range strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		for k, part := range strings.Split(line, "\t") {
			if k > 0 {
				b.WriteByte('\t')
			}
			write(&b, part)
		}
	}
	return b.String()
}

func clean(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, hidden) < 0
}

// hidden says whether a terminal would obey r rather than show it.
func hidden(r rune) bool {
	switch r {
	case '\u200d', '\u200c', '\ufe0f': // join letters and pictures, in many scripts
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

func write(b *strings.Builder, s string) {
	for _, r := range s { // bytes that are no UTF-8 come as U+FFFD
		switch {
		case r == '\t':
			r = ' '
		case hidden(r):
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
}

// Bytes is a number of bytes in the largest binary unit that it fills.
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
