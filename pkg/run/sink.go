package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/trained"
)

// Sink keeps a run's records elsewhere too: in files of another program, on a server.
// It has one goroutine, which reads what the run has written to metrics.jsonl and
// eval.jsonl. So training waits for none, a server that is away is told later, and
// what is begun in the middle of a run gets all of it.
type Sink interface {
	// String is what messages call it.
	String() string
	// Open begins, or goes on with a run that begins after a step: what there is of
	// later ones does not count. It returns the newest steps that the sink has.
	Open(ctx context.Context, about About) (Has, error)
	// Put takes records that follow one another. After an error the same come again,
	// with what has been written meanwhile; none of them may be there twice then.
	Put(ctx context.Context, r Records) error
	// Close ends it: finished says whether the run has all of its steps.
	Close(ctx context.Context, finished bool) error
}

// Looker is a Sink that also looks at the checkpoints that are measured. Look runs on
// the evaluator's goroutine, beside the other methods.
type Looker interface {
	Look(c *trained.Checkpoint, heldout data.Source) error
}

// About is the run that a sink is told of.
type About struct {
	Dir        string // the run directory
	Job        *job.Job
	Step       uint64 // after which its records go on
	Parameters int
	Version    string // of this program
}

// Has is how far a sink is: the newest steps of which it has records.
type Has struct{ Step, Measured uint64 }

// Records are what a run has written, in the order of steps.
type Records struct {
	Steps    []Metrics
	Measured []Measured
}

// Measured is a measurement with the best values up to then, by metric.
type Measured struct {
	Heldout
	Best map[string]float64
}

// Bounds of what follows a run's files.
const (
	linesAtOnce = 4096             // of metrics.jsonl
	sinkRetry   = 30 * time.Second // at most, between two tries
	sinkLeave   = 15 * time.Second // at most, for what is left when the run ends
)

// follower passes what a run has written on to a sink.
type follower struct {
	sink  Sink
	about About
	voice voice
	kinds job.Kinds

	wake   chan struct{}
	end    chan bool // the run has ended: with all of its steps, or not
	done   chan struct{}
	cancel context.CancelFunc

	opened chan struct{} // closed once the sink is
	has    Has
	at     int64                  // of metrics.jsonl, up to where it has been read
	back   atomic.Pointer[uint64] // what comes after that step is told again; nil: nothing is
	silent bool                   // that it does not work has been said
	put    func(Records)          // is told of what the sink has taken; nil: nobody
}

func newFollower(s Sink, about About, v voice) *follower {
	return &follower{sink: s, about: about, voice: v, kinds: about.Job.Kinds(), wake: make(chan struct{}, 1), end: make(chan bool, 1),
		done: make(chan struct{}), opened: make(chan struct{})}
}

// start begins, once the run's files hold nothing any more that comes again.
func (f *follower) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go f.run(ctx)
}

func (f *follower) isOpen() bool {
	select {
	case <-f.opened:
		return true
	default:
		return false
	}
}

// nudge says that there is something new.
func (f *follower) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// close has what is left passed on, within a moment.
func (f *follower) close(ctx context.Context, finished bool) {
	if f.cancel == nil { // never started
		return
	}
	f.end <- finished
	limit := time.NewTimer(sinkLeave)
	defer limit.Stop()
	select {
	case <-f.done:
	case <-limit.C:
	case <-ctx.Done():
		select {
		case <-f.done:
		case <-time.After(time.Second):
		}
	}
	f.cancel()
	<-f.done
}

func (f *follower) run(ctx context.Context) {
	defer close(f.done)
	wait := time.Duration(0)
	for {
		more, err := f.pass(ctx)
		f.say(ctx, err)
		switch {
		case more:
			continue
		case err == nil:
			wait = 0
			select {
			case <-f.wake:
				continue
			case finished := <-f.end:
				f.leave(ctx, finished)
				return
			}
		}
		wait = min(max(2*wait, 250*time.Millisecond), sinkRetry)
		select {
		case <-time.After(wait):
		case finished := <-f.end:
			f.leave(ctx, finished)
			return
		}
	}
}

// leave passes on what is left, and ends the sink.
func (f *follower) leave(ctx context.Context, finished bool) {
	err := error(nil)
	for more := true; more && err == nil; {
		more, err = f.pass(ctx)
	}
	if f.isOpen() {
		err = errors.Join(err, f.sink.Close(ctx, finished))
	}
	if err != nil {
		f.voice.log.Warn(fmt.Sprintf("%s lacks the end of the run; what is missing is added when the run goes on with the same flag", f.sink), zap.Uint64("has_step", f.has.Step), zap.Error(err))
	}
}

// say says once that a sink does not work, and once that it does again.
func (f *follower) say(ctx context.Context, err error) {
	switch {
	case err != nil && !f.silent && ctx.Err() == nil:
		f.silent = true
		f.voice.log.Warn(fmt.Sprintf("%s takes nothing; training goes on, it is told later, and this is said once", f.sink), zap.Error(err))
	case err == nil && f.silent:
		f.silent = false
		f.voice.log.Info(fmt.Sprintf("%s takes records again", f.sink))
	}
}

// pass passes on what is new, some of it if there is much, and says whether there is more.
func (f *follower) pass(ctx context.Context) (more bool, err error) {
	if !f.isOpen() {
		if f.has, err = f.sink.Open(ctx, f.about); err != nil {
			return false, err
		}
		close(f.opened)
	}
	if b := f.back.Swap(nil); b != nil {
		f.at, f.has.Step, f.has.Measured = 0, min(f.has.Step, *b), min(f.has.Measured, *b)
	}
	var r Records
	steps, at, err := readSteps(filepath.Join(f.about.Dir, MetricsFile), f.at, linesAtOnce)
	if err != nil {
		return false, err
	}
	for _, m := range steps {
		if m.Step > f.has.Step {
			r.Steps = append(r.Steps, m)
		}
	}
	lines, _, err := ReadEval(f.about.Dir, math.MaxUint64)
	if err != nil {
		return false, err
	}
	for _, m := range withBest(f.kinds, lines) {
		if m.Step > f.has.Measured {
			r.Measured = append(r.Measured, m)
		}
	}
	if len(r.Steps)+len(r.Measured) > 0 {
		if err := f.sink.Put(ctx, r); err != nil {
			return false, err
		}
		if f.put != nil {
			f.put(r)
		}
	}
	f.at = at
	if n := len(r.Steps); n > 0 {
		f.has.Step = r.Steps[n-1].Step
	}
	if n := len(r.Measured); n > 0 {
		f.has.Measured = r.Measured[n-1].Step
	}
	return len(steps) == linesAtOnce, nil
}

// withBest adds the best values so far of each metric.
func withBest(kinds job.Kinds, lines []Heldout) (out []Measured) {
	best := map[string]float64{}
	for _, h := range lines {
		for _, m := range append([]HeldoutMetric{{"loss", h.Loss}}, h.Metrics...) {
			known, _ := kinds.Metric(job.Held + m.Name)
			b, ok := best[m.Name]
			if !ok || known.HigherIsBetter && m.Value > b || !known.HigherIsBetter && m.Value < b {
				best[m.Name] = m.Value
			}
		}
		out = append(out, Measured{h, maps.Clone(best)})
	}
	return out
}

// readSteps reads whole lines of a metrics file, at most so many, from a byte on, and
// says where it has got to. A line that is none is passed over.
func readSteps(path string, at int64, most int) (steps []Metrics, to int64, err error) {
	f, size, err := regular.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, at, err
	}
	defer f.Close()
	if at > size { // it has been written anew
		at = 0
	}
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return nil, at, err
	}
	for rd := bufio.NewReader(f); len(steps) < most; {
		line, err := rd.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) { // the rest of the line is on its way
				err = nil
			}
			return steps, at, err
		}
		at += int64(len(line))
		var m Metrics
		if json.Unmarshal(bytes.TrimSpace(line), &m) == nil && m.Step > 0 {
			steps = append(steps, m)
		}
	}
	return steps, at, nil
}

// sinks are those of a run.
type sinks []*follower

func (s sinks) start() {
	for _, f := range s {
		f.start()
	}
}

func (s sinks) nudge() {
	for _, f := range s {
		f.nudge()
	}
}

func (s sinks) close(ctx context.Context, finished bool) {
	for _, f := range s {
		f.close(ctx, finished)
	}
}

// look shows a measured checkpoint to those who want to see it. What goes wrong costs
// no more than that.
func (s sinks) look(c *trained.Checkpoint, heldout data.Source, v voice) {
	for _, f := range s {
		if l, ok := f.sink.(Looker); ok {
			err := errors.New("it is not open yet")
			select {
			case <-f.opened:
				err = l.Look(c, heldout)
			case <-time.After(5 * time.Second): // it is this thread's own time, and nobody waits for it
			}
			if err != nil {
				v.log.Warn(fmt.Sprintf("%s lacks pictures of step %d", f.sink, c.Step), zap.String("reason", strings.TrimSpace(err.Error())))
			}
		}
	}
}
