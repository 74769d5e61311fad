package limits

import (
	"strings"
	"testing"
)

func TestIsName(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "w0": true, "A-b_9": true, strings.Repeat("x", Name): true,
		"": false, "a b": false, "a.b": false, "a*": false, ">": false, "ä": false, "a\n": false, "\xff": false, strings.Repeat("x", Name+1): false,
	} {
		if IsName(s) != want {
			t.Errorf("%q is a name: %v, want %v", s, !want, want)
		}
	}
}
