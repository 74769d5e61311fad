// Package atomicfile writes small files whole or not at all: whoever reads a
// path sees the old contents or the new ones, never a part, also after a full
// disk or a power cut.
package atomicfile

import (
	"io"
	"os"
	"path/filepath"
)

// Write replaces the file at path by b.
func Write(path string, b []byte, mode os.FileMode) error {
	return WriteFrom(path, mode, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// WriteFrom replaces the file at path by what write writes. After an error the
// path is as it was, and nothing else is left in its directory. The new
// contents are on the disk before they get the name, and the name before
// WriteFrom returns.
func WriteFrom(path string, mode os.FileMode, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the renaming there is none
	err = write(f)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = SyncDir(filepath.Dir(path))
	}
	return err
}

// SyncDir makes creations, renames and removals in dir durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
