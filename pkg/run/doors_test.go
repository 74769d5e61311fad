package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/transport"
	"github.com/vlaring/vlaring/pkg/worker"
)

// heard is a UI whose log is kept, and whose newest step is known.
type heard struct {
	unseen
	log  *zap.Logger
	step *atomic.Uint64
}

func (h heard) Screen(uint64) Screen      { return h }
func (h heard) Log() (*zap.Logger, error) { return h.log, nil }
func (h heard) Step(m Metrics)            { h.step.Store(m.Step) }

// unhurried has a ring take its time: a job that only has to go on while others wait needs no processor.
type unhurried struct{ allreduce.Network }

func (u unhurried) Send(ctx context.Context, peer string, frame []byte) error {
	time.Sleep(5 * time.Millisecond)
	return u.Network.Send(ctx, peer, frame)
}

// A worker whose key is revoked while it trains ends by itself, with its state kept, and the
// others go on. One that was put out is not taken back, by its key or with the token, and
// however often it asks, the coordinator says so once.
func TestDoorsOfARun(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kinds := train.Kinds()
	j, err := kinds.Parse("small.yaml", text, []string{"cluster={workers: 3, min_workers: 1, deadline: 5s, orphan_timeout: 10m, road: nats}", "train.steps=1000000", "schedule.min_lr=", "checkpoint.every=0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	revoked := filepath.Join(dir, "revoked")
	core, log := observer.New(zap.InfoLevel)
	ui := heard{log: zap.New(core), step: new(atomic.Uint64)}
	r := New(Options{Job: j, BaseDir: dir, Dir: dir, Threads: 1, UI: ui, Version: "test", Server: Server{Transport: transport.NATS{},
		Credentials: func(func(string)) (transport.Credentials, error) {
			return transport.Credentials{Token: "secret", Revoked: revoked}, nil
		}}})
	done := make(chan error, 1)
	go func() { done <- r.Train(ctx) }()
	var at Address
	for ; at.URL == ""; time.Sleep(5 * time.Millisecond) {
		at, _ = ReadAddress(dir)
	}
	dial := func(id string, c transport.Credentials) (transport.Member, error) {
		return transport.NATS{}.Dial(ctx, at.URL, c, transport.Options{Job: j.Name, Member: id})
	}
	key := func(id string) transport.Credentials {
		k, err := transport.NewKey("secret", j.Name, transport.RoleWorker, id, time.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return transport.Credentials{Key: &k}
	}
	ends := map[string]chan error{}
	for i := range 3 {
		id := fmt.Sprint("w", i)
		m, err := dial(id, key(id))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		net, err := m.Network()
		if err != nil {
			t.Fatal(err)
		}
		blobs, err := m.Blobs(nil)
		if err != nil {
			t.Fatal(err)
		}
		w := worker.New(worker.Config{Job: j.Name, ID: id, PID: i + 1, Host: "here", Threads: 1, DataDir: dir, RescueDir: filepath.Join(dir, "rescue"),
			Bus: m.Bus(), Net: unhurried{net}, Blobs: blobs, Fate: m, Log: zap.NewNop()})
		end := make(chan error, 1)
		ends[id] = end
		go func() { _, err := w.Run(ctx, ctx); end <- err }()
	}
	steps := func(n uint64) {
		t.Helper()
		for want := ui.step.Load() + n; ui.step.Load() < want; time.Sleep(time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("the job stands still at step %d", ui.step.Load())
			}
		}
	}
	steps(20)
	if err := os.WriteFile(revoked, []byte(transport.Revocation(transport.RoleWorker, "w2", time.Now())), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ends["w2"]:
		if !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "; the state of step ") || !strings.Contains(err.Error(), filepath.Join(dir, "rescue", "w2")) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		for _, e := range log.All() {
			t.Log(e.Message)
		}
		t.Fatal("a worker whose key is revoked goes on asking")
	}
	steps(20)

	m, err := dial("w3", key("w3"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	me := cluster.Join{Protocol: cluster.Protocol, Worker: "w3", Host: "there", PID: 1, Threads: 1}
	if _, _, err := cluster.JoinJob(ctx, m.Bus(), j.Name, me); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(time.Minute); m.Err() == nil; time.Sleep(100 * time.Millisecond) { // on a slow machine a flood takes several tries
		for range 11_000 {
			m.Bus().Publish(cluster.FromSubject(j.Name, "w3"), []byte("x"))
		}
		if time.Now().After(late) {
			t.Fatal("one that floods is still connected")
		}
	}
	for range 20 {
		if _, err := dial("w3", key("w3")); !errors.Is(err, cluster.ErrRefused) {
			t.Fatalf("it comes back by its key: %v", err)
		}
	}
	all, err := dial("w3", transport.Credentials{Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	for range 20 {
		_, _, err := cluster.JoinJob(ctx, all.Bus(), j.Name, me)
		if refused := new(cluster.RefusedError); !errors.As(err, &refused) || refused.Passes || !strings.Contains(err.Error(), "not taken back") {
			t.Fatalf("it comes back with the token: %v", err)
		}
	}
	for range 20 { // in another one's name, as no member
		if err := all.Bus().Publish(cluster.FromSubject(j.Name, "w4"), cluster.Encode(&cluster.Leave{Worker: "w0", Reason: "so says w4"})); err != nil {
			t.Fatal(err)
		}
	}
	steps(20)
	told := map[string]int{}
	for _, e := range log.All() {
		for _, text := range []string{"refused worker w3 on there", "the key of worker w3 does not count any more", "the key of worker w2 is revoked", "dropped what worker w4 says"} {
			if strings.Contains(e.Message, text) {
				told[text]++
			}
		}
	}
	if len(told) != 4 {
		t.Errorf("not all was said: %v", told)
	}
	for text, n := range told {
		if n != 1 {
			t.Errorf("%q was said %d times", text, n)
		}
	}
	if _, err := cluster.AskJob(ctx, all.Bus(), j.Name, cluster.Ask{What: "stop"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.As(err, new(ResumableError)) {
		t.Errorf("the run ended with %v", err)
	}
	for _, id := range []string{"w0", "w1"} {
		if err := <-ends[id]; err != nil {
			t.Errorf("%s ended with %v", id, err)
		}
	}
}
