package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Reports that follow each other quickly arrive together, within the linger, in
// order; all else arrives at once, behind what was held; a report after a pause is
// not held at all.
func TestReportsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := NewMemBus()
		var mu sync.Mutex
		var came []string
		unsub, err := bus.Subscribe(FromSubject("job", "*"), func(_ string, data []byte, _ func([]byte) error) {
			msg, err := Decode(data)
			if err != nil {
				t.Error(err)
			}
			word := fmt.Sprintf("%T", msg)
			if r, ok := msg.(*Report); ok {
				word = fmt.Sprint("report ", r.Step)
			}
			mu.Lock()
			came = append(came, word)
			mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
		a := &Agent{bus: bus, job: "job", id: "w", done: make(chan struct{}), unsub: func() error { return nil }}
		tell := func(m Message) {
			if err := a.Tell(m); err != nil {
				t.Error(err)
			}
		}
		report := func(step uint64) { tell(&Report{Worker: "w", Step: step}) }
		want := func(when string, words ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(came, words) {
				t.Fatalf("%s: %q came, want %q", when, came, words)
			}
			came = nil
		}
		report(1)
		want("after a pause", "report 1")
		for step := uint64(2); step < 5; step++ {
			time.Sleep(linger / 5)
			report(step)
		}
		want("quickly after it")
		time.Sleep(linger)
		want("a moment later", "report 2", "report 3", "report 4")
		report(5)
		tell(&Heartbeat{Worker: "w", Phase: "stepping"})
		want("before another message", "report 5", "*cluster.Heartbeat")
		report(6)
		a.Close()
		want("at the end", "report 6")
		time.Sleep(2 * linger)
		want("after the end")
		unsub()
	})
}

// A worker that is told to end while no coordinator answers says so, with what told
// it; one whose time is over says that nobody answered.
func TestJoinIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		me := Join{Protocol: Protocol, Worker: "w", Host: "host", PID: 1}
		told := errors.New("told to go")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(told) })
		if _, _, err := JoinJob(ctx, NewMemBus(), "job", me); !errors.Is(err, told) {
			t.Errorf("told to go, it says %v", err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, _, err := JoinJob(ctx, NewMemBus(), "job", me); !errors.Is(err, ErrNoResponder) {
			t.Errorf("nobody answers, and it says %v", err)
		}
	})
}
