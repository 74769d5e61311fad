// Package bucket keeps checkpoints in an object store, in the layout of a directory of
// them:
//
//	s3://bucket/prefix/
//	  step-00000100/
//	    model.safetensors, optimizer.safetensors    first, in parts
//	    manifest.json                               when all of these are there
//	  latest                                        last
//
// An object store renames nothing, so that the manifest alone makes a checkpoint: a
// step without one is no checkpoint, whatever else is there of it, and to nobody who
// looks. A checkpoint that is removed, or replaced by one with other files, loses its
// manifest first. One who writes is enough for a prefix: nothing locks it.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/objects"
)

// At is a directory of this machine, or the address of one in an object store, to look
// for checkpoints in, for as long as ctx lasts.
func At(ctx context.Context, dir string) (checkpoint.Place, error) {
	if !s3url.Is(dir) {
		return checkpoint.Local(dir), nil
	}
	s, err := Open(ctx, dir)
	if err != nil {
		return checkpoint.Place{}, err
	}
	return s.Place(), nil
}

// Store is a checkpoint.Keeper below an address of an object store.
type Store struct {
	ctx context.Context
	b   *objects.Bucket
}

var _ checkpoint.Keeper = (*Store)(nil)

// Open makes ready for the checkpoints below an address. Nothing is asked yet. What the
// store is asked for without a context of its own ends with ctx.
func Open(ctx context.Context, address string) (*Store, error) {
	b, err := objects.Open(address)
	if err != nil {
		return nil, err
	}
	return &Store{ctx, b}, nil
}

// Place is where the store's checkpoints can be looked at.
func (s *Store) Place() checkpoint.Place { return checkpoint.Place{Tree: tree{s}, Dir: s.String()} }

// String is the address, without its options.
func (s *Store) String() string { return s.b.At().Place() }

// List implements checkpoint.Keeper. A store that cannot be asked is checkpoint.ErrAway.
func (s *Store) List() ([]checkpoint.Entry, error) { return s.Place().List() }

// Open implements checkpoint.Keeper.
func (s *Store) Open(step uint64) (checkpoint.Reader, error) { return s.Place().Open(step) }

// tree is a store as directories.
type tree struct{ *Store }

// key is a path of the tree below the store's address.
func (t tree) key(p string) string {
	return strings.TrimPrefix(strings.TrimPrefix(p, t.String()), "/")
}

// Join implements checkpoint.Tree.
func (t tree) Join(dir, name string) string { return dir + "/" + name }

// Open implements checkpoint.Tree.
func (t tree) Open(p string) (checkpoint.TreeFile, error) {
	f, err := t.b.File(t.ctx, t.key(p))
	if err != nil {
		return nil, away(err)
	}
	return f, nil
}

// ReadDir implements checkpoint.Tree. Steps without a manifest are not there.
func (t tree) ReadDir(dir string) ([]string, error) {
	prefix := t.key(dir)
	if prefix != "" {
		prefix += "/"
	}
	l, err := t.b.List(t.ctx, prefix)
	if err != nil {
		return nil, away(err)
	}
	names := map[string]bool{} // and whether it is to be seen
	for _, o := range l {
		key := strings.TrimPrefix(o.Key, prefix)
		if !s3url.Plain(key) {
			continue // it can be no file of a checkpoint
		}
		name, rest, below := strings.Cut(key, "/")
		names[name] = names[name] || !below || !strings.HasPrefix(name, "step-") || rest == checkpoint.ManifestFile
	}
	var out []string
	for name, seen := range names {
		if seen {
			out = append(out, name)
		}
	}
	if _, isStep := checkpoint.StepOf(path.Base(dir)); len(out) == 0 || isStep && !names[checkpoint.ManifestFile] {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	slices.Sort(out)
	return out, nil
}

// awayError is an error after which nothing is known of what is in a store.
type awayError struct{ error }

func (e awayError) Unwrap() []error { return []error{e.error, checkpoint.ErrAway} }

func away(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, objects.ErrChanged) {
		return err
	}
	return awayError{err}
}

const latest = "latest"

// read is a small object; nil where there is none.
func (s *Store) read(ctx context.Context, key string, most int64) ([]byte, error) {
	f, err := s.b.File(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > most {
		return nil, errors.Join(err, fmt.Errorf("%s/%s has %d bytes, too many to be what its name says", s, key, size))
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	return b, err
}

// Put implements checkpoint.Keeper. It goes on where it was cut off.
func (s *Store) Put(ctx context.Context, r checkpoint.Reader, moved func(int64)) error {
	m := r.Manifest()
	dir := checkpoint.DirName(m.Step)
	sealed, err := m.Sealed()
	if err != nil {
		return err
	}
	was, err := s.read(ctx, path.Join(dir, checkpoint.ManifestFile), int64(len(sealed))+(1<<20))
	if err != nil {
		return err
	}
	if was != nil && !bytes.Equal(was, sealed) && !s.sameFiles(m) {
		// from here on until the new manifest there is no checkpoint of the step
		if err := s.b.Remove(ctx, path.Join(dir, checkpoint.ManifestFile)); err != nil {
			return err
		}
	}
	var stored int64
	for _, info := range m.Files {
		f, size, err := r.File(info.Name)
		if err != nil {
			return err
		}
		if size != info.Size {
			return fmt.Errorf("%s has %d bytes, and its manifest says %d: %w", info.Name, size, info.Size, checkpoint.ErrCorrupt)
		}
		err = s.b.Upload(ctx, path.Join(dir, info.Name), objects.Content{ReaderAt: f, Size: size, SHA256: info.SHA256}, func(n int64) {
			if moved != nil {
				moved(stored + n)
			}
		})
		if errors.Is(err, objects.ErrOther) {
			return fmt.Errorf("%w: %w", err, checkpoint.ErrCorrupt)
		}
		if err != nil {
			return err
		}
		stored += size
	}
	if err := s.b.Put(ctx, path.Join(dir, checkpoint.ManifestFile), sealed); err != nil {
		return err
	}
	return s.b.Put(ctx, latest, []byte(dir+"\n"))
}

// sameFiles says whether the stored checkpoint of m's step has the files of m.
func (s *Store) sameFiles(m checkpoint.Manifest) bool {
	is, err := s.Place().In(checkpoint.DirName(m.Step)).ReadManifest()
	return err == nil && slices.Equal(is.Files, m.Files)
}

// Remove implements checkpoint.Keeper.
func (s *Store) Remove(step uint64) error {
	dir := checkpoint.DirName(step)
	name, err := s.read(s.ctx, latest, 256)
	if err != nil {
		return err
	}
	if string(name) == dir+"\n" { // never let it name what is gone
		if err := s.renameLatest(step); err != nil {
			return err
		}
	}
	return s.clear(dir)
}

// renameLatest has latest name the newest checkpoint but that of step.
func (s *Store) renameLatest(step uint64) error {
	entries, err := s.List()
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		if e.Step != step && e.State == checkpoint.Complete {
			return s.b.Put(s.ctx, latest, []byte(checkpoint.DirName(e.Step)+"\n"))
		}
	}
	return s.b.Remove(s.ctx, latest)
}

// clear removes all of a step, its manifest first.
func (s *Store) clear(dir string) error {
	if err := s.b.Remove(s.ctx, path.Join(dir, checkpoint.ManifestFile)); err != nil {
		return err
	}
	l, err := s.b.List(s.ctx, dir+"/")
	if err != nil {
		return err
	}
	for _, o := range l {
		if err := s.b.Remove(s.ctx, o.Key); err != nil {
			return err
		}
	}
	_, err = s.b.Abandon(s.ctx, dir+"/", func(string) bool { return true })
	return err
}

// Sweep removes what uploads that nobody goes on with have left: steps without a
// manifest, but those that keep names, and says so, a line each.
func (s *Store) Sweep(keep func(step uint64) bool) (lines []string, err error) {
	l, err := s.b.List(s.ctx, "step-")
	if err != nil {
		return nil, err
	}
	whole := map[string]bool{}
	for _, o := range l {
		if dir, name, below := strings.Cut(o.Key, "/"); below {
			whole[dir] = whole[dir] || name == checkpoint.ManifestFile
		}
	}
	left := func(dir string) bool {
		step, ok := checkpoint.StepOf(dir)
		return ok && !whole[dir] && !keep(step)
	}
	for dir := range whole {
		if !left(dir) {
			continue
		}
		if err := s.clear(dir); err != nil {
			return lines, err
		}
		lines = append(lines, fmt.Sprintf("removed what an upload that was cut off had left of %s in %s", dir, s))
	}
	n, err := s.b.Abandon(s.ctx, "step-", func(key string) bool {
		dir, _, _ := strings.Cut(key, "/")
		return left(dir)
	})
	if n > 0 {
		lines = append(lines, fmt.Sprintf("gave up %d uploads in %s that were cut off", n, s))
	}
	slices.Sort(lines)
	return lines, err
}
