// Package usage has the one kind of error that is the caller's: a command was
// called with flags or arguments that cannot be. The command line ends such a
// call with an exit code of its own. Whoever owns a set of options checks it, and
// names in its messages the flags that the options come from.
package usage

import "fmt"

// Error is a mistake in how a command was called.
type Error struct{ err error }

func (e Error) Error() string { return e.err.Error() }
func (e Error) Unwrap() error { return e.err }

// Errorf is fmt.Errorf for such a mistake.
func Errorf(format string, args ...any) error { return Error{fmt.Errorf(format, args...)} }

// Wrap makes err, which may be nil, such a mistake; its words stay.
func Wrap(err error) error {
	if err == nil {
		return nil
	}
	return Error{err}
}

// Within refuses a flag's value outside least … most.
func Within(flag string, v, least, most int) error {
	if v < least || v > most {
		return Errorf("--%s %d: want %d to %d", flag, v, least, most)
	}
	return nil
}
