package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/bulk"
)

const (
	blobSlots   = 8   // replies that are read and sent at a time, a chunk each
	blobWaiting = 256 // requests in work, most of them waiting for their blob to be made
)

// Blobs is a member's end of the bulk transfer: it answers requests for pieces
// of what lies on its shelf, and asks others for pieces of theirs.
type Blobs struct {
	*bulk.Shelf
	conn   *Conn
	sub    *nats.Subscription
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	slots  chan []byte
	queue  chan struct{}

	mu     sync.Mutex
	closed bool
}

var _ bulk.Blobs = (*Blobs)(nil)

// Blobs opens this member's end of the bulk transfer. Others are answered once stock,
// where it is not nil, has put on offer what is there from the beginning.
func (c *Conn) Blobs(stock func(bulk.Blobs) error) (*Blobs, error) {
	b := &Blobs{Shelf: bulk.NewShelf(), conn: c, slots: make(chan []byte, blobSlots), queue: make(chan struct{}, blobWaiting)}
	for range blobSlots {
		b.slots <- nil // made when first used
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	var err error
	if stock != nil {
		err = stock(b)
	}
	if err == nil {
		b.sub, err = subscribe(c.bulk, blobSubject(c.opt.Job, c.opt.Member), b.request)
	}
	if err == nil {
		err = c.adopt(b)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close stops serving and ends what is being fetched. It waits until no
// offered blob is read any more and no maker runs.
func (b *Blobs) Close() error {
	b.once.Do(func() {
		b.conn.release(b)
		if b.sub != nil {
			b.sub.Unsubscribe()
		}
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		b.cancel()
		b.wg.Wait()
		b.Shelf.Close()
	})
	return nil
}

// request runs on the subscription's goroutine: what is too much waits in it.
func (b *Blobs) request(m *nats.Msg) {
	if m.Reply == "" {
		return
	}
	select {
	case b.queue <- struct{}{}:
	case <-b.ctx.Done():
		return
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.queue
		return
	}
	b.wg.Add(1)
	b.mu.Unlock()
	go func() {
		defer b.wg.Done()
		defer func() { <-b.queue }()
		b.serve(m)
	}()
}

// serve answers one request. A reply that cannot be sent is lost: the asker
// asks again.
func (b *Blobs) serve(m *nats.Msg) {
	q, err := decodeRequest(m.Data)
	if err != nil {
		b.refuse(m, blobReply{status: blobBadRequest}, err)
		return
	}
	item, err := b.Find(b.ctx, q.name)
	if b.ctx.Err() != nil {
		return
	}
	if err != nil {
		b.refuse(m, blobReply{status: statusOf(err), offset: q.offset}, err)
		return
	}
	var slot []byte
	select {
	case slot = <-b.slots:
	case <-b.ctx.Done():
		return
	}
	defer func() { b.slots <- slot }()
	if slot == nil {
		slot = make([]byte, replyBytes+bulk.ChunkBytes)
	}
	if q.offset > item.Size {
		b.refuse(m, blobReply{status: blobBadRequest, offset: q.offset}, fmt.Errorf("offset %d of a blob of %d bytes", q.offset, item.Size))
		return
	}
	buf := slot[:replyBytes+int(min(int64(q.length), item.Size-q.offset))]
	if err := item.Read(buf[replyBytes:], q.offset); err != nil {
		b.refuse(m, blobReply{status: statusOf(err), offset: q.offset}, err)
		return
	}
	blobReply{total: item.Size, offset: q.offset, sha256: item.SHA256}.seal(buf)
	b.conn.bulk.Publish(m.Reply, buf)
}

// statusOf is how an owner's error travels.
func statusOf(err error) blobStatus {
	if errors.Is(err, bulk.ErrUnknown) {
		return blobUnknown
	}
	return blobFailed
}

// refuse replies with an error in words.
func (b *Blobs) refuse(m *nats.Msg, r blobReply, err error) {
	text := strings.ToValidUTF8(err.Error(), "?")
	text = strings.ToValidUTF8(text[:min(len(text), bulk.MaxWords)], "")
	buf := append(make([]byte, replyBytes), text...)
	r.seal(buf)
	b.conn.bulk.Publish(m.Reply, buf)
}
