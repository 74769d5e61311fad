package natsbus

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/bulk/bulktest"
)

func TestBlobsConform(t *testing.T) {
	bulktest.Run(t, func(t *testing.T) bulktest.Road {
		broker := startBroker(t, BrokerOptions{})
		return bulktest.Road{
			Join: func(t *testing.T, member string) bulktest.End {
				c := connect(t, broker, "j", member)
				b, err := c.Blobs(nil)
				if err != nil {
					t.Fatal(err)
				}
				return end{b, c}
			},
			Interrupt: func(t *testing.T) {
				broker.Shutdown()
				again(t, broker)
			},
		}
	})
}

// end closes its connection, too.
type end struct {
	*Blobs
	conn *Conn
}

func (e end) Close() error {
	e.Blobs.Close()
	return e.conn.Close()
}

// pair is an owner, "o", and a receiver, "r", of one job.
func pair(t *testing.T) (broker *Broker, owner, receiver *Blobs) {
	t.Helper()
	broker = startBroker(t, BrokerOptions{})
	return broker, openBlobs(t, connect(t, broker, "j", "o")), openBlobs(t, connect(t, broker, "j", "r"))
}

func offerBytes(t *testing.T, b *Blobs, name string, data []byte) {
	t.Helper()
	if err := b.Offer(name, int64(len(data)), hashOf(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// TestFetchSurvivesRestart stops the broker while chunks are in flight and
// most of the blob has not been asked for.
func TestFetchSurvivesRestart(t *testing.T) {
	broker, owner, receiver := pair(t)
	data := randomBytes(2, 30*bulk.ChunkBytes+5)
	offerBytes(t, owner, "b", data)
	dst := &hooked{Buffer: make(bulk.Buffer, len(data)), at: 2 * bulk.ChunkBytes, hook: broker.Shutdown, down: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- receiver.Fetch(within(t), "o", "b", int64(len(data)), hashOf(data), dst) }()
	select {
	case <-dst.down:
	case err := <-done:
		t.Fatalf("the fetch ended before the broker did: %v", err)
	}
	again(t, broker)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dst.Buffer, data) {
		t.Error("the bytes are wrong")
	}
}

// hooked calls hook before the write at an offset.
type hooked struct {
	bulk.Buffer
	at   int64
	hook func()
	down chan struct{}
}

func (h *hooked) WriteAt(p []byte, off int64) (int, error) {
	if off == h.at {
		h.hook()
		close(h.down)
	}
	return h.Buffer.WriteAt(p, off)
}

// fakeOwner answers requests for blobs of member "f" by hand.
func fakeOwner(t *testing.T, broker *Broker, answer func(q blobRequest, m *nats.Msg)) {
	t.Helper()
	c := connect(t, broker, "j", "f")
	if _, err := subscribe(c.bulk, blobSubject("j", "f"), func(m *nats.Msg) {
		q, err := decodeRequest(m.Data)
		if err != nil {
			t.Errorf("request: %v", err)
		}
		answer(q, m)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedReplies(t *testing.T) {
	t.Parallel()
	broker, _, receiver := pair(t)
	data := randomBytes(3, 4*bulk.ChunkBytes)
	tries := map[int64]int{}
	fakeOwner(t, broker, func(q blobRequest, m *nats.Msg) {
		right := sealed(blobReply{total: int64(len(data)), offset: q.offset, data: data[q.offset : q.offset+bulk.ChunkBytes]})
		tries[q.offset]++
		switch tries[q.offset] {
		case 1: // a bit
			right[replyBytes+1000] ^= 1
		case 2: // cut
			right = right[:len(right)-1]
		case 3: // no reply at all
			right = []byte("?")
		case 4: // another chunk's
			other := (q.offset + bulk.ChunkBytes) % int64(len(data))
			right = sealed(blobReply{total: int64(len(data)), offset: other, data: data[other : other+bulk.ChunkBytes]})
		case 5:
			right = sealed(blobReply{status: blobBadRequest, data: []byte("damaged")})
		}
		m.Respond(right)
	})
	got, err := receiver.Get(within(t), "f", "b", int64(len(data)))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for at, n := range tries {
		if n != 6 {
			t.Errorf("the chunk at %d was asked for %d times, want 6", at, n)
		}
	}
}

// TestLyingOwner: replies that are well formed and wrong.
func TestLyingOwner(t *testing.T) {
	broker, _, receiver := pair(t)
	const total = 2 * bulk.ChunkBytes
	fakeOwner(t, broker, func(q blobRequest, m *nats.Msg) {
		r := blobReply{total: total, offset: q.offset, data: make([]byte, bulk.ChunkBytes)}
		switch {
		case q.name == "longer" && q.offset > 0:
			r.total++
		case q.name == "other" && q.offset > 0:
			r.sha256[0] = 1
		case q.name == "short chunk":
			r.data = r.data[:100]
		case q.name == "refuses":
			r = blobReply{status: blobBadRequest, data: []byte("of another version")}
		case q.name == "huge":
			r.total = bulk.MaxBytes
		}
		m.Respond(sealed(r))
	})
	for name, want := range map[string]error{"longer": bulk.ErrChanged, "other": bulk.ErrChanged, "short chunk": bulk.ErrSize, "refuses": bulk.ErrOwner, "huge": bulk.ErrSize} {
		if _, err := receiver.Get(within(t), "f", name, total); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

// TestBadRequests: an owner survives garbage and says what is wrong with it.
func TestBadRequests(t *testing.T) {
	broker, owner, _ := pair(t)
	offerBytes(t, owner, "b", []byte("data"))
	c := connect(t, broker, "j", "x")
	for _, q := range [][]byte{nil, []byte("hello"), blobRequest{"b", 5, 1}.encode(), blobRequest{"b", 0, bulk.ChunkBytes + 1}.encode(), blobRequest{strings.Repeat("n", 300), 0, 1}.encode()} {
		m, err := c.bulk.RequestWithContext(within(t), blobSubject("j", "o"), q)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := decodeReply(m.Data); err != nil || r.status != blobBadRequest || len(r.data) == 0 {
			t.Errorf("%.40q: got %+v, %v", q, r, err)
		}
	}
	if err := c.bulk.Publish(blobSubject("j", "o"), blobRequest{"b", 0, 1}.encode()); err != nil { // no reply wanted
		t.Fatal(err)
	}
	got, err := openBlobs(t, c).Get(within(t), "o", "b", 4)
	if err != nil || string(got) != "data" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// TestCloseEndsFetch: Close of either end leaves nobody waiting.
func TestCloseEndsFetch(t *testing.T) {
	broker, _, receiver := pair(t)
	asked := make(chan struct{}, 9)
	fakeOwner(t, broker, func(blobRequest, *nats.Msg) { asked <- struct{}{} })
	done := make(chan error, 1)
	go func() {
		_, err := receiver.Get(context.Background(), "f", "b", 1)
		done <- err
	}()
	<-asked
	receiver.Close()
	if err := <-done; !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v", err)
	}
}
