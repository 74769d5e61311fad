package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Classes of errors, for errors.Is.
var (
	ErrNone    = errors.New("no checkpoint")
	ErrCorrupt = errors.New("corrupt checkpoint")
	ErrAway    = errors.New("the store cannot be asked") // nothing is known of what is in it
)

// Store keeps the checkpoints of one run. A checkpoint is there whole or not at
// all: what a Writer writes is seen by nobody before Commit returned nil.
// Methods are safe for concurrent use; a Writer belongs to one goroutine, but
// its files may be written by many.
type Store interface {
	// Begin starts the checkpoint of a step. One that exists already stays
	// until the new one is committed, which takes its place.
	Begin(step uint64) (Writer, error)
	// List returns what is stored, oldest step first, damaged ones too. It reads
	// manifests and sizes, not contents: Verify does.
	List() ([]Entry, error)
	// Open opens a stored checkpoint. A step that is not there is ErrNone, a
	// manifest that does not check ErrCorrupt.
	Open(step uint64) (Reader, error)
	// Remove deletes a checkpoint; one that is not there is no error.
	Remove(step uint64) error
}

// Writer writes one checkpoint.
type Writer interface {
	// Create makes a file of exactly size bytes. Every one must be closed
	// before Commit.
	Create(name string, size int64) (File, error)
	// Commit makes the checkpoint durable and visible. After an error what was
	// stored before is untouched, and the new one is not there; or, if it was
	// the last step that failed, it is there and whole. Either way the Writer
	// is over.
	Commit(m Manifest) error
	// Abort discards the checkpoint. After Commit it does nothing.
	Abort() error
}

// File is a file of a checkpoint in the making. WriteAt may be called from many
// goroutines, in any order, and again for the same place; Write continues after
// the last Write. Until Close, ReadAt reads what was written. Close reports what
// the disk says, a full one included.
type File interface {
	io.Writer
	io.WriterAt
	io.ReaderAt
	io.Closer
}

// Reader reads one stored checkpoint.
type Reader interface {
	Manifest() Manifest
	// File returns a file of the checkpoint and its size. It is valid until
	// Close. The contents are as the disk has them: hash them, or Verify first.
	File(name string) (io.ReaderAt, int64, error)
	io.Closer
}

// State is what a look at a checkpoint's manifest and file sizes tells.
type State int

// The states.
const (
	Complete State = iota // manifest checks, every file there in its size
	Damaged
)

func (s State) String() string {
	if s == Complete {
		return "complete"
	}
	return "damaged"
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Entry is one stored checkpoint in a list.
type Entry struct {
	Step    uint64    `json:"step"`
	Dir     string    `json:"dir"`     // or its address, in an object store
	Size    int64     `json:"size"`    // bytes of all files but the manifest
	Created time.Time `json:"created"` // zero if the manifest cannot be read
	State   State     `json:"state"`
	Problem string    `json:"problem,omitempty"` // why it is Damaged
	Latest  bool      `json:"latest,omitempty"`  // it was committed last

	Training *Training `json:"training,omitempty"` // of the manifest
}

// window guards the writes to a file of fixed size and carries Write's offset.
type window struct {
	name string
	size int64
	at   int64
}

func (w *window) check(n int, off int64) error {
	if off < 0 || off > w.size || int64(n) > w.size-off {
		return fmt.Errorf("%s: write of %d bytes at %d is outside its %d bytes", w.name, n, off, w.size)
	}
	return nil
}
