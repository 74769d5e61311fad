package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/vlaring/vlaring/internal/plain"
)

// Memory is a road between the members of one process, for tests. It behaves as
// one over a network does: an owner that is not there is waited for, chunks come
// one by one, and Interrupt loses what is under way.
type Memory struct {
	mu      sync.Mutex
	members map[string]*MemoryEnd
	lost    int // of the tries that follow
}

// NewMemory returns a road with nobody on it.
func NewMemory() *Memory { return &Memory{members: map[string]*MemoryEnd{}} }

// Join opens a member's end. An end of the same name takes the place of one that was before.
func (m *Memory) Join(member string) *MemoryEnd {
	e, _ := m.JoinWith(member, nil) // no error but that of stock
	return e
}

// JoinWith is Join; others are answered once stock, where it is not nil, has put on
// offer what is there from the beginning. Its error is JoinWith's.
func (m *Memory) JoinWith(member string, stock func(Blobs) error) (*MemoryEnd, error) {
	e := &MemoryEnd{road: m, member: member, shelf: NewShelf()}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	if stock != nil {
		if err := stock(e); err != nil {
			e.Close()
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members[member] = e
	return e, nil
}

// Interrupt has the next n requests for chunks go unanswered.
func (m *Memory) Interrupt(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = n
}

// MemoryEnd is a member's end of a Memory.
type MemoryEnd struct {
	road   *Memory
	member string
	shelf  *Shelf
	ctx    context.Context // of the end
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	serving sync.WaitGroup
}

var _ Blobs = (*MemoryEnd)(nil)

var (
	errClosed = errors.New("this end of the transfer is closed")
	errNobody = errors.New("nobody answers")
	errLost   = errors.New("lost on the way")
)

// Close stops serving, and ends what is being fetched. It waits until no offered
// blob is read any more and no function runs. It may be called twice.
func (e *MemoryEnd) Close() error {
	e.mu.Lock()
	was := e.closed
	e.closed = true
	e.mu.Unlock()
	if was {
		return nil
	}
	e.road.mu.Lock()
	if e.road.members[e.member] == e {
		delete(e.road.members, e.member)
	}
	e.road.mu.Unlock()
	e.cancel(errClosed)
	e.shelf.cancel()
	e.serving.Wait()
	e.shelf.Close()
	return nil
}

// Offer is that of Blobs.
func (e *MemoryEnd) Offer(name string, size int64, sha256 string, r io.ReaderAt) error {
	return e.shelf.Offer(name, size, sha256, r)
}

// OfferFunc is that of Blobs.
func (e *MemoryEnd) OfferFunc(prefix string, f func(ctx context.Context, name string) ([]byte, error)) error {
	return e.shelf.OfferFunc(prefix, f)
}

// Withdraw is that of Blobs.
func (e *MemoryEnd) Withdraw(name string) { e.shelf.Withdraw(name) }

// Fetch is that of Blobs.
func (e *MemoryEnd) Fetch(ctx context.Context, peer, name string, size int64, sha256 string, dst io.WriterAt) error {
	ctx, done := e.bound(ctx)
	defer done()
	return Try(e.try).Fetch(ctx, peer, name, size, sha256, dst)
}

// Get is that of Blobs.
func (e *MemoryEnd) Get(ctx context.Context, peer, name string, limit int64) ([]byte, error) {
	ctx, done := e.bound(ctx)
	defer done()
	return Try(e.try).Get(ctx, peer, name, limit)
}

// Offered are the names on offer, in order.
func (e *MemoryEnd) Offered() []string {
	e.shelf.mu.Lock()
	defer e.shelf.mu.Unlock()
	var names []string
	for n := range e.shelf.offers {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// bound is ctx, ended with the end as well.
func (e *MemoryEnd) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.ctx, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

func (e *MemoryEnd) try(ctx context.Context, peer, name string, offset int64) (Chunk, error) {
	m := e.road
	m.mu.Lock()
	owner, lost := m.members[peer], m.lost > 0
	if lost {
		m.lost--
	}
	m.mu.Unlock()
	switch {
	case lost:
		return Chunk{}, errLost
	case owner == nil:
		return Chunk{}, errNobody
	}
	type answer struct {
		c   Chunk
		err error
	}
	answered := make(chan answer, 1)
	go func() { // an owner that is stuck does not hold whoever asks
		c, err := owner.serve(ctx, name, offset)
		answered <- answer{c, err}
	}()
	select {
	case a := <-answered:
		return a.c, a.err
	case <-ctx.Done():
		return Chunk{}, context.Cause(ctx)
	}
}

func (e *MemoryEnd) serve(ctx context.Context, name string, offset int64) (Chunk, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return Chunk{}, errNobody
	}
	e.serving.Add(1)
	e.mu.Unlock()
	defer e.serving.Done()
	item, err := e.shelf.Find(ctx, name)
	switch {
	case ctx.Err() != nil:
		return Chunk{}, context.Cause(ctx)
	case e.ctx.Err() != nil:
		return Chunk{}, errNobody
	case err != nil:
		return Chunk{}, says(err)
	case offset > item.Size:
		return Chunk{}, &Refused{fmt.Sprintf("offset %d of a blob of %d bytes", offset, item.Size)}
	}
	data := make([]byte, min(ChunkBytes, item.Size-offset))
	if err := item.Read(data, offset); err != nil {
		return Chunk{}, says(err)
	}
	return Chunk{item.Size, item.SHA256, data}, nil
}

// says is an owner's error as the receiver has it: what is passed on are words,
// no more than a road would carry.
func says(err error) error {
	words := plain.Line(err.Error(), MaxWords)
	if errors.Is(err, ErrUnknown) {
		return fmt.Errorf("%w: %s", ErrUnknown, words)
	}
	return fmt.Errorf("%w: %s", ErrOwner, words)
}
