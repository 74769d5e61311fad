package checkpoint

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vlaring/vlaring/internal/safetensors"
)

var errTooLarge = errors.New("is too large to be what its name says")

// Names that begin so are the store's own and never a checkpoint.
const (
	tempPrefix = ".tmp-" // in the making, or on its way out
	oldPrefix  = ".old-" // a checkpoint while another takes its place
)

// Disk is the Store in a directory. See the package's documentation for its
// layout and the order of its steps.
type Disk struct {
	dir     string
	fs      fsys
	cleaned []string
	mu      sync.Mutex   // one Commit or Remove at a time
	need    atomic.Int64 // bytes of a checkpoint, as Room was last asked for
}

var (
	_ Store  = (*Disk)(nil)
	_ Writer = (*diskWriter)(nil)
	_ Reader = (*diskReader)(nil)
)

// OpenDisk opens the store in dir, which it makes if need be, and clears away
// what a crash left unfinished; Cleaned tells what. Only one process may have a
// directory's store open: hold LockRunDir. Looking does not need a store, see
// List, Verify and LatestGood.
func OpenDisk(dir string) (*Disk, error) { return openDisk(osFS{}, dir) }

func openDisk(fs fsys, dir string) (*Disk, error) {
	d := &Disk{dir: dir, fs: fs}
	if err := fs.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("checkpoint directory: %w", err)
	}
	// The directory, and the run's around it, may be new: a power cut must not
	// take them away with all that is in them. Those further up may be anyone's.
	for p, up := filepath.Dir(dir), 0; ; p, up = filepath.Dir(p), up+1 {
		if err := fs.SyncDir(p); err != nil && up == 0 {
			return nil, fmt.Errorf("checkpoint directory: %w", err)
		}
		if p == filepath.Dir(p) {
			break
		}
	}
	return d, d.recover()
}

// recover ends what a crash interrupted.
func (d *Disk) recover() error {
	names, err := d.fs.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("checkpoint directory: %w", err)
	}
	for _, name := range names {
		path := filepath.Join(d.dir, name)
		switch {
		case strings.HasPrefix(name, oldPrefix):
			// A crash while a checkpoint was replaced: if the new one did not
			// get its name yet, the old one has it back.
			step, _, _ := strings.Cut(strings.TrimPrefix(name, oldPrefix), "+")
			if !slices.Contains(names, step) {
				if err := d.fs.Rename(path, filepath.Join(d.dir, step)); err != nil {
					return fmt.Errorf("bringing back %s: %w", step, err)
				}
				names = append(names, step)
				d.cleaned = append(d.cleaned, fmt.Sprintf("brought back %s, which a crash had caught while it was being replaced", step))
				continue
			}
			fallthrough
		case strings.HasPrefix(name, tempPrefix):
			if err := d.fs.RemoveAll(path); err != nil {
				return fmt.Errorf("removing what a crash left behind: %w", err)
			}
			d.cleaned = append(d.cleaned, fmt.Sprintf("removed %s, which a crash left unfinished", name))
		}
	}
	if len(d.cleaned) > 0 {
		return d.fs.SyncDir(d.dir)
	}
	return nil
}

// Cleaned says, one line each, what OpenDisk cleared away.
func (d *Disk) Cleaned() []string { return d.cleaned }

// Dir is the store's directory.
func (d *Disk) Dir() string { return d.dir }

// temp is a name of the store's own that nobody has.
func temp(prefix, what string) string {
	var r [6]byte
	rand.Read(r[:]) // never fails
	return prefix + what + "+" + hex.EncodeToString(r[:])
}

// Begin implements Store.
func (d *Disk) Begin(step uint64) (Writer, error) {
	w := &diskWriter{d: d, step: step, dir: filepath.Join(d.dir, temp(tempPrefix, DirName(step))), files: map[string]*stagedFile{}}
	if err := d.fs.MkdirAll(w.dir); err != nil {
		return nil, w.fail(err)
	}
	return w, nil
}

type diskWriter struct {
	d     *Disk
	step  uint64
	dir   string
	files map[string]*stagedFile
	done  bool
}

// fail gives an error its context: the numbers of the disk, above all.
func (w *diskWriter) fail(err error) error {
	need := int64(0)
	for _, f := range w.files {
		need += f.size
	}
	space, serr := w.d.fs.Space(w.d.dir)
	if serr != nil {
		space = Space{}
	}
	return &DiskError{w.step, w.d.dir, max(need, w.d.need.Load()), space, err}
}

// Create implements Writer.
func (w *diskWriter) Create(name string, size int64) (File, error) {
	if w.done {
		return nil, fmt.Errorf("checkpoint of step %d: it is over, and %s cannot be added", w.step, name)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if w.files[name] != nil {
		return nil, fmt.Errorf("checkpoint of step %d: %s is created twice", w.step, name)
	}
	if size < 0 {
		return nil, fmt.Errorf("checkpoint of step %d: %s of %d bytes", w.step, name, size)
	}
	f, err := w.d.fs.Create(filepath.Join(w.dir, name))
	if err != nil {
		return nil, w.fail(err)
	}
	s := &stagedFile{window: window{name: name, size: size}, w: w, f: f}
	w.files[name] = s
	return s, nil
}

// stagedFile is a file in the temporary directory. Its Close makes it durable.
type stagedFile struct {
	window
	w      *diskWriter
	f      diskFile
	closed bool
}

func (s *stagedFile) WriteAt(p []byte, off int64) (int, error) {
	if err := s.check(len(p), off); err != nil {
		return 0, err
	}
	n, err := s.f.WriteAt(p, off)
	if err != nil {
		err = s.w.fail(err)
	}
	return n, err
}

func (s *stagedFile) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

func (s *stagedFile) Write(p []byte) (int, error) {
	n, err := s.WriteAt(p, s.at)
	s.at += int64(n)
	return n, err
}

func (s *stagedFile) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.f.Sync()
	if cerr := s.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return s.w.fail(err)
	}
	return nil
}

// Commit implements Writer.
func (w *diskWriter) Commit(m Manifest) error {
	if w.done {
		return fmt.Errorf("checkpoint of step %d: it is over already", w.step)
	}
	err := w.commit(m)
	if err != nil {
		w.Abort() // what it cannot remove, the next start does
	}
	w.done = true
	return err
}

func (w *diskWriter) commit(m Manifest) error {
	var files []FileInfo
	for name, f := range w.files {
		if !f.closed {
			return fmt.Errorf("checkpoint of step %d: %s is not closed", w.step, name)
		}
		info, err := w.stat(name, f.size)
		if err != nil {
			return w.fail(err)
		}
		files = append(files, info)
	}
	m, err := m.seal(w.step, files)
	if err != nil {
		return err
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	d := w.d
	if err := writeAll(d.fs, filepath.Join(w.dir, ManifestFile), b); err != nil {
		return w.fail(err)
	}
	if err := d.fs.SyncDir(w.dir); err != nil {
		return w.fail(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	latest, err := d.stageLatest(DirName(w.step)) // now, so that a full disk stops it before it is visible
	if err != nil {
		return w.fail(err)
	}
	if err := d.place(w.dir, DirName(w.step)); err != nil {
		d.fs.RemoveAll(latest)
		return w.fail(err)
	}
	w.done = true // from here on it is a checkpoint, whatever comes
	if err := d.placeLatest(latest); err != nil {
		return w.fail(err)
	}
	return nil
}

// stat hashes a staged file as the disk has it and checks that it is whole.
func (w *diskWriter) stat(name string, want int64) (FileInfo, error) {
	f, err := w.d.fs.Open(filepath.Join(w.dir, name))
	if err != nil {
		return FileInfo{}, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return FileInfo{}, err
	}
	if size != want {
		return FileInfo{}, fmt.Errorf("%s has %d of its %d bytes", name, size, want)
	}
	if strings.HasSuffix(name, ".safetensors") {
		if _, err := safetensors.Read(f, size, name); err != nil {
			return FileInfo{}, err
		}
	}
	sum, err := hashOf(f, size)
	return FileInfo{Name: name, Size: size, SHA256: sum}, err
}

// place gives the finished directory at path its name. One that has the name
// is moved aside first and removed after.
func (d *Disk) place(path, name string) error {
	to := filepath.Join(d.dir, name)
	names, err := d.fs.ReadDir(d.dir)
	if err != nil {
		return err
	}
	aside := ""
	if slices.Contains(names, name) {
		aside = filepath.Join(d.dir, temp(oldPrefix, name))
		if err := d.fs.Rename(to, aside); err != nil {
			return err
		}
		if err := d.fs.SyncDir(d.dir); err != nil {
			return errors.Join(err, d.fs.Rename(aside, to))
		}
	}
	if err := d.fs.Rename(path, to); err != nil {
		if aside != "" {
			err = errors.Join(err, d.fs.Rename(aside, to))
		}
		return err
	}
	if err := d.fs.SyncDir(d.dir); err != nil {
		return err
	}
	if aside != "" {
		d.fs.RemoveAll(aside) // if it stays, the next start removes it
	}
	return nil
}

// stageLatest writes the file that is to be latest under a name of its own.
func (d *Disk) stageLatest(name string) (string, error) {
	path := filepath.Join(d.dir, temp(tempPrefix, latestFile))
	if err := writeAll(d.fs, path, []byte(name+"\n")); err != nil {
		d.fs.RemoveAll(path)
		return "", err
	}
	return path, nil
}

// placeLatest makes it latest, durably.
func (d *Disk) placeLatest(path string) error {
	if err := d.fs.Rename(path, filepath.Join(d.dir, latestFile)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.dir)
}

func (d *Disk) setLatest(name string) error {
	path, err := d.stageLatest(name)
	if err != nil {
		return err
	}
	return d.placeLatest(path)
}

// Abort implements Writer.
func (w *diskWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	for _, f := range w.files {
		if !f.closed {
			f.closed = true
			f.f.Close()
		}
	}
	if err := w.d.fs.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("discarding the checkpoint of step %d: %w", w.step, err)
	}
	return nil
}

// List implements Store.
func (d *Disk) List() ([]Entry, error) { return list(d.fs, d.dir) }

// Open implements Store.
func (d *Disk) Open(step uint64) (Reader, error) { return Place{d.fs, d.dir}.Open(step) }

// Place is where the store's checkpoints can be looked at.
func (d *Disk) Place() Place { return Place{d.fs, d.dir} }

type diskReader struct {
	fs   Tree
	dir  string
	m    Manifest
	mu   sync.Mutex
	open []TreeFile
}

func (r *diskReader) Manifest() Manifest { return r.m }

func (r *diskReader) File(name string) (io.ReaderAt, int64, error) {
	info := r.m.File(name)
	if info.Name == "" {
		return nil, 0, fmt.Errorf("%s has no file %s: %w", r.dir, name, os.ErrNotExist)
	}
	f, err := r.fs.Open(r.fs.Join(r.dir, name))
	if err != nil {
		return nil, 0, err
	}
	r.mu.Lock()
	r.open = append(r.open, f)
	r.mu.Unlock()
	size, err := f.Size()
	if err == nil && size != info.Size {
		err = &CorruptError{Dir: r.dir, Problems: []string{wrongSize(name, size, info.Size)}}
	}
	if err != nil {
		return nil, 0, err
	}
	return f, size, nil
}

func (r *diskReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, f := range r.open {
		errs = append(errs, f.Close())
	}
	r.open = nil
	return errors.Join(errs...)
}

// Remove implements Store. The checkpoint loses its name before its files, so
// that a crash leaves no half of it.
func (d *Disk) Remove(step uint64) error { return d.remove(step, "") }

// remove is Remove; with aside the directory moves there if it can.
func (d *Disk) remove(step uint64, aside string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	entries, err := d.List()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Step == step })
	if i < 0 {
		return nil
	}
	if entries[i].Latest { // never let it name what is gone
		rest := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Step == step || e.State != Complete })
		if len(rest) > 0 {
			err = d.setLatest(DirName(rest[len(rest)-1].Step))
		} else {
			err = d.fs.RemoveAll(filepath.Join(d.dir, latestFile))
		}
		if err != nil {
			return fmt.Errorf("removing the checkpoint of step %d: %w", step, err)
		}
	}
	if aside != "" {
		if err := d.fs.Rename(filepath.Join(d.dir, DirName(step)), aside); err == nil {
			return d.fs.SyncDir(d.dir)
		}
	}
	out := filepath.Join(d.dir, temp(tempPrefix, DirName(step)))
	for _, op := range []func() error{
		func() error { return d.fs.Rename(filepath.Join(d.dir, DirName(step)), out) },
		func() error { return d.fs.SyncDir(d.dir) },
		func() error { return d.fs.RemoveAll(out) },
	} {
		if err := op(); err != nil {
			return fmt.Errorf("removing the checkpoint of step %d: %w", step, err)
		}
	}
	return nil
}

// SetAside moves the checkpoints of steps after after, newest first, to directories of
// names of their own in the directory to, which is made and is no store; where that is
// on another file system they are removed. It returns their steps.
func (d *Disk) SetAside(after uint64, to string) (steps []uint64, err error) {
	entries, err := d.List()
	if err != nil {
		return nil, err
	}
	if err := d.fs.MkdirAll(to); err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(entries) {
		if e.Step <= after {
			break
		}
		if err := d.remove(e.Step, filepath.Join(to, temp("", DirName(e.Step)))); err != nil {
			return steps, err
		}
		steps = append(steps, e.Step)
	}
	return steps, nil
}
