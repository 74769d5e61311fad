package run

import (
	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
)

// UI is where a run says what its user is to know. Before the first step that is
// a line now and then; from there on it is a Screen. No call may wait for who
// reads: the coordinator's loop makes some of them.
type UI interface {
	// Line says something before there is a Screen.
	Line(text string)
	// Scan shows how far a long look at the data is, until end.
	Scan() (progress func(data.Progress), end func())
	// Screen begins what is shown of a run that goes on from step first.
	Screen(first uint64) Screen
}

// Screen shows a run, to people or to scripts. Its methods may be called from
// any goroutine.
type Screen interface {
	// Event is said to both: text to people, kind and fields to scripts.
	Event(kind, text string, fields map[string]any)
	// Script is an event for scripts alone.
	Script(kind string, fields map[string]any)
	// Say is a line for people alone.
	Say(text string)
	// Step shows a committed step.
	Step(m Metrics)
	// Members shows who takes part, in which phase of the job.
	Members(phase cluster.Phase, members []cluster.Member)
	// Saved says that a checkpoint of step is stored.
	Saved(step uint64)
	// Standing is the newest stored step and the time that is left, in words.
	Standing() (stored uint64, left string)
	// Close ends what is drawn in place. Lines may still follow.
	Close()
	// Log is where what is logged appears.
	Log() (*zap.Logger, error)
}

// voice is a run's screen, and the log that appears on it or beside it.
type voice struct {
	Screen
	log *zap.Logger
}
