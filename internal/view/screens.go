package view

import (
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
)

// Screens shows a run on a command's outputs: scripts read Out, people Err.
type Screens struct {
	Job      string // its name
	Steps    uint64
	JSON     bool
	Log      Log
	Out, Err io.Writer
}

var _ run.UI = (*Screens)(nil)

// Line, Scan and Screen are run.UI's.
func (s *Screens) Line(text string) { fmt.Fprintln(s.Err, text) }

func (s *Screens) Scan() (func(data.Progress), func()) {
	v := NewScan(s.Err, "scanning")
	return v.Progress, v.End
}

func (s *Screens) Screen(first uint64) run.Screen {
	out, how := s.Err, plainLines
	switch {
	case s.JSON:
		out, how = s.Out, events
	case terminal(file(out)):
		how = inPlace
	}
	v := &screen{view: newView(out, how, s.Job, first, s.Steps), log: s.Log, logTo: s.Err}
	if !s.JSON { // else never into a stream of JSON events
		v.logTo = v.view
	}
	return v
}

// screen is a view, and the log beside or above it.
type screen struct {
	*view
	log   Log
	logTo io.Writer // ours and the workers' lines
}

func (s *screen) Log() (*zap.Logger, error) { return s.log.Logger(s.logTo) }
