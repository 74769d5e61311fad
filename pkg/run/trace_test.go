package run

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
	if s, f := got["step 7"], got["forward"]; s.Took != 30_000 || f.At != s.At+10_000 || f.Took != 20_000 || f.PID != s.PID || s.PID == 0 {
		t.Errorf("%+v and %+v", s, f)
	}
	if c := got["checkpoint"]; c.PID != 0 || c.Args["step"] != 3.0 {
		t.Errorf("%+v", c)
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
	last := map[int]int64{}
	for _, e := range readTrace(t, path) {
		if e.Phase == "i" && strings.HasPrefix(e.Name, "bucket ") {
			moments++
		}
		if e.Phase != "X" {
			continue
		}
		if strings.HasPrefix(e.Name, "reduction, ") {
			reductions++
			if e.TID != 1 || e.Name != "reduction, shm" && e.Name != "reduction, nats" { // where memory cannot be shared
				t.Errorf("%+v", e)
			}
			continue
		}
		if strings.HasPrefix(e.Name, "step ") {
			steps[fmt.Sprint(e.Name, " of ", e.PID)]++
			continue
		}
		parts[e.Name]++
		if e.PID > 0 {
			if e.At < last[e.PID]-1 {
				t.Errorf("%+v begins before the part before it has ended", e)
			}
			last[e.PID] = e.At + e.Took
		}
	}
	if reductions != 2*4 || moments < 2*4 {
		t.Errorf("%d reductions, and %d buckets were handed over", reductions, moments)
	}
	if len(steps) != 2*4 {
		t.Errorf("%d steps: %v", len(steps), steps)
	}
	// 4 steps of 6 micro-batches, whoever computes them
	if parts["data"] != 24 || parts["forward"] != 24 || parts["backward"] != 24 || parts["ring"] != 8 || parts["optimizer"] != 8 || parts["checkpoint"] == 0 {
		t.Errorf("%v", parts)
	}
}
