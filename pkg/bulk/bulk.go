// Package bulk is how members of a job hand each other what is too large for a
// message: checkpoints, the state of a step, a teacher's weights, samples.
//
// The receiver pulls, in chunks; the owner only holds still, and remembers
// nothing of who pulls what. So either may come late, be cut off or be replaced
// by another of its name, and the transfer goes on where it was.
//
//	owner                                      receiver
//	Offer, OfferFunc ─> Shelf                  Fetch, Get
//	                      ▲ chunk at offset       │ transfer: a window of chunks, in order, hashed
//	                      └──── a road's Try ─────┘ ask: one chunk, again and again until it is there
//
// Blobs is the seam that those who move state see. What all roads share is here:
// the Shelf of an owner, and Fetch and Get of a receiver, which want of a road no
// more than a Try: one attempt at one chunk. Memory is the road for tests, pkg/natsbus
// has the real one, and bulktest.Run is what each of them must pass.
package bulk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Blobs is one member's end of the bulk transfer of its job. All methods may be
// called from several goroutines.
//
// Names have 1 to MaxName bytes of UTF-8. A hash is the SHA-256 of a whole blob, in hex.
type Blobs interface {
	// Offer lets peers fetch size bytes of r under name until Withdraw. Without a
	// hash peers have the checksums of chunks alone. r is read from several
	// goroutines at a time. A name that is on offer already is an error.
	Offer(name string, size int64, sha256 string, r io.ReaderAt) error
	// OfferFunc answers for all names that begin with prefix, unless they are on
	// offer themselves, with what f makes of them. f may run several times at
	// once, for different names; what it makes of a name must always be the same,
	// as it is made again when it has been dropped from memory. Its error goes to
	// the one who asks, in words. Of several prefixes the longest counts.
	OfferFunc(prefix string, f func(ctx context.Context, name string) ([]byte, error)) error
	// Withdraw ends an offer. It waits for reads of it that have begun: once it
	// returns, the blob is not read any more. A name that is not on offer is no error.
	Withdraw(name string)

	// Fetch copies the blob that peer offers as name to dst, and checks its length
	// and hash; an empty hash leaves it to the one that the owner sends along.
	// It goes on through lost messages and connections, and while the peer is not
	// there, until ctx ends. dst is written in order by one goroutine; after an
	// error it holds a part of the blob, or a wrong one. What peer says is final:
	// ErrUnknown, ErrOwner, ErrSize, ErrHash, ErrChanged.
	Fetch(ctx context.Context, peer, name string, size int64, sha256 string, dst io.WriterAt) error
	// Get fetches a blob of unknown size, of at most limit bytes, whole.
	Get(ctx context.Context, peer, name string, limit int64) ([]byte, error)
}

// Bounds of the protocol. Every road has the same.
const (
	ChunkBytes = 512 << 10 // of every chunk of a blob but its last
	MaxBytes   = 1 << 50   // of a blob
	MaxName    = 256       // bytes of a name
	MaxWords   = 1 << 10   // bytes of what an owner says in place of a blob
)

// Errors of a fetch that asking again would not mend.
var (
	// ErrUnknown says that the owner has no blob of the name.
	ErrUnknown = errors.New("no such blob")
	// ErrHash says that what came is not what was announced.
	ErrHash = errors.New("SHA-256 differs")
	// ErrSize says that a blob has another length than expected, or a forbidden one.
	ErrSize = errors.New("wrong size")
	// ErrChanged says that the owner replaced the blob in the middle of the transfer.
	ErrChanged = errors.New("the blob has changed in the middle of the transfer")
	// ErrOwner says that the owner could not read or make the blob.
	ErrOwner = errors.New("its owner says")
)

// ValidName says whether a blob, or a prefix of blobs, can have a name.
func ValidName(name string) error {
	if len(name) < 1 || len(name) > MaxName || !utf8.ValidString(name) {
		return fmt.Errorf("blob name %.80q: want 1 to %d bytes of UTF-8", name, MaxName)
	}
	return nil
}

func parseHash(s string) (h [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return h, fmt.Errorf("SHA-256 %.80q: want 64 hex digits", s)
	}
	return [32]byte(b), nil
}

// Buffer is a fixed piece of memory to fetch into and to offer.
type Buffer []byte

// WriteAt refuses what does not fit.
func (b Buffer) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(b)) {
		return 0, fmt.Errorf("write of %d bytes at %d is outside the %d announced", len(p), off, len(b))
	}
	return copy(b[off:], p), nil
}

// ReadAt is io.ReaderAt's.
func (b Buffer) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
