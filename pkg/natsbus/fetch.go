package natsbus

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// Fetch is that of bulk.Blobs.
func (b *Blobs) Fetch(ctx context.Context, peer, name string, size int64, hash string, dst io.WriterAt) error {
	ctx, done := b.bound(ctx)
	defer done()
	return bulk.Try(b.try).Fetch(ctx, peer, name, size, hash, dst)
}

// Get is that of bulk.Blobs.
func (b *Blobs) Get(ctx context.Context, peer, name string, limit int64) ([]byte, error) {
	ctx, done := b.bound(ctx)
	defer done()
	return bulk.Try(b.try).Get(ctx, peer, name, limit)
}

// bound is ctx, ended with b as well.
func (b *Blobs) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(b.ctx, func() { cancel(nats.ErrConnectionClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// try asks once for one chunk.
func (b *Blobs) try(ctx context.Context, peer, name string, offset int64) (bulk.Chunk, error) {
	if err := cluster.ValidName("peer", peer); err != nil {
		return bulk.Chunk{}, bulk.Final(err)
	}
	m, err := b.conn.bulkRequest(ctx, blobSubject(b.conn.opt.Job, peer), blobRequest{name, offset, bulk.ChunkBytes}.encode())
	switch {
	case err == nil:
	case errors.Is(err, nats.ErrConnectionClosed), b.conn.Err() != nil:
		return bulk.Chunk{}, bulk.Final(err)
	case errors.Is(err, nats.ErrNoResponders):
		return bulk.Chunk{}, cluster.ErrNoResponder
	default:
		return bulk.Chunk{}, err
	}
	r, err := decodeReply(m.Data)
	switch {
	case err != nil:
		return bulk.Chunk{}, err
	case r.status == blobBadRequest:
		return bulk.Chunk{}, &bulk.Refused{Words: words(r.data)}
	case r.offset != offset:
		return bulk.Chunk{}, fmt.Errorf("%w: the chunk at %d in place of the one at %d", errWire, r.offset, offset)
	case r.status == blobUnknown:
		return bulk.Chunk{}, fmt.Errorf("%w: %s", bulk.ErrUnknown, words(r.data))
	case r.status == blobFailed:
		return bulk.Chunk{}, fmt.Errorf("%w: %s", bulk.ErrOwner, words(r.data))
	}
	return bulk.Chunk{Total: r.total, SHA256: r.sha256, Data: r.data}, nil
}

// words are what the owner of a blob says in place of it.
func words(b []byte) string { return plain.Line(string(b), maxWords) }

// maxWords bounds the texts of others that are passed on, in bytes.
const maxWords = 2000
