package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// Fate says when a connection can never again do what it is for.
type Fate interface {
	Broken() <-chan struct{} // closed then
	Err() error              // why; cluster.ErrRefused is in it where the worker is barred
}

// watchFate ends the worker once its server takes its credentials no more: whatever it
// waits for, it would never hear of it. Until it is driven the end is that of joining.
func (w *Worker) watchFate(barred context.CancelCauseFunc, driven, left <-chan struct{}) {
	if w.Fate == nil {
		return
	}
	select {
	case <-w.Fate.Broken():
	case <-left:
		return
	}
	err := w.Fate.Err()
	if !errors.Is(err, cluster.ErrRefused) { // it may still tell others what is wrong
		return
	}
	barred(err)
	select {
	case <-driven:
		w.say(cluster.Barred{Err: err})
	case <-left:
	}
}

// watchLeave has the worker ask to be let go once its machine tells it to.
func (w *Worker) watchLeave(driver *cluster.Driver, left <-chan struct{}) {
	select {
	case <-w.Leave:
	case <-left:
		return
	}
	if w.Grace > 0 {
		w.Log.Info("told to leave: the coordinator is asked, since the newest state may be here alone; a second signal ends this worker at once",
			zap.Duration("leave_timeout", w.Grace))
	}
	driver.Retire("it was told to stop by a signal")
}

// barredBy is why a worker that joins has to go, nil where it has not.
func barredBy(ctx context.Context) error {
	if err := context.Cause(ctx); errors.Is(err, cluster.ErrRefused) {
		return err
	}
	return nil
}

// barred is the last word of a worker that is barred. It keeps its state where it can: if the
// keys of all have come to their end, nobody else has.
func (w *Worker) barred(e cluster.Exit) error {
	if !e.Rescue {
		return e.Err
	}
	step := w.trainer.CommittedStep()
	if dir, err := w.rescue(); err != nil {
		w.Log.Warn("the state is not kept here; others have it, if there are any", zap.Uint64("step", step), zap.Error(err))
	} else {
		return fmt.Errorf("%w; the state of step %d is in %s", e.Err, step, dir)
	}
	return e.Err
}

// joinAgain is how long a worker waits for a place that others have, such as the process
// before it of the same name, which the coordinator has yet to miss.
const joinAgain = 500 * time.Millisecond

// join asks for membership until there is an answer that stays.
func (w *Worker) join(ctx context.Context, me cluster.Join) (*cluster.Agent, *cluster.Welcome, error) {
	for told := false; ; told = true {
		agent, welcome, err := cluster.JoinJob(ctx, w.Bus, w.Job, me)
		if b := barredBy(ctx); b != nil {
			if agent != nil {
				agent.Close()
			}
			return nil, nil, b
		}
		var refused *cluster.RefusedError
		if !errors.As(err, &refused) || !refused.Passes {
			return agent, welcome, err
		}
		if !told {
			w.Log.Warn("there is no place yet: asked for again until --join-timeout is over", zap.Error(err))
		}
		again := time.NewTimer(joinAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, nil, cmp.Or(barredBy(ctx), fmt.Errorf("%w (%w)", err, context.Cause(ctx)))
		}
	}
}

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
		}
		time.Sleep(time.Millisecond)
	}
}
