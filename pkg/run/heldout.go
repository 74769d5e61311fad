package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
)

// EvalFile holds the measurements of a run's checkpoints on the held-out
// split, one object a line, in order of steps.
const EvalFile = "eval.jsonl"

// heldoutSplit is its name in options, reports and messages.
const heldoutSplit = "heldout"

// Heldout is one line of it: an object with the fields below, and each metric
// under its name.
type Heldout struct {
	Step    uint64
	Samples int
	Loss    float64
	Metrics []HeldoutMetric // as the job's head has them: l1 of actions, normalised; accuracy of tokens
	Seconds float64         // that it took
}

// HeldoutMetric is a metric's value.
type HeldoutMetric struct {
	Name  string
	Value float64
}

// Metric is the value of the metric called name, without heldout_.
func (h Heldout) Metric(name string) (value float64, ok bool) {
	if name == "loss" {
		return h.Loss, true
	}
	for _, m := range h.Metrics {
		if m.Name == name {
			return m.Value, true
		}
	}
	return 0, false
}

// MarshalJSON writes the line.
func (h Heldout) MarshalJSON() ([]byte, error) {
	type field struct {
		name  string
		value any
	}
	fields := []field{{"step", h.Step}, {"samples", h.Samples}, {"loss", h.Loss}}
	for _, m := range h.Metrics {
		fields = append(fields, field{m.Name, m.Value})
	}
	var b []byte
	for _, f := range append(fields, field{"seconds", h.Seconds}) {
		v, err := json.Marshal(f.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		b = fmt.Appendf(b, ",%q:%s", f.name, v)
	}
	b[0] = '{'
	return append(b, '}'), nil
}

// UnmarshalJSON reads a line; every number that is none of the fields is a metric.
func (h *Heldout) UnmarshalJSON(b []byte) error {
	var x struct {
		Step    uint64  `json:"step"`
		Samples int     `json:"samples"`
		Loss    float64 `json:"loss"`
		Seconds float64 `json:"seconds"`
	}
	var all map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(b, &x), json.Unmarshal(b, &all)); err != nil {
		return err
	}
	*h = Heldout{Step: x.Step, Samples: x.Samples, Loss: x.Loss, Seconds: x.Seconds}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var v float64
		if !slices.Contains([]string{"step", "samples", "loss", "seconds"}, name) && json.Unmarshal(all[name], &v) == nil {
			h.Metrics = append(h.Metrics, HeldoutMetric{name, v})
		}
	}
	return nil
}

func heldoutOf(rep eval.Report, seconds float64) Heldout {
	h := Heldout{Step: rep.Step, Samples: rep.Samples, Loss: rep.Loss, Seconds: seconds}
	for _, m := range rep.Metrics {
		h.Metrics = append(h.Metrics, HeldoutMetric{m.Name, m.Value})
	}
	return h
}

// heldoutText is a line for people, of the report that it was made of.
func heldoutText(rep eval.Report, seconds float64) string {
	s := fmt.Sprintf("held-out, step %d: loss %.5f", rep.Step, rep.Loss)
	for _, m := range rep.Metrics {
		s += ", " + m.Text(m.Value)
	}
	return s + fmt.Sprintf(" (%d samples, %.1f s)", rep.Samples, seconds)
}

// ReadEval reads the lines of a run up to and including step, and says
// whether there are others. A torn last line is none.
func ReadEval(dir string, step uint64) (lines []Heldout, more bool, err error) {
	f, _, err := regular.Open(filepath.Join(dir, EvalFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	for rd := bufio.NewReader(f); ; {
		line, err := rd.ReadBytes('\n')
		if len(line) == 0 {
			return lines, more, nil
		}
		var h Heldout
		if err != nil || json.Unmarshal(line, &h) != nil || h.Step > step {
			more = true
			continue
		}
		lines = append(lines, h)
	}
}

// writeEval writes a run's measurements, all of them or none.
func writeEval(dir string, lines []Heldout) error {
	var b bytes.Buffer
	for _, h := range lines {
		if err := json.NewEncoder(&b).Encode(h); err != nil {
			return fmt.Errorf("%s, step %d: %w", EvalFile, h.Step, err)
		}
	}
	return atomicfile.Write(filepath.Join(dir, EvalFile), b.Bytes(), 0o644)
}

// evaluator measures stored checkpoints on the held-out split beside training:
// one at a time, on one thread of the lowest priority. It reads the disk, so
// it has no part in what training computes. While it is behind, only the
// newest checkpoint waits for it.
type evaluator struct {
	run    *Run
	mu     sync.Mutex
	lines  []Heldout
	at     uint64 // step being measured; 0: none
	next   uint64 // step that waits; 0: none
	ended  bool
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// openEvaluator takes up the measurements of the run's directory. Those of
// steps beyond start, which come again, are dropped.
func (r *Run) openEvaluator(ctx context.Context) error {
	e := &evaluator{run: r, wake: make(chan struct{}, 1), done: make(chan struct{})}
	lines, more, err := ReadEval(r.dir, r.start)
	if err != nil {
		return err
	}
	e.lines = lines
	if more {
		if err := writeEval(r.dir, lines); err != nil {
			return err
		}
	}
	ctx, e.cancel = context.WithCancel(ctx)
	r.eval = e
	go e.loop(ctx)
	if r.start > 0 && !slices.ContainsFunc(lines, func(h Heldout) bool { return h.Step == r.start }) { // a crash came before
		e.stored(r.start)
	}
	return nil
}

// stored has the checkpoint of step measured, if its turn has come. The last
// step's is measured when the run has ended.
func (e *evaluator) stored(step uint64) {
	every := uint64(e.run.job.Train.EvalEvery)
	if every == 0 || step%every != 0 || step >= uint64(e.run.job.Train.Steps) {
		return
	}
	e.mu.Lock()
	skipped := e.next
	e.next = step
	e.mu.Unlock()
	if skipped > 0 {
		e.run.log.Warn("measuring on the held-out split takes longer than train.eval_every steps; one is passed over", zap.Uint64("step", skipped))
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

// heldoutScores are the values of a held-out metric by step.
func heldoutScores(lines []Heldout, metric string) map[uint64]float64 {
	out := map[uint64]float64{}
	for _, h := range lines {
		if v, ok := h.Metric(strings.TrimPrefix(metric, job.Held)); ok {
			out[h.Step] = v
		}
	}
	return out
}

func (e *evaluator) loop(ctx context.Context) {
	defer close(e.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its priority with it
	lowPriority()
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
			e.run.retain() // a score may decide who stays
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
	r := e.run
	began := time.Now()
	m, err := Load(r.checkpointDir(step))
	var rep eval.Report
	if err == nil {
		rep, err = m.Evaluate(ctx, r.dataset.Heldout(), heldoutSplit, 1)
		m.Close()
	}
	if err == nil {
		var h Heldout
		h, err = e.record(rep, time.Since(began).Seconds())
		r.view.Event("eval", heldoutText(rep, h.Seconds), map[string]any{"step": step, "report": rep})
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("measuring on the held-out split", zap.Uint64("step", step), zap.Error(err))
	}
}

// record adds a line. The file is written anew with all of them, so what a full
// disk has not taken, or torn, comes whole with the next one.
func (e *evaluator) record(rep eval.Report, seconds float64) (Heldout, error) {
	h := heldoutOf(rep, seconds)
	if _, err := json.Marshal(h); err != nil {
		return h, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, h)
	return h, writeEval(e.run.dir, e.lines)
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

// evaluateLast measures the finished run's last checkpoint, with all threads.
func (r *Run) evaluateLast(ctx context.Context, dir string) error {
	began := time.Now()
	m, err := Load(dir)
	if err != nil {
		return err
	}
	defer m.Close()
	rep, err := m.Evaluate(ctx, r.dataset.Heldout(), heldoutSplit, r.threads*max(r.local, 1))
	var bad *data.SampleError
	if errors.As(err, &bad) {
		return fmt.Errorf("%w\nall steps are stored; repair or replace it, and measure with: coordinator eval --checkpoint %s --data %s", err, plain.ShellWord(dir), plain.ShellWord(Abs(r.baseDir, r.job.Data.Path)))
	}
	if err != nil {
		return err
	}
	if _, err := r.eval.record(rep, time.Since(began).Seconds()); err != nil { // the job is done all the same
		r.log.Warn(EvalFile+" lacks this measurement", zap.Error(err))
	}
	r.view.Event("eval", strings.TrimSuffix(rep.Text(), "\n"), map[string]any{"step": rep.Step, "report": rep})
	r.retain()
	return nil
}
