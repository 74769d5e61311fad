package bulk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	window    = 8 // chunks in flight of one transfer
	refusals  = 3 // of one chunk: then it is not by accident
	firstWait = 20 * time.Millisecond
	mostWait  = time.Second      // the longest pause between two tries
	firstTry  = 5 * time.Second  // how long an answer is waited for at first
	mostTry   = 40 * time.Second // and at most: a blob may be slow in the making, or the path
)

// Chunk is a piece of a blob with what its owner says of the whole: by length
// and hash the receiver knows chunks that belong together.
type Chunk struct {
	Total  int64    // bytes of the blob
	SHA256 [32]byte // of the blob; zeros where the owner knows none
	Data   []byte   // ChunkBytes of it from the offset that was asked for, or what is left there
}

// Try asks peer once for the chunk of a blob that begins at offset, and waits
// for the answer until ctx ends, not longer. An error is tried again for as long
// as the fetch has time, unless it is Final, or one that only the peer can mend:
// ErrUnknown and ErrOwner. A Refused error is tried a few times.
type Try func(ctx context.Context, peer, name string, offset int64) (Chunk, error)

// Final marks an error that asking again does not mend, such as that of a road
// which is closed.
func Final(err error) error { return final{err} }

type final struct{ error }

func (e final) Unwrap() error { return e.error }

// Refused is a peer's answer to a request that it did not understand: it may
// have been damaged on its way, or be of another version.
type Refused struct{ Words string }

func (e *Refused) Error() string { return "refused: " + e.Words }

// Fetch is that of Blobs, over a road that try knows.
func (try Try) Fetch(ctx context.Context, peer, name string, size int64, hash string, dst io.WriterAt) error {
	want := expect{size: size, limit: size}
	if hash != "" {
		h, err := parseHash(hash)
		if err != nil {
			return fmt.Errorf("blob %q of %s: %w", name, peer, err)
		}
		want.sha256 = h
	}
	if size < 0 || size > MaxBytes {
		return fmt.Errorf("blob %q of %s: size %d: want 0 to %d", name, peer, size, int64(MaxBytes))
	}
	return try.transfer(ctx, peer, name, want, func(int64) io.WriterAt { return dst })
}

// Get is that of Blobs, over a road that try knows.
func (try Try) Get(ctx context.Context, peer, name string, limit int64) ([]byte, error) {
	var buf Buffer
	err := try.transfer(ctx, peer, name, expect{size: -1, limit: limit}, func(size int64) io.WriterAt {
		buf = make(Buffer, size)
		return buf
	})
	if err != nil {
		return nil, err
	}
	return buf, nil
}

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
//	                └────── window at most ───┘
func (try Try) transfer(ctx context.Context, peer, name string, want expect, open func(size int64) io.WriterAt) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("blob %q of %s: %w", name, peer, err)
		}
	}()
	if err := ValidName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	first, err := try.ask(ctx, peer, name, 0)
	if err != nil {
		return err
	}
	if want.size >= 0 && first.Total != want.size {
		return fmt.Errorf("%w: %d bytes, want %d", ErrSize, first.Total, want.size)
	}
	if first.Total > want.limit {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrSize, first.Total, want.limit)
	}
	if want.sha256 == [32]byte{} {
		want.sha256 = first.SHA256
	}
	dst := open(first.Total)

	type result struct {
		Chunk
		err error
	}
	count := max(1, (first.Total+ChunkBytes-1)/ChunkBytes)
	var slots [window]chan result
	for i := range slots {
		slots[i] = make(chan result, 1)
	}
	slots[0] <- result{Chunk: first}
	sum := sha256.New()
	for i, asked := int64(0), int64(1); i < count; i++ {
		for ; asked < count && asked < i+window; asked++ {
			at, to := asked*ChunkBytes, slots[asked%window]
			wg.Add(1)
			go func() {
				defer wg.Done()
				c, err := try.ask(ctx, peer, name, at)
				to <- result{c, err}
			}()
		}
		r := <-slots[i%window]
		if r.err != nil {
			return r.err
		}
		if r.Total != first.Total || r.SHA256 != first.SHA256 {
			return fmt.Errorf("%w: %d bytes, then %d", ErrChanged, first.Total, r.Total)
		}
		at := i * ChunkBytes
		if n := min(ChunkBytes, first.Total-at); int64(len(r.Data)) != n {
			return fmt.Errorf("%w: a chunk of %d bytes at %d, want %d", ErrSize, len(r.Data), at, n)
		}
		sum.Write(r.Data)
		if _, err := dst.WriteAt(r.Data, at); err != nil {
			return fmt.Errorf("writing at %d: %w", at, err)
		}
	}
	if got := [32]byte(sum.Sum(nil)); want.sha256 != [32]byte{} && got != want.sha256 {
		return fmt.Errorf("%w: %s, want %s", ErrHash, hex.EncodeToString(got[:]), hex.EncodeToString(want.sha256[:]))
	}
	return nil
}

// ask tries for one chunk until there is an answer that counts or ctx ends.
func (try Try) ask(ctx context.Context, peer, name string, offset int64) (Chunk, error) {
	timeout, pause, refused := firstTry, firstWait, 0
	var last error
	for {
		once, cancel := context.WithTimeout(ctx, timeout)
		c, err := try(once, peer, name, offset)
		cancel()
		var no *Refused
		var end final
		switch {
		case ctx.Err() != nil:
			return Chunk{}, gaveUp(ctx, last)
		case err == nil:
			return c, nil
		case errors.As(err, &end), errors.Is(err, ErrUnknown), errors.Is(err, ErrOwner):
			return Chunk{}, err
		case errors.As(err, &no):
			if refused++; refused == refusals {
				return Chunk{}, fmt.Errorf("%w: %w", ErrOwner, err)
			}
			last = err
		case errors.Is(err, context.DeadlineExceeded):
			last = fmt.Errorf("no answer within %v", timeout)
			timeout = min(2*timeout, mostTry)
		default: // disconnected, damaged, or nobody there
			last = err
		}
		rest := time.NewTimer(pause)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return Chunk{}, gaveUp(ctx, last)
		}
		pause = min(2*pause, mostWait)
	}
}

func gaveUp(ctx context.Context, last error) error {
	if last == nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w (last: %w)", context.Cause(ctx), last)
}
