package view

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

// Watched is an output that says once that nobody can read it any more, and
// then takes everything: what ends the run is that word, not a write.
type Watched struct {
	w    io.Writer
	gone func()
	once sync.Once
}

// NewWatched writes to w, and calls gone, from whoever writes, once that fails
// for the want of a reader.
//
// Of a Told it writes to what that passes on to: a run is done though nobody reads of it.
func NewWatched(w io.Writer, gone func()) *Watched {
	if t, ok := w.(*Told); ok {
		w = t.W
	}
	return &Watched{w: w, gone: gone}
}

func (o *Watched) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) || errors.Is(err, io.ErrClosedPipe) {
		o.once.Do(o.gone)
		return len(p), nil
	}
	return n, err
}

// file is the file that w writes to, or nil.
func file(w io.Writer) *os.File {
	if o, ok := w.(*Outlet); ok {
		w = o.w
	}
	if o, ok := w.(*Watched); ok {
		w = o.w
	}
	f, _ := w.(*os.File)
	return f
}
