package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// A worker whose id another process has waits for it, since that may be the process before
// it, which has yet to be missed. It says so once, and in the end why it has no place.
func TestTakenID(t *testing.T) {
	bus := cluster.NewMemBus()
	coord := cluster.NewCoordinator(bus, "tiny", "host", 1, cluster.Hooks{
		Welcome:  func(*cluster.Join) *cluster.Welcome { return &cluster.Welcome{} },
		StepDone: func([]*cluster.Report) {},
		Members:  func(cluster.Phase, []cluster.Member) {},
		Note:     func(text string) { t.Log(text) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		coord.Run(ctx, cluster.Config{Coordinator: "lead", Job: "job", Workers: 3, MaxWorkers: 3, Micro: 3, Steps: 9, Deadline: time.Minute, JoinTimeout: time.Hour})
	}()
	me := cluster.Join{Protocol: cluster.Protocol, Worker: "w0", Host: "host", PID: 1}
	first, _, err := cluster.JoinJob(ctx, bus, "tiny", me)
	if err != nil {
		t.Fatal(err)
	}
	me.PID = 2
	core, log := observer.New(zap.InfoLevel)
	w := New(Config{Job: "tiny", ID: "w0", Bus: bus, Log: zap.New(core)})
	short, end := context.WithTimeout(ctx, 3*joinAgain)
	defer end()
	_, _, err = w.join(short, me)
	if refused := new(cluster.RefusedError); !errors.As(err, &refused) || !errors.Is(err, context.DeadlineExceeded) || log.Len() != 1 {
		t.Errorf("it ended with %v, and said %d lines", err, log.Len())
	}
	joined := make(chan error, 1)
	go func() {
		agent, _, err := w.join(ctx, me)
		if err == nil {
			agent.Close()
		}
		joined <- err
	}()
	select {
	case err := <-joined:
		t.Fatalf("it has not waited: %v", err)
	case <-time.After(joinAgain):
	}
	if err := first.Tell(&cluster.Leave{Worker: "w0", Reason: "it ends"}); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if err := <-joined; err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
}
