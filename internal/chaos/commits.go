package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"time"
)

// commits follows a run's metrics.jsonl.
type commits struct {
	path       string
	offset     int64
	lines      int
	steps      int
	generation int
}

// read reports whether steps have been committed since the last call.
func (c *commits) read() bool {
	f, err := os.Open(c.path)
	if err != nil {
		return false
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, c.offset, 1<<30))
	if err != nil {
		return false
	}
	news := false
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return news
		}
		var m struct {
			Step       int `json:"step"`
			Generation int `json:"generation"`
		}
		if json.Unmarshal(b[:i], &m) == nil {
			c.steps, c.generation = max(c.steps, m.Step), m.Generation
			c.lines++
			news = true
		}
		c.offset += int64(i + 1)
		b = b[i+1:]
	}
}

// recovered waits for the first commit of another generation than that of the
// fault, which may come after commits that were under way, and returns how long
// the job stood still around it: since at, or since the last commit before.
// Where the generation stays, as with a broker, any commit counts.
func (c *commits) recovered(ctx context.Context, at time.Time, ended func() bool, most time.Duration) (seconds float64, ok bool) {
	generation, last, stays := c.generation, at, at.Add(3*time.Second)
	for end := at.Add(most); time.Now().Before(end) && ctx.Err() == nil; {
		if c.read() {
			now := time.Now()
			seconds = max(seconds, now.Sub(last).Seconds())
			last = now
			if c.generation != generation || now.After(stays) {
				return seconds, true
			}
		}
		if ended() {
			return seconds, false
		}
		t := time.NewTimer(time.Millisecond)
		<-t.C
	}
	return seconds, false
}

// next waits for a commit.
func (c *commits) next(ctx context.Context, ended func() bool, most time.Duration) bool {
	c.read()
	for end := time.Now().Add(most); time.Now().Before(end) && ctx.Err() == nil; {
		if c.read() {
			return true
		}
		if ended() {
			return c.read()
		}
		t := time.NewTimer(time.Millisecond)
		<-t.C
	}
	return false
}
