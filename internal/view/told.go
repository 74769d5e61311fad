package view

import (
	"io"
	"sync"
)

// Told passes on to W, and remembers that not all of it could be written: a table of which
// half is missing, for the disk was full, must not end as if it were whole. It may be
// written to by several goroutines at once.
type Told struct {
	W io.Writer

	mu  sync.Mutex
	err error
}

// Write is io.Writer's.
func (t *Told) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.W.Write(p)
	if t.err == nil {
		t.err = err
	}
	return n, err
}

// Err is the first error of W; nil: all has been written.
func (t *Told) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
