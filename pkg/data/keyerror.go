package data

import "fmt"

// KeyError says that a key of the job file and the data do not agree. Whoever
// has the file can say in which line the key stands.
type KeyError struct {
	Key string // dotted, e.g. model.channels
	Err error  // what is wrong with its value, which names the key
}

func (e *KeyError) Error() string { return e.Err.Error() }
func (e *KeyError) Unwrap() error { return e.Err }

// keyError is a KeyError of a key with a text.
func keyError(key, format string, args ...any) error {
	return &KeyError{key, fmt.Errorf(format, args...)}
}
