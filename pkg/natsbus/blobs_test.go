package natsbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
)

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

func TestBlobSizes(t *testing.T) {
	_, owner, receiver := pair(t)
	for i, size := range []int{0, 1, 1000, maxBlobChunk - 1, maxBlobChunk, maxBlobChunk + 1, 20*maxBlobChunk + 77} {
		data := randomBytes(uint64(i), size)
		name := fmt.Sprintf("snapshot/%d/ä b", i)
		offerBytes(t, owner, name, data)
		for _, hash := range []string{hashOf(data), ""} {
			got := make(memory, size)
			if err := receiver.Fetch(within(t), "o", name, int64(size), hash, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes came out wrong", size)
			}
		}
		got, err := receiver.Get(within(t), "o", name, int64(size))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("Get of %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
}

func TestBlobErrors(t *testing.T) {
	_, owner, receiver := pair(t)
	data := randomBytes(1, 3*maxBlobChunk)
	n := int64(len(data))
	offerBytes(t, owner, "right", data)
	if err := owner.Offer("lies", n, hashOf(nil), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := owner.Offer("short", n+1, "", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	offerBytes(t, owner, "withdrawn", data)
	owner.Withdraw("withdrawn")
	owner.Withdraw("never offered")
	for _, c := range []struct {
		name string
		size int64
		hash string
		want error
		text string
	}{
		{"unknown", n, "", ErrUnknownBlob, `"unknown" of o`},
		{"withdrawn", n, "", ErrUnknownBlob, "withdrawn"},
		{"right", n - 1, "", ErrBlobSize, fmt.Sprint(n)},
		{"right", n + 1, "", ErrBlobSize, fmt.Sprint(n)},
		{"right", n, hashOf(nil), ErrBlobHash, hashOf(data)},
		{"lies", n, "", ErrBlobHash, hashOf(data)},
		{"short", n + 1, "", ErrBlobOwner, io.ErrUnexpectedEOF.Error()},
	} {
		err := receiver.Fetch(within(t), "o", c.name, c.size, c.hash, make(memory, n+1))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s of %d bytes: got %v, want %v with %q", c.name, c.size, err, c.want, c.text)
		}
	}
	if _, err := receiver.Get(within(t), "o", "right", n-1); !errors.Is(err, ErrBlobSize) {
		t.Errorf("Get beyond its limit: %v", err)
	}
	broken := errors.New("the disk is full")
	if err := receiver.Fetch(within(t), "o", "right", n, "", failingWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("a writer that fails: %v", err)
	}
	for _, err := range []error{
		owner.Offer("right", n, "", bytes.NewReader(data)),
		owner.Offer("", 1, "", nil), owner.Offer(strings.Repeat("n", maxBlobName+1), 1, "", nil), owner.Offer("x", -1, "", nil), owner.Offer("x", 1, "abc", nil),
		receiver.Fetch(within(t), "o", "", n, "", nil), receiver.Fetch(within(t), "a.b", "right", n, "", nil),
		receiver.Fetch(within(t), "o", "right", -1, "", nil), receiver.Fetch(within(t), "o", "right", n, "abc", nil),
	} {
		if err == nil {
			t.Error("wrong arguments were taken")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := receiver.Fetch(ctx, "absent", "right", n, "", make(memory, n)); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("cancelled: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) WriteAt([]byte, int64) (int, error) { return 0, w.err }

// TestFetchSurvivesRestart stops the broker while chunks are in flight and
// most of the blob has not been asked for.
func TestFetchSurvivesRestart(t *testing.T) {
	broker, owner, receiver := pair(t)
	data := randomBytes(2, 30*maxBlobChunk+5)
	offerBytes(t, owner, "b", data)
	dst := &hooked{memory: make(memory, len(data)), at: 2 * maxBlobChunk, hook: broker.Shutdown, down: make(chan struct{})}
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
	if !bytes.Equal(dst.memory, data) {
		t.Error("the bytes are wrong")
	}
}

// hooked calls hook before the write at an offset.
type hooked struct {
	memory
	at   int64
	hook func()
	down chan struct{}
}

func (h *hooked) WriteAt(p []byte, off int64) (int, error) {
	if off == h.at {
		h.hook()
		close(h.down)
	}
	return h.memory.WriteAt(p, off)
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
	broker, _, receiver := pair(t)
	data := randomBytes(3, 4*maxBlobChunk)
	tries := map[int64]int{}
	fakeOwner(t, broker, func(q blobRequest, m *nats.Msg) {
		right := sealed(blobReply{total: int64(len(data)), offset: q.offset, data: data[q.offset : q.offset+maxBlobChunk]})
		tries[q.offset]++
		switch tries[q.offset] {
		case 1: // a bit
			right[replyBytes+1000] ^= 1
		case 2: // cut
			right = right[:len(right)-1]
		case 3: // no reply at all
			right = []byte("?")
		case 4: // another chunk's
			other := (q.offset + maxBlobChunk) % int64(len(data))
			right = sealed(blobReply{total: int64(len(data)), offset: other, data: data[other : other+maxBlobChunk]})
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
	const total = 2 * maxBlobChunk
	fakeOwner(t, broker, func(q blobRequest, m *nats.Msg) {
		r := blobReply{total: total, offset: q.offset, data: make([]byte, maxBlobChunk)}
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
			r.total = maxBlobSize
		}
		m.Respond(sealed(r))
	})
	for name, want := range map[string]error{"longer": ErrBlobChanged, "other": ErrBlobChanged, "short chunk": ErrBlobSize, "refuses": ErrBlobOwner, "huge": ErrBlobSize} {
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
	for _, q := range [][]byte{nil, []byte("hello"), blobRequest{"b", 5, 1}.encode(), blobRequest{"b", 0, maxBlobChunk + 1}.encode(), blobRequest{strings.Repeat("n", 300), 0, 1}.encode()} {
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

func TestMadeBlobs(t *testing.T) {
	_, owner, receiver := pair(t)
	var calls, failures atomic.Int32
	big := randomBytes(4, 10*maxBlobChunk+3)
	if err := owner.OfferFunc("micro/", func(_ context.Context, name string) ([]byte, error) {
		if name == "micro/broken" && failures.Add(1) == 1 {
			return nil, errors.New("sample 17 cannot be read " + strings.Repeat("ä", 2*maxBlobText))
		}
		calls.Add(1)
		return big, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := owner.OfferFunc("micro/special/", func(context.Context, string) ([]byte, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	if err := owner.OfferFunc("micro/", nil); err == nil {
		t.Error("two functions of one prefix")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := receiver.Get(within(t), "o", "micro/1/2", 1<<30)
			if err != nil || !bytes.Equal(got, big) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("made %d times, want once", n)
	}
	_, err := receiver.Get(within(t), "o", "micro/broken", 1<<30)
	if !errors.Is(err, ErrBlobOwner) || !strings.Contains(err.Error(), "sample 17 cannot be read") {
		t.Errorf("the function's error: %v", err)
	}
	if got, err := receiver.Get(within(t), "o", "micro/broken", 1<<30); err != nil || !bytes.Equal(got, big) {
		t.Errorf("once it works again: %d bytes, %v", len(got), err)
	}
	if got, err := receiver.Get(within(t), "o", "micro/special/1", 0); err != nil || len(got) != 0 {
		t.Errorf("the longer prefix: %d bytes, %v", len(got), err)
	}
	if _, err := receiver.Get(within(t), "o", "micr", 9); !errors.Is(err, ErrUnknownBlob) {
		t.Errorf("no prefix: %v", err)
	}
	offerBytes(t, owner, "micro/7", []byte("offered"))
	if got, err := receiver.Get(within(t), "o", "micro/7", 9); err != nil || string(got) != "offered" {
		t.Errorf("an offer under a prefix: %q, %v", got, err)
	}
}

func TestMakerKeepsWithinItsLimit(t *testing.T) {
	const one = madeOverhead + 1 // what a name of one letter takes beside its data
	k := newMaker(context.Background(), 100+2*one, 2)
	calls := map[string]int{}
	get := func(name string, size int) {
		t.Helper()
		data, _, err := k.get(context.Background(), name, func(context.Context, string) ([]byte, error) {
			calls[name]++
			return make([]byte, size), nil
		})
		k.wait()
		if err != nil || len(data) != size {
			t.Fatalf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	get("a", 40)
	get("b", 40)
	get("a", 40)
	get("c", 40) // drops b, which is the longest unused
	get("a", 40)
	get("c", 40)
	get("b", 40) // again; drops a
	if fmt.Sprint(calls) != "map[a:1 b:2 c:1]" || k.bytes != 80+2*one || len(k.all) != 2 || k.order.Len() != 2 {
		t.Errorf("made %v; kept %d bytes of %d", calls, k.bytes, len(k.all))
	}
	get("huge", 1000) // stays until the next
	get("huge", 1000)
	if calls["huge"] != 1 || len(k.all) != 1 || k.bytes != 1000+one+3 {
		t.Errorf("made %v; kept %d bytes of %d", calls, k.bytes, len(k.all))
	}
	get("d", 1)
	if len(k.all) != 1 || k.bytes != 1+one {
		t.Errorf("kept %d bytes of %d", k.bytes, len(k.all))
	}
}

// slowReader is read when told to, and says whether it is being read.
type slowReader struct {
	entered, release chan struct{}
	reading          atomic.Bool
}

func (r *slowReader) ReadAt(p []byte, _ int64) (int, error) {
	r.reading.Store(true)
	defer r.reading.Store(false)
	r.entered <- struct{}{}
	<-r.release
	return len(p), nil
}

// TestWithdrawWaits: the owner may reuse the memory once Withdraw has returned.
func TestWithdrawWaits(t *testing.T) {
	_, owner, receiver := pair(t)
	r := &slowReader{entered: make(chan struct{}), release: make(chan struct{})}
	if err := owner.Offer("b", 8, "", r); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- receiver.Fetch(within(t), "o", "b", 8, "", make(memory, 8)) }()
	<-r.entered
	go close(r.release)
	owner.Withdraw("b")
	if r.reading.Load() {
		t.Error("withdrawn, and still being read")
	}
	if err := <-done; err != nil { // what was read before is sent
		t.Error(err)
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

// TestCloseEndsMakers: a function learns of the end by its context, and Close waits for it.
func TestCloseEndsMakers(t *testing.T) {
	_, owner, receiver := pair(t)
	started := make(chan struct{})
	var running atomic.Bool
	owner.OfferFunc("m/", func(ctx context.Context, _ string) ([]byte, error) {
		running.Store(true)
		defer running.Store(false)
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := receiver.Get(ctx, "o", "m/1", 1)
		done <- err
	}()
	<-started
	owner.Close()
	owner.Close()
	if running.Load() {
		t.Error("closed, and the function still runs")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
