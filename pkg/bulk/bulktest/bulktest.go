// Package bulktest is the conformance suite of bulk.Blobs: what every road must
// do, and what those who move state over it count on.
package bulktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/bulk"
)

// limit fails a test that would hang. Nothing waits for it otherwise.
const limit = 30 * time.Second

// End is a member's end of a road. Close stops serving and ends what is being
// fetched; it waits until no offered blob is read any more and no function runs,
// and may be called twice.
type End interface {
	bulk.Blobs
	io.Closer
}

// Road is what a test runs on.
type Road struct {
	// Join opens the end of a member. A member whose end is closed may join anew.
	Join func(t *testing.T, member string) End
	// Interrupt breaks the road under what is being fetched, and mends it. It may be
	// nil where the one who runs the suite cannot do that; that test says so.
	Interrupt func(t *testing.T)
}

// Run tests an implementation, each part of the suite on a road of its own. The
// suite closes all ends.
func Run(t *testing.T, open func(t *testing.T) Road) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Road)
	}{
		{"sizes", testSizes},
		{"what the owner says is final", testFinal},
		{"bounded sizes", testBounds},
		{"wrong arguments", testArguments},
		{"written in order", testOrder},
		{"owner comes late", testLate},
		{"owner never comes", testAbsent},
		{"owner comes back", testBack},
		{"interrupted", testInterrupted},
		{"changed blob", testChanged},
		{"withdraw waits for readers", testWithdraw},
		{"many receivers", testMany},
		{"blobs of a function", testFunctions},
		{"function that fails", testFailing},
		{"close ends fetches", testCloseFetch},
		{"close ends functions", testCloseFunctions},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t)
			if c.name == "interrupted" && r.Interrupt == nil {
				t.Skip("this road cannot be interrupted from here")
			}
			join := r.Join
			r.Join = func(t *testing.T, member string) End {
				t.Helper()
				e := join(t, member)
				t.Cleanup(func() { e.Close() })
				return e
			}
			c.test(t, r)
		})
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func hashOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func offer(t *testing.T, e End, name string, data []byte) {
	t.Helper()
	if err := e.Offer(name, int64(len(data)), hashOf(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func testSizes(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	for i, size := range []int{0, 1, 1000, bulk.ChunkBytes - 1, bulk.ChunkBytes, bulk.ChunkBytes + 1, 20*bulk.ChunkBytes + 77} {
		data := random(uint64(i), size)
		name := fmt.Sprintf("snapshot/%d/ä b", i)
		offer(t, owner, name, data)
		for _, hash := range []string{hashOf(data), ""} {
			got := make(bulk.Buffer, size)
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
		if got, err := owner.Get(within(t), "o", name, int64(size)); err != nil || !bytes.Equal(got, data) { // of oneself
			t.Errorf("the owner's Get of %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
}

func testFinal(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	data := random(1, 3*bulk.ChunkBytes)
	n := int64(len(data))
	offer(t, owner, "right", data)
	if err := owner.Offer("lies", n, hashOf(nil), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := owner.Offer("short", n+1, "", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	offer(t, owner, "withdrawn", data)
	owner.Withdraw("withdrawn")
	owner.Withdraw("never offered")
	for _, c := range []struct {
		name string
		size int64
		hash string
		want error
		text string
	}{
		{"unknown", n, "", bulk.ErrUnknown, `"unknown" of o`},
		{"withdrawn", n, "", bulk.ErrUnknown, "withdrawn"},
		{"right", n - 1, "", bulk.ErrSize, fmt.Sprint(n)},
		{"right", n + 1, "", bulk.ErrSize, fmt.Sprint(n)},
		{"right", n, hashOf(nil), bulk.ErrHash, hashOf(data)},
		{"lies", n, "", bulk.ErrHash, hashOf(data)},
		{"short", n + 1, "", bulk.ErrOwner, io.ErrUnexpectedEOF.Error()},
	} {
		err := receiver.Fetch(within(t), "o", c.name, c.size, c.hash, make(bulk.Buffer, n+1))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s of %d bytes: got %v, want %v with %q", c.name, c.size, err, c.want, c.text)
		}
	}
	broken := errors.New("the disk is full")
	if err := receiver.Fetch(within(t), "o", "right", n, "", failingWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) WriteAt([]byte, int64) (int, error) { return 0, w.err }

// testBounds: nobody takes more than it has asked for, or makes room for it.
func testBounds(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	data := random(1, 3*bulk.ChunkBytes)
	n := int64(len(data))
	offer(t, owner, "b", data)
	if err := owner.Offer("huge", bulk.MaxBytes, "", endless{}); err != nil { // what would end the process to make room for
		t.Fatal(err)
	}
	for name, limit := range map[string]int64{"b": n - 1, "huge": 1 << 30} {
		if _, err := receiver.Get(within(t), "o", name, limit); !errors.Is(err, bulk.ErrSize) || !strings.Contains(err.Error(), fmt.Sprint(limit)) {
			t.Errorf("Get of %s with a limit of %d: %v", name, limit, err)
		}
	}
	dst := &longest{}
	if err := receiver.Fetch(within(t), "o", "b", n-1, "", dst); !errors.Is(err, bulk.ErrSize) || dst.end > 0 {
		t.Errorf("a Fetch of %d bytes of %d: %v, %d bytes were written", n-1, n, err, dst.end)
	}
	if err := owner.Offer("beyond", bulk.MaxBytes+1, "", endless{}); err == nil {
		t.Error("a blob of more than MaxBytes was taken")
	}
}

type endless struct{}

func (endless) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }

// longest notes how far it was written.
type longest struct{ end int64 }

func (l *longest) WriteAt(p []byte, off int64) (int, error) {
	l.end = max(l.end, off+int64(len(p)))
	return len(p), nil
}

func testArguments(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	data := random(1, 1000)
	n := int64(len(data))
	offer(t, owner, "right", data)
	_, noName := receiver.Get(within(t), "o", "", n)
	for i, err := range []error{
		owner.Offer("right", n, "", bytes.NewReader(data)), // it is on offer already
		owner.Offer("", 1, "", nil), owner.Offer(strings.Repeat("n", bulk.MaxName+1), 1, "", nil), owner.Offer("\xff", 1, "", nil),
		owner.Offer("x", -1, "", nil), owner.Offer("x", 1, "abc", nil),
		owner.OfferFunc("", nil), owner.OfferFunc(strings.Repeat("n", bulk.MaxName+1), nil),
		noName, receiver.Fetch(within(t), "o", "", n, "", nil),
		receiver.Fetch(within(t), "o", "right", -1, "", nil), receiver.Fetch(within(t), "o", "right", n, "abc", nil),
	} {
		if err == nil {
			t.Errorf("wrong arguments %d were taken", i)
		}
	}
	owner.Withdraw("right")
	offer(t, owner, "right", data[:7]) // in its place
	if got, err := receiver.Get(within(t), "o", "right", n); err != nil || !bytes.Equal(got, data[:7]) {
		t.Errorf("the blob that took the place of another: %d bytes, %v", len(got), err)
	}
}

// testOrder: a receiver may hash or unpack what comes as it comes.
func testOrder(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	data := random(1, 30*bulk.ChunkBytes+1)
	offer(t, owner, "b", data)
	at, inside := int64(0), atomic.Int32{}
	if err := receiver.Fetch(within(t), "o", "b", int64(len(data)), "", writer(func(p []byte, off int64) error {
		if inside.Add(1) != 1 || off != at {
			t.Errorf("%d bytes at %d, want them at %d, and one write at a time", len(p), off, at)
		}
		at = off + int64(len(p))
		inside.Add(-1)
		return nil
	})); err != nil || at != int64(len(data)) {
		t.Errorf("%d bytes of %d, %v", at, len(data), err)
	}
}

type writer func(p []byte, off int64) error

func (w writer) WriteAt(p []byte, off int64) (int, error) { return len(p), w(p, off) }

// patient is a Fetch for those who ask while an owner joins: between its joining
// and its offering a blob is unknown.
func patient(t *testing.T, e End, peer, name string, data []byte, dst io.WriterAt) error {
	for ctx := within(t); ; {
		err := e.Fetch(ctx, peer, name, int64(len(data)), hashOf(data), dst)
		if !errors.Is(err, bulk.ErrUnknown) {
			return err
		}
	}
}

// testLate: whoever asks before there is an owner is answered once there is.
func testLate(t *testing.T, r Road) {
	receiver := r.Join(t, "r")
	data := random(1, 3*bulk.ChunkBytes)
	done := make(chan error, 1)
	got := make(bulk.Buffer, len(data))
	go func() { done <- patient(t, receiver, "late", "b", data, got) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait for the owner: %v", err)
	case <-time.After(50 * time.Millisecond): // tries fail meanwhile
	}
	offer(t, r.Join(t, "late"), "b", data)
	if err := <-done; err != nil || !bytes.Equal(got, data) {
		t.Errorf("from an owner that came late: %v", err)
	}
}

func testAbsent(t *testing.T, r Road) {
	receiver := r.Join(t, "r")
	why := errors.New("recalled")
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 2)
	go func() { done <- receiver.Fetch(ctx, "absent", "b", 1, "", make(bulk.Buffer, 1)) }()
	go func() { _, err := receiver.Get(ctx, "absent", "b", 1); done <- err }()
	select {
	case err := <-done:
		t.Errorf("it did not wait for the owner: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	cancel(why)
	for range 2 {
		if err := <-done; !errors.Is(err, why) || !strings.Contains(err.Error(), `"b" of absent`) {
			t.Errorf("got %v, want the cause, the blob and the peer", err)
		}
	}
	if _, err := receiver.Get(ctx, "absent", "b", 1); !errors.Is(err, why) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// hooked calls hook at the write that begins at an offset.
type hooked struct {
	bulk.Buffer
	at   int64
	hook func()
}

func (h *hooked) WriteAt(p []byte, off int64) (int, error) {
	if off == h.at {
		h.hook()
	}
	return h.Buffer.WriteAt(p, off)
}

// testBack: while an owner is away, and until another of its name is there, a
// fetch waits; chunks of both make the blob where both have the same one.
func testBack(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	data := random(1, 30*bulk.ChunkBytes+5)
	offer(t, owner, "b", data)
	var once sync.Once
	closed := make(chan struct{})
	dst := &hooked{make(bulk.Buffer, len(data)), 2 * bulk.ChunkBytes, func() { once.Do(func() { owner.Close(); close(closed) }) }}
	done := make(chan error, 1)
	go func() { done <- patient(t, receiver, "o", "b", data, dst) }()
	<-closed
	offer(t, r.Join(t, "o"), "b", data)
	if err := <-done; err != nil || !bytes.Equal(dst.Buffer, data) {
		t.Errorf("over two owners: %v", err)
	}
}

func testInterrupted(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	data := random(2, 30*bulk.ChunkBytes+5)
	offer(t, owner, "b", data)
	dst := &hooked{make(bulk.Buffer, len(data)), 2 * bulk.ChunkBytes, func() { r.Interrupt(t) }}
	if err := receiver.Fetch(within(t), "o", "b", int64(len(data)), hashOf(data), dst); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dst.Buffer, data) {
		t.Error("the bytes are wrong")
	}
}

// testChanged: chunks of two blobs never make one.
func testChanged(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	data := random(3, 30*bulk.ChunkBytes)
	other := random(4, len(data))
	n := int64(len(data))
	for name, c := range map[string]struct {
		then []byte
		want error
	}{"longer": {append(other, 1), bulk.ErrChanged}, "of another hash": {other, bulk.ErrChanged}, "gone": {nil, bulk.ErrUnknown}} {
		offer(t, owner, name, data)
		dst := &hooked{make(bulk.Buffer, n), 0, func() {
			owner.Withdraw(name)
			if c.then != nil {
				offer(t, owner, name, c.then)
			}
		}}
		// where it is asked for between withdrawal and offer, it is unknown
		if err := receiver.Fetch(within(t), "o", name, n, "", dst); !errors.Is(err, c.want) && !errors.Is(err, bulk.ErrUnknown) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
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

// testWithdraw: the owner may reuse the memory once Withdraw has returned.
func testWithdraw(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	slow := &slowReader{entered: make(chan struct{}), release: make(chan struct{})}
	if err := owner.Offer("b", 8, "", slow); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- receiver.Fetch(within(t), "o", "b", 8, "", make(bulk.Buffer, 8)) }()
	<-slow.entered
	go close(slow.release)
	owner.Withdraw("b")
	if slow.reading.Load() {
		t.Error("withdrawn, and still being read")
	}
	if err := <-done; err != nil { // what was read before is sent
		t.Error(err)
	}
}

func testMany(t *testing.T, r Road) {
	owner := r.Join(t, "o")
	data := random(5, 9*bulk.ChunkBytes+1)
	offer(t, owner, "b", data)
	var wg sync.WaitGroup
	for i := range 6 {
		e := r.Join(t, fmt.Sprint("r", i))
		wg.Go(func() {
			if got, err := e.Get(within(t), "o", "b", 1<<30); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

func testFunctions(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	var calls atomic.Int32
	big := random(4, 10*bulk.ChunkBytes+3)
	if err := owner.OfferFunc("micro/", func(context.Context, string) ([]byte, error) {
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
	if got, err := receiver.Get(within(t), "o", "micro/special/1", 0); err != nil || len(got) != 0 {
		t.Errorf("the longer prefix: %d bytes, %v", len(got), err)
	}
	if _, err := receiver.Get(within(t), "o", "micr", 9); !errors.Is(err, bulk.ErrUnknown) {
		t.Errorf("no prefix: %v", err)
	}
	offer(t, owner, "micro/7", []byte("offered"))
	if got, err := receiver.Get(within(t), "o", "micro/7", 9); err != nil || string(got) != "offered" {
		t.Errorf("an offer under a prefix: %q, %v", got, err)
	}
}

// testFailing: the error of a function is told in words, however long, and not kept.
func testFailing(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	var failures atomic.Int32
	if err := owner.OfferFunc("m/", func(context.Context, string) ([]byte, error) {
		if failures.Add(1) == 1 {
			return nil, errors.New("sample 17 cannot be read " + strings.Repeat("ä", 5000))
		}
		return []byte("well"), nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := receiver.Get(within(t), "o", "m/1", 9); !errors.Is(err, bulk.ErrOwner) || !strings.Contains(err.Error(), "sample 17 cannot be read") || len(err.Error()) > 5000 {
		t.Errorf("the function's error: %.200v", err)
	}
	if got, err := receiver.Get(within(t), "o", "m/1", 9); err != nil || string(got) != "well" {
		t.Errorf("once it works again: %q, %v", got, err)
	}
}

func testCloseFetch(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	asked := make(chan struct{})
	if err := owner.OfferFunc("m/", func(ctx context.Context, _ string) ([]byte, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { _, err := receiver.Get(context.Background(), "o", "m/1", 1); done <- err }()
	go func() { _, err := receiver.Get(context.Background(), "absent", "b", 1); done <- err }()
	<-asked
	receiver.Close()
	receiver.Close()
	for range 2 {
		if err := <-done; err == nil {
			t.Error("closed, and something was fetched")
		}
	}
	if _, err := receiver.Get(within(t), "o", "m/1", 1); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a Get on a closed end: %v", err)
	}
}

// testCloseFunctions: a function learns of the end by its context, and Close waits for it.
func testCloseFunctions(t *testing.T, r Road) {
	owner, receiver := r.Join(t, "o"), r.Join(t, "r")
	started := make(chan struct{})
	var running atomic.Bool
	if err := owner.OfferFunc("m/", func(ctx context.Context, _ string) ([]byte, error) {
		running.Store(true)
		defer running.Store(false)
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { _, err := receiver.Get(ctx, "o", "m/1", 1); done <- err }()
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
