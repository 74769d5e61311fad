package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// A lone worker as the coordinator sees it: it answers what has to be answered.
type puppet struct {
	*Agent
	t *testing.T
}

func newPuppet(t *testing.T, bus Bus) puppet {
	a, _, err := JoinJob(t.Context(), bus, "job", Join{Protocol: Protocol, Worker: "a", Host: "host", PID: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := puppet{a, t}
	p.say(&Ready{Worker: "a", State: true, Digest: "d0"})
	return p
}

func (p puppet) say(m Message) {
	if err := p.Tell(m); err != nil {
		p.t.Error(err)
	}
}

// hear waits for a message of m's type and returns it.
func hear[M any](p puppet) *M {
	for {
		select {
		case m := <-p.Inbox():
			if m, ok := any(m).(*M); ok {
				return m
			}
		case <-p.t.Context().Done():
			p.t.Fatalf("the coordinator never said %T", *new(M))
		}
	}
}

func testConfig() Config {
	return Config{Coordinator: "lead", Job: "job", Workers: 1, MinWorkers: 1, MaxWorkers: 1, Micro: 1, Steps: 9, Deadline: time.Minute}
}

func noHooks() Hooks {
	return Hooks{
		Welcome:  func(*Join) *Welcome { return &Welcome{} },
		StepDone: func([]*Report) {},
		Members:  func(Phase, []Member) {},
		Save:     func(context.Context, uint64, []*Offer) error { return nil },
		Rewind:   func(context.Context) (uint64, []Blob, error) { return 0, nil, nil },
		Note:     func(string) {},
		Scaled:   func(int) {},
		Dropped:  func(string) {},
		Status:   func(Phase, []Member) any { return struct{}{} },
	}
}

type ending struct {
	Finish
	err error
}

func start(ctx context.Context, c *Coordinator, cfg Config) <-chan ending {
	done := make(chan ending, 1)
	go func() {
		f, err := c.Run(ctx, cfg)
		done <- ending{f, err}
	}()
	return done
}

// A coordinator that ends while a checkpoint is being fetched ends: whoever
// fetches it may find the queue of events full, which nobody reads any more.
func TestCoordinatorEndsWhileSaving(t *testing.T) {
	bus, hooks := NewMemBus(), noHooks()
	saving := make(chan struct{})
	var c *Coordinator
	hooks.Save = func(ctx context.Context, _ uint64, _ []*Offer) error {
		close(saving)
		<-ctx.Done()
		for {
			select {
			case c.events <- tick{}:
			default:
				return ctx.Err()
			}
		}
	}
	c = NewCoordinator(bus, "job", "host", 1, hooks)
	done := start(t.Context(), c, testConfig())
	p := newPuppet(t, bus)
	defer p.Close()
	g := hear[Assign](p).Group.Generation
	p.say(&Formed{Worker: "a", Generation: g})
	hear[Go](p)
	p.say(&Report{Worker: "a", Generation: g, World: 1, Step: 1, Loss: 1, Targets: 8, Micro: 1})
	p.say(&Offer{Worker: "a", Generation: g, Step: 1, Parts: 1})
	<-saving
	c.Tell(&Lead{Coordinator: "leader"})
	if f := <-done; f.err != nil || f.Outcome != Superseded {
		t.Errorf("it ended as %+v", f)
	}
}

// Only one coordinator of a job at a time: the second one is told who has it.
func TestSecondCoordinatorIsTurnedAway(t *testing.T) {
	bus := NewMemBus()
	ctx, cancel := context.WithCancel(t.Context())
	first := start(ctx, NewCoordinator(bus, "job", "head", 42, noHooks()), testConfig())
	p := newPuppet(t, bus) // so the first one listens
	defer p.Close()
	cfg := testConfig()
	cfg.Coordinator = "another"
	_, err := NewCoordinator(bus, "job", "elsewhere", 7, noHooks()).Run(ctx, cfg)
	if err == nil || !strings.Contains(err.Error(), "process 42 on head") {
		t.Errorf("the second one ended with %v", err)
	}
	cancel()
	if f := <-first; !errors.Is(f.err, context.Canceled) || f.Reason != "abandoned" {
		t.Errorf("the first one ended as %+v", f)
	}
}

func TestAskJob(t *testing.T) {
	bus := NewMemBus()
	if _, err := AskJob(t.Context(), bus, "job", Ask{What: "status"}); !errors.Is(err, ErrNoResponder) {
		t.Errorf("without a coordinator: %v", err)
	}
	hooks := noHooks()
	scaled := 0
	hooks.Scaled = func(n int) { scaled = n }
	hooks.Status = func(p Phase, l []Member) any { return map[string]any{"phase": p.String(), "members": len(l)} }
	done := start(t.Context(), NewCoordinator(bus, "job", "host", 1, hooks), testConfig())
	p := newPuppet(t, bus)
	defer p.Close()
	hear[Assign](p)
	for _, q := range []Ask{{What: "dance"}, {What: "scale"}, {What: "scale", Workers: -1}, {What: "scale", Workers: limits.Workers + 1}} {
		if _, err := AskJob(t.Context(), bus, "job", q); err == nil || !strings.Contains(err.Error(), "want status, stop, or scale") {
			t.Errorf("%+v: %v", q, err)
		}
	}
	b, err := AskJob(t.Context(), bus, "job", Ask{What: "scale", Workers: 3})
	if err != nil || string(b) != `{"members":1,"phase":"forming"}` || scaled != 3 {
		t.Errorf("scale: %s, %v, scaled to %d", b, err, scaled)
	}
	if _, err := AskJob(t.Context(), bus, "job", Ask{What: "stop"}); err != nil {
		t.Error(err)
	}
	p.say(&Leave{Worker: "a", Reason: "enough"})
	c, _, err := JoinJob(t.Context(), bus, "job", Join{Protocol: Protocol, Worker: "b", Host: "host", PID: 2})
	if err != nil {
		t.Fatal(err)
	}
	q := puppet{c, t}
	defer q.Close()
	q.say(&Ready{Worker: "b", State: true, Digest: "d0"})
	q.say(&Standing{Worker: "b", Generation: 2, State: true, Digest: "d0"})
	if e := hear[End](q); e.Outcome != Stopped {
		t.Errorf("told to end with %v", e.Outcome)
	}
	q.say(&Leave{Worker: "b", Reason: "told to"})
	if f := <-done; f.err != nil || f.Outcome != Stopped {
		t.Errorf("it ended as %+v", f)
	}
}

// A worker that is refused hears why, and does not try again.
func TestRefusal(t *testing.T) {
	bus := NewMemBus()
	ctx, cancel := context.WithCancel(t.Context())
	done := start(ctx, NewCoordinator(bus, "job", "host", 1, noHooks()), testConfig())
	_, _, err := JoinJob(t.Context(), bus, "job", Join{Protocol: Protocol + 1, Worker: "a", Version: "v9"})
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "v9") {
		t.Errorf("got %v", err)
	}
	cancel()
	<-done
}
