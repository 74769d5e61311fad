package usage

import (
	"fmt"
	"strconv"
)

// mostThreads bounds a number of threads: what is beyond it is a mistake, and each takes
// memory.
const mostThreads = 1024

// Threads is the value of a flag --threads. It is refused where it is read, so that no
// command begins with a number that cannot be.
type Threads struct {
	N    *int
	Auto bool // 0 threads are as many as the machine has to give
}

// String is the number.
func (t Threads) String() string { return strconv.Itoa(*t.N) }

// Type is what help calls it.
func (t Threads) Type() string { return "int" }

// Set reads the number.
func (t Threads) Set(s string) error {
	least := 1
	if t.Auto {
		least = 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > mostThreads {
		return fmt.Errorf("want %d to %d", least, mostThreads)
	}
	*t.N = n
	return nil
}

// wanted says what flags take, by what help calls their values.
var wanted = map[string]string{"int": "a whole number", "int64": "a whole number", "uint": "a whole number from 0", "uint64": "a whole number from 0", "float64": "a number",
	"duration": "a duration such as 500ms, 10s or 2h", "bool": "true or false", "intSlice": "whole numbers, separated by commas", "float64Slice": "numbers, separated by commas"}

// Unread is the mistake of a flag whose value could not be read: in the words of what it
// takes, and in those of err where that says more than a parser of numbers does.
func Unread(flag, value string, of any, kind string, err error) error {
	if _, own := of.(Threads); own || wanted[kind] == "" {
		return Errorf("--%s %s: %w", flag, value, err)
	}
	return Errorf("--%s %q: want %s", flag, value, wanted[kind])
}
