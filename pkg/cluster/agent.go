package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Agent is a worker's place on the bus: it joins a job and carries messages. It
// decides nothing; a Node does. Its methods may be called from any goroutine.
type Agent struct {
	bus   Bus
	job   string
	id    string
	inbox chan NodeEvent
	done  chan struct{} // closed by Close
	unsub func() error

	mu    sync.Mutex
	held  [][]byte  // reports, encoded, in order
	told  time.Time // when something was last sent
	timer *time.Timer
}

// linger is how long a report of a commit may wait for the next ones, to be sent
// with them: where steps take a few milliseconds, each message wakes half a dozen
// threads on its way, on the cores that train.
const linger = 50 * time.Millisecond

// JoinJob asks the coordinator of job for membership, again and again until it
// answers or ctx ends. A refusal is a *RefusedError, and ErrNoResponder is in the
// error where no coordinator was there. On success the agent listens until Close.
func JoinJob(ctx context.Context, bus Bus, job string, j Join) (*Agent, *Welcome, error) {
	if err := ValidID(j.Worker); err != nil {
		return nil, nil, err
	}
	a := &Agent{bus: bus, job: job, id: j.Worker, inbox: make(chan NodeEvent, 256), done: make(chan struct{})}
	var err error
	a.unsub, err = bus.Subscribe(workerSubject(job, j.Worker), func(_ string, data []byte, reply func([]byte) error) {
		if reply != nil { // a prober's question: is anybody here?
			reply(nil)
			return
		}
		msg, err := Decode(data)
		ev, ok := msg.(NodeEvent)
		if err != nil || !ok {
			return
		}
		select {
		case a.inbox <- ev:
		case <-a.done:
		}
	})
	if err != nil {
		return nil, nil, err
	}
	w, err := a.join(ctx, j)
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, w, nil
}

// join asks until there is an answer, and says in the end why there was none.
func (a *Agent) join(ctx context.Context, j Join) (*Welcome, error) {
	var last error
	for {
		w, err := a.Join(ctx, j)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) {
			return w, err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		wait := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			wait.Stop()
			if errors.Is(ctx.Err(), context.Canceled) { // it was told to end, and has not looked in vain
				return nil, fmt.Errorf("joining job %q: %w", a.job, context.Cause(ctx))
			}
			if errors.Is(last, ErrNoResponder) {
				return nil, noCoordinator(a.job, "--job", last)
			}
			return nil, fmt.Errorf("joining job %q: %w", a.job, last)
		case <-wait.C:
		}
	}
}

// Join asks once, for two seconds at most. A refusal is a *RefusedError.
func (a *Agent) Join(ctx context.Context, j Join) (*Welcome, error) {
	try, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	data, err := a.bus.Request(try, FromSubject(a.job, a.id), Encode(&j))
	if err != nil {
		return nil, err
	}
	msg, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("the coordinator's answer: %w", err)
	}
	w, ok := msg.(*Welcome)
	if !ok {
		return nil, fmt.Errorf("the coordinator answered a join with %T", msg)
	}
	if w.Refused != "" {
		return nil, &RefusedError{w.Refused, w.Passes}
	}
	return w, nil
}

// Tell sends a message to the coordinator. Nobody acknowledges it: an error says
// that it did not leave, and without one it may be lost on its way. Reports that
// follow each other quickly go together, a moment later, and it is theirs to be
// told again if they are lost; everything else goes at once, behind them.
func (a *Agent) Tell(msg Message) error {
	data := Encode(msg)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := msg.(*Report); ok {
		if wait := linger - time.Since(a.told); len(a.held) > 0 || wait > 0 {
			if a.held = append(a.held, data); len(a.held) == 1 {
				a.timer = time.AfterFunc(wait, a.due)
			}
			return nil
		}
	}
	return errors.Join(a.flush(), a.send(data))
}

// due sends what has waited for long enough. What is lost is told again.
func (a *Agent) due() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
}

// flush sends what is held.
func (a *Agent) flush() error {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	var errs []error
	for _, data := range a.held {
		errs = append(errs, a.send(data))
	}
	a.held = a.held[:0]
	return errors.Join(errs...)
}

func (a *Agent) send(data []byte) error {
	a.told = time.Now()
	return a.bus.Publish(FromSubject(a.job, a.id), data)
}

// Inbox yields the coordinator's messages in their order. Whoever does not read it
// holds up the bus.
func (a *Agent) Inbox() <-chan NodeEvent { return a.inbox }

// Close stops listening. It does not tell the coordinator.
func (a *Agent) Close() {
	a.mu.Lock()
	a.flush()
	a.mu.Unlock()
	a.unsub()
	close(a.done)
}

// noCoordinator is the error where no coordinator answers for a job; name is where
// the job's name was given.
func noCoordinator(job, name string, err error) error {
	return fmt.Errorf("no coordinator of a job named %q answers on this server: is it running, and is %s right? (%w)", job, name, err)
}

// AskJob puts a question or an order to the coordinator of job, and returns the
// job's status as JSON. ErrNoResponder is in the error where no coordinator is
// there. An order is taken, but not carried out yet, when AskJob returns.
func AskJob(ctx context.Context, bus Bus, job string, q Ask) ([]byte, error) {
	data, err := bus.Request(ctx, askSubject(job, q.What != "status"), Encode(&q))
	if errors.Is(err, ErrNoResponder) {
		return nil, noCoordinator(job, "the name", err)
	}
	if err != nil {
		return nil, err
	}
	msg, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("the coordinator's answer: %w", err)
	}
	a, ok := msg.(*Answered)
	if !ok {
		return nil, fmt.Errorf("the coordinator answered with %T", msg)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Status, nil
}
