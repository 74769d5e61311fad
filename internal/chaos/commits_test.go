package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// follow is a watcher of a new file, and what adds text to it.
func follow(t *testing.T) (*commits, func(text string)) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	return &commits{path: path}, func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
}

func line(step, generation int) string {
	return fmt.Sprintf(`{"step":%d,"generation":%d}`+"\n", step, generation)
}

// Lines count once, and when they are whole; of a run that goes back the
// greatest step.
func TestCommitsAreFollowed(t *testing.T) {
	c, add := follow(t)
	if c.read() {
		t.Error("news from a file that is not there")
	}
	add(line(1, 1) + line(2, 1) + `{"step":3,`)
	if !c.read() || c.steps != 2 || c.lines != 2 || c.generation != 1 {
		t.Errorf("%+v", c)
	}
	if c.read() {
		t.Error("half a line is news")
	}
	add(`"generation":2}` + "\n" + line(2, 3))
	if !c.read() || c.steps != 3 || c.lines != 4 || c.generation != 3 {
		t.Errorf("%+v", c)
	}
}

// A job has recovered at the first commit of another generation: those that
// were under way do not count.
func TestRecovered(t *testing.T) {
	no := func() bool { return false }
	yes := func() bool { return true }
	c, add := follow(t)
	add(line(1, 1))
	c.read()
	at := time.Now()
	add(line(2, 1))
	if _, ok := c.recovered(t.Context(), at, yes, time.Minute); ok {
		t.Error("a commit that was under way counts, and then the run has ended")
	}
	add(line(3, 2))
	if s, ok := c.recovered(t.Context(), at, no, time.Minute); !ok || s <= 0 {
		t.Errorf("%v s, %v", s, ok)
	}
	// where the generation stays, a commit after a while counts: the fault was long ago
	add(line(4, 2))
	if s, ok := c.recovered(t.Context(), time.Now().Add(-5*time.Second), no, time.Minute); !ok || s < 5 {
		t.Errorf("%v s, %v", s, ok)
	}
	if _, ok := c.recovered(t.Context(), time.Now(), no, time.Millisecond); ok {
		t.Error("nothing was committed")
	}
}

func TestNextCommit(t *testing.T) {
	c, add := follow(t)
	ended := false
	if c.next(t.Context(), func() bool { return ended }, 5*time.Millisecond) {
		t.Error("nothing was committed")
	}
	c.read()
	time.AfterFunc(20*time.Millisecond, func() { add(line(1, 1)) })
	if !c.next(t.Context(), func() bool { return false }, time.Minute) || c.steps != 1 {
		t.Errorf("%+v", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c.next(ctx, func() bool { return false }, time.Minute) {
		t.Error("nothing was committed, and nobody waits")
	}
}
