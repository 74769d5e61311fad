package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// A frame that is sent while the server is away waits this long for it to come
// back, looking so often: given up at once, it would wait for the ring's
// patience, which grows from try to try.
const (
	sendWait = time.Second
	sendPoll = 20 * time.Millisecond
)

// network is an allreduce.Network of raw frames, one NATS message each.
type network struct {
	conn   *Conn
	sub    *nats.Subscription
	frames chan []byte
	done   chan struct{}
	once   sync.Once
	mu     sync.Mutex // held by whoever sends on frames or closes it
	closed bool
}

var _ allreduce.Network = (*network)(nil)

// Network opens this member's end of the ring's data path.
func (c *Conn) Network() (allreduce.Network, error) {
	n := &network{conn: c, frames: make(chan []byte, 16), done: make(chan struct{})}
	sub, err := subscribe(c.bulk, ringSubject(c.opt.Job, c.opt.Member), n.arrived)
	if err != nil {
		return nil, err
	}
	n.sub = sub
	// The ring's credit bounds what can be in flight: far less than this. The
	// limit is for those who do not keep to it.
	if err := sub.SetPendingLimits(-1, bulkPending); err != nil {
		sub.Unsubscribe()
		return nil, err
	}
	if err := c.adopt(n); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *network) arrived(m *nats.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	select {
	case n.frames <- m.Data: // a copy of its own
	case <-n.done:
	}
}

// Send implements allreduce.Network. It does not notice that a peer is absent.
func (n *network) Send(ctx context.Context, peer string, frame []byte) error {
	if err := ValidName("peer", peer); err != nil {
		return err
	}
	var give <-chan time.Time
	for {
		select {
		case <-n.done:
			return fmt.Errorf("frame to %s: %w", peer, allreduce.ErrNetworkClosed)
		case <-ctx.Done():
			return fmt.Errorf("frame to %s: %w", peer, context.Cause(ctx))
		default:
		}
		if err := n.conn.Err(); err != nil {
			return fmt.Errorf("frame to %s: %w (%w)", peer, allreduce.ErrUnsendable, err)
		}
		err := n.conn.bulk.Publish(ringSubject(n.conn.opt.Job, peer), frame)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, nats.ErrMaxPayload):
			return fmt.Errorf("%w (%w)", tooLarge(withoutSecrets(n.conn.urls), len(frame), n.conn.bulk.MaxPayload()), allreduce.ErrUnsendable)
		case errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("frame to %s: %w (%w)", peer, allreduce.ErrNetworkClosed, err)
		case !n.conn.bulk.IsReconnecting() && !errors.Is(err, nats.ErrReconnectBufExceeded):
			return fmt.Errorf("frame to %s: %w", peer, err) // a failed write
		}
		if give == nil {
			t := time.NewTimer(sendWait)
			defer t.Stop()
			give = t.C
		}
		poll := time.NewTimer(sendPoll)
		select {
		case <-poll.C:
		case <-give:
			poll.Stop()
			return fmt.Errorf("frame to %s: the server is away for more than %v: %w", peer, sendWait, err)
		case <-ctx.Done():
			poll.Stop()
		case <-n.done:
			poll.Stop()
		}
	}
}

// Frames implements allreduce.Network.
func (n *network) Frames() <-chan []byte { return n.frames }

// Close implements allreduce.Network. What has not been read is dropped.
func (n *network) Close() error {
	n.once.Do(func() {
		close(n.done)
		n.conn.release(n)
		if n.sub != nil {
			n.sub.Unsubscribe()
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.closed = true
		close(n.frames)
	})
	return nil
}
