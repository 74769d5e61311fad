// Package bustest is the conformance suite of cluster.Bus.
package bustest

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// patience is how long the suite waits for what must come. No test passes by
// waiting it out.
const patience = 20 * time.Second

// Run runs the suite; open returns a bus of its own for each test.
func Run(t *testing.T, open func(t *testing.T) cluster.Bus) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, b cluster.Bus)
	}{
		{"reaches every subscriber of the subject alone", reaches},
		{"keeps order, one message at a time", order},
		{"a slow subscriber delays no other", slow},
		{"data belong to both sides", ownership},
		{"request", request},
		{"the first reply counts", firstReply},
		{"a late reply from elsewhere", lateReply},
		{"nobody listens", nobody},
		{"a request ends with its context", contexts},
		{"unsubscribe", unsubscribe},
		{"calls from within a handler", within},
		{"subjects", subjects},
		{"any word, and which it is", anyWord},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, open(t)) })
	}
}

func sub(t *testing.T, b cluster.Bus, subject string, h func(data []byte, reply func([]byte) error)) func() error {
	t.Helper()
	unsubscribe, err := b.Subscribe(subject, func(_ string, data []byte, reply func([]byte) error) { h(data, reply) })
	if err != nil {
		t.Fatal(err)
	}
	return unsubscribe
}

func publish(t *testing.T, b cluster.Bus, subject, text string) {
	t.Helper()
	if err := b.Publish(subject, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(patience):
		t.Fatalf("nothing came within %v", patience)
		panic("unreachable")
	}
}

func ask(t *testing.T, b cluster.Bus, subject, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	data, err := b.Request(ctx, subject, []byte(text))
	return string(data), err
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func reaches(t *testing.T, b cluster.Bus) {
	got := [3]chan string{make(chan string, 9), make(chan string, 9), make(chan string, 9)}
	for i, subject := range []string{"a.b", "a.b", "a.b.c"} {
		sub(t, b, subject, func(data []byte, reply func([]byte) error) {
			if reply != nil {
				t.Errorf("a published message wants a reply")
			}
			got[i] <- string(data)
		})
	}
	publish(t, b, "a", "nobody's")
	publish(t, b, "a.b", "1")
	publish(t, b, "a.b.c", "2")
	publish(t, b, "a.b", "")
	for i := range 2 {
		want(t, next(t, got[i]), "1")
		want(t, next(t, got[i]), "")
	}
	want(t, next(t, got[2]), "2")
}

func order(t *testing.T, b cluster.Bus) {
	const n = 2000
	var busy atomic.Int32
	got := make(chan uint32, n)
	sub(t, b, "a", func(data []byte, _ func([]byte) error) {
		if busy.Add(1) != 1 {
			t.Errorf("two messages at a time")
		}
		got <- binary.LittleEndian.Uint32(data)
		busy.Add(-1)
	})
	var buf [4]byte
	for i := range uint32(n) {
		binary.LittleEndian.PutUint32(buf[:], i)
		if err := b.Publish("a", buf[:]); err != nil { // buf may be used again
			t.Fatal(err)
		}
	}
	for i := range uint32(n) {
		if x := next(t, got); x != i {
			t.Fatalf("message %d came in place of %d", x, i)
		}
	}
}

func slow(t *testing.T, b cluster.Bus) {
	release, got := make(chan struct{}), make(chan string, 9)
	sub(t, b, "a", func(data []byte, _ func([]byte) error) { <-release; got <- "late " + string(data) })
	sub(t, b, "a", func(data []byte, _ func([]byte) error) { got <- string(data) })
	publish(t, b, "a", "1")
	publish(t, b, "a", "2")
	want(t, next(t, got), "1")
	want(t, next(t, got), "2")
	close(release)
	want(t, next(t, got), "late 1")
	want(t, next(t, got), "late 2")
}

func ownership(t *testing.T, b cluster.Bus) {
	got := make(chan string, 9)
	for range 2 {
		sub(t, b, "a", func(data []byte, _ func([]byte) error) {
			got <- string(data)
			for i := range data {
				data[i] = 'x'
			}
		})
	}
	publish(t, b, "a", "mine")
	want(t, next(t, got), "mine")
	want(t, next(t, got), "mine")
}

func request(t *testing.T, b cluster.Bus) {
	sub(t, b, "echo", func(data []byte, reply func([]byte) error) {
		if reply == nil {
			t.Errorf("a request wants no reply")
			return
		}
		if err := reply(data); err != nil {
			t.Errorf("reply: %v", err)
		}
	})
	for _, text := range []string{"hello", ""} {
		got, err := ask(t, b, "echo", text)
		if err != nil {
			t.Fatal(err)
		}
		want(t, got, text)
	}
}

func firstReply(t *testing.T, b cluster.Bus) {
	answered := make(chan struct{})
	sub(t, b, "a", func(_ []byte, reply func([]byte) error) { reply([]byte("first")); close(answered) })
	done := make(chan struct{})
	sub(t, b, "a", func(_ []byte, reply func([]byte) error) { <-answered; reply([]byte("second")); close(done) })
	got, err := ask(t, b, "a", "?")
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "first")
	next(t, done)
}

func lateReply(t *testing.T, b cluster.Bus) {
	replies := make(chan func([]byte) error, 2)
	sub(t, b, "a", func(_ []byte, reply func([]byte) error) { replies <- reply })
	go func() {
		(<-replies)([]byte("later"))
	}()
	got, err := ask(t, b, "a", "?")
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "later")
}

func nobody(t *testing.T, b cluster.Bus) {
	if _, err := ask(t, b, "a.b", "?"); !errors.Is(err, cluster.ErrNoResponder) {
		t.Fatalf("got %v, want ErrNoResponder", err)
	}
}

func contexts(t *testing.T, b cluster.Bus) {
	asked := make(chan struct{}, 9)
	sub(t, b, "mute", func([]byte, func([]byte) error) { asked <- struct{}{} })
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := b.Request(ctx, "mute", nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled while it waits: %v", err)
	}
	if _, err := b.Request(ctx, "mute", nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled before it begins: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := b.Request(ctx, "mute", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("timed out: %v", err)
	}
}

func unsubscribe(t *testing.T, b cluster.Bus) {
	got := make(chan string, 9)
	end := sub(t, b, "a", func(data []byte, reply func([]byte) error) {
		got <- string(data)
		if reply != nil {
			reply(nil)
		}
	})
	if _, err := ask(t, b, "a", "1"); err != nil {
		t.Fatal(err)
	}
	want(t, next(t, got), "1")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, b, "a", "2"); !errors.Is(err, cluster.ErrNoResponder) {
		t.Fatalf("after unsubscribing: %v, want ErrNoResponder", err)
	}
	if len(got) != 0 {
		t.Fatalf("%q came after unsubscribing", <-got)
	}
}

// within: handlers may use the bus, even to end their own subscription.
func within(t *testing.T, b cluster.Bus) {
	got := make(chan string, 9)
	sub(t, b, "inner", func(data []byte, reply func([]byte) error) { reply([]byte("inner " + string(data))) })
	ready := make(chan func() error, 1)
	ready <- sub(t, b, "outer", func(data []byte, _ func([]byte) error) {
		if err := (<-ready)(); err != nil {
			t.Errorf("unsubscribe: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer, err := b.Request(ctx, "inner", data)
		if err != nil {
			t.Errorf("request: %v", err)
		}
		if _, err := b.Subscribe("new", func(_ string, data []byte, _ func([]byte) error) { got <- "new " + string(data) }); err != nil {
			t.Errorf("subscribe: %v", err)
		}
		if err := b.Publish("new", answer); err != nil {
			t.Errorf("publish: %v", err)
		}
	})
	publish(t, b, "outer", "1")
	want(t, next(t, got), "new inner 1")
}

func subjects(t *testing.T, b cluster.Bus) {
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "*", "a.*.b", "ä", "a\r\nPUB b 0", string(make([]byte, 300))} {
		if err := b.Publish(bad, nil); err == nil {
			t.Errorf("publish on %q: want an error", bad)
		}
		if _, err := ask(t, b, bad, ""); err == nil || errors.Is(err, cluster.ErrNoResponder) {
			t.Errorf("request on %q: got %v, want an error that names it", bad, err)
		}
		if bad == "a.*" { // which is no subject to speak on, but one to listen on
			continue
		}
		if _, err := b.Subscribe(bad, func(string, []byte, func([]byte) error) {}); err == nil {
			t.Errorf("subscribe to %q: want an error", bad)
		}
	}
}

// A subscription to any last word hears all of them, and each message says which
// it is. It hears neither shorter nor longer subjects.
func anyWord(t *testing.T, b cluster.Bus) {
	heard := make(chan string, 8)
	stop, err := b.Subscribe("a.from.*", func(from string, data []byte, reply func([]byte) error) {
		heard <- from + " says " + string(data)
		if reply != nil {
			reply([]byte("to " + from))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, b, "a.from", "no")
	publish(t, b, "a.from.x.y", "no")
	publish(t, b, "b.from.x", "no")
	publish(t, b, "a.from.x", "1")
	if got := next(t, heard); got != "x says 1" {
		t.Errorf("heard %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := b.Request(ctx, "a.from.y", []byte("2")); err != nil || string(got) != "to y" || next(t, heard) != "y says 2" {
		t.Errorf("answered %q, %v", got, err)
	}
	named := make(chan string, 8)
	if _, err := b.Subscribe("a.from.z", func(from string, data []byte, _ func([]byte) error) { named <- from + string(data) }); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "a.from.z", "3")
	if a, b := next(t, heard), next(t, named); a != "z says 3" || b != "z3" {
		t.Errorf("heard %q and %q", a, b)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Request(ctx, "a.from.y", nil); !errors.Is(err, cluster.ErrNoResponder) {
		t.Errorf("after it has unsubscribed: %v", err)
	}
}
