package run

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
	"github.com/vlaring/vlaring/pkg/transport"
	"github.com/vlaring/vlaring/pkg/worker"
)

// traceOfTest is where wholeRunOf has its run traced; empty: nowhere.
var traceOfTest string

// unseen is a UI that nobody looks at.
type unseen struct{ quiet }

func (unseen) Line(string)                         {}
func (unseen) Scan() (func(data.Progress), func()) { return func(data.Progress) {}, func() {} }
func (u unseen) Screen(uint64) Screen              { return u.quiet }

// TestWholeRunInOneProcess: a coordinator and its workers, from the job file to the
// last checkpoint, over a transport that is no more than a value handed in. What
// carries messages, frames and state is not in the weights.
func TestWholeRunInOneProcess(t *testing.T) {
	var first [32]byte
	for i, c := range []struct {
		kind    transport.Kind
		workers int
	}{{transport.NewMemory(), 1}, {transport.NewMemory(), 3}, {transport.NATS{}, 2}} {
		sum := wholeRun(t, c.kind, c.workers)
		if i == 0 {
			first = sum
		} else if sum != first {
			t.Errorf("%d workers over %T: the weights are %x, those of one worker in memory %x", c.workers, c.kind, sum, first)
		}
	}
}

func wholeRun(t *testing.T, kind transport.Kind, workers int) [32]byte {
	t.Helper()
	sum, _ := wholeRunOf(t, train.Kinds(), kind, workers)
	return sum
}

// wholeRunOf trains testdata/small.yaml with keys of its own, and returns the sum
// of the weights and the run's directory.
func wholeRunOf(t *testing.T, kinds job.Kinds, kind transport.Kind, workers int, set ...string) ([32]byte, string) {
	t.Helper()
	text, err := os.ReadFile("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	j, err := kinds.Parse("small.yaml", text, append([]string{"train.steps=4", fmt.Sprintf("cluster.workers=%d", workers), "cluster.join_timeout=60s"}, set...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	url := make(chan [2]string, 1) // and token
	r := New(Options{Job: j, BaseDir: dir, Dir: dir, Threads: 1, UI: unseen{}, Version: "test", Trace: traceOfTest,
		Server: Server{Transport: kind, Credentials: func(func(string)) (transport.Credentials, error) { return transport.Credentials{}, nil }}})
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan error, 1)
	go func() { done <- r.Train(ctx) }()
	go func() {
		for ; ; time.Sleep(5 * time.Millisecond) {
			if a, err := ReadAddress(dir); err == nil {
				url <- [2]string{a.URL, a.Token}
				return
			}
		}
	}()
	var at [2]string
	select {
	case at = <-url:
	case err := <-done:
		t.Fatalf("the run ended before anybody could join: %v", err)
	}
	for i := range workers {
		id := fmt.Sprint("w", i)
		m, err := kind.Dial(ctx, at[0], transport.Credentials{Token: at[1]}, transport.Options{Job: j.Name, Member: id})
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
		w := worker.New(worker.Config{Kinds: &kinds, DirectListen: "127.0.0.1:0", Job: j.Name, ID: id, Host: "here", Threads: 1, DataDir: dir, RescueDir: dir, Bus: m.Bus(), Net: net, Blobs: blobs, Log: zap.NewNop()})
		wg.Go(func() {
			if end, err := w.Run(ctx, ctx); err != nil || end.Outcome != cluster.Done {
				t.Errorf("%s: %v, %v", id, end, err)
			}
		})
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	measureAgain(t, kinds, dir)
	b, err := os.ReadFile(filepath.Join(dir, "checkpoints", "step-00000004", train.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b), dir
}

// measureAgain opens what a run has stored as a command does, and finds the
// measures that the run has of it.
func measureAgain(t *testing.T, kinds job.Kinds, dir string) {
	t.Helper()
	lines, more, err := ReadEval(dir, 4)
	if err != nil || more || len(lines) == 0 {
		t.Fatalf("%s has %+v, others %v (%v)", EvalFile, lines, more, err)
	}
	c, err := trained.Open(dir, kinds)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.OpenToMeasure(BaseDir(c.Dir), "", "", nil); err != nil {
		t.Fatal(err)
	}
	src, split, err := c.Source("")
	if err != nil || split != heldoutSplit || c.Other != "" {
		t.Fatalf("to be measured is %q of %q (%v)", split, c.Other, err)
	}
	reps, err := c.EvaluateAll(t.Context(), src, split, 2)
	if err != nil {
		t.Fatal(err)
	}
	last := lines[len(lines)-1]
	h := heldoutOf(reps, last.Seconds)
	h.At = last.At
	last.Metrics = slices.DeleteFunc(last.Metrics, func(m HeldoutMetric) bool { return strings.Contains(m.Name, job.Success) })
	slices.SortFunc(h.Metrics, func(a, b HeldoutMetric) int { return strings.Compare(a.Name, b.Name) })
	if !reflect.DeepEqual(h, last) {
		t.Errorf("measured again: %+v, the run has %+v", h, last)
	}
}

// Pictures that are changed in training are changed as the job says, whoever
// computes them and wherever they are decoded.
func TestWholeRunAugmented(t *testing.T) {
	plain := wholeRun(t, transport.NewMemory(), 1)
	var first [32]byte
	for i, set := range [][]string{{"data.delivery=local"}, {"data.delivery=local"}, {"data.delivery=bus"}} {
		sum, dir := wholeRunOf(t, train.Kinds(), transport.NewMemory(), i+1, append(set, "data.augment=true")...)
		switch {
		case i == 0:
			first = sum
			if sum == plain {
				t.Error("the weights are those of pictures that were not changed")
			}
		case sum != first:
			t.Errorf("%d workers, %s: the weights are %x, those of one worker %x", i+1, set[0], sum, first)
		}
		m, err := checkpoint.ReadManifest(dir + "/checkpoints/step-00000004")
		if err != nil {
			t.Fatal(err)
		}
		var meta data.Meta
		if err := json.Unmarshal(m.Data, &meta); err != nil || meta.Augment == nil || meta.Augment.Crop != 0.9 {
			t.Errorf("the manifest does not say how pictures were changed: %s", m.Data)
		}
	}
}
