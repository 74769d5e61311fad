package run

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// maxTrace bounds a trace's file: beyond it no viewer is of use.
const maxTrace = 256 << 20

// tracer writes what each rank does, part by part, as Chrome's trace events: an array of
// JSON objects, whose end may be missing. A member is a process of it, the coordinator
// too; ours are its checkpoints.
//
// Clocks: a report is sent when its last part has ended, by the worker's clock, and comes
// after that by ours. The least difference over all reports of a worker is how far its
// clock is behind ours, up to the shortest time that a message has taken. A worker's first
// steps wait until a few of its reports have come; from then on its line is moved only for
// what is seen to be off by a millisecond or more, and says so.
type tracer struct {
	log  *zap.Logger
	desk *clerk // writes

	mu     sync.Mutex
	behind map[string]*lag
	ids    map[string]int // of members, in the file

	file *os.File // of the desk's goroutine, with what follows
	out  *bufio.Writer
	size int64
	full bool
}

// lag is how far a worker's clock is behind ours.
type lag struct {
	least time.Duration     // that was seen
	used  time.Duration     // for its line
	end   int64             // of its line, as far as it is drawn, by our clock
	seen  int               // reports
	first time.Time         // when the first one came
	wait  []*cluster.Report // until enough have been seen; in order
}

// lagReports are enough of a worker's reports to begin its line.
const lagReports = 32

// lagWait is for how long they are waited for.
const lagWait = 20 * time.Second

// traceEvent is one of Chrome's.
type traceEvent struct {
	Name  string         `json:"name"`
	Phase string         `json:"ph"` // X: a span; b, e: the ends of one that may overlap with others; M: what a process or a thread is called; i: a moment
	Cat   string         `json:"cat,omitempty"`
	ID    *localID       `json:"id2,omitempty"` // of b and e that belong together
	At    int64          `json:"ts"`            // µs
	Took  int64          `json:"dur"`           // µs
	PID   int            `json:"pid"`
	TID   int            `json:"tid"`
	Scope string         `json:"s,omitempty"`
	Args  map[string]any `json:"args,omitempty"`
}

// localID is a number within a process.
type localID struct {
	Local string `json:"local"`
}

// openTrace begins a trace in a file, whatever it held; nil, which traces nothing, where
// path is empty.
func openTrace(path string, log *zap.Logger) (*tracer, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--trace: %w", err)
	}
	t := &tracer{log: log, desk: newClerk(), behind: map[string]*lag{}, ids: map[string]int{}, file: f, out: bufio.NewWriter(f)}
	if _, err := t.out.WriteString("[\n"); err != nil {
		return nil, err
	}
	t.member(cluster.CoordinatorName, "coordinator")
	return t, nil
}

// arrived takes the time at which a report has come. It may be called from any goroutine.
func (t *tracer) arrived(r *cluster.Report) {
	if n := len(r.Spans); n > 0 {
		last := r.Spans[n-1]
		behind := time.Since(time.UnixMicro(last.Begin + last.Took))
		t.mu.Lock()
		defer t.mu.Unlock()
		l := t.behind[r.Worker]
		if l == nil {
			l = &lag{least: behind, first: time.Now()}
			t.behind[r.Worker] = l
		}
		l.seen++
		l.least = min(l.least, behind)
	}
}

// member is the number of a member in the file, which is told of new ones.
func (t *tracer) member(id, name string) int {
	t.mu.Lock()
	n, ok := t.ids[id]
	if !ok {
		n = len(t.ids)
		t.ids[id] = n
	}
	t.mu.Unlock()
	if !ok {
		t.write(traceEvent{Name: "process_name", Phase: "M", PID: n, Args: map[string]any{"name": name}},
			traceEvent{Name: "thread_name", Phase: "M", PID: n, Args: map[string]any{"name": "steps"}}, traceEvent{Name: "thread_name", Phase: "M", PID: n, TID: 1, Args: map[string]any{"name": "gradients"}},
			traceEvent{Name: "process_sort_index", Phase: "M", PID: n, Args: map[string]any{"sort_index": n}})
	}
	return n
}

// step takes the reports of a step.
func (t *tracer) step(reports []*cluster.Report) {
	for _, r := range reports {
		if len(r.Spans) == 0 {
			continue
		}
		t.mu.Lock()
		var ready []*cluster.Report
		if l := t.behind[r.Worker]; l != nil { // it has arrived
			if l.wait = append(l.wait, r); l.seen >= lagReports || time.Since(l.first) > lagWait {
				ready, l.wait = l.wait, nil
			}
		}
		t.mu.Unlock()
		t.draw(ready)
	}
}

// draw writes the steps of a worker.
func (t *tracer) draw(reports []*cluster.Report) {
	for _, r := range reports {
		pid := t.member(r.Worker, "worker "+r.Worker)
		t.mu.Lock()
		lag := t.behind[r.Worker]
		var l []traceEvent
		if off := lag.used - lag.least; lag.end == 0 || off >= time.Millisecond {
			if lag.end > 0 {
				l = append(l, traceEvent{Name: fmt.Sprintf("clock: from here on %.1f ms earlier", off.Seconds()*1e3), Phase: "i", Scope: "p", At: lag.end, PID: pid})
			}
			lag.used = lag.least
		}
		behind, drawn := lag.used.Microseconds(), lag.end
		t.mu.Unlock()
		first, last := r.Spans[0], r.Spans[len(r.Spans)-1]
		l = append(l, traceEvent{Name: fmt.Sprintf("step %d", r.Step), Phase: "X", At: first.Begin + behind, Took: last.Begin + last.Took - first.Begin, PID: pid,
			Args: map[string]any{"step": r.Step, "rank": r.Rank, "world": r.World, "generation": r.Generation, "micro_batches": r.Micro, "ring_bytes": r.RingBytes}})
		for i, s := range r.Spans {
			e := traceEvent{Name: s.Name, Phase: "X", At: s.Begin + behind, Took: s.Took, PID: pid, TID: s.Line}
			switch {
			case s.Line == cluster.OverlapLine:
				e.Phase, e.Cat, e.ID, e.TID, e.Took = "b", "buckets", &localID{fmt.Sprintf("%d.%d", r.Step, i)}, 0, 0
				l = append(l, e)
				e.Phase, e.At = "e", e.At+s.Took
			case s.Line > 0 && s.Took == 0:
				e.Phase, e.Scope = "i", "t"
			}
			l = append(l, e)
		}
		t.mu.Lock()
		lag.end = max(drawn, last.Begin+last.Took+behind)
		t.mu.Unlock()
		t.write(after(l, drawn)...)
	}
}

// after is events from a moment on: where a line was moved back in time, what would lie
// over what is drawn already is cut off, for a viewer drops spans that overlap.
func after(l []traceEvent, end int64) (kept []traceEvent) {
	for _, e := range l {
		if e.Phase == "X" && e.At < end {
			if e.Took -= end - e.At; e.Took < 0 {
				continue
			}
			e.At = end
		}
		kept = append(kept, e)
	}
	return kept
}

// span is something that the coordinator does, until end.
func (t *tracer) span(name string, args map[string]any) (end func()) {
	if t == nil {
		return func() {}
	}
	began := time.Now()
	return func() {
		t.write(traceEvent{Name: name, Phase: "X", At: began.UnixMicro(), Took: time.Since(began).Microseconds(), Args: args})
	}
}

// write appends events, beside whoever calls.
func (t *tracer) write(l ...traceEvent) { t.desk.do(func() { t.append(l) }) }

func (t *tracer) append(l []traceEvent) {
	if t.full {
		return
	}
	for _, e := range l {
		e.PID, e.TID = numbered(e.PID, e.TID)
		b, err := json.Marshal(e)
		if err == nil {
			_, err = t.out.Write(append(b, ",\n"...))
		}
		if t.size += int64(len(b)) + 2; err != nil || t.size > maxTrace {
			t.full = true
			t.log.Warn("the trace ends here; training goes on", zap.Int64("bytes", t.size), zap.Error(cmp.Or(err, errFullTrace)))
			return
		}
	}
}

// numbered are the numbers that a viewer is told of a line of a member. To Perfetto a
// thread's number is the machine's, not the process's, and 0 is no process: two lines of
// one number would be one, and half of each would be dropped.
func numbered(member, line int) (pid, tid int) {
	const lines = 8 // of a member, at most: cluster's check of a span
	return member + 1, (member+1)*lines + line
}

var errFullTrace = errors.New("it is as long as a viewer can take")

// close writes what is left, and the end of the array.
func (t *tracer) close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	var waiting [][]*cluster.Report
	for _, id := range slices.Sorted(maps.Keys(t.behind)) {
		waiting = append(waiting, t.behind[id].wait)
		t.behind[id].wait = nil
	}
	t.mu.Unlock()
	for _, l := range waiting {
		t.draw(l)
	}
	if !t.desk.close(ctx) {
		return errors.New("the disk hangs: the trace lacks its end")
	}
	pid, tid := numbered(0, 0)
	_, err := fmt.Fprintf(t.out, `{"name":"end","ph":"i","ts":%d,"pid":%d,"tid":%d,"s":"g"}`+"\n]\n", time.Now().UnixMicro(), pid, tid)
	return errors.Join(err, t.out.Flush(), t.file.Close())
}
