// Package regular opens regular files, and nothing else. Opening a named pipe
// waits for somebody who writes to it, reading a device may never end, and both
// are named by a path like any file.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// KindError says what a path leads to that is no regular file.
type KindError struct {
	Path string
	Kind string // a folder, a named pipe, …
}

func (e *KindError) Error() string {
	return fmt.Sprintf("%s is not a regular file: it is %s", e.Path, e.Kind)
}

// Open opens the regular file that path leads to, for reading, and returns its
// size. Links are followed. What is no regular file is a *KindError, and is not
// opened.
func Open(path string) (f *os.File, size int64, err error) {
	f, err = OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// OpenFile is os.OpenFile for a regular file, or one that is made.
func OpenFile(path string, flag int, perm os.FileMode) (*os.File, error) {
	info, err := os.Stat(path)
	var pe *fs.PathError
	switch {
	case err == nil:
		if err := check(path, info); err != nil {
			return nil, err
		}
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
	case errors.As(err, &pe):
		return nil, &fs.PathError{Op: "open", Path: pe.Path, Err: pe.Err}
	default:
		return nil, err
	}
	f, err := os.OpenFile(path, flag|nonblock, perm) // another may have taken the name
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = check(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Read returns the bytes of a regular file, of at most most bytes.
func Read(path string, most int64) ([]byte, error) {
	f, size, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > most {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", path, size, most)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s has more than the %d bytes that are read", path, most)
	}
	return b, err
}

func check(path string, info fs.FileInfo) error {
	kind := ""
	switch m := info.Mode(); {
	case m.IsRegular():
		return nil
	case m.IsDir():
		kind = "a folder"
	case m&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case m&fs.ModeSocket != 0:
		kind = "a socket"
	case m&fs.ModeDevice != 0:
		kind = "a device"
	default:
		kind = "something else (" + m.Type().String() + ")"
	}
	return &KindError{path, kind}
}
