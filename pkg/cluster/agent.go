package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Agent is a worker's side of the control plane: it joins, listens, and shows
// that the worker lives. It decides nothing.
type Agent struct {
	bus    Bus
	job    string
	id     string
	inbox  chan any
	pos    atomic.Pointer[Heartbeat]
	cancel context.CancelFunc
	wg     sync.WaitGroup
	unsub  func() error
	lost   chan struct{} // closed when the coordinator has been silent for too long
}

// JoinJob asks the coordinator of job for membership, again and again until it
// answers or ctx ends. A refusal is an *RefusedError. On success the agent
// listens and heartbeats until Close; every is the heartbeat, and after
// patience without an answer to any of them Lost is closed.
func JoinJob(ctx context.Context, bus Bus, job string, j Join) (*Agent, *Welcome, error) {
	if err := ValidID(j.Worker); err != nil {
		return nil, nil, err
	}
	a := &Agent{bus: bus, job: job, id: j.Worker, inbox: make(chan any, 64), lost: make(chan struct{})}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancel = cancel
	var err error
	a.unsub, err = bus.Subscribe(WorkerSubject(job, j.Worker), func(data []byte, _ func([]byte) error) {
		msg, err := Decode(data)
		if err != nil {
			return
		}
		select {
		case a.inbox <- msg:
		case <-run.Done():
		}
	})
	if err != nil {
		cancel()
		return nil, nil, err
	}
	w, err := a.join(ctx, j)
	if err != nil {
		cancel()
		a.unsub()
		return nil, nil, err
	}
	return a, w, nil
}

func (a *Agent) join(ctx context.Context, j Join) (*Welcome, error) {
	var last error
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		data, err := a.bus.Request(try, CoordinatorSubject(a.job), Encode(&j))
		cancel()
		if err == nil {
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

// Start begins to heartbeat every so often. After patience without an answer
// to any of them, Lost is closed.
func (a *Agent) Start(every, patience time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	prev := a.cancel
	a.cancel = func() { cancel(); prev() }
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		t := time.NewTicker(every)
		defer t.Stop()
		heard := time.Now()
		for {
			hb := Heartbeat{Worker: a.id}
			if p := a.pos.Load(); p != nil {
				hb = *p
			}
			try, stop := context.WithTimeout(ctx, max(every, time.Second))
			_, err := a.bus.Request(try, CoordinatorSubject(a.job), Encode(&hb))
			stop()
			if err == nil {
				heard = time.Now()
			} else if time.Since(heard) > patience {
				close(a.lost)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
}

// At sets what the next heartbeats say.
func (a *Agent) At(step uint64, phase string) {
	a.pos.Store(&Heartbeat{Worker: a.id, Step: step, Phase: phase})
}

// Tell sends a message to the coordinator.
func (a *Agent) Tell(msg any) error { return a.bus.Publish(CoordinatorSubject(a.job), Encode(msg)) }

// Inbox yields the coordinator's messages in order.
func (a *Agent) Inbox() <-chan any { return a.inbox }

// Lost is closed when the coordinator has not answered for too long.
func (a *Agent) Lost() <-chan struct{} { return a.lost }

// Close stops listening and heartbeating. It does not tell the coordinator.
func (a *Agent) Close() {
	a.cancel()
	a.unsub()
	a.wg.Wait()
}
