package plain

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":             "",
		"worker-3.pod": "worker-3.pod",
		"Müller’s Gerät 机器人 👩‍💻":      "Müller’s Gerät 机器人 👩‍💻",
		"host\n12:00:00 ERROR forged": "host; 12:00:00 ERROR forged",
		"want:\n  a\n\n  b\r\n":       "want: a; b",
		"\x1b[2J\x1b]0;title\x07":     "�[2J�]0;title�",
		"a\tb\x00c\x7f":               "a b�c�",
		"bad \xff byte":               "bad � byte",
		"evil\u202etxt.exe":           "evil�txt.exe",
		"two\u2028lines":              "two; lines",
		"\u009b31m":                   "�31m",
	} {
		if got := Line(in, 100); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Line("ää"+strings.Repeat("x", 100), 3); got != "ä…" {
		t.Errorf("a cut in the middle of a letter gives %q", got)
	}
}

func TestText(t *testing.T) {
	if got, want := Text("two\n\tlines\x1b[1m\r\nand \x08three"), "two\n\tlines�[1m\nand �three"; got != want {
		t.Errorf("Text gives %q, want %q", got, want)
	}
	if s := "file.yaml:3: x\n  and\ty\n"; Text(s) != s {
		t.Errorf("Text changes %q to %q", s, Text(s))
	}
}

// Whatever comes in, nothing that a terminal obeys comes out.
func FuzzLine(f *testing.F) {
	f.Add("a\n\x1b[31m\xff\u202e\tb", 10)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = min(max(most, 0), 1<<16)
		got := Line(s, most)
		if !utf8.ValidString(got) || strings.IndexFunc(got, unicode.IsControl) >= 0 || len(got) > most+len("…") {
			t.Errorf("Line(%q, %d) = %q", s, most, got)
		}
		if again := Line(got, most+len("…")); again != got {
			t.Errorf("Line(%q) changes it again, to %q", got, again)
		}
	})
}
