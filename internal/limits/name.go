package limits

import "strings"

// NameRune says whether r may stand in a name: of a job, of a worker, or of a
// token in a subject of the bus. These are the letters of ASCII, digits, '-' and '_'.
func NameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// IsName says whether s is a name: 1 to Name bytes of NameRune.
func IsName(s string) bool {
	return s != "" && len(s) <= Name && !strings.ContainsFunc(s, func(r rune) bool { return !NameRune(r) })
}
