package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// simFS is a file system in memory that knows what would survive. It is told to
// crash, or to fail, at its n-th call, and then yields what a restart would
// find:
//
//	killed   the process died: everything written is there
//	power    the machine died: of each directory the changes since its last
//	         SyncDir survive up to some point, in order (as a journal keeps
//	         them); of each file not synced, some mixture of old, new and cut
type simFS struct {
	root    *simDir
	calls   int
	crashAt int // call that does half of its work and never returns well; 0: never
	failAt  int // call that fails, half done where it has halves; 0: never
	fail    error
	sticky  bool // all calls from failAt on that fail's kind concerns fail
	readAt  int  // read (open, look, read) that fails with fail; 0: never
	reads   int
	hit     bool // readAt was reached
	dead    bool
	points  []string // name of each call
	space   Space    // what Space says
}

var errCrashed = errors.New("simulated crash")

type simDir struct {
	now     map[string]any // *simDir or *simFile
	durable map[string]any
	pending []func(map[string]any)
}

type simFile struct {
	now, durable []byte
	synced       bool
}

func newSimDir() *simDir { return &simDir{now: map[string]any{}, durable: map[string]any{}} }

func newSimFS() *simFS { return &simFS{root: newSimDir()} }

// point counts a call; half is true where the call is to be cut in the middle.
func (s *simFS) point(op, where string) (half bool, err error) {
	if s.dead {
		return false, errCrashed
	}
	s.calls++
	s.points = append(s.points, op+" "+where)
	switch s.calls {
	case s.crashAt:
		s.dead = true
		return true, errCrashed
	case s.failAt:
		return true, &os.PathError{Op: op, Path: where, Err: s.fail}
	}
	if s.sticky && s.failAt > 0 && s.calls > s.failAt && (s.fail != syscall.ENOSPC || op == "mkdir" || op == "create" || op == "write") {
		return true, &os.PathError{Op: op, Path: where, Err: s.fail}
	}
	return false, nil
}

// read counts what only looks.
func (s *simFS) read(op, where string) error {
	if s.dead {
		return errCrashed
	}
	s.reads++
	if s.reads == s.readAt {
		s.hit = true
		return &os.PathError{Op: op, Path: where, Err: s.fail}
	}
	return nil
}

// refused says that a call fails without having done anything, as opposed to
// one that crashes in its middle.
func refused(err error) bool { return err != nil && !errors.Is(err, errCrashed) }

func (d *simDir) change(f func(map[string]any)) {
	f(d.now)
	d.pending = append(d.pending, f)
}

// find returns the directory that holds the last element of p.
func (s *simFS) find(p string) (*simDir, string, error) {
	dir, name := path.Split(path.Clean(p))
	d := s.root
	for _, part := range strings.Split(strings.Trim(dir, "/"), "/") {
		if part == "" {
			continue
		}
		sub, ok := d.now[part].(*simDir)
		if !ok {
			return nil, "", &os.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		}
		d = sub
	}
	return d, name, nil
}

func (s *simFS) MkdirAll(dir string) error {
	half, err := s.point("mkdir", dir)
	if err != nil && !half || refused(err) {
		return err
	}
	d := s.root
	for _, part := range strings.Split(strings.Trim(dir, "/"), "/") {
		sub, ok := d.now[part].(*simDir)
		if !ok {
			sub = newSimDir()
			d.change(func(m map[string]any) { m[part] = sub })
		}
		d = sub
	}
	return err
}

func (s *simFS) Create(p string) (diskFile, error) {
	_, err := s.point("create", p)
	if err != nil {
		return nil, err
	}
	d, name, err := s.find(p)
	if err != nil {
		return nil, err
	}
	if d.now[name] != nil {
		return nil, &os.PathError{Op: "create", Path: p, Err: fs.ErrExist}
	}
	f := &simFile{}
	d.change(func(m map[string]any) { m[name] = f })
	return &simHandle{s, f, p, true}, nil
}

func (s *simFS) Join(dir, name string) string { return path.Join(dir, name) }

func (s *simFS) Open(p string) (TreeFile, error) {
	if err := s.read("open", p); err != nil {
		return nil, err
	}
	d, name, err := s.find(p)
	if err != nil {
		return nil, err
	}
	f, ok := d.now[name].(*simFile)
	if !ok {
		return nil, &os.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return &simHandle{s, f, p, false}, nil
}

func (s *simFS) Rename(from, to string) error {
	half, err := s.point("rename", from)
	if err != nil && !half || refused(err) {
		return err
	}
	d, a, ferr := s.find(from)
	d2, b, terr := s.find(to)
	if ferr = errors.Join(ferr, terr); ferr != nil {
		return ferr
	}
	if d != d2 {
		panic("simFS: rename across directories")
	}
	if old, ok := d.now[b].(*simDir); ok && len(old.now) > 0 {
		return &os.PathError{Op: "rename", Path: to, Err: syscall.ENOTEMPTY}
	}
	d.change(func(m map[string]any) {
		if x, ok := m[a]; ok {
			delete(m, a)
			m[b] = x
		}
	})
	return err
}

// RemoveAll cut in the middle leaves the directory with half of its files.
func (s *simFS) RemoveAll(p string) error {
	half, err := s.point("remove", p)
	if err != nil && !half || refused(err) {
		return err
	}
	d, name, ferr := s.find(p)
	if ferr != nil || d.now[name] == nil {
		return err
	}
	if sub, ok := d.now[name].(*simDir); ok {
		names := sortedKeys(sub.now)
		if half {
			names = names[:len(names)/2]
		}
		for _, n := range names {
			sub.change(func(m map[string]any) { delete(m, n) })
		}
		if half {
			return err
		}
	}
	d.change(func(m map[string]any) { delete(m, name) })
	return err
}

func (s *simFS) ReadDir(p string) ([]string, error) {
	if err := s.read("readdir", p); err != nil {
		return nil, err
	}
	d, _, err := s.find(p + "/x")
	if err != nil {
		return nil, err
	}
	return sortedKeys(d.now), nil
}

func (s *simFS) Space(string) (Space, error) { return s.space, nil }

func (s *simFS) SyncDir(p string) error {
	_, err := s.point("syncdir", p)
	if err != nil {
		return err
	}
	d, _, err := s.find(p + "/x")
	if err != nil {
		return err
	}
	for _, f := range d.pending {
		f(d.durable)
	}
	d.pending = nil
	return nil
}

func sortedKeys(m map[string]any) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

type simHandle struct {
	s    *simFS
	f    *simFile
	path string
	made bool // for writing
}

func (h *simHandle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.s.read("read", h.path); err != nil {
		return 0, err
	}
	if off >= int64(len(h.f.now)) {
		return 0, io.EOF
	}
	n := copy(p, h.f.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt cut in the middle writes half.
func (h *simHandle) WriteAt(p []byte, off int64) (int, error) {
	half, err := h.s.point("write", h.path)
	if err != nil && !half {
		return 0, err
	}
	if half {
		p = p[:len(p)/2]
	}
	if end := int(off) + len(p); end > len(h.f.now) {
		h.f.now = append(h.f.now, make([]byte, end-len(h.f.now))...)
	}
	h.f.synced = false
	return copy(h.f.now[off:], p), err
}

func (h *simHandle) Size() (int64, error) { return int64(len(h.f.now)), nil }

// Sync that fails has lost what was to be written, as on Linux: the pages are
// clean now, so a second Sync would succeed and keep nothing of them.
func (h *simHandle) Sync() error {
	if _, err := h.s.point("sync", h.path); err != nil {
		if refused(err) {
			h.f.now = make([]byte, len(h.f.now))
			copy(h.f.now, h.f.durable)
		}
		return err
	}
	h.f.durable, h.f.synced = slices.Clone(h.f.now), true
	return nil
}

// Close of what was written can fail: some file systems report a full disk there.
func (h *simHandle) Close() error {
	if h.s.dead {
		return errCrashed
	}
	if h.made {
		_, err := h.s.point("close", h.path)
		return err
	}
	return nil
}

// killed is what a restarted process finds.
func (s *simFS) killed() *simFS { return s.after(nil) }

// power is what a restarted machine finds, by the dice of rnd.
func (s *simFS) power(rnd *rand.Rand) *simFS { return s.after(rnd) }

func (s *simFS) after(rnd *rand.Rand) *simFS {
	return &simFS{root: s.root.after(rnd)}
}

func (d *simDir) after(rnd *rand.Rand) *simDir {
	entries := d.now
	if rnd != nil {
		entries = map[string]any{}
		for k, v := range d.durable {
			entries[k] = v
		}
		for _, f := range d.pending[:rnd.IntN(len(d.pending)+1)] {
			f(entries)
		}
	}
	out := newSimDir()
	for _, k := range sortedKeys(entries) {
		var x any
		switch v := entries[k].(type) {
		case *simDir:
			x = v.after(rnd)
		case *simFile:
			x = v.after(rnd)
		}
		out.now[k], out.durable[k] = x, x
	}
	return out
}

func (f *simFile) after(rnd *rand.Rand) *simFile {
	b := slices.Clone(f.now)
	if rnd != nil && !f.synced {
		switch rnd.IntN(4) {
		case 0:
			b = slices.Clone(f.durable)
		case 1:
			b = b[:rnd.IntN(len(b)+1)]
		case 2: // its length arrived, its end did not
			clear(b[rnd.IntN(len(b)+1):])
		}
	}
	return &simFile{now: b, durable: slices.Clone(b), synced: true}
}

// tree prints what is there, for messages.
func (s *simFS) tree() string {
	var b strings.Builder
	var walk func(indent string, d *simDir)
	walk = func(indent string, d *simDir) {
		for _, k := range sortedKeys(d.now) {
			if sub, ok := d.now[k].(*simDir); ok {
				fmt.Fprintf(&b, "%s%s/\n", indent, k)
				walk(indent+"  ", sub)
			} else {
				fmt.Fprintf(&b, "%s%s (%d)\n", indent, k, len(d.now[k].(*simFile).now))
			}
		}
	}
	walk("", s.root)
	return b.String()
}
