package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Tree is where checkpoints are read from: the directories of this machine, or an
// object store. Paths are the tree's own: Join makes them. What is not there is
// fs.ErrNotExist.
type Tree interface {
	Open(path string) (TreeFile, error)
	ReadDir(dir string) ([]string, error) // names, sorted
	Join(dir, name string) string
}

// TreeFile is a file of a Tree that is open for reading.
type TreeFile interface {
	io.ReaderAt
	Size() (int64, error)
	Close() error
}

// Place is a directory of a Tree: of checkpoints, or a checkpoint itself. Looking
// changes nothing, and needs no store.
type Place struct {
	Tree Tree
	Dir  string
}

// Local is a directory of this machine.
func Local(dir string) Place { return Place{osFS{}, dir} }

// In is a directory in this one.
func (p Place) In(name string) Place { return Place{p.Tree, p.Tree.Join(p.Dir, name)} }

// List is List of the place.
func (p Place) List() ([]Entry, error) { return list(p.Tree, p.Dir) }

// Verify is Verify of the place, which is a checkpoint.
func (p Place) Verify() Report { return verify(p.Tree, p.Dir) }

// LatestGood is LatestGood of the place.
func (p Place) LatestGood() (Found, error) { return latestGood(p.Tree, p.Dir) }

// ReadManifest is ReadManifest of the place, which is a checkpoint.
func (p Place) ReadManifest() (Manifest, error) { return readManifest(p.Tree, p.Dir) }

// Open is Store.Open.
func (p Place) Open(step uint64) (Reader, error) {
	at := p.In(DirName(step))
	r, err := at.Reader()
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := p.Tree.ReadDir(at.Dir); lerr != nil {
			return nil, fmt.Errorf("%w of step %d in %s", ErrNone, step, p.Dir)
		}
	}
	if err != nil {
		return nil, err
	}
	if m := r.Manifest(); m.Step != step {
		return nil, &CorruptError{Dir: at.Dir, Problems: []string{wrongStep(m.Step)}}
	}
	return r, nil
}

// Reader opens the place, which is a checkpoint.
func (p Place) Reader() (Reader, error) {
	m, err := p.ReadManifest()
	if err != nil {
		return nil, err
	}
	return &diskReader{fs: p.Tree, dir: p.Dir, m: m}, nil
}

// Keeper keeps whole checkpoints that others have made: a directory, an object store.
// A checkpoint is there whole or not at all: until Put has returned nil nobody sees it.
// Methods are safe for concurrent use, but for two Puts of one step.
type Keeper interface {
	// List returns what is kept, oldest step first.
	List() ([]Entry, error)
	// Open opens a kept checkpoint. A step that is not there is ErrNone.
	Open(step uint64) (Reader, error)
	// Put stores what r reads, each byte compared with its manifest's hashes. It
	// takes the place of a checkpoint of its step. Where an earlier Put of the same
	// was cut off it may go on there. moved, which may be nil, is told how many bytes
	// of all files are stored.
	Put(ctx context.Context, r Reader, moved func(bytes int64)) error
	// Remove deletes a checkpoint; one that is not there is no error.
	Remove(step uint64) error
}

var _ Keeper = (*Disk)(nil)

// Put implements Keeper.
func (d *Disk) Put(ctx context.Context, r Reader, moved func(int64)) (err error) {
	m := r.Manifest()
	if err := d.Room(m.Step, m.Bytes()); err != nil {
		return err
	}
	w, err := d.Begin(m.Step)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	var stored int64
	for _, info := range m.Files {
		if err := copyFile(ctx, w, r, info, func(n int) {
			if stored += int64(n); moved != nil {
				moved(stored)
			}
		}); err != nil {
			return err
		}
	}
	return w.Commit(m) // which compares the hashes
}

func copyFile(ctx context.Context, w Writer, r Reader, info FileInfo, moved func(int)) error {
	from, size, err := r.File(info.Name)
	if err != nil {
		return err
	}
	if size != info.Size {
		return &CorruptError{Problems: []string{wrongSize(info.Name, size, info.Size)}}
	}
	to, err := w.Create(info.Name, info.Size)
	if err != nil {
		return err
	}
	buf := make([]byte, min(1<<20, max(size, 1)))
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := from.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if n > 0 {
			if _, err := to.WriteAt(buf[:n], off); err != nil {
				return err
			}
			moved(n)
		}
		if off += int64(n); err != nil && off < size {
			return fmt.Errorf("%s: byte %d of %d: %w", info.Name, off, size, err)
		}
	}
	return to.Close()
}
