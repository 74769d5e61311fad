package cluster

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// A worker that floods the coordinator, or speaks in another one's name, is put
// out by name; the one it spoke for is not.
func TestRogues(t *testing.T) {
	for what, c := range map[string]struct {
		does func(t *testing.T, bus Bus)
		want string
	}{
		"floods": {func(t *testing.T, bus Bus) {
			for range floodMost + 100 {
				if err := bus.Publish(FromSubject("job", "b"), []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
		}, fmt.Sprintf("it has sent %d messages within 1s", floodMost+1)},
		"speaks as another": {func(t *testing.T, bus Bus) {
			if err := bus.Publish(FromSubject("job", "b"), Encode(&Leave{Worker: "a", Reason: "so says b"})); err != nil {
				t.Fatal(err)
			}
		}, `it speaks in the name of worker "a"`},
	} {
		t.Run(what, func(t *testing.T) {
			bus := NewMemBus()
			var mu sync.Mutex
			var notes, expelled, dropped []string
			h := noHooks()
			h.Note = func(text string) { mu.Lock(); notes = append(notes, text); mu.Unlock() }
			h.Expel = func(w string) { mu.Lock(); expelled = append(expelled, w); mu.Unlock() }
			h.Dropped = func(w string) { mu.Lock(); dropped = append(dropped, w); mu.Unlock() }
			cfg := testConfig()
			cfg.Workers, cfg.MaxWorkers = 3, 3 // so that it waits
			start(t.Context(), NewCoordinator(bus, "job", "host", 1, h), cfg)
			join := func(id string) error {
				_, _, err := JoinJob(t.Context(), bus, "job", Join{Protocol: Protocol, Worker: id, Host: "host-" + id, PID: 1})
				return err
			}
			for _, id := range []string{"a", "b"} {
				if err := join(id); err != nil {
					t.Fatal(err)
				}
			}
			c.does(t, bus)
			late := time.Now().Add(time.Minute)
			for {
				mu.Lock()
				said, out := strings.Join(notes, "\n"), fmt.Sprint(expelled, dropped)
				mu.Unlock()
				if strings.Contains(said, "lost worker b: it is put out, and not taken back: "+c.want) && out == "[b] [b]" {
					if strings.Contains(said, "lost worker a") {
						t.Errorf("another one was lost:\n%s", said)
					}
					break
				}
				if time.Now().After(late) {
					t.Fatalf("expelled and dropped %s:\n%s", out, said)
				}
				time.Sleep(time.Millisecond)
			}
			if err := join("b"); err == nil || !strings.Contains(err.Error(), "not taken back") {
				t.Errorf("it comes back: %v", err)
			}
		})
	}
}
