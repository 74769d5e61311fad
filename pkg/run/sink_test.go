package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// ledgerSink notes what it is told, and fails when it is told to.
type ledgerSink struct {
	mu       sync.Mutex
	has      Has
	steps    []uint64
	measured []string
	opened   []uint64
	fail     func() error
	finished []bool
}

func (l *ledgerSink) String() string { return "ledger" }

func (l *ledgerSink) trouble() error {
	if l.fail == nil {
		return nil
	}
	return l.fail()
}

func (l *ledgerSink) Open(_ context.Context, a About) (Has, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = append(l.opened, a.Step)
	return l.has, l.trouble()
}

func (l *ledgerSink) Put(_ context.Context, r Records) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.trouble(); err != nil {
		return err
	}
	for _, m := range r.Steps {
		l.steps = append(l.steps, m.Step)
	}
	for _, m := range r.Measured {
		l.measured = append(l.measured, fmt.Sprint(m.Step, " ", m.Loss, " ", m.Best["loss"], " ", m.Best["l1"]))
	}
	return nil
}

func (l *ledgerSink) Close(_ context.Context, finished bool) error {
	l.finished = append(l.finished, finished)
	return nil
}

func upTo(n uint64) (l []uint64) {
	for i := uint64(1); i <= n; i++ {
		l = append(l, i)
	}
	return l
}

// A sink that is away, and one that comes when half of the run is over, get each record
// once and in order, and no step waits for them.
func TestSinksAreToldOfEachRecordOnce(t *testing.T) {
	j, err := train.Kinds().Load("testdata/small.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeEval(dir, []Heldout{{Step: 5, Loss: 2}, {Step: 10, Loss: 1, Metrics: []HeldoutMetric{{"l1", 3}}}, {Step: 15, Loss: 4}}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r, _, err := openRecorder(dir, j, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		r.voice = voice{quiet{}, zap.NewNop()}
		away := &ledgerSink{}
		tries := 0
		away.fail = func() error {
			if tries++; tries%3 != 0 {
				return errors.New("nobody is there")
			}
			return nil
		}
		late := &ledgerSink{has: Has{Step: 120, Measured: 5}}
		all := sinks{newFollower(away, About{Dir: dir, Job: j}, r.voice), newFollower(late, About{Dir: dir, Job: j, Step: 120}, r.voice)}
		r.sinks = all
		all.start()
		began := time.Now()
		const steps = 2*linesAtOnce + 7
		for step := uint64(1); step <= steps; step++ {
			r.stepDone([]*cluster.Report{{Step: step, Loss: 1, Targets: 1}})
			if step%1000 == 0 {
				synctest.Wait()
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("steps took %v", took)
		}
		time.Sleep(time.Hour)
		r.close(t.Context())
		all.close(t.Context(), true)
		if !slices.Equal(away.steps, upTo(steps)) {
			t.Errorf("the one that is away has %d steps", len(away.steps))
		}
		if !slices.Equal(late.steps, upTo(steps)[120:]) {
			t.Errorf("the late one has %d steps from %v on", len(late.steps), late.steps[0])
		}
		if got := strings.Join(away.measured, ", "); got != "5 2 2 0, 10 1 1 3, 15 4 1 3" {
			t.Errorf("measured: %s", got)
		}
		if got := strings.Join(late.measured, ", "); got != "10 1 1 3, 15 4 1 3" {
			t.Errorf("measured, of the late one: %s", got)
		}
		if fmt.Sprint(away.finished, late.finished) != "[true] [true]" {
			t.Errorf("ended: %v, %v", away.finished, late.finished)
		}
	})
}

// A sink that hangs holds up the end of a run for a moment, and no longer.
func TestSinkThatHangsIsLeft(t *testing.T) {
	j := &job.Job{}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, MetricsFile), []byte("{\"step\":1,\"loss\":1}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFollower(hangingSink{}, About{Dir: dir, Job: j}, voice{quiet{}, zap.NewNop()})
		f.start()
		synctest.Wait()
		began := time.Now()
		f.close(t.Context(), false)
		if took := time.Since(began); took > sinkLeave {
			t.Errorf("it took %v", took)
		}
	})
}

type hangingSink struct{}

func (hangingSink) String() string { return "hanging" }
func (hangingSink) Open(context.Context, About) (Has, error) {
	return Has{}, nil
}
func (hangingSink) Put(ctx context.Context, _ Records) error {
	<-ctx.Done()
	return ctx.Err()
}
func (hangingSink) Close(context.Context, bool) error { return nil }

// What is being written is not read as a line, and a file that was written anew is read
// from its beginning.
func TestReadSteps(t *testing.T) {
	path := filepath.Join(t.TempDir(), MetricsFile)
	at := int64(0)
	for i, c := range []struct {
		text string
		want string
	}{
		{"{\"step\":1,\"loss\":1}\n{\"step\":2,", "[1]"},
		{"{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":1}\njunk\n{\"step\":3,\"loss\":1}\n", "[2 3]"},
		{"{\"step\":1,\"loss\":1}\n", "[1]"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		l, to, err := readSteps(path, at, 10)
		if err != nil {
			t.Fatal(err)
		}
		at = to
		var got []uint64
		for _, m := range l {
			got = append(got, m.Step)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%d: %v, want %s", i, got, c.want)
		}
	}
}
