package access

import (
	"slices"
	"strings"
)

// Without is an environment without the variables of these names.
func Without(env []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(names, name)
	})
}
