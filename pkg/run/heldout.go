package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
)

// EvalFile holds the measurements of a run's checkpoints on the held-out
// split, one object a line, in order of steps.
const EvalFile = "eval.jsonl"

// heldoutSplit is its name in options, reports and messages.
const heldoutSplit = "heldout"

// Heldout is one line of it.
type Heldout struct {
	Step     uint64   `json:"step"`
	Samples  int      `json:"samples"`
	Loss     float64  `json:"loss"`
	L1       *float64 `json:"l1,omitempty"`       // where the output is actions; normalised
	Accuracy *float64 `json:"accuracy,omitempty"` // where it is tokens
	Seconds  float64  `json:"seconds"`            // that it took
}

func heldoutOf(rep eval.Report, seconds float64) Heldout {
	if t := rep.Tokens; t != nil {
		return Heldout{Step: rep.Step, Samples: t.Samples, Loss: t.Loss, Accuracy: &t.Accuracy, Seconds: seconds}
	}
	a := rep.Actions
	return Heldout{Step: rep.Step, Samples: a.Samples, Loss: a.MSE, L1: &a.L1, Seconds: seconds}
}

func (h Heldout) text() string {
	s := fmt.Sprintf("held-out, step %d: loss %.5f", h.Step, h.Loss)
	if h.L1 != nil {
		s += fmt.Sprintf(", L1 %.5f", *h.L1)
	}
	if h.Accuracy != nil {
		s += fmt.Sprintf(", token accuracy %.2f %%", 100**h.Accuracy)
	}
	return s + fmt.Sprintf(" (%d samples, %.1f s)", h.Samples, h.Seconds)
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
		switch {
		case metric == "heldout_loss":
			out[h.Step] = h.Loss
		case metric == "heldout_l1" && h.L1 != nil:
			out[h.Step] = *h.L1
		case metric == "heldout_accuracy" && h.Accuracy != nil:
			out[h.Step] = *h.Accuracy
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
		r.view.Event("eval", h.text(), map[string]any{"step": step, "report": rep})
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
