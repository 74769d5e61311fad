package run

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// EventsFile holds what happened in a run beside its steps: who came and went, what
// was said of it, what was stored and measured. One object a line, in the order of
// the clock; a resumed run adds to it.
const EventsFile = "events.jsonl"

// EventsBefore is what EventsFile was called before it grew too long.
const EventsBefore = "events-old.jsonl"

const (
	maxEvents = 16 << 20 // bytes of EventsFile
	maxEvent  = 64 << 10 // of one line; a longer one is left out
)

// journal is a screen that writes down what another one shows. Lines are written
// beside whoever calls; a disk that takes none costs the lines and nothing else.
type journal struct {
	Screen
	path  string
	desk  *clerk
	now   func() time.Time
	step  atomic.Uint64 // committed
	first uint64
	size  int64 // of the desk's goroutine, as file
	file  *os.File

	mu    sync.Mutex
	phase cluster.Phase
	roll  map[string]standing // members, as the last line has them
	waits waits
}

// standing is what of a member is written down when it changes.
type standing struct {
	pid, rank int
	spare     bool
}

// openJournal goes on in dir's journal with what is shown on screen of a run that
// begins at step first.
func openJournal(dir string, screen Screen, first uint64, version string) *journal {
	j := &journal{Screen: screen, path: filepath.Join(dir, EventsFile), desk: newClerk(), now: time.Now, first: first, phase: -1, roll: map[string]standing{}}
	j.step.Store(first)
	j.write("start", map[string]any{"version": version, "pid": os.Getpid()})
	return j
}

// write adds a line: the moment, the newest committed step, what happened.
func (j *journal) write(event string, fields map[string]any) {
	line := map[string]any{}
	maps.Copy(line, fields)
	line["at"], line["event"] = j.now().UTC().Format("2006-01-02T15:04:05.000Z"), event
	if _, has := line["step"]; !has {
		line["step"] = j.step.Load()
	}
	b, err := json.Marshal(line)
	if err != nil || len(b) >= maxEvent { // a figure that is not finite; a report of very many dimensions
		return
	}
	j.desk.do(func() { j.append(append(b, '\n')) })
}

// append is of the desk's goroutine.
func (j *journal) append(line []byte) {
	if j.file != nil && j.size > maxEvents {
		j.file.Close()
		j.file = nil
		os.Rename(j.path, filepath.Join(filepath.Dir(j.path), EventsBefore))
	}
	if j.file == nil {
		f, err := regular.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil { // metrics.jsonl lies there too, and says so
			return
		}
		i, err := f.Stat()
		if err != nil {
			f.Close()
			return
		}
		j.file, j.size = f, i.Size()
	}
	n, err := j.file.Write(line)
	j.size += int64(n)
	if err != nil && n > 0 { // a line that is torn in the middle would join the next one
		j.size -= int64(n)
		j.file.Truncate(j.size)
	}
}

func (j *journal) Event(kind, text string, fields map[string]any) {
	line := map[string]any{"text": plain.Text(text)}
	maps.Copy(line, fields)
	j.write(kind, line)
	j.Screen.Event(kind, text, fields)
}

func (j *journal) Script(kind string, fields map[string]any) {
	if kind != "joined" { // Members has it
		j.write(kind, fields)
	}
	j.Screen.Script(kind, fields)
}

func (j *journal) Step(m Metrics) {
	j.step.Store(m.Step)
	j.mu.Lock()
	line := j.waits.add(j.now(), m.Ring)
	j.mu.Unlock()
	if line != nil {
		j.write("waits", line)
	}
	j.Screen.Step(m)
}

func (j *journal) Saved(step uint64) {
	if step != j.first { // it was there before
		j.write("saved", map[string]any{"stored": step})
	}
	j.Screen.Saved(step)
}

func (j *journal) Members(phase cluster.Phase, members []cluster.Member) {
	j.mu.Lock()
	now := make(map[string]standing, len(members))
	for _, m := range members {
		now[m.Worker] = standing{m.PID, m.Rank, m.Spare}
	}
	changed := memberEvents(j.roll, members)
	if phase != j.phase {
		changed = append(changed, map[string]any{"event": "phase", "phase": phase.String(), "workers": len(members)})
	}
	j.phase, j.roll = phase, now
	j.mu.Unlock()
	for _, e := range changed {
		j.write(e["event"].(string), e)
	}
	j.Screen.Members(phase, members)
}

// memberEvents are the lines between two rolls: who went, who came, whose place is
// another. A worker that came again as another process went before.
func memberEvents(was map[string]standing, members []cluster.Member) (events []map[string]any) {
	left := maps.Clone(was)
	for _, m := range members {
		before, had := left[m.Worker]
		delete(left, m.Worker)
		is := standing{m.PID, m.Rank, m.Spare}
		if had && before.pid != m.PID {
			events = append(events, map[string]any{"event": "member", "change": "gone", "worker": m.Worker})
			had = false
		}
		e := map[string]any{"event": "member", "worker": m.Worker, "rank": m.Rank}
		if m.Spare {
			e["spare"] = true
		}
		switch {
		case !had:
			e["change"], e["host"], e["pid"], e["threads"], e["cpu"] = "joined", m.Host, m.PID, m.Threads, m.CPU
		case before != is:
			e["change"] = "place"
		default:
			continue
		}
		events = append(events, e)
	}
	for worker := range left {
		events = append(events, map[string]any{"event": "member", "change": "gone", "worker": worker})
	}
	return events
}

// Log is the screen's, whose entries are written down too.
func (j *journal) Log() (*zap.Logger, error) {
	log, err := j.Screen.Log()
	if err != nil {
		return nil, err
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewTee(c, &journalCore{LevelEnabler: zapcore.InfoLevel, to: j})
	})), nil
}

// close waits for the lines that are on their way, for as long as ctx lasts.
func (j *journal) close(ctx context.Context) {
	j.mu.Lock()
	line := j.waits.take(j.now())
	j.mu.Unlock()
	if line != nil {
		j.write("waits", line)
	}
	if j.desk.close(ctx) && j.file != nil {
		j.file.Close()
	}
}

// journalCore is the journal's end of the log.
type journalCore struct {
	zapcore.LevelEnabler
	with []zapcore.Field
	to   *journal
}

func (c *journalCore) With(f []zapcore.Field) zapcore.Core {
	return &journalCore{c.LevelEnabler, append(c.with[:len(c.with):len(c.with)], f...), c.to}
}

func (c *journalCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.with[:len(c.with):len(c.with)], fields...) {
		f.AddTo(enc)
	}
	line := map[string]any{"level": strings.ToLower(e.Level.String()), "text": plain.Text(e.Message)}
	if len(enc.Fields) > 0 {
		line["fields"] = enc.Fields
	}
	c.to.write("note", line)
	return nil
}

func (c *journalCore) Sync() error { return nil }
