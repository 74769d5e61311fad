package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/rollout"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/features"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/trained"
)

// evaluator measures stored checkpoints on the held-out split beside training:
// one at a time, on one thread of the lowest priority. It reads the disk, so
// it has no part in what training computes. While it is behind, only the
// newest checkpoint waits for it.
type evaluator struct {
	job     *job.Job
	dir     *directory
	heldout data.Source
	kept    features.Options // where what frozen encoders make is kept
	voice   voice
	retain  func() // a score may decide which checkpoints stay
	sinks   sinks  // that are told of measurements

	mu     sync.Mutex
	lines  []Heldout
	at     uint64 // step being measured; 0: none
	next   uint64 // step that waits; 0: none
	ended  bool
	round  int // counts how often measures were dropped: one that began before does not count
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// open takes up the measurements of the run's directory, and begins. Those of
// steps beyond start, which come again, are dropped.
func (e *evaluator) open(ctx context.Context, start uint64) error {
	e.wake, e.done = make(chan struct{}, 1), make(chan struct{})
	lines, more, err := ReadEval(e.dir.path, start)
	if err != nil {
		return err
	}
	e.lines = lines
	if more {
		if err := writeEval(e.dir.path, lines); err != nil {
			return err
		}
	}
	ctx, e.cancel = context.WithCancel(ctx)
	go e.loop(ctx)
	if start > 0 && !slices.ContainsFunc(lines, func(h Heldout) bool { return h.Step == start }) { // a crash came before
		e.stored(start)
	}
	return nil
}

// stored has the checkpoint of step measured, if its turn has come. The last
// step's is measured when the run has ended.
func (e *evaluator) stored(step uint64) {
	every := uint64(e.job.Train.EvalEvery)
	if every == 0 || step%every != 0 || step >= uint64(e.job.Train.Steps) {
		return
	}
	e.mu.Lock()
	skipped := e.next
	e.next = step
	e.mu.Unlock()
	if skipped > 0 {
		e.voice.log.Warn("measuring on the held-out split takes longer than train.eval_every steps; one is passed over", zap.Uint64("step", skipped))
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// inUse are the checkpoints that must not be removed yet, and why.
func (e *evaluator) inUse() map[uint64]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return map[uint64]string{e.at: "being measured on the held-out split", e.next: "waits to be measured on the held-out split"}
}

// all are the measurements so far.
func (e *evaluator) all() []Heldout {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

func (e *evaluator) loop(ctx context.Context) {
	defer close(e.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its priority with it
	LowPriority()
	for {
		e.mu.Lock()
		e.at, e.next = e.next, 0
		step, ended := e.at, e.ended
		e.mu.Unlock()
		switch {
		case step > 0:
			e.measure(ctx, step)
			e.mu.Lock()
			e.at = 0
			e.mu.Unlock()
			e.retain()
		case ended:
			return
		default:
			select {
			case <-e.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

// measure evaluates the checkpoint of step. What goes wrong is said and costs
// no more than the measurement.
func (e *evaluator) measure(ctx context.Context, step uint64) {
	began := time.Now()
	e.mu.Lock()
	round := e.round
	e.mu.Unlock()
	m, err := trained.Open(e.dir.checkpoint(step), e.job.Kinds())
	var reps []eval.Report
	if err == nil {
		defer m.Close()
		defer e.keep(m)()
		reps, err = m.EvaluateAll(ctx, e.heldout, heldoutSplit, 1)
	}
	if err == nil {
		rolled := e.roll(ctx, m, 1)
		e.mu.Lock()
		dropped := e.round != round
		e.mu.Unlock()
		if ctx.Err() != nil || dropped {
			return
		}
		var h Heldout
		h, err = e.record(reps, rolled, time.Since(began).Seconds())
		e.voice.Event("eval", heldoutText(reps, rolled, h.Seconds), evalFields(reps, rolled))
		e.sinks.look(m, e.heldout, e.voice)
	}
	if err != nil && ctx.Err() == nil {
		e.voice.log.Warn("measuring on the held-out split", zap.Uint64("step", step), zap.Error(err))
	}
}

// keep has the model's frozen encoders' results kept beside the data, where the next
// measurement, and the next run, find them; end closes the files.
func (e *evaluator) keep(m *trained.Checkpoint) (end func()) {
	s := features.Open(e.kept)
	m.Keeper = s
	return s.Close
}

// record adds a line. The file is written anew with all of them, so what a full
// disk has not taken, or torn, comes whole with the next one.
func (e *evaluator) record(reps []eval.Report, rolled []rollout.Report, seconds float64) (Heldout, error) {
	h := heldoutOf(reps, seconds)
	h.Metrics = append(h.Metrics, rolledMetrics(rolled)...)
	h.At = time.Now().UTC().Truncate(time.Millisecond)
	if _, err := json.Marshal(h); err != nil {
		return h, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, h)
	err := writeEval(e.dir.path, e.lines)
	e.sinks.nudge()
	return h, err
}

// finish ends the evaluator: with all that waits measured, or at once.
func (e *evaluator) finish(all bool) {
	e.mu.Lock()
	e.ended = true
	e.mu.Unlock()
	if !all {
		e.cancel()
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
	<-e.done
	e.cancel()
}

// last measures the checkpoint in dir, a finished run's last, with all threads.
func (e *evaluator) last(ctx context.Context, dir string, threads int) error {
	began := time.Now()
	m, err := trained.Open(dir, e.job.Kinds())
	if err != nil {
		return err
	}
	defer m.Close()
	defer e.keep(m)()
	reps, err := m.EvaluateAll(ctx, e.heldout, heldoutSplit, threads)
	var bad *data.SampleError
	if errors.As(err, &bad) {
		at := ""
		if path := e.job.Data.Path; path != "" { // the sets of a mixture lie where the job says
			at = " --data " + plain.ShellWord(job.Abs(e.dir.baseDir, path))
		}
		return fmt.Errorf("%w\nall steps are stored; repair or replace it, and measure with: coordinator eval --checkpoint %s%s", err, plain.ShellWord(dir), at)
	}
	if err != nil {
		return err
	}
	rolled := e.roll(ctx, m, threads)
	if _, err := e.record(reps, rolled, time.Since(began).Seconds()); err != nil { // the job is done all the same
		e.voice.log.Warn(EvalFile+" lacks this measurement", zap.Error(err))
	}
	e.sinks.look(m, e.heldout, e.voice)
	text := ""
	for _, rep := range reps {
		text += rep.Text()
	}
	text += rolledText(rolled)
	e.voice.Event("eval", strings.TrimSuffix(text, "\n"), evalFields(reps, rolled))
	e.retain()
	return nil
}
