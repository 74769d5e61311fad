package cli

import (
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

// screens shows a run on this command's outputs: scripts read standard output,
// people standard error.
type screens struct {
	job         *job.Job
	asJSON      bool
	logs        logFlags
	out, errOut io.Writer
}

var _ run.UI = (*screens)(nil)

func (s *screens) Line(text string) { fmt.Fprintln(s.errOut, text) }

func (s *screens) Scan() (func(data.Progress), func()) {
	v := newScanView(s.errOut, "scanning")
	return v.progress, v.end
}

func (s *screens) Screen(first uint64) run.Screen {
	out := s.errOut
	if s.asJSON {
		out = s.out
	}
	v := &screen{newView(out, s.asJSON, s.job.Name, first, uint64(s.job.Train.Steps)), s.asJSON, s.logs, s.errOut}
	if !s.asJSON { // else never into a stream of JSON events
		v.logTo = v.view
	}
	return v
}

// screen is a view, and the log beside or above it.
type screen struct {
	*view
	asJSON bool
	logs   logFlags
	logTo  io.Writer // ours and the workers' lines
}

func (s *screen) Event(kind, text string, fields map[string]any) { s.event(kind, text, fields) }
func (s *screen) Script(kind string, fields map[string]any)      { s.script(kind, fields) }
func (s *screen) Step(m train.Metrics)                           { s.step(m) }
func (s *screen) Members(p cluster.Phase, l []cluster.Member)    { s.update(p, l) }
func (s *screen) Saved(step uint64)                              { s.saved(step) }
func (s *screen) Standing() (uint64, string)                     { return s.standing() }
func (s *screen) Close()                                         { s.close() }
func (s *screen) Log() (*zap.Logger, error)                      { return s.logs.logger(s.logTo) }

func (s *screen) Say(text string) {
	if !s.asJSON {
		s.event("", text, nil)
	}
}
