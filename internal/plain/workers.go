package plain

import "fmt"

// Workers is a number of workers in words.
func Workers(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}
