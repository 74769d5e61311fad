package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
)

const (
	maxJob     = 1 << 20
	maxRefused = 200
	patience   = 300 * time.Millisecond // of one answer, for reading what a file has got
	maxZoom    = 48 << 20               // bytes that are read again for a part of a curve
)

// reader knows one run as far as its files were read. Its methods may be called from
// any goroutine.
type reader struct {
	spot  spot
	kinds job.Kinds
	now   func() time.Time

	mu      sync.Mutex
	epoch   int // goes up where what was told before does not hold any more
	metrics tail
	events  tail
	evals   tail
	flat    flattener
	curve   *curve
	held    *curve
	story   *story
	last    []byte // line of metrics.jsonl
	refused []refusal
	bad     int // lines that are none
	checks  checks
	listed  struct { // checkpoints, as of a moment
		entries     []checkpoint.Entry
		err         error
		changed, at time.Time
	}
}

// refusal is a step that made no update.
type refusal struct {
	Step uint64 `json:"step"`
	Why  string `json:"why"`
}

func newReader(s spot, kinds job.Kinds) *reader {
	return &reader{spot: s, kinds: kinds, now: time.Now, metrics: tail{name: run.MetricsFile}, events: tail{name: run.EventsFile}, evals: tail{name: run.EvalFile},
		curve: newCurve(), held: newCurve(), story: newStory()}
}

// catchUp reads on, for a while. It reports how much of metrics.jsonl it knows.
func (r *reader) catchUp(root *os.Root) (share float64, err error) {
	if err := r.catchEvents(root); err != nil {
		return 0, err
	}
	if err := r.evals.read(root, 64<<20, func() { r.held = newCurve(); r.epoch++ }, r.evalLine); err != nil {
		return 0, err
	}
	for end := r.now().Add(patience); ; {
		before := r.metrics.off
		if err := r.metrics.read(root, 4<<20, r.startOver, r.metricsLine); err != nil {
			return 0, err
		}
		if r.metrics.off == before || r.now().After(end) {
			return r.metrics.share(), nil
		}
	}
}

func (r *reader) startOver() {
	r.curve, r.last, r.refused, r.bad = newCurve(), nil, nil, 0
	r.epoch++
}

func (r *reader) metricsLine(off int64, b []byte) {
	pairs, refused, ok := r.flat.line(b)
	if !ok || len(pairs) == 0 {
		r.bad++
		return
	}
	step, rest := stepOf(pairs)
	if refused != "" {
		if len(r.refused) < maxRefused {
			r.refused = append(r.refused, refusal{step, plain.Line(refused, 500)})
		}
		kept := rest[:0]
		for _, p := range rest { // they are 0, and say nothing
			if p.key != "loss" && p.key != "grad_norm" && p.key != "targets" {
				kept = append(kept, p)
			}
		}
		rest = kept
	}
	r.curve.add(step, off, rest)
	r.last = append(r.last[:0], b...)
}

// stepOf takes the step out of a line's numbers.
func stepOf(pairs []pair) (step uint64, rest []pair) {
	for i, p := range pairs {
		if p.key == "step" && p.value >= 1 && p.value < 1<<53 {
			return uint64(p.value), append(pairs[:i], pairs[i+1:]...)
		}
	}
	return 0, nil
}

func (r *reader) evalLine(off int64, b []byte) {
	if pairs, _, ok := r.flat.line(b); ok {
		step, rest := stepOf(pairs)
		r.held.add(step, off, rest)
	}
}

func (r *reader) catchEvents(root *os.Root) error {
	take := func(_ int64, b []byte) { r.story.add(b) }
	anew := func() { r.story = newStory() }
	for range 2 { // the second time where the first one found another file
		if r.events.off == 0 {
			anew()
			before := tail{name: run.EventsBefore}
			if err := before.read(root, 64<<20, func() {}, take); err != nil {
				return err
			}
		}
		again := false
		if err := r.events.read(root, 64<<20, func() { again = true }, take); err != nil || !again {
			return err
		}
		r.events = tail{name: run.EventsFile}
	}
	return nil
}

// overview is all of a run but its curves and its story.
type overview struct {
	ID      string            `json:"id"`
	Path    string            `json:"path"`
	Version string            `json:"version"` // of all that is told; another one: something has changed
	State   string            `json:"state"`   // running, silent, done, stopped, failed, abandoned, unknown
	Said    string            `json:"said"`    // the state in words
	Written int64             `json:"written"` // when a file of it last changed, in ms
	Now     int64             `json:"now"`     // by the server's clock
	Step    uint64            `json:"step"`
	Steps   int               `json:"steps"`          // that the job wants; 0: unknown
	Left    float64           `json:"left,omitempty"` // seconds, as the last steps went
	Last    map[string]number `json:"last"`           // the newest line of metrics.jsonl
	Refused []refusal         `json:"refused,omitempty"`
	Bad     int               `json:"bad,omitempty"`
	Job     string            `json:"job"`
	JobFile string            `json:"job_file,omitempty"`
	Model   string            `json:"model,omitempty"`
	Data    string            `json:"data,omitempty"`
	Global  int               `json:"global,omitempty"`
	Seconds float64           `json:"seconds"` // of all steps
	Phases  map[string]number `json:"phases"`  // of them

	Checkpoints []stored `json:"checkpoints"`
	Told        string   `json:"told"` // version of the story and the tables
	Story       *story   `json:"story"`
	Tables      []table  `json:"tables"`
	Problem     string   `json:"problem,omitempty"`
}

// overview reads on and says where the run stands, unless that is what an earlier
// answer of this version said: then it is nil. The story, which may be long, is left
// out where told is what that answer had.
func (r *reader) overview(version, told string) (out json.RawMessage, err error) {
	err = r.upToDate(func(root *os.Root, share float64) error {
		out, err = r.look(root, share, version, told)
		return err
	})
	return out, err
}

// upToDate has f look at the run as its files are now, of which share is read.
func (r *reader) upToDate(f func(root *os.Root, share float64) error) error {
	root, err := r.spot.open()
	if err != nil {
		return err
	}
	defer root.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	share, err := r.catchUp(root)
	if err != nil {
		return err
	}
	return f(root, share)
}

// look is overview's, of what is read.
func (r *reader) look(root *os.Root, share float64, version, told string) (json.RawMessage, error) {
	g := glance(root, r.kinds, r.now())
	o := &overview{ID: r.spot.id, Path: r.spot.path(), State: g.State, Said: g.Said, Written: g.Written, Now: r.now().UnixMilli(), Step: g.Step, Steps: g.Steps,
		Refused: r.refused, Bad: r.bad, Job: g.job, JobFile: g.jobFile, Model: g.Model, Data: g.Data, Global: g.global, Seconds: r.curve.elapsed,
		Told: fmt.Sprintf("%d.%d.%d", r.epoch, len(r.story.Sessions), r.events.off), Story: r.story, Tables: r.story.tables, Last: map[string]number{}, Phases: map[string]number{}}
	if pairs, _, ok := r.flat.line(r.last); ok {
		for _, p := range pairs {
			o.Last[p.key] = number(p.value)
		}
		o.Step = max(o.Step, uint64(o.Last["step"]))
	}
	for _, key := range r.curve.names() {
		if name, is := strings.CutPrefix(key, "time."); is && name != "step" {
			o.Phases[name] = number(r.curve.total(key))
		}
	}
	if n := uint64(o.Steps); g.State == "running" && n > o.Step {
		o.Left = float64(n-o.Step) * r.recentStep()
	}
	if o.Tables == nil {
		o.Tables = []table{}
	}
	var err error
	if o.Checkpoints, err = r.listCheckpoints(root, g.parsed); err != nil {
		o.Problem = err.Error()
	}
	o.Version = fmt.Sprintf("%d.%d.%d.%d.%d.%s.%.3f.%d", r.epoch, r.metrics.off, r.events.off, r.evals.off, len(o.Checkpoints), o.State, share, r.checks.done.Load())
	if o.Version == version {
		return nil, nil
	}
	if o.Told == told {
		o.Story, o.Tables = nil, nil
	}
	return json.Marshal(o) // here: what it holds changes with the next reading
}

// recentStep is the mean time of the newest steps.
func (r *reader) recentStep() float64 {
	k, known := r.curve.number["time.step"]
	if !known {
		return 0
	}
	sum, n := 0.0, 0.0
	col := r.curve.columns[k]
	for _, x := range col[max(0, len(col)-20):] {
		sum, n = sum+x.sum, n+float64(x.n)
	}
	return sum / max(n, 1)
}

// curves is an answer about curves.
type curves struct {
	Epoch  int     `json:"epoch"`
	Read   float64 `json:"read"` // of metrics.jsonl; below 1: ask again
	Since  uint64  `json:"since"`
	Train  series  `json:"train"`
	Held   series  `json:"held"`
	Exact  bool    `json:"exact,omitempty"`
	Newest uint64  `json:"newest"`
}

// asked is what of a curve is wanted.
type asked struct {
	epoch    int
	width    uint64
	since    uint64 // with the epoch and width of an earlier answer: only buckets from this step on
	from, to uint64 // a part, as exactly as can be; to 0: all
}

func (r *reader) curves(q asked) (c *curves, err error) {
	err = r.upToDate(func(root *os.Root, share float64) error {
		c = &curves{Epoch: r.epoch, Read: share, Held: r.held.series(0, nil), Newest: r.curve.newest}
		if q.to > 0 {
			c.Train, c.Exact, err = r.part(root, q.from, q.to)
			return err
		}
		if q.epoch == r.epoch && q.width == r.curve.width {
			c.Since = q.since
		}
		c.Train = r.curve.series(c.Since, nil)
		return nil
	})
	return c, err
}

// part reads steps from to to again, where that is not too much.
func (r *reader) part(root *os.Root, from, to uint64) (series, bool, error) {
	begin, end := r.curve.bytesOf(from, to, r.metrics.off)
	if end-begin > maxZoom || r.curve.width == 1 {
		return r.curve.series(0, nil), r.curve.width == 1, nil
	}
	f, _, err := openIn(root, run.MetricsFile)
	if err != nil {
		return series{}, false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, begin, end-begin))
	if err != nil {
		return series{}, false, err
	}
	c := newCurve()
	for line := range bytes.Lines(b) {
		pairs, refused, ok := r.flat.line(bytes.TrimRight(line, "\n"))
		if !ok {
			continue
		}
		step, rest := stepOf(pairs)
		if step < from || step > to {
			continue
		}
		if refused != "" {
			rest = nil
		}
		c.add(step, 0, rest)
	}
	return c.series(0, nil), c.width == 1, nil
}

// glimpse is a run in a line.
type glimpse struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	State   string            `json:"state"`
	Said    string            `json:"said"`
	Written int64             `json:"written"`
	Step    uint64            `json:"step"`
	Steps   int               `json:"steps"`
	Model   string            `json:"model"`
	Data    string            `json:"data"`
	Last    map[string]number `json:"last"`
	Held    map[string]number `json:"held"` // newest line of eval.jsonl

	as           string // files as they were
	job, jobFile string
	parsed       *job.Job // nil where it is of another release
	global       int
}

// endOf reads the newest whole lines of a file, and says when it was written.
func endOf(root *os.Root, name string, most int64) (lines []byte, written int64) {
	f, size, err := openIn(root, name)
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil {
		written = i.ModTime().UnixMilli()
	}
	b := make([]byte, min(size, most))
	n, _ := f.ReadAt(b, size-int64(len(b)))
	b = b[:n]
	return b[:bytes.LastIndexByte(b, '\n')+1], written
}

func lastNumbers(lines []byte) map[string]number {
	out := map[string]number{}
	lines = bytes.TrimRight(lines, "\n")
	var f flattener
	pairs, _, ok := f.line(lines[bytes.LastIndexByte(lines, '\n')+1:])
	for _, p := range pairs {
		if ok {
			out[p.key] = number(p.value)
		}
	}
	return out
}

// glance reads little of a run: its job, its state and the ends of its files.
func glance(root *os.Root, kinds job.Kinds, now time.Time) glimpse {
	g := glimpse{State: "unknown", Said: "no run.json says how it stands"}
	metrics, written := endOf(root, run.MetricsFile, 64<<10)
	evals, measured := endOf(root, run.EvalFile, 64<<10)
	_, told := endOf(root, run.EventsFile, 0)
	g.Last, g.Held = lastNumbers(metrics), lastNumbers(evals)
	g.Written = max(written, measured, told)
	g.Step = uint64(max(0, g.Last["step"]))
	if b, err := readIn(root, run.JobCopy, maxJob); err == nil {
		g.job = plain.Text(string(b))
		if j, err := kinds.Parse(run.JobCopy, b, nil); err == nil {
			g.parsed, g.Name, g.Steps, g.Model, g.Data, g.global = j, plain.Line(j.Name, 200), j.Train.Steps, j.Model.Kind, j.Data.Kind, j.Batch.Global
		}
	}
	var o run.Origin
	b, err := readIn(root, run.OriginFile, 1<<20)
	if err != nil || json.Unmarshal(b, &o) != nil {
		return g
	}
	g.jobFile = plain.Line(path.Clean(o.JobFile), 500)
	g.State = plain.Line(o.State, 40)
	g.Step = max(g.Step, o.Step)
	if g.State != run.StateRunning {
		g.Said = fmt.Sprintf("%s at step %d", g.State, o.Step)
		return g
	}
	quiet := now.Sub(time.UnixMilli(g.Written)).Round(time.Second)
	g.Said = "running"
	if quiet > max(2*time.Minute, time.Duration(20*float64(g.Last["time.step"])*float64(time.Second))) {
		g.State = "silent"
		g.Said = fmt.Sprintf("nothing written for %v: it waits for workers or a disk, or its coordinator has died", quiet)
	}
	return g
}
