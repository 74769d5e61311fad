package natsbus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/cluster"
)

const (
	fetchWindow   = 8 // chunks in flight of one transfer
	fetchRefusals = 3 // of one chunk: then it is not by accident
	fetchPause    = 20 * time.Millisecond
	fetchPauses   = time.Second      // the longest pause between two tries
	fetchTimeout  = 5 * time.Second  // of the first try
	fetchLongest  = 40 * time.Second // of later ones: a blob may be slow in the making, or the path
)

var (
	// ErrUnknownBlob says that the owner has no blob of the name.
	ErrUnknownBlob = errors.New("no such blob")
	// ErrBlobHash says that what came is not what was announced.
	ErrBlobHash = errors.New("SHA-256 differs")
	// ErrBlobSize says that a blob has another length than expected, or a forbidden one.
	ErrBlobSize = errors.New("wrong size")
	// ErrBlobChanged says that the owner replaced the blob in the middle of the transfer.
	ErrBlobChanged = errors.New("the blob has changed in the middle of the transfer")
	// ErrBlobOwner says that the owner could not read or make the blob.
	ErrBlobOwner = errors.New("its owner says")
)

// Fetch copies the blob that peer offers as name to dst, and checks its length
// and hash; an empty hash leaves it to the one that the owner sends along, and
// to the chunks' checksums. It goes on through lost messages and connections,
// and while the peer is not there, until ctx ends. dst is written in order by
// one goroutine; after an error it holds a part of the blob, or a wrong one.
func (b *Blobs) Fetch(ctx context.Context, peer, name string, size int64, hash string, dst io.WriterAt) error {
	want := expect{size: size, limit: size}
	if hash != "" {
		h, err := parseHash(hash)
		if err != nil {
			return fmt.Errorf("blob %q of %s: %w", name, peer, err)
		}
		want.sha256 = h
	}
	if size < 0 || size > maxBlobSize {
		return fmt.Errorf("blob %q of %s: size %d: want 0 to %d", name, peer, size, int64(maxBlobSize))
	}
	return b.transfer(ctx, peer, name, want, func(int64) io.WriterAt { return dst })
}

// Get fetches a blob of unknown size, of at most limit bytes, whole.
func (b *Blobs) Get(ctx context.Context, peer, name string, limit int64) ([]byte, error) {
	var buf memory
	err := b.transfer(ctx, peer, name, expect{size: -1, limit: limit}, func(size int64) io.WriterAt {
		buf = make(memory, size)
		return buf
	})
	if err != nil {
		return nil, err
	}
	return buf, nil
}

type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// expect is what a blob must be: size is -1 where it is unknown, and a hash of
// zeros is none.
type expect struct {
	size   int64
	limit  int64
	sha256 [32]byte
}

// transfer fetches the first chunk, which tells the blob's length, and then
// the others, a window of them at a time:
//
//	written … next to be written … asked for … end
//	                └── fetchWindow at most ──┘
func (b *Blobs) transfer(ctx context.Context, peer, name string, want expect, open func(size int64) io.WriterAt) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("blob %q of %s: %w", name, peer, err)
		}
	}()
	if err := validBlobName(name); err != nil {
		return err
	}
	if err := ValidName("peer", peer); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(b.ctx, func() { cancel(nats.ErrConnectionClosed) })
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	defer stop()

	first, err := b.chunk(ctx, peer, name, 0)
	if err != nil {
		return err
	}
	if want.size >= 0 && first.total != want.size {
		return fmt.Errorf("%w: %d bytes, want %d", ErrBlobSize, first.total, want.size)
	}
	if first.total > want.limit {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrBlobSize, first.total, want.limit)
	}
	if want.sha256 == [32]byte{} {
		want.sha256 = first.sha256
	}
	dst := open(first.total)

	type result struct {
		blobReply
		err error
	}
	count := max(1, (first.total+maxBlobChunk-1)/maxBlobChunk)
	var window [fetchWindow]chan result
	for i := range window {
		window[i] = make(chan result, 1)
	}
	window[0] <- result{blobReply: first}
	sum := sha256.New()
	for i, asked := int64(0), int64(1); i < count; i++ {
		for ; asked < count && asked < i+fetchWindow; asked++ {
			at, to := asked*maxBlobChunk, window[asked%fetchWindow]
			wg.Add(1)
			go func() {
				defer wg.Done()
				r, err := b.chunk(ctx, peer, name, at)
				to <- result{r, err}
			}()
		}
		r := <-window[i%fetchWindow]
		if r.err != nil {
			return r.err
		}
		if r.total != first.total || r.sha256 != first.sha256 {
			return fmt.Errorf("%w: %d bytes, then %d", ErrBlobChanged, first.total, r.total)
		}
		at := i * maxBlobChunk
		if n := min(maxBlobChunk, first.total-at); int64(len(r.data)) != n {
			return fmt.Errorf("%w: a chunk of %d bytes at %d, want %d", ErrBlobSize, len(r.data), at, n)
		}
		sum.Write(r.data)
		if _, err := dst.WriteAt(r.data, at); err != nil {
			return fmt.Errorf("writing at %d: %w", at, err)
		}
	}
	if got := [32]byte(sum.Sum(nil)); want.sha256 != [32]byte{} && got != want.sha256 {
		return fmt.Errorf("%w: %s, want %s", ErrBlobHash, hex.EncodeToString(got[:]), hex.EncodeToString(want.sha256[:]))
	}
	return nil
}

// chunk asks for one chunk until there is an answer that counts or ctx ends.
func (b *Blobs) chunk(ctx context.Context, peer, name string, offset int64) (blobReply, error) {
	subject := blobSubject(b.conn.opt.Job, peer)
	request := blobRequest{name, offset, maxBlobChunk}.encode()
	timeout, pause, refused := fetchTimeout, fetchPause, 0
	var last error
	for {
		try, cancel := context.WithTimeout(ctx, timeout)
		m, err := b.conn.bulkRequest(try, subject, request)
		cancel()
		if ctx.Err() != nil {
			return blobReply{}, gaveUp(ctx, last)
		}
		var r blobReply
		if err == nil {
			r, err = decodeReply(m.Data)
			if err == nil && r.status != blobBadRequest && r.offset != offset {
				err = fmt.Errorf("%w: the chunk at %d in place of the one at %d", errWire, r.offset, offset)
			}
		}
		switch {
		case err == nil && r.status == blobOK:
			return r, nil
		case err == nil && r.status == blobUnknown:
			return r, fmt.Errorf("%w: %s", ErrUnknownBlob, words(r.data))
		case err == nil && r.status == blobFailed:
			return r, fmt.Errorf("%w: %s", ErrBlobOwner, words(r.data))
		case err == nil: // the request may have been damaged on its way
			if refused++; refused == fetchRefusals {
				return r, fmt.Errorf("%w: refused: %s", ErrBlobOwner, words(r.data))
			}
			last = fmt.Errorf("refused: %s", words(r.data))
		case errors.Is(err, nats.ErrConnectionClosed), b.conn.Err() != nil:
			return r, err
		case errors.Is(err, nats.ErrNoResponders):
			last = cluster.ErrNoResponder
		case errors.Is(err, context.DeadlineExceeded):
			last = fmt.Errorf("no answer within %v", timeout)
			timeout = min(2*timeout, fetchLongest)
		default: // disconnected, or damaged
			last = err
		}
		rest := time.NewTimer(pause)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return blobReply{}, gaveUp(ctx, last)
		}
		pause = min(2*pause, fetchPauses)
	}
}

// words are what the owner of a blob says in place of it.
func words(b []byte) string { return plain.Line(string(b), maxWords) }

// maxWords bounds the texts of others that are passed on, in bytes.
const maxWords = 2000

func gaveUp(ctx context.Context, last error) error {
	if last == nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w (last: %w)", context.Cause(ctx), last)
}
