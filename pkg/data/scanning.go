package data

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/regular"
)

// scanning is the way of one opening through its files: which of them an earlier
// Scan knows, and the Scan that comes of it.
type scanning struct {
	o      *Opening
	dir    string // of the data: names of files are relative to it
	was    *Scan  // nil: nothing is known
	theirs bool   // was is the coordinator's, whose files may lie elsewhere
	now    *Scan
	fresh  bool // now has what no file of ScanDir has
	began  time.Time
}

// scanFiles begins the scan of the files of a source in dir. recipe says all that what
// it keeps of a file depends on.
//
// This machine's own Scan is taken first, and it knows a file by its size, its
// time and a sample of its content: what has changed is read anew. The
// coordinator's is taken where there is none, and then a file that differs is an
// error. A lenient opening reads everything: it wants all that is wrong.
func (o *Opening) scanFiles(dir string, recipe Fingerprint) (*scanning, error) {
	key := hex.EncodeToString(recipe.Add("left out", o.skip).Add("held-out set", o.held).h.Sum(nil))
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, err
	}
	s := &scanning{o: o, dir: dir, began: time.Now(), now: &Scan{path: path, recipe: key, files: map[string]known{}}}
	o.scanning = s
	if o.watch.Scans != nil {
		s.was = o.watch.Scans.load(path, key)
	}
	if s.was == nil && o.watch.Theirs != nil && !o.lenient() {
		if s.was, err = o.watch.Theirs(o.Context, scanName(key)); err != nil {
			return nil, err
		}
		if s.was != nil && s.was.recipe != key {
			s.was = nil
		}
		s.theirs, s.fresh = s.was != nil, s.was != nil
	}
	return s, nil
}

// wanted are the features that the model takes, by name, as part of a recipe.
func (o *Opening) wanted() string {
	var names []string
	for _, f := range o.Wants {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// name is how a Scan calls a part of a file.
func (s *scanning) name(path, part string) string {
	rel, err := filepath.Rel(s.dir, path)
	if err != nil {
		rel = path
	}
	return filepath.ToSlash(rel) + part
}

// recall returns what is known of a part of the file at path, if the file is
// still what it was; nil where it must be read. whole says that a file of another
// time must be read even if its sample is the coordinator's, as later reads of it
// are not checked.
func (s *scanning) recall(path, part string, whole bool) (*known, error) {
	if s.was == nil || s.o.lenient() {
		return nil, nil
	}
	name := s.name(path, part)
	k, ok := s.was.files[name]
	if !ok {
		return nil, nil
	}
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, nil // reading it says what is wrong
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sameTime := info.ModTime().UnixNano() == k.time
	if !s.theirs && (size != k.size || !sameTime) {
		return nil, nil
	}
	var sample [32]byte
	if size == k.size {
		if sample, err = sampled(f, size); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if d := k.differs(size, sample); d != "" && s.theirs {
		return nil, fmt.Errorf("%w: %s: %s", ErrOtherData, path, d)
	} else if d != "" || whole && !sameTime {
		return nil, nil
	}
	k.time = info.ModTime().UnixNano()
	s.now.files[name] = k
	return &k, nil
}

// stamp is the size and time of a file before it is read.
type stamp struct{ size, time int64 }

func stampOf(info fs.FileInfo) stamp { return stamp{info.Size(), info.ModTime().UnixNano()} }

// remember keeps what reading a part of the file at path has found: its SHA-256
// in hex, and the source's memo, which speaks of so many bytes of other files
// too. was is its stamp before.
func (s *scanning) remember(path, part string, was stamp, content string, memo []byte, beside int64) error {
	name := s.name(path, part)
	k := known{size: was.size, beside: beside, time: was.time, memo: memo}
	if b, err := hex.DecodeString(content); err == nil {
		copy(k.content[:], b)
	}
	if s.was != nil {
		if err := s.verify(path, k, s.was.files[name]); err != nil {
			return err
		}
	}
	if s.o.lenient() { // what it keeps is not whole
		return nil
	}
	f, size, err := regular.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if size != was.size {
		return nil // it changes under our hands, so it is read again
	}
	if k.sample, err = sampled(f, size); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s.now.files[name], s.fresh = k, true
	return nil
}

// verify compares a file that was read whole with what an earlier Scan knows of it.
func (s *scanning) verify(path string, k, was known) error {
	switch {
	case was.content == [32]byte{} || was.content == k.content || k.content == [32]byte{}:
	case s.theirs:
		return fmt.Errorf("%w: %s: its SHA-256 is %x, the coordinator's file has %x", ErrOtherData, path, k.content[:6], was.content[:6])
	case s.o.lenient() && was.size == k.size && was.time == k.time:
		s.o.find("changed_in_place", path, "compare it with its source; what was kept of the earlier scan is forgotten",
			"its SHA-256 is %x and was %x when it was scanned, though its size and time are the same", k.content[:6], was.content[:6])
		s.o.watch.Scans.forget(s.now.path, s.now.recipe)
	}
	return nil
}

// racy is how close to the scan a file's last change may be: one that is changed
// again soon after could have the same time.
const racy = 2 * time.Second

// keep stores the Scan, also of an opening that has failed: what was read is read.
// The cache is a convenience, so that it cannot be written is no error.
func (s *scanning) keep() {
	d := s.o.watch.Scans
	if d == nil || !s.fresh || s.o.lenient() {
		return
	}
	old := &Scan{path: s.now.path, recipe: s.now.recipe, files: map[string]known{}}
	for name, k := range s.now.files {
		if k.time < s.began.Add(-racy).UnixNano() {
			old.files[name] = k
		}
	}
	if len(old.files) > 0 && old.bytes() >= d.Least {
		d.store(old)
	}
}

// scanned returns the Scan of an opening, for those who see the same files; nil
// where it would spare them little.
func (o *Opening) scanned() []*Scan {
	if o.scanning == nil || o.lenient() || o.watch.Scans == nil || o.scanning.now.bytes() < o.watch.Scans.Least {
		return nil
	}
	return []*Scan{o.scanning.now}
}
