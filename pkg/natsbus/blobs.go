package natsbus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

const (
	blobSlots   = 8        // replies that are read and sent at a time, a chunk each
	blobWaiting = 256      // requests in work, most of them waiting for their blob to be made
	blobMakers  = 4        // blobs in the making at a time
	blobCache   = 64 << 20 // bytes of made blobs that are kept
)

// Blobs moves bulk state between the members of a job. The receiver pulls, in
// chunks; the owner remembers nothing of who pulls what.
type Blobs struct {
	conn   *Conn
	sub    *nats.Subscription
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	slots  chan []byte
	queue  chan struct{}
	made   *maker

	mu     sync.Mutex
	closed bool
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

// Blobs opens this member's end of the bulk transfer.
func (c *Conn) Blobs() (*Blobs, error) {
	b := &Blobs{conn: c, slots: make(chan []byte, blobSlots), queue: make(chan struct{}, blobWaiting),
		offers: map[string]*offer{}, funcs: map[string]func(context.Context, string) ([]byte, error){}}
	for range blobSlots {
		b.slots <- nil // made when first used
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.made = newMaker(b.ctx, blobCache, blobMakers)
	sub, err := subscribe(c.bulk, blobSubject(c.opt.Job, c.opt.Member), b.request)
	if err != nil {
		b.cancel()
		return nil, err
	}
	b.sub = sub
	if err := c.adopt(b); err != nil {
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
		b.made.wait()
	})
	return nil
}

// Offer lets peers fetch size bytes of r under name until Withdraw. hash is
// the SHA-256 of them in hex; empty leaves peers to the checksums of chunks.
// r is read from several goroutines at a time.
func (b *Blobs) Offer(name string, size int64, hash string, r io.ReaderAt) error {
	if err := validBlobName(name); err != nil {
		return err
	}
	if size < 0 || size > maxBlobSize {
		return fmt.Errorf("blob %q: size %d: want 0 to %d", name, size, int64(maxBlobSize))
	}
	o := &offer{size: size, r: r}
	if hash != "" {
		h, err := parseHash(hash)
		if err != nil {
			return fmt.Errorf("blob %q: %w", name, err)
		}
		o.sha256 = h
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.offers[name] != nil {
		return fmt.Errorf("blob %q is on offer already: withdraw it first", name)
	}
	b.offers[name] = o
	return nil
}

// Withdraw ends an offer. Once it returns the blob is not read any more. A
// name that is not on offer is no error.
func (b *Blobs) Withdraw(name string) {
	b.mu.Lock()
	o := b.offers[name]
	delete(b.offers, name)
	b.mu.Unlock()
	if o != nil {
		o.use.Lock()
		o.gone = true
		o.use.Unlock()
	}
}

// OfferFunc answers for all names that begin with prefix, unless they are on
// offer themselves, with what f makes of them. f may run several times at
// once, for different names; what it makes of a name must always be the same,
// as it is made again when it has been dropped from memory. Its error goes to
// the one who asks, in words. Of several prefixes the longest counts.
func (b *Blobs) OfferFunc(prefix string, f func(ctx context.Context, name string) ([]byte, error)) error {
	if err := validBlobName(prefix); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.funcs[prefix] != nil {
		return fmt.Errorf("blobs %q…: somebody answers for them already", prefix)
	}
	b.funcs[prefix] = f
	return nil
}

// find looks a name up: an offer, a maker, or neither.
func (b *Blobs) find(name string) (*offer, func(context.Context, string) ([]byte, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.offers[name]; o != nil {
		return o, nil
	}
	var best string
	for prefix := range b.funcs {
		if strings.HasPrefix(name, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return nil, b.funcs[best]
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
	o, f := b.find(q.name)
	switch {
	case f != nil:
		data, sum, err := b.made.get(b.ctx, q.name, f)
		if b.ctx.Err() != nil {
			return
		}
		if err != nil {
			b.refuse(m, blobReply{status: blobFailed, offset: q.offset}, err)
			return
		}
		o = &offer{size: int64(len(data)), sha256: sum, r: bytes.NewReader(data)}
	case o == nil:
		b.refuse(m, blobReply{status: blobUnknown, offset: q.offset}, fmt.Errorf("no blob named %q", q.name))
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
		slot = make([]byte, replyBytes+maxBlobChunk)
	}
	if q.offset > o.size {
		b.refuse(m, blobReply{status: blobBadRequest, offset: q.offset}, fmt.Errorf("offset %d of a blob of %d bytes", q.offset, o.size))
		return
	}
	buf := slot[:replyBytes+int(min(int64(q.length), o.size-q.offset))]
	switch err := o.read(buf[replyBytes:], q.offset); {
	case errors.Is(err, errWithdrawn):
		b.refuse(m, blobReply{status: blobUnknown, offset: q.offset}, fmt.Errorf("blob %q: %w", q.name, err))
	case err != nil:
		b.refuse(m, blobReply{status: blobFailed, offset: q.offset}, fmt.Errorf("reading blob %q at %d: %w", q.name, q.offset, err))
	default:
		blobReply{total: o.size, offset: q.offset, sha256: o.sha256}.seal(buf)
		b.conn.bulk.Publish(m.Reply, buf)
	}
}

var errWithdrawn = errors.New("withdrawn")

func (o *offer) read(dst []byte, offset int64) error {
	o.use.RLock()
	defer o.use.RUnlock()
	if o.gone {
		return errWithdrawn
	}
	if len(dst) == 0 {
		return nil
	}
	n, err := o.r.ReadAt(dst, offset)
	if n == len(dst) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// refuse replies with an error in words.
func (b *Blobs) refuse(m *nats.Msg, r blobReply, err error) {
	text := strings.ToValidUTF8(err.Error(), "?")
	text = strings.ToValidUTF8(text[:min(len(text), maxBlobText)], "")
	buf := append(make([]byte, replyBytes), text...)
	r.seal(buf)
	b.conn.bulk.Publish(m.Reply, buf)
}

func parseHash(s string) (h [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return h, fmt.Errorf("SHA-256 %.80q: want 64 hex digits", s)
	}
	return [32]byte(b), nil
}
