package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Agent is a worker's side of the control plane: it joins and carries messages.
// It decides nothing; a Node does.
type Agent struct {
	bus   Bus
	job   string
	id    string
	inbox chan NodeEvent
	done  chan struct{}
	unsub func() error
}

// JoinJob asks the coordinator of job for membership, again and again until it
// answers or ctx ends. A refusal is an *RefusedError. On success the agent
// listens until Close.
func JoinJob(ctx context.Context, bus Bus, job string, j Join) (*Agent, *Welcome, error) {
	if err := ValidID(j.Worker); err != nil {
		return nil, nil, err
	}
	a := &Agent{bus: bus, job: job, id: j.Worker, inbox: make(chan NodeEvent, 256), done: make(chan struct{})}
	var err error
	a.unsub, err = bus.Subscribe(workerSubject(job, j.Worker), func(data []byte, reply func([]byte) error) {
		if reply != nil { // the coordinator looks whether anybody is here
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
			if errors.Is(last, ErrNoResponder) {
				return nil, fmt.Errorf("no coordinator of a job named %q answers on this server: is it running, and is --job right? (%w)", a.job, last)
			}
			return nil, fmt.Errorf("joining job %q: %w", a.job, last)
		case <-wait.C:
		}
	}
}

// Join asks once.
func (a *Agent) Join(ctx context.Context, j Join) (*Welcome, error) {
	try, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	data, err := a.bus.Request(try, CoordinatorSubject(a.job), Encode(&j))
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
		return nil, &RefusedError{w.Refused}
	}
	return w, nil
}

// Tell sends a message to the coordinator.
func (a *Agent) Tell(msg Message) error { return a.bus.Publish(CoordinatorSubject(a.job), Encode(msg)) }

// Inbox yields the coordinator's messages in order.
func (a *Agent) Inbox() <-chan NodeEvent { return a.inbox }

// Close stops listening. It does not tell the coordinator.
func (a *Agent) Close() {
	a.unsub()
	close(a.done)
}

// AskJob puts a question or an order to the coordinator of job and returns the
// job's status as JSON.
func AskJob(ctx context.Context, bus Bus, job string, q Ask) ([]byte, error) {
	data, err := bus.Request(ctx, CoordinatorSubject(job), Encode(&q))
	if errors.Is(err, ErrNoResponder) {
		return nil, fmt.Errorf("no coordinator of a job named %q answers on this server: is it running, and is the name right? (%w)", job, err)
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
