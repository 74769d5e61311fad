package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
)

// File is an object that is open for reading: an io.ReaderAt that is best read from
// front to back, for which it keeps one answer of the store open. All of it is of one
// version of the object.
type File struct {
	b      *Bucket
	ctx    context.Context
	object Object

	mu   sync.Mutex
	body *body // nil: none is open
	at   int64 // of body
}

// File opens an object for as long as ctx lasts.
func (b *Bucket) File(ctx context.Context, key string) (*File, error) {
	o, err := b.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	return b.FileOf(ctx, o), nil
}

// FileOf opens an object that a list or a look has found, in the version that was found.
func (b *Bucket) FileOf(ctx context.Context, o Object) *File { return &File{b: b, ctx: ctx, object: o} }

// Size is the object's.
func (f *File) Size() (int64, error) { return f.object.Size, nil }

// Object is what is known of it.
func (f *File) Object() Object { return f.object }

// Close ends the reading.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	return nil
}

func (f *File) drop() {
	if f.body != nil {
		f.body.Close()
		f.body = nil
	}
}

// ReadAt implements io.ReaderAt. What breaks off is taken up again where it was.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("objects: negative offset")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	want := p[:min(int64(len(p)), max(f.object.Size-off, 0))]
	for try := 0; n < len(want); {
		var k int
		k, err = f.read(want[n:], off+int64(n))
		n += k
		if err == nil {
			continue
		}
		f.drop()
		if k > 0 {
			try = 0
		}
		if try++; try >= tries || !Transient(err) {
			return n, err
		}
		select {
		case <-time.After(pause(try)):
		case <-f.ctx.Done():
			return n, context.Cause(f.ctx)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// pause is how long to wait before a try, from 1.
func pause(try int) time.Duration { return 250 * time.Millisecond << min(2*(try-1), 8) }

// read reads some bytes, of the answer that is open where they follow in it.
func (f *File) read(p []byte, off int64) (int, error) {
	if f.body == nil || f.at != off {
		f.drop()
		if err := f.open(off); err != nil {
			return 0, err
		}
		f.at = off
	}
	n, err := f.body.Read(p)
	f.at += int64(n)
	if n > 0 {
		return n, nil // an error comes again, if it is one
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		return 0, nil
	}
	if cause := f.body.stalled(); cause != nil {
		err = cause
	}
	return 0, f.b.broken(f.ctx, f.object.Key, fmt.Sprintf("the answer ends at byte %d of %d", off, f.object.Size), err)
}

// broken is an answer or a request that ended in its middle.
func (b *Bucket) broken(ctx context.Context, key, text string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &Error{Doing: "reading", What: b.at.In(key).Place(), Class: ErrAway, Text: fmt.Sprintf("%s: %v", text, err), Err: err, transient: true}
}

// open asks for all from a byte on.
func (f *File) open(off int64) error {
	o := minio.GetObjectOptions{}
	if off > 0 {
		if err := o.SetRange(off, 0); err != nil {
			return err
		}
	}
	if f.object.ETag != "" {
		if err := o.SetMatchETag(f.object.ETag); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(f.ctx)
	r, info, header, err := f.b.core.GetObject(ctx, f.b.at.Bucket, f.b.at.Key(f.object.Key), o)
	if err != nil {
		cancel(nil)
		return f.b.explain(f.ctx, "reading", f.object.Key, err)
	}
	f.body = newBody(r, cancel, ctx, f.b.stall)
	got := header.Get("Content-Range")
	switch {
	case f.object.ETag != "" && tag(info.ETag) != f.object.ETag:
		err = &Error{Doing: "reading", What: f.b.at.In(f.object.Key).Place(), Class: ErrChanged, Text: "the object was replaced while it was read"}
	case off > 0 && !strings.HasPrefix(got, fmt.Sprintf("bytes %d-%d/", off, f.object.Size-1)):
		err = f.b.wrong("reading", f.object.Key, fmt.Sprintf("it was asked for bytes %d to %d, and sends %.60q", off, f.object.Size-1, got))
	case off == 0 && info.Size != f.object.Size:
		err = f.b.wrong("reading", f.object.Key, fmt.Sprintf("it said that it has %d bytes, and sends %d", f.object.Size, info.Size))
	}
	if err != nil {
		f.drop()
	}
	return err
}

// body is an answer that is given up where nothing comes for a while.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	moved  atomic.Int64
	end    func()
}

func newBody(r io.ReadCloser, cancel context.CancelCauseFunc, ctx context.Context, stall time.Duration) *body {
	b := &body{ReadCloser: r, ctx: ctx, cancel: cancel}
	b.end = watch(&b.moved, stall, cancel)
	return b
}

var errStalled = errors.New("nothing moved on the connection for too long")

// watch cancels where a counter stands still for as long as stall says, until end.
func watch(moved *atomic.Int64, stall time.Duration, cancel context.CancelCauseFunc) (end func()) {
	var t *time.Timer
	var mu sync.Mutex
	last, over := moved.Load(), false
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(stall, func() {
		mu.Lock()
		defer mu.Unlock()
		now := moved.Load()
		switch {
		case over:
		case now == last:
			cancel(errStalled)
		default:
			last = now
			t.Reset(stall)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		t.Stop()
	}
}

// Read counts a reader's own pauses as movement: only a Read that brings nothing is a stall.
func (b *body) Read(p []byte) (int, error) {
	b.moved.Add(1)
	n, err := b.ReadCloser.Read(p)
	b.moved.Add(1)
	return n, err
}

func (b *body) stalled() error {
	if errors.Is(context.Cause(b.ctx), errStalled) {
		return errStalled
	}
	return nil
}

func (b *body) Close() error {
	b.end()
	b.cancel(nil)
	return b.ReadCloser.Close()
}
