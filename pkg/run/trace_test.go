package run

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/transport"
)

func readTrace(t *testing.T, path string) (events []traceEvent) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &events); err != nil {
		t.Fatalf("%v: %.300s", err, b)
	}
	return events
}

// nested finds what Perfetto drops: spans of a line that overlap, neither in the other; and
// lines of two processes that have one number, which would be one line to it.
func nested(t *testing.T, events []traceEvent) {
	t.Helper()
	of, lines := map[int]int{}, map[int][]traceEvent{}
	for _, e := range events {
		if pid, known := of[e.TID]; known && pid != e.PID || e.PID < 1 || e.TID < 1 {
			t.Errorf("%+v: its line is of process %d, too", e, pid)
		}
		if of[e.TID] = e.PID; e.Phase == "X" {
			lines[e.TID] = append(lines[e.TID], e)
		}
	}
	for _, l := range lines {
		slices.SortStableFunc(l, func(a, b traceEvent) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(b.Took, a.Took)) })
		var in []traceEvent
		for _, e := range l {
			for len(in) > 0 && in[len(in)-1].At+in[len(in)-1].Took <= e.At {
				in = in[:len(in)-1]
			}
			if n := len(in); n > 0 && e.At+e.Took > in[n-1].At+in[n-1].Took {
				t.Errorf("%+v ends after %+v, in which it begins", e, in[n-1])
			}
			in = append(in, e)
		}
	}
}

// The parts of a worker whose clock is hours off stand where they were by ours: the report
// that was fastest says by how much, one that was held up changes nothing.
func TestTraceAlignsClocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.json")
	tr, err := openTrace(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	off := 3 * time.Hour // the worker's clock is ahead
	report := func(step uint64, end time.Time) *cluster.Report {
		b := end.Add(off - 30*time.Millisecond).UnixMicro()
		return &cluster.Report{Worker: "w0", Step: step, Micro: 2, Spans: []cluster.Span{{Name: "data", Begin: b, Took: 10_000}, {Name: "forward", Begin: b + 10_000, Took: 20_000}}}
	}
	now := time.Now()
	tr.arrived(report(1, now.Add(-400*time.Millisecond))) // it took long to come
	tr.arrived(report(2, time.Now()))
	tr.arrived(report(3, now.Add(-time.Second)))
	end := tr.span("checkpoint", map[string]any{"step": 3})
	tr.step([]*cluster.Report{report(7, now), {Worker: "w1", Step: 7}})
	end()
	if err := tr.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]traceEvent{}
	for _, e := range readTrace(t, path) {
		got[e.Name] = e
	}
	if d := time.UnixMicro(got["step 7"].At).Sub(now.Add(-30 * time.Millisecond)); d < -time.Millisecond || d > 100*time.Millisecond {
		t.Errorf("the step stands %v from where it was", d)
	}
	if s, f := got["step 7"], got["forward"]; s.Took != 30_000 || f.At != s.At+10_000 || f.Took != 20_000 || f.PID != s.PID || s.PID != 2 {
		t.Errorf("%+v and %+v", s, f)
	}
	if c := got["checkpoint"]; c.PID != 1 || c.Args["step"] != 3.0 {
		t.Errorf("%+v", c)
	}
}

// A faster report than all before it moves the line of its worker back in time: no span
// lies over what was drawn already, and the line says by how much it was moved.
func TestTraceMovesALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.json")
	tr, err := openTrace(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	for step := uint64(1); step <= 60; step++ {
		b := at.UnixMicro()
		at = at.Add(30 * time.Millisecond)
		r := &cluster.Report{Worker: "w0", Step: step, Spans: []cluster.Span{{Name: "data", Begin: b, Took: 10_000}, {Name: "reduction, shm", Begin: b + 5_000, Took: 20_000, Line: 1}, {Name: "forward", Begin: b + 10_000, Took: 20_000}}}
		if step == 1 {
			tr.behind["w0"] = &lag{least: time.Minute, seen: lagReports}
		}
		if step == 50 {
			tr.behind["w0"].least -= 47 * time.Millisecond
		}
		tr.step([]*cluster.Report{r})
	}
	if err := tr.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := readTrace(t, path)
	nested(t, events)
	moved, steps := 0, 0
	for _, e := range events {
		if strings.HasPrefix(e.Name, "clock: from here on 47.") {
			moved++
		}
		if strings.HasPrefix(e.Name, "step ") && e.Took == 30_000 {
			steps++
		}
	}
	if moved != 1 || steps != 58 { // one step is cut off, one cut
		t.Errorf("the line says %d times that it was moved, and has %d whole steps", moved, steps)
	}
}

// A trace ends at its bound, and what is there can be read; one whose coordinator was
// killed lacks no more than its end.
func TestTraceIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.json")
	tr, err := openTrace(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	tr.write(traceEvent{Name: "before"})
	tr.desk.do(func() { tr.size = maxTrace })
	tr.write(traceEvent{Name: "last"}, traceEvent{Name: "beyond"})
	tr.write(traceEvent{Name: "beyond"})
	if err := tr.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, e := range readTrace(t, path) {
		names += e.Name + " "
	}
	if !strings.HasSuffix(names, "before last end ") {
		t.Errorf("it has %s", names)
	}
	if _, err := openTrace(filepath.Join(path, "x"), zap.NewNop()); err == nil || !strings.Contains(err.Error(), "--trace") {
		t.Errorf("%v", err)
	}
}

// A whole run that is traced has each step of each worker with its parts in it, one after
// the other, and the weights of one that is not.
func TestWholeRunIsTraced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.json")
	traceOfTest = path
	defer func() { traceOfTest = "" }()
	traced, _ := wholeRunOf(t, train.Kinds(), transport.NewMemory(), 2)
	traceOfTest = ""
	if plain := wholeRun(t, transport.NewMemory(), 1); plain != traced {
		t.Errorf("the weights are %x, without a trace %x", traced, plain)
	}
	steps, parts, moments, reductions := map[string]int{}, map[string]int{}, 0, 0
	last, open, passes := map[int]int64{}, map[localID]traceEvent{}, map[string]int{}
	of := func(e traceEvent) localID { return localID{fmt.Sprint(e.PID, " ", *e.ID)} }
	events := readTrace(t, path)
	nested(t, events)
	for _, e := range events {
		switch e.Phase {
		case "b":
			if _, twice := open[of(e)]; twice || e.ID == nil || e.Cat == "" {
				t.Errorf("%+v has no name of its own", e)
			}
			open[of(e)] = e
		case "e":
			b, ok := open[of(e)]
			if !ok || b.Name != e.Name || b.PID != e.PID || e.At < b.At {
				t.Errorf("%+v ends %+v", e, b)
			}
			delete(open, of(e))
			var bucket int
			if _, err := fmt.Sscanf(e.Name, "bucket %d,", &bucket); err != nil {
				t.Errorf("%q is no pass of a bucket", e.Name)
			}
			_, pass, _ := strings.Cut(e.Name, ", ")
			passes[pass]++
		}
		if e.Phase == "i" && strings.HasPrefix(e.Name, "bucket ") {
			moments++
		}
		if e.Phase != "X" {
			continue
		}
		if strings.HasPrefix(e.Name, "reduction, ") {
			reductions++
			if e.TID != e.PID*8+1 || e.Name != "reduction, shm" && e.Name != "reduction, nats" { // where memory cannot be shared
				t.Errorf("%+v", e)
			}
			continue
		}
		if strings.HasPrefix(e.Name, "step ") {
			steps[fmt.Sprint(e.Name, " of ", e.PID)]++
			continue
		}
		parts[e.Name]++
		if e.PID > 1 {
			if e.At < last[e.PID] {
				t.Errorf("%+v begins before the part before it has ended", e)
			}
			last[e.PID] = e.At + e.Took
		}
	}
	if reductions != 2*4 || moments < 2*4 {
		t.Errorf("%d reductions, and %d buckets were handed over", reductions, moments)
	}
	if n := passes["fold, shm"] + passes["fold, nats"]; len(open) > 0 || n < 4*2 || passes["fold, shm"] > passes["wait, shm"] || passes["fold, nats"] > 2*passes["total, nats"] {
		t.Errorf("%d passes have no end, and of those that have there are %v", len(open), passes)
	}
	if len(steps) != 2*4 {
		t.Errorf("%d steps: %v", len(steps), steps)
	}
	// 4 steps of 6 micro-batches, whoever computes them
	if parts["data"] != 24 || parts["forward"] != 24 || parts["backward"] != 24 || parts["ring"] != 8 || parts["optimizer"] != 8 || parts["checkpoint"] == 0 {
		t.Errorf("%v", parts)
	}
}
