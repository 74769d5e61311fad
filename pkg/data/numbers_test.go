package data

import (
	"slices"
	"strings"
	"testing"
)

func TestTokenNumbers(t *testing.T) {
	for text, want := range map[string][]int32{"": nil, " ,": nil, "3 17,4": {3, 17, 4}, "0": {0}, "2147483647": {1<<31 - 1}} {
		if got, err := TokenNumbers(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"3 x", "-1", "1.5", "2147483648"} {
		if got, err := TokenNumbers(text); err == nil || !strings.Contains(err.Error(), "is no token number") {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}
