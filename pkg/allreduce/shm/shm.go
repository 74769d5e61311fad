package shm

import (
	"errors"
	"fmt"
)

// ErrUnsupported is what Open returns where processes cannot share memory this way.
var ErrUnsupported = errors.New("sharing memory between workers needs Linux")

// Layout fixes the shape of a segment. All ranks of a job have the same.
type Layout struct {
	Words  int // of 8 bytes, that a rank publishes
	Floats int // of a slab
}

// limits of a Layout, and of the slabs of one segment.
const (
	maxWords  = 1 << 24
	maxFloats = 1 << 40
	maxSlabs  = 1 << 20
)

func (l Layout) check() error {
	if l.Words < 1 || l.Words > maxWords || l.Floats < 1 || l.Floats > maxFloats {
		return fmt.Errorf("shared memory of %d words and slabs of %d floats: want 1 to %d and 1 to %d", l.Words, l.Floats, maxWords, maxFloats)
	}
	return nil
}

// PeerError says which rank of a team cannot share memory with this one, and why.
type PeerError struct {
	Local int // its place in the team
	Err   error
}

func (e *PeerError) Error() string { return e.Err.Error() }
func (e *PeerError) Unwrap() error { return e.Err }
