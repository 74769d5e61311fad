package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A write that fails half-way leaves the old contents and no other file.
func TestWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "job.yaml")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := func(w io.Writer) error {
		if _, err := w.Write([]byte("ne")); err != nil {
			return err
		}
		return syscall.ENOSPC
	}
	for _, mode := range []os.FileMode{0o600, 0o644} {
		if err := WriteFrom(path, mode, full); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a write that fails returns %v, want no space left", err)
		}
	}
	look := func(want string, mode os.FileMode) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil || string(b) != want {
			t.Errorf("the file holds %q, want %q (%v)", b, want, err)
		}
		if i, err := os.Stat(path); err != nil || i.Mode().Perm() != mode {
			t.Errorf("its mode is %v, want %v (%v)", i.Mode(), mode, err)
		}
		if l, err := os.ReadDir(dir); err != nil || len(l) != 1 {
			t.Errorf("the directory holds %v, want one file (%v)", l, err)
		}
	}
	look("old", 0o600)
	if err := Write(path, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	look("new", 0o644)
	if err := Write(filepath.Join(dir, "none", "x"), nil, 0o644); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}
