package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// Torn lines go, wherever they are; whole ones stay, also behind them.
func TestTornMetricsAreRepaired(t *testing.T) {
	one, two, three, four := "{\"step\":1,\"loss\":1}\n", "{\"step\":2,\"loss\":2}\n", "{\"step\":3,\"loss\":0,\"refused\":\"no\"}\n", "{\"step\":4,\"loss\":4}\n"
	for name, c := range map[string]struct {
		has    string
		step   uint64
		goesOn bool
		want   string
		h      history
	}{
		"whole":            {one + two + three + four, 9, false, one + two + three + four, history{9, tally{4, 1, "step 3: no"}, 0, 5}},
		"torn at the end":  {one + two + `{"step":3,"lo`, 9, false, one + two, history{9, tally{2, 0, ""}, 1, 7}},
		"torn within":      {one + `{"step":2,"lo` + three + four, 9, false, one + four, history{9, tally{2, 0, ""}, 1, 5}},
		"junk within":      {one + "\x00\x00\n" + three + four, 9, false, one + three + four, history{9, tally{3, 1, "step 3: no"}, 1, 5}},
		"later ones":       {one + two + three + four, 2, false, one + two, history{2, tally{2, 0, ""}, 0, 0}},
		"later ones stay":  {one + two + three + four, 2, true, one + two + three + four, history{4, tally{4, 1, "step 3: no"}, 0, 0}},
		"later and torn":   {one + `{"st` + "\n" + two + three + four, 3, false, one + two + three, history{3, tally{3, 1, "step 3: no"}, 1, 0}},
		"nothing":          {"", 0, false, "", history{}},
		"only a torn line": {`{"step":1`, 0, false, "", history{0, tally{}, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), MetricsFile)
			if err := os.WriteFile(path, []byte(c.has), 0o644); err != nil {
				t.Fatal(err)
			}
			f, h, err := openMetrics(path, c.step, c.goesOn, newLosses(10))
			if err != nil {
				t.Fatal(err)
			}
			if h != c.h {
				t.Errorf("it had %+v, want %+v", h, c.h)
			}
			if _, err := f.WriteString("more\n"); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if b, err := os.ReadFile(path); err != nil || string(b) != c.want+"more\n" {
				t.Errorf("it holds %q, want %q (%v)", b, c.want+"more\n", err)
			}
		})
	}
}

// A full disk is said once when it begins and once when it is over, however
// many steps come between.
func TestFullDiskIsSaidOnce(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), MetricsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := newLines(f)
	if err != nil {
		t.Fatal(err)
	}
	disk := &smallDisk{f, 0}
	l.f = disk
	var said []string
	write := func() {
		_, err := l.Write([]byte("line\n"))
		over, trouble := l.news(err)
		if trouble != nil {
			said = append(said, "trouble")
		}
		if over != "" {
			said = append(said, over)
		}
	}
	for range 100 {
		write()
	}
	disk.room = 1 << 30
	for range 100 {
		write()
	}
	disk.room = 0
	write()
	write()
	if got, want := strings.Join(said, "|"), "trouble|the disk takes lines again|trouble"; got != want {
		t.Errorf("it said %s, want %s", got, want)
	}
}

// What goes on of an earlier coordinator's run, by what was changed.
func TestPlanOf(t *testing.T) {
	load := func(set ...string) *job.Job {
		t.Helper()
		j, err := train.Kinds().Load("testdata/small.yaml", set)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	was := load()
	for _, c := range []struct {
		set              string
		takeover, resume bool
		refused          string // a word of it
		workers, lines   bool   // are other ones
	}{
		{"cluster.stall=6s", true, false, "", false, false},
		{"checkpoint.keep=3", true, false, "", false, false},
		{"cluster.bucket_bytes=65536", true, false, "cluster.bucket_bytes", true, false},
		{"cluster.bucket_bytes=65536", true, true, "", true, false},
		{"optimizer.lr=0.01", true, false, "optimizer.lr: 0.001 in the run, 0.01 now", true, true},
		{"optimizer.lr=0.01", true, true, "", true, true},
		{"optimizer.lr=0.01", false, true, "", true, true},
		{"train.steps=50", false, true, "", true, true},
	} {
		p, err := planOf(was, load(c.set), c.takeover, c.resume)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "--resume") || !errors.As(err, new(usage.Error)) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || p.otherWorkers != c.workers || len(p.otherResult) > 0 != c.lines {
			t.Errorf("%+v: %+v, %v", c, p, err)
		}
	}
	if p, err := planOf(nil, was, true, false); err != nil || !p.unknown {
		t.Errorf("without a copy of the job: %+v, %v", p, err)
	}
}

// A reason that begins with its step is not said with the step twice, and
// train.non_finite is named only where it is what has steps passed over.
func TestTallyWords(t *testing.T) {
	var y tally
	y.add(2, "step 2: none of its 2 samples has a target")
	if y.why != "step 2: none of its 2 samples has a target" {
		t.Errorf("%q", y.why)
	}
	for policy, want := range map[string]string{"stop": "", "skip": " (train.non_finite: skip)"} {
		r := recorder{job: &job.Job{Train: job.Train{NonFinite: policy}}}
		if got := r.skips(); got != want {
			t.Errorf("%s: %q", policy, got)
		}
	}
}

// hanging is a file on a disk that takes nothing until it is released.
type hanging struct {
	*os.File
	release chan struct{}
}

func (h hanging) Write(p []byte) (int, error) {
	<-h.release
	return h.File.Write(p)
}

// The coordinator's loop does not wait for a disk that hangs: steps go on, none
// of their lines counts as safe, and all of them are there once it is released.
func TestStepsDoNotWaitForTheDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, _, err := openRecorder(dir, &job.Job{Batch: job.Batch{Global: 2}}, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		r.voice = voice{quiet{}, zap.NewNop()}
		disk := hanging{r.file, make(chan struct{})}
		r.lines.f = disk
		began := time.Now()
		const steps = 500
		for step := uint64(1); step <= steps; step++ {
			r.stepDone([]*cluster.Report{{Step: step, Loss: 1, Targets: 1}})
		}
		synctest.Wait()
		if took := time.Since(began); took > 0 || r.noted.Load() != 0 {
			t.Errorf("while the disk hangs: %v, and step %d counts as written", took, r.noted.Load())
		}
		close(disk.release)
		synctest.Wait()
		if r.noted.Load() != steps {
			t.Errorf("step %d is written, want %d", r.noted.Load(), steps)
		}
		r.close(t.Context())
	})
	b, err := os.ReadFile(filepath.Join(dir, MetricsFile))
	if err != nil || strings.Count(string(b), "\n") != 500 {
		t.Errorf("%d lines (%v)", strings.Count(string(b), "\n"), err)
	}
}
