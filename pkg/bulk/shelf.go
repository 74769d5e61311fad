package bulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	makers    = 4        // blobs in the making at a time
	madeBytes = 64 << 20 // of made blobs that are kept
)

// Shelf is the owner's half of a Blobs: what is on offer, and what makes the
// rest. A road finds items on it and sends pieces of them to those who ask.
type Shelf struct {
	ctx    context.Context // of the functions of OfferFunc
	cancel context.CancelFunc
	made   *maker

	mu     sync.Mutex
	offers map[string]*offer
	funcs  map[string]func(context.Context, string) ([]byte, error)
}

// offer is a blob that its owner holds.
type offer struct {
	size   int64
	sha256 [32]byte
	r      io.ReaderAt
	gone   bool
	use    sync.RWMutex // read while r is read; Withdraw waits for it
}

// NewShelf returns an empty shelf.
func NewShelf() *Shelf {
	s := &Shelf{offers: map[string]*offer{}, funcs: map[string]func(context.Context, string) ([]byte, error){}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.made = newMaker(s.ctx, madeBytes, makers)
	return s
}

// Close ends the functions of OfferFunc, by their context, and waits for them. Find
// must not be called any more.
func (s *Shelf) Close() {
	s.cancel()
	s.made.wait()
}

// Offer is that of Blobs.
func (s *Shelf) Offer(name string, size int64, hash string, r io.ReaderAt) error {
	if err := ValidName(name); err != nil {
		return err
	}
	if size < 0 || size > MaxBytes {
		return fmt.Errorf("blob %q: size %d: want 0 to %d", name, size, int64(MaxBytes))
	}
	o := &offer{size: size, r: r}
	if hash != "" {
		h, err := parseHash(hash)
		if err != nil {
			return fmt.Errorf("blob %q: %w", name, err)
		}
		o.sha256 = h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offers[name] != nil {
		return fmt.Errorf("blob %q is on offer already: withdraw it first", name)
	}
	s.offers[name] = o
	return nil
}

// Withdraw is that of Blobs.
func (s *Shelf) Withdraw(name string) {
	s.mu.Lock()
	o := s.offers[name]
	delete(s.offers, name)
	s.mu.Unlock()
	if o != nil {
		o.use.Lock()
		o.gone = true
		o.use.Unlock()
	}
}

// OfferFunc is that of Blobs.
func (s *Shelf) OfferFunc(prefix string, f func(ctx context.Context, name string) ([]byte, error)) error {
	if err := ValidName(prefix); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.funcs[prefix] != nil {
		return fmt.Errorf("blobs %q…: somebody answers for them already", prefix)
	}
	s.funcs[prefix] = f
	return nil
}

// Item is a blob that was found: its length, its hash (zeros where the owner
// knows none), and access to its bytes for as long as it is not withdrawn.
type Item struct {
	Size   int64
	SHA256 [32]byte
	name   string
	o      *offer
}

// Find looks name up, and has it made where a function answers for it. It waits
// until it is made, at most until ctx ends. Its error is for the one who asks:
// ErrUnknown, or else the owner's own (which becomes ErrOwner there).
func (s *Shelf) Find(ctx context.Context, name string) (Item, error) {
	s.mu.Lock()
	o := s.offers[name]
	var longest string
	for prefix := range s.funcs {
		if strings.HasPrefix(name, prefix) && len(prefix) > len(longest) {
			longest = prefix
		}
	}
	f := s.funcs[longest]
	s.mu.Unlock()
	switch {
	case o != nil:
	case f != nil:
		data, sum, err := s.made.get(ctx, name, f)
		if err != nil {
			return Item{}, err
		}
		o = &offer{size: int64(len(data)), sha256: sum, r: bytes.NewReader(data)}
	default:
		return Item{}, unknown(fmt.Sprintf("no blob named %q", name))
	}
	return Item{o.size, o.sha256, name, o}, nil
}

// Read fills dst, which must lie within the blob, with its bytes from offset
// on. The error is for the one who asks, as that of Find is.
func (i Item) Read(dst []byte, offset int64) error {
	i.o.use.RLock()
	defer i.o.use.RUnlock()
	if i.o.gone {
		return unknown(fmt.Sprintf("blob %q: withdrawn", i.name))
	}
	if len(dst) == 0 {
		return nil
	}
	n, err := i.o.r.ReadAt(dst, offset)
	if n == len(dst) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading blob %q at %d: %w", i.name, offset, err)
}

// unknown is ErrUnknown in the owner's words; the receiver puts its own before them.
type unknown string

func (u unknown) Error() string        { return string(u) }
func (u unknown) Is(target error) bool { return target == ErrUnknown }
