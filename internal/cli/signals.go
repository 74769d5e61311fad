package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/vlaring/vlaring/pkg/run"
)

// endSignals are the signals that ask a command to end: Ctrl-C, SIGTERM, and
// SIGHUP unless it is ignored from the start, as under nohup.
func endSignals() []os.Signal {
	l := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		l = append(l, syscall.SIGHUP)
	}
	return l
}

// heed turns signals into a request to stop and, at a second one, into the end
// of ctx: but for one that ends a wait for the disk, as whoever waits has been told. A closed terminal says SIGHUP more than once (the kernel, then the
// shell), so that never counts as the second.
type heed struct {
	stop     func(reason string)     // again: the end of a wait
	end      context.CancelCauseFunc //
	handover func()                  // what SIGTERM and SIGHUP do where they leave the job to the next coordinator: it comes to end, soon; nil: they stop it
	newest   func() string           // what a run that is ended at once can be resumed from, in words
	waits    func() bool             // whether the last state waits for a disk: a signal ends that, and workers keep the state
	asked    bool
	handing  bool // handover was called
}

func (h *heed) signal(s os.Signal) {
	switch {
	case h.handing && s == syscall.SIGHUP:
	case h.handing: // a stop would be broken off by what has begun
		h.end(run.ErrHandover)
	case h.handover != nil && s != os.Interrupt:
		h.handing = true
		h.handover()
	case h.asked && s == syscall.SIGHUP:
	case h.asked && h.waits():
		h.stop("stopped by " + name(s))
	case h.asked:
		h.end(fmt.Errorf("ended at once by a second %s; %s", name(s), h.newest()))
	default:
		h.asked = true
		h.stop("stopped by " + name(s))
	}
}

// name is a signal as people know it.
func name(s os.Signal) string {
	switch s {
	case os.Interrupt:
		return "Ctrl-C"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGHUP:
		return "SIGHUP (its terminal was closed)"
	}
	return s.String()
}

// outlivePipes has writes to a closed pipe fail instead of killing the process.
// It stays so: the last words may go into one. What Go delivers says not which
// pipe or socket it was, so the writers tell.
func outlivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
