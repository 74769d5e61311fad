package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// introduced is describe for a worker that has just joined, and has no node yet
// that says it lives.
func (w *Worker) introduced(ctx context.Context, welcome *cluster.Welcome) error {
	if welcome.Description == nil {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- w.describe(ctx, welcome) }()
	beat := time.NewTicker(introductionBeat)
	defer beat.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-beat.C:
			// one that is lost is followed by another
			w.agent.Tell(&cluster.Heartbeat{Worker: w.ID, Phase: "fetching the description of the job"})
		case m := <-w.agent.Inbox(): // what matters is said again
			if e, ok := m.(*cluster.End); ok {
				cancel(fmt.Errorf("the coordinator ended the job: %s", e.Reason))
			}
		}
	}
}

// introductionBeat is how often a worker says that it lives before it knows how
// often its job wants to hear that.
const introductionBeat = 100 * time.Millisecond

// rejoin introduces the worker to a coordinator that does not know it, and
// takes on the knobs of its job.
func (w *Worker) rejoin(ctx context.Context, me cluster.Join) {
	welcome, err := w.agent.Join(ctx, me)
	if err == nil {
		err = w.describe(ctx, welcome)
	}
	var refused *cluster.RefusedError
	switch {
	case errors.As(err, &refused):
		w.Log.Error("refused", zap.Error(err))
		w.refused.Store(true)
		w.say(&cluster.End{Outcome: cluster.Failed, Reason: err.Error()})
	case err != nil:
		w.unheard.Store(&me)
	default:
		w.unheard.Store(nil)
		j, err := w.kinds().Parse("the coordinator's job file", []byte(welcome.Job), nil)
		if err != nil {
			w.Log.Error("the coordinator's job", zap.Error(err))
			return
		}
		w.knobs.Store(j)
		w.spans.trace(welcome.Trace)
		w.say(cluster.Retimed{Heartbeat: time.Duration(j.Cluster.Heartbeat), Patience: time.Duration(j.Cluster.OrphanTimeout)})
	}
}

// settled waits until the worker has the knobs that the others have: they say
// at which steps states are compared and stored.
func (w *Worker) settled(ctx context.Context) {
	for ctx.Err() == nil && (w.joining.Load() || w.unheard.Load() != nil) {
		if me := w.unheard.Load(); me != nil && w.joining.CompareAndSwap(false, true) {
			w.rejoin(ctx, *me)
			w.joining.Store(false)
			continue
		}
		time.Sleep(time.Millisecond)
	}
}
