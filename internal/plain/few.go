package plain

import (
	"fmt"
	"strings"
)

// Few lists at most most of some words, and says how many more there are.
func Few(words []string, most int) string {
	if n := len(words) - most; n > 0 {
		return fmt.Sprintf("%s, and %d more", strings.Join(words[:most], ", "), n)
	}
	return strings.Join(words, ", ")
}
