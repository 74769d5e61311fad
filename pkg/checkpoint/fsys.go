package checkpoint

import (
	"io"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
)

// fsys is what the disk store asks of the operating system. Each call is a
// point at which a test may crash, tear a write or fill the disk.
type fsys interface {
	Tree
	MkdirAll(dir string) error
	Create(path string) (diskFile, error) // fails if it exists
	Rename(from, to string) error         // atomic
	RemoveAll(path string) error
	SyncDir(dir string) error        // makes creations, renames and removals in it durable
	Space(dir string) (Space, error) // on its disk
}

type diskFile interface {
	TreeFile
	io.WriterAt
	Sync() error // makes the contents durable
}

// osFS is the real one.
type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, &os.PathError{Op: "open", Path: f.Name(), Err: os.ErrInvalid}
	}
	return st.Size(), nil
}

func (osFS) MkdirAll(dir string) error    { return os.MkdirAll(dir, 0o755) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) RemoveAll(path string) error  { return os.RemoveAll(path) }

func (osFS) Create(path string) (diskFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Join(dir, name string) string { return filepath.Join(dir, name) }

func (osFS) Open(path string) (TreeFile, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Space(dir string) (Space, error) { return FreeSpace(dir) }

func (osFS) SyncDir(dir string) error { return atomicfile.SyncDir(dir) }

// readAll reads a small file whole.
func readAll(fs Tree, path string, limit int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &os.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}

// writeAll creates a small file, durably but for its directory entry.
func writeAll(fs fsys, path string, b []byte) error {
	f, err := fs.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
