package run

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// mute is a screen that shows nothing but its log.
type mute struct {
	Screen
	log *zap.Logger
}

func (m mute) Event(string, string, map[string]any)    {}
func (m mute) Script(string, map[string]any)           {}
func (m mute) Step(Metrics)                            {}
func (m mute) Members(cluster.Phase, []cluster.Member) {}
func (m mute) Saved(uint64)                            {}
func (m mute) Log() (*zap.Logger, error)               { return m.log, nil }

func memberOf(id string, pid, rank int) cluster.Member {
	m := cluster.Member{Rank: rank}
	m.Worker, m.PID, m.Host = id, pid, "h"
	return m
}

// eventsOf are the lines of a journal without their moments, each of which must parse.
func eventsOf(t *testing.T, path string) (lines []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for rd := bufio.NewScanner(f); rd.Scan(); {
		var e map[string]any
		if err := json.Unmarshal(rd.Bytes(), &e); err != nil {
			t.Fatalf("%q: %v", rd.Text(), err)
		}
		if _, err := time.Parse(time.RFC3339Nano, e["at"].(string)); err != nil {
			t.Error(err)
		}
		delete(e, "at")
		b, _ := json.Marshal(e)
		lines = append(lines, string(b))
	}
	return lines
}

// What a run shows of its members, checkpoints and log stands in the run directory: a
// line where something has changed, and none where nothing has.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	core, seen := observer.New(zap.DebugLevel)
	j := openJournal(dir, mute{log: zap.New(core)}, 7, "v1")
	log, err := j.Log()
	if err != nil {
		t.Fatal(err)
	}
	two := []cluster.Member{memberOf("a", 1, -1), memberOf("b", 2, -1)}
	j.Members(cluster.Gathering, two)
	j.Members(cluster.Gathering, two)
	j.Members(cluster.Running, []cluster.Member{memberOf("a", 1, 0), memberOf("b", 2, 1)})
	j.Step(Metrics{Step: 8})
	j.Saved(7)
	j.Saved(8)
	log.Warn("lost worker b\x1b[2J", zap.Int("rank", 1))
	log.Debug("nothing for a journal")
	j.Members(cluster.Running, []cluster.Member{memberOf("a", 1, 0), memberOf("b", 3, -1)})
	j.Members(cluster.Running, []cluster.Member{memberOf("a", 1, 0)})
	j.Event("end", "done", map[string]any{"reason": strings.Repeat("x", maxEvent)}) // longer than a line may be
	j.Event("end", "done", nil)
	j.close(context.Background())
	if seen.Len() != 2 {
		t.Errorf("the screen's own log has %d entries, want 2", seen.Len())
	}
	got := eventsOf(t, filepath.Join(dir, EventsFile))
	want := []string{
		`"event":"start"`, `{"change":"joined","cpu":"","event":"member","host":"h","pid":1,"rank":-1,"step":7,"threads":0,"worker":"a"}`, `"worker":"b"}`,
		`{"event":"phase","phase":"gathering","step":7,"workers":2}`, `{"change":"place","event":"member","rank":0,"step":7,"worker":"a"}`, `"rank":1,"step":7,"worker":"b"}`,
		`"phase":"running"`, `{"event":"saved","step":8,"stored":8}`, `{"event":"note","fields":{"rank":1},"level":"warn","step":8,"text":"lost worker b�[2J"}`,
		`{"change":"gone","event":"member","step":8,"worker":"b"}`, `"change":"joined","cpu":"","event":"member","host":"h","pid":3`, `{"change":"gone","event":"member","step":8,"worker":"b"}`,
		`{"event":"end","step":8,"text":"done"}`,
	}
	for i, w := range want {
		if i >= len(got) || !strings.Contains(got[i], w) {
			t.Fatalf("line %d of\n%s\nwant %s", i, strings.Join(got, "\n"), w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}

// A journal that has grown too long begins a new file, and keeps the one before.
func TestJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, EventsFile)
	if err := os.WriteFile(path, make([]byte, maxEvents), 0o644); err != nil {
		t.Fatal(err)
	}
	j := openJournal(dir, mute{log: zap.NewNop()}, 0, "v1")
	j.write("one", nil)
	j.close(context.Background())
	if got := eventsOf(t, path); len(got) != 1 || !strings.Contains(got[0], `"one"`) {
		t.Errorf("the new file has %q", got)
	}
	if i, err := os.Stat(filepath.Join(dir, EventsBefore)); err != nil || i.Size() <= maxEvents {
		t.Errorf("the old file: %v, %v", i, err)
	}
}

// A directory that takes no journal costs the journal, and no more.
func TestJournalWithoutADisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, EventsFile), 0o755); err != nil {
		t.Fatal(err)
	}
	j := openJournal(dir, mute{log: zap.NewNop()}, 0, "v1")
	j.Saved(5)
	j.close(context.Background())
}
