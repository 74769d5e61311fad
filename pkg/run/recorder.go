package run

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
)

// MetricsFile holds a line a committed step.
const MetricsFile = "metrics.jsonl"

// recorder keeps what the steps of a run bring: a line each in metrics.jsonl, and
// what is made of them, such as the mean loss of a checkpoint. Lines are written
// beside the coordinator's loop, which waits for no disk.
type recorder struct {
	job   *job.Job
	voice voice
	file  *os.File
	lines *lines
	desk  *clerk        // writes lines
	trace *tracer       // nil: none
	sinks sinks         // that are told of them
	noted atomic.Uint64 // newest step whose line the disk has
	last  Metrics       // of the newest step; of the coordinator's goroutine

	mu     sync.Mutex
	losses *losses
	tally  tally
}

// openRecorder takes up the metrics of the run directory dir after step. With
// goesOn the run's workers live, and will not send again what it has of later steps.
func openRecorder(dir string, j *job.Job, step uint64, goesOn bool) (r *recorder, had history, err error) {
	r = &recorder{job: j, losses: newLosses(j.Checkpoint.Every)}
	if r.file, had, err = openMetrics(filepath.Join(dir, MetricsFile), step, goesOn, r.losses); err != nil {
		return nil, had, err
	}
	if r.lines, err = newLines(r.file); err != nil {
		r.file.Close()
		return nil, had, err
	}
	r.tally, r.desk = had.tally, newClerk()
	r.noted.Store(had.newest)
	return r, had, nil
}

// stepDone takes a committed step's reports, by rank.
func (r *recorder) stepDone(reports []*cluster.Report) {
	m := combine(reports, r.job.Batch.Global)
	if r.trace != nil {
		r.trace.step(reports)
	}
	if mix, ok := r.job.Data.Options.(data.Mixture); ok && len(reports[0].Sets) == len(mix.Sets) {
		m.Sets = map[string]cluster.SetLoss{}
		for i, s := range mix.Sets {
			m.Sets[s.Name] = reports[0].Sets[i]
		}
	}
	m.At = time.Now().UTC().Truncate(time.Millisecond)
	r.last = m
	r.mu.Lock()
	r.losses.add(m.Step, m.Loss, m.Targets, m.Refused != "")
	r.tally.add(m.Step, m.Refused)
	r.mu.Unlock()
	if m.Refused != "" {
		r.voice.log.Warn("no update was made", zap.Uint64("step", m.Step), zap.String("reason", m.Refused))
	}
	r.desk.do(func() { r.write(m) })
	r.voice.Step(m)
}

func (r *recorder) write(m Metrics) {
	err := writeMetrics(r.lines, m)
	if err == nil {
		r.noted.Store(m.Step)
		r.sinks.nudge()
	}
	over, trouble := r.lines.news(err)
	if trouble != nil {
		r.voice.log.Error(MetricsFile+" cannot be written; training goes on, and this is said once", zap.Error(trouble))
	}
	if over != "" {
		r.voice.log.Info(MetricsFile + ": " + over)
	}
}

// mean is the training loss up to step, as a checkpoint's manifest has it.
func (r *recorder) mean(step uint64) *checkpoint.Training {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.losses.mean(step)
}

// close writes what a full disk has not taken.
func (r *recorder) close(ctx context.Context) {
	defer r.file.Close()
	if !r.desk.close(ctx) { // the disk hangs; workers keep what it has not taken
		return
	}
	if _, err := r.lines.Write(nil); err != nil {
		r.voice.log.Error(MetricsFile, zap.Error(err))
	}
}

// tally counts a run's steps, those of earlier coordinators too.
type tally struct {
	steps   int
	refused int    // that made no update
	why     string // the newest of them, in words
}

func (t *tally) add(step uint64, refused string) {
	t.steps++
	if refused != "" {
		t.refused++
		at := fmt.Sprintf("step %d: ", step) // which most reasons begin with
		t.why = at + strings.TrimPrefix(refused, at)
	}
}

// skips names the key that has steps passed over, where it does. A step without
// a target is passed over in any case.
func (r *recorder) skips() string {
	if r.job.Train.NonFinite == "skip" {
		return " (train.non_finite: skip)"
	}
	return ""
}

// allRefused makes a failure of a finished run that has learned nothing.
func (r *recorder) allRefused(f cluster.Finish) (end cluster.Finish, futile bool) {
	t := r.tally
	if f.Outcome != cluster.Done || t.steps == 0 || t.refused < t.steps {
		return f, false
	}
	f.Outcome = cluster.Failed
	f.Reason = fmt.Sprintf("no update was made: all %d of %d steps were refused%s, the last one, %s\n"+
		"the weights are the first ones: mend the data, the first weights or optimizer.lr, and start again with another --run-dir", t.refused, t.steps, r.skips(), t.why)
	return f, true
}

// sayRefused says how many steps made no update.
func (r *recorder) sayRefused() {
	if t := r.tally; t.refused > 0 {
		r.voice.Event("refused", fmt.Sprintf("%d of %d steps made no update%s; the last one, %s", t.refused, t.steps, r.skips(), t.why),
			map[string]any{"refused": t.refused, "of": t.steps})
	}
}
