package natsbus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// Refusals count from the first after the last connection that was made, and are for good
// after some time and some of them.
func TestRefusals(t *testing.T) {
	var r refusals
	at := time.Unix(100, 0)
	for i, c := range []struct {
		after        time.Duration
		first, final bool
	}{{0, true, false}, {time.Second, false, false}, {refusedFor, false, true}, {2 * refusedFor, false, true}} {
		if first, final := r.add(at.Add(c.after)); first != c.first || final != c.final {
			t.Errorf("refusal %d: first %v, final %v", i, first, final)
		}
	}
	r = refusals{}
	r.add(at)
	if _, final := r.add(at.Add(time.Hour)); final {
		t.Error("two of them, of an hour apart, are the end")
	}
}

// A server that refuses what it has taken before, for a moment, ends nobody: one that has
// just begun, say, and has yet to read who may come.
func TestRefusalsThatPass(t *testing.T) {
	t.Parallel()
	open := server.Options{Username: "u", Password: "p"}
	url, s := outsider(t, open)
	told := newEvents()
	c, err := Connect(within(t), url, Credentials{User: "u", Password: "p"}, ConnOptions{Job: "j", Member: "m", Event: told.tell})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := ringWorks(t, c)
	o := open
	o.Host, o.NoLog, o.NoSigs = "127.0.0.1", true, true
	if _, err := fmt.Sscanf(url, "nats://127.0.0.1:%d", &o.Port); err != nil {
		t.Fatal(err)
	}
	shut := o
	shut.Password = "not yet read"
	if err := s.ReloadOptions(&shut); err != nil {
		t.Fatal(err)
	}
	told.await(t, "tried again for")
	time.Sleep(refusedFor / 5) // several tries of each connection; two ended it before
	if err := s.ReloadOptions(&o); err != nil {
		t.Fatal(err)
	}
	eventually(t, "frames go through again", func() bool {
		n.Send(within(t), "m", []byte{1})
		select {
		case f, ok := <-n.Frames():
			if !ok {
				t.Fatal("the network has ended")
			}
			n.Release(f)
			return true
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
	if err := c.Err(); err != nil {
		t.Errorf("it is ended: %v", err)
	}
	if _, err := c.Bus().Request(within(t), "vlaring.j.look", nil); !errors.Is(err, cluster.ErrNoResponder) {
		t.Errorf("a request: %v", err)
	}
}

// A key that has lost its connections, which the server has yet to miss, is let in all the
// same: the oldest of them makes room.
func TestOldConnectionsMakeRoom(t *testing.T) {
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j"})
	k := keyOf(t, "secret", RoleWorker, "w0", time.Time{})
	other, err := as(t, broker.URL(), keyOf(t, "secret", RoleWorker, "w1", time.Time{}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range holderConns { // two connections each
		if _, err := as(t, broker.URL(), k); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	eventually(t, "they are bounded", func() bool {
		broker.guard.mu.Lock()
		defer broker.guard.mu.Unlock()
		return broker.guard.holders[k.holder()] <= holderConns
	})
	if other.Err() != nil || other.control.Stats().Reconnects > 0 {
		t.Error("another worker's connections made room for them")
	}
}

// Whoever knocks with a key that does not count any more fills neither the log nor the
// memory: it is said once, with the reason, and others are counted.
func TestKnocking(t *testing.T) {
	t.Parallel()
	revoked := filepath.Join(t.TempDir(), "revoked")
	if err := os.WriteFile(revoked, []byte(Revocation(RoleWorker, "w0", time.Now().Add(time.Hour))), 0o600); err != nil {
		t.Fatal(err)
	}
	told := newEvents()
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j", Revoked: revoked, Event: told.tell})
	broker.Expel("w1")
	knock := func(c Credentials, member string) {
		t.Helper()
		for range 10 {
			if _, err := Connect(within(t), broker.URL(), c, ConnOptions{Job: "j", Member: member}); !errors.Is(err, cluster.ErrRefused) {
				t.Fatalf("%s: %v", member, err)
			}
		}
	}
	short := keyOf(t, "secret", RoleWorker, "w2", time.Now().Add(2*time.Second))
	for _, w := range []string{"w0", "w1"} {
		k := keyOf(t, "secret", RoleWorker, w, time.Time{})
		knock(Credentials{Key: &k}, w)
	}
	for time.Until(short.Until) > -10*time.Millisecond {
		time.Sleep(20 * time.Millisecond)
	}
	forged := short
	forged.Until = forged.Until.Add(time.Hour) // or this side would see that it is over
	knock(Credentials{Key: &forged}, "w2")
	knock(Credentials{User: "eve", Password: "x"}, "w3")
	told.mu.Lock()
	got := strings.Join(told.all, "\n")
	told.mu.Unlock()
	if want := strings.Join([]string{"broker: refused a connection from 127.0.0.1: the key of worker w0 is revoked",
		"broker: refused a connection from 127.0.0.1: the key of worker w1 does not count any more: the worker was put out",
		"broker: refused a connection from 127.0.0.1: it does not prove to have the job's token, or a key that was made from it"}, "\n"); got != want {
		t.Errorf("told of forty tries:\n%s\nwant:\n%s", got, want)
	}
	for i := range 2 * maxStrangersBanned { // in names that nobody has come by
		broker.Expel(fmt.Sprint("x", i))
	}
	if n := len(broker.guard.banned); n > maxStrangersBanned {
		t.Errorf("%d names are kept out", n)
	}
}

// A key that is over is the end at once, for both sides agree on it.
func TestKeyOver(t *testing.T) {
	t.Parallel()
	told := newEvents()
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j", Event: told.tell})
	c, err := as(t, broker.URL(), keyOf(t, "secret", RoleWorker, "w0", time.Now().Add(2*time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second+refusedFor/2)
	defer cancel()
	select {
	case <-c.Broken():
	case <-ctx.Done():
		t.Fatal("it knocks on")
	}
	if err := c.Err(); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "the key of worker w0 was good until") {
		t.Errorf("it ended with %v", err)
	}
}

// What many that knock for long leave behind in the broker's process is nothing: neither
// connections nor memory.
func TestKnockingLeavesNothing(t *testing.T) {
	revoked := filepath.Join(t.TempDir(), "revoked")
	lines := ""
	for i := range 64 {
		lines += Revocation(RoleWorker, fmt.Sprint("w", i), time.Now().Add(time.Hour)) // keys are made below
	}
	if err := os.WriteFile(revoked, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j", Revoked: revoked, Event: func(string) {}})
	held := func(tries int) uint64 {
		var wg sync.WaitGroup
		for i := range 64 {
			k := keyOf(t, "secret", RoleWorker, fmt.Sprint("w", i), time.Time{})
			wg.Go(func() {
				for range tries {
					_, err := Connect(t.Context(), broker.URL(), Credentials{Key: &k}, ConnOptions{Job: "j", Member: k.ID})
					if !errors.Is(err, cluster.ErrRefused) {
						t.Errorf("%s: %v", k.ID, err)
					}
				}
			})
		}
		wg.Wait()
		eventually(t, "they are gone", func() bool { return broker.Clients() == 0 })
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	first := held(1)
	if then := held(15); then > first+256<<10 {
		t.Errorf("%d bytes are held after 64 tries, %d after a thousand", first, then)
	} else {
		t.Logf("%d bytes are held after 64 tries, %d after a thousand", first, then)
	}
}
