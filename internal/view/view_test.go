package view

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// screenOf is what a terminal shows once it has been sent s: lines, of which the
// last may be empty. It knows what a view may send and nothing else.
func screenOf(t *testing.T, s string) string {
	t.Helper()
	lines, row := []string{""}, 0
	for s != "" {
		var up int
		switch {
		case s[0] == '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
			s = s[1:]
		case strings.HasPrefix(s, "\x1b["):
			if n, _ := fmt.Sscanf(s, "\x1b[%dA\r\x1b[J", &up); n != 1 || up > row {
				t.Fatalf("an escape sequence that cannot be, at line %d: %.20q", row, s)
			}
			row -= up
			lines = append(lines[:row], "")
			s = s[len(fmt.Sprintf("\x1b[%dA\r\x1b[J", up)):]
		case s[0] < ' ':
			t.Fatalf("a control character: %.20q", s)
		default:
			i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' })
			if i < 0 {
				i = len(s)
			}
			lines[row] += s[:i]
			s = s[i:]
		}
	}
	return strings.Join(lines, "\n")
}

// clock is a time that a test sets.
type clock struct{ time.Time }

func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

// watch is a view of a job of 20 steps, which begins after the second.
func watch(out *bytes.Buffer, how how) (*view, *clock) {
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	v := newView(out, how, "tabletop", 2, 20)
	v.now, v.width, v.start = func() time.Time { return c.Time }, func() int { return 90 }, c.Time
	return v, c
}

// metrics are those of a step whose loss falls with it.
func metrics(step uint64) run.Metrics {
	m := run.Metrics{Step: step, Loss: 2 / float64(step), GradNorm: 1.25, LR: 3e-4, SamplesSec: 64, World: 2, Generation: 1}
	m.Time.Step, m.Time.Data, m.Time.Forward, m.Time.Backward, m.Time.Ring, m.Time.Optimizer = 0.5, 0.001, 0.1, 0.2, 0.0305, 0.01
	return m
}

// play is a run: workers join, steps, a checkpoint, a log line, a step without
// an update, one worker that is slow.
func play(v *view, c *clock) {
	members := []cluster.Member{
		{Join: cluster.Join{Worker: "w0", Host: "node1", PID: 11, Threads: 2, CPU: "avx512"}, Rank: 0, Step: 2, Phase: "training"},
		{Join: cluster.Join{Worker: "w1", Host: "node1", PID: 12, Threads: 2, CPU: "avx512"}, Rank: 1, Step: 2, Phase: "training", Slowdown: 2.25},
		{Join: cluster.Join{Worker: "gpu-node-with-a-long-name", Host: "node2", PID: 7, Threads: 16, CPU: "neon"}, Rank: -1, Phase: "joining", Spare: true},
	}
	v.Members(cluster.Gathering, nil)
	v.Event("start", "broker on 127.0.0.1:4222", map[string]any{"url": "nats://127.0.0.1:4222", "steps": 20})
	v.Script("plan", map[string]any{"workers": 2})
	c.pass(time.Second)
	v.Members(cluster.Running, members)
	for step := uint64(3); step <= 8; step++ {
		c.pass(500 * time.Millisecond)
		v.Step(metrics(step))
		if step == 5 {
			v.Saved(5)
			fmt.Fprintf(v, "12:00:00.000 INFO checkpoint stored\n")
		}
	}
	v.Say("a line for people")
	c.pass(50 * time.Millisecond)
	refused := metrics(9)
	refused.Refused = "the gradient is not finite"
	v.Step(refused) // too soon after the last to be drawn
	c.pass(6 * time.Second)
	v.Step(refused)
	v.Members(cluster.Running, members)
	v.Close()
	v.Event("end", "done", map[string]any{"model_sha256": "abc"})
}

// The screen at the end, in place: one block, of the newest state, below the
// lines that were said before it, and above those after it was closed.
func TestScreen(t *testing.T) {
	var out bytes.Buffer
	play(watch(&out, inPlace))
	golden(t, "screen.txt", screenOf(t, out.String()))
	for i, l := range strings.Split(screenOf(t, out.String()), "\n") {
		if n := len([]rune(l)); n >= 90 {
			t.Errorf("line %d has %d columns of a terminal of 90: it may wrap", i, n)
		}
	}
}

// What is sent to a terminal, step by step: each block is erased by as many
// lines as it had.
func TestErase(t *testing.T) {
	var out bytes.Buffer
	v, c := watch(&out, inPlace)
	v.Members(cluster.Gathering, nil)
	one := out.Len()
	if n := strings.Count(out.String(), "\n"); n != 1 || strings.Contains(out.String(), "\x1b") {
		t.Fatalf("the first block has %d lines: %q", n, out.String())
	}
	c.pass(time.Second)
	v.Step(metrics(3))
	three := out.Len()
	if sent := out.String()[one:]; !strings.HasPrefix(sent, "\x1b[1A\r\x1b[J") || strings.Count(sent, "\n") != 3 {
		t.Errorf("after a block of one line: %q", sent)
	}
	v.Say("hello")
	if sent := out.String()[three:]; !strings.HasPrefix(sent, "\x1b[3A\r\x1b[Jhello\n") || strings.Count(sent, "\n") != 4 {
		t.Errorf("a line above a block of three: %q", sent)
	}
}

// Where the output is no terminal there is a line of the first step, of the
// last, and one every five seconds in between.
func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	play(watch(&out, plainLines))
	golden(t, "plain.txt", out.String())
	out.Reset()
	v, c := watch(&out, plainLines)
	for step := uint64(3); step <= 20; step++ {
		v.Step(metrics(step))
		c.pass(time.Second)
	}
	var steps []string
	for l := range strings.Lines(out.String()) {
		steps = append(steps, strings.Fields(l)[1])
	}
	if got := strings.Join(steps, " "); got != "3/20 8/20 13/20 18/20 20/20" {
		t.Errorf("lines of steps %s", got)
	}
}

// For scripts every step and event is an object, and nothing else is a line:
// what a logger writes goes elsewhere.
func TestEvents(t *testing.T) {
	var out bytes.Buffer
	v, c := watch(&out, events)
	v.Members(cluster.Running, nil)
	v.Event("start", "people read this", map[string]any{"url": "nats://127.0.0.1:4222", "steps": 20})
	v.Script("plan", map[string]any{"workers": 2})
	v.Say("a line for people")
	c.pass(time.Second)
	v.Step(metrics(3))
	refused := metrics(4)
	refused.Refused = "the gradient is not finite"
	v.Step(refused)
	v.Close()
	v.Event("end", "done", map[string]any{"model_sha256": "abc"})
	golden(t, "events.jsonl", out.String())
}

// A terminal that has not taken the last block gets no other; what is said
// stays, and comes when it reads again.
func TestScreenThatNobodyReads(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	o := newOutlet(g, 1<<20, MissingText)
	v, c := watch(nil, inPlace)
	v.out = o
	for step := uint64(3); step <= 10; step++ {
		c.pass(time.Second)
		v.Step(metrics(step))
	}
	v.Say("hello")
	close(g.open)
	o.Close(t.Context())
	if got := g.got.String(); strings.Count(got, "tabletop") > 2 || !strings.Contains(got, "hello\n") || !strings.Contains(got, "step 10/20") {
		t.Errorf("sent: %q", got)
	}
}

// The block that is drawn in place fits a screen, however many workers there
// are: of what has scrolled away no line can be drawn again.
func TestBlockOfManyWorkersFitsAScreen(t *testing.T) {
	var s state
	for i := range 64 {
		s.members = append(s.members, cluster.Member{Join: cluster.Join{Worker: fmt.Sprintf("w%d", i)}, Rank: i})
	}
	lines := s.block(100, time.Time{})
	if len(lines) > 24 || lines[len(lines)-1] != "  … and 48 more" {
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}

// The time that is left is that of the steps at the pace since the first of
// this run: waiting for workers before it does not count.
func TestETA(t *testing.T) {
	at := time.Unix(0, 0)
	s := state{steps: 100, first: 10, start: at}
	s.last.Step = 10
	at = at.Add(time.Hour) // of waiting
	if got := s.eta(at); got != "-" {
		t.Errorf("before the first step: %s", got)
	}
	s.step(metrics(11), at)
	if got := s.eta(at); got != "-" {
		t.Errorf("at the first step: %s", got)
	}
	s.step(metrics(21), at.Add(20*time.Second)) // two seconds a step, 79 to go
	if got := s.eta(at.Add(20 * time.Second)); got != "2m38s" {
		t.Errorf("after ten more: %s", got)
	}
}

func TestSpark(t *testing.T) {
	for want, l := range map[string][]float64{"": nil, "▁": {3}, "▁▁": {3, 3}, "▁█": {1, 2}, "█▄▁": {2, 1, 0}, "▁▂▃▄▅▆▇█": {0, 1, 2, 3, 4, 5, 6, 7}} {
		if got := spark(l); got != want {
			t.Errorf("%v is %q, want %q", l, got, want)
		}
	}
	long := make([]float64, 100)
	for i := range long {
		long[i] = float64(i)
	}
	if got := []rune(spark(long)); len(got) != sparkWidth || got[0] != '▁' || got[sparkWidth-1] != '█' {
		t.Errorf("a hundred values are %q", string(got))
	}
}

// A curve of any length has few points, each the mean of as many values.
func TestCurve(t *testing.T) {
	var c curve
	for i := range 1000 {
		c.add(float64(i))
	}
	if c.per != 16 || len(c.points) != 1000/16 || c.n != 1000%16 {
		t.Fatalf("%d points of %d values, %d over", len(c.points), c.per, c.n)
	}
	for i, p := range c.points {
		if want := float64(16*i) + 7.5; p != want {
			t.Errorf("point %d is %v, want %v", i, p, want)
		}
	}
}
