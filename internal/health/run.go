package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
)

// stuck is after how long a loop that goes round many times a second is taken for
// one that never will again.
const stuck = time.Minute

// Run shows how a coordinator's run does, which it learns from what the run says on
// its screen. Without an address it is in nobody's way.
type Run struct {
	opt     Options
	figures *figures
}

// NewRun returns a Run for one of so many steps, of so many samples each.
func NewRun(o Options, steps, samples int) *Run {
	return &Run{opt: o, figures: newFigures(steps, samples)}
}

// UI is ui, with what passes counted.
func (r *Run) UI(ui run.UI) run.UI {
	if !r.opt.shows() {
		return ui
	}
	return &counted{ui, r.figures}
}

// Sinks adds the one that keeps the newest held-out measures.
func (r *Run) Sinks(others []run.Sink) []run.Sink {
	if !r.opt.shows() {
		return others
	}
	return append(others[:len(others):len(others)], heldout{r.figures})
}

// Serve shows it until end is called, and has say tell where.
func (r *Run) Serve(pulse func() cluster.Pulse, say func(text string)) (end func(), err error) {
	stalls := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "vlaring_cluster_stalls_total", Help: "Reports of workers whose ring has waited for another one for longer than cluster.stall."},
		func() float64 { return float64(pulse().Stalls) })
	return show(r.opt, func() error { return alive(pulse(), time.Now()) }, func() error { return leads(pulse()) }, say, r.figures, stalls)
}

func alive(p cluster.Pulse, now time.Time) error {
	if d := now.Sub(p.Looked); p.Leads && d > stuck {
		return fmt.Errorf("the coordinator's loop has not gone round for %v", d.Round(time.Second))
	}
	return nil
}

func leads(p cluster.Pulse) error {
	if !p.Leads {
		return errors.New("the job is not this coordinator's: it reads job, data and checkpoint, or the job has ended")
	}
	return nil
}

// counted is a UI whose screen is counted.
type counted struct {
	run.UI
	figures *figures
}

func (c *counted) Screen(first uint64) run.Screen {
	c.figures.step.Set(float64(first))
	return &screen{c.UI.Screen(first), c.figures, first}
}

type screen struct {
	run.Screen
	figures *figures
	first   uint64
}

func (s *screen) Step(m run.Metrics) {
	s.figures.stepped(m)
	s.Screen.Step(m)
}

func (s *screen) Members(phase cluster.Phase, members []cluster.Member) {
	s.figures.roll(phase, members)
	s.Screen.Members(phase, members)
}

func (s *screen) Saved(step uint64) {
	s.figures.keep(step, step != s.first)
	s.Screen.Saved(step)
}

// Log is the screen's, whose warnings and errors are counted.
func (s *screen) Log() (*zap.Logger, error) {
	log, err := s.Screen.Log()
	if err != nil {
		return nil, err
	}
	return log.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
		switch {
		case e.Level >= zapcore.ErrorLevel:
			s.figures.said.WithLabelValues("error").Inc()
		case e.Level == zapcore.WarnLevel:
			s.figures.said.WithLabelValues("warn").Inc()
		}
		return nil
	})), nil
}

// heldout is the run.Sink of the held-out measures.
type heldout struct{ figures *figures }

var _ run.Sink = heldout{}

func (heldout) String() string                                         { return "metrics" }
func (heldout) Open(context.Context, run.About) (h run.Has, err error) { return h, nil }
func (heldout) Close(context.Context, bool) error                      { return nil }

func (h heldout) Put(_ context.Context, r run.Records) error {
	if len(r.Measured) == 0 {
		return nil
	}
	m := r.Measured[len(r.Measured)-1]
	h.figures.heldStep.Set(float64(m.Step))
	h.figures.held.WithLabelValues("loss").Set(m.Loss)
	for _, x := range m.Metrics {
		h.figures.held.WithLabelValues(x.Name).Set(x.Value)
	}
	return nil
}
