package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/job"
)

// Options say which job is disturbed, how, and for how long.
type Options struct {
	Job      *job.Job
	Faults   int           // in all; runs are repeated until so many have been done
	Limit    time.Duration // no run begins after so long
	Pace     time.Duration // mean time between two faults
	Seed     uint64        // of the choice of faults
	Workers  int           // to begin with
	Dir      string        // where runs are kept; empty: a temporary directory, removed if all is well
	Kinds    []string      // to choose from; empty: all
	Commands Commands
	Say      func(format string, args ...any) // a line for people, as things happen
}

// Commands make the commands of the job's processes, not yet started. Their
// standard output and error are chaos's to set; their environment it adds to.
type Commands struct {
	// Coordinator trains the job in dir, and prints one JSON object a line. With a
	// url it uses the broker there, which has this token, and in which all workers
	// meet: the topology is that of a broker. Without one it starts its own.
	Coordinator func(dir, url, token string) *exec.Cmd
	// Worker is a worker from elsewhere.
	Worker func(url, token, id, rescueDir string) *exec.Cmd
	// Guard runs Guard with this mark, on its standard input.
	Guard func(mark string) *exec.Cmd
}

// Run trains the job undisturbed and then disturbed, until there were enough
// faults or a run has other weights. Then, as in every other case in which there
// is something to report, the report comes beside the error. What Run refuses of
// its options is a usage.Error. The process that calls it has no other children.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Workers < 1 || o.Faults < 1 || o.Pace <= 0 {
		return nil, usage.Errorf("--workers, --faults and --pace must be above 0")
	}
	draw, err := lots(o.Kinds)
	if err != nil {
		return nil, err
	}
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "vlaring-chaos-"); err != nil {
			return nil, err
		}
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	x := &chaos{Options: o, draw: draw, rng: rand.New(rand.NewPCG(o.Seed, 0))}
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	dismiss, err := x.setGuard()
	if err != nil {
		return nil, err
	}
	defer dismiss()
	rep, err := x.compare(ctx, dir)
	if err == nil && o.Dir == "" {
		err = os.RemoveAll(dir)
	}
	return rep, err
}

// chaos drives the runs.
type chaos struct {
	Options
	draw  []string
	rng   *rand.Rand
	gaps  []float64 // seconds between commits, of quiet stretches
	mark  string    // of its processes' environment
	guard *exec.Cmd
}

// compare does all runs, in directories of dir.
func (x *chaos) compare(ctx context.Context, dir string) (*Report, error) {
	rep := &Report{Equal: true, Steps: x.Job.Train.Steps, Seed: x.Seed}
	x.Say("undisturbed run, %d worker(s), %d steps …", x.Workers, x.Job.Train.Steps)
	began := time.Now()
	var err error
	if rep.SHA256, err = x.calm(ctx, filepath.Join(dir, "calm")); err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped by a signal")
		}
		return nil, fmt.Errorf("the undisturbed run: %w; its files are in %s", err, dir)
	}
	x.Say("  %s in %v", rep.SHA256, time.Since(began).Round(100*time.Millisecond))
	for end := time.Now().Add(x.Limit); rep.Faults < x.Faults && time.Now().Before(end) && ctx.Err() == nil; {
		rep.Runs++
		run := filepath.Join(dir, fmt.Sprintf("run-%03d", rep.Runs))
		got, faults, err := x.disturbed(ctx, run, x.Faults-rep.Faults)
		rep.Faults += len(faults)
		rep.all = append(rep.all, faults...)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("stopped by a signal after %d faults, all runs before with the same bits; its files are in %s", rep.Faults, dir)
		case err != nil:
			rep.Equal = false
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: %v", run, err))
		case got != rep.SHA256:
			rep.Equal = false
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: weights %s", run, got))
		}
		x.Say("run %d: %d faults, %d in all: %s", rep.Runs, len(faults), rep.Faults, map[bool]string{true: "same bits", false: "NOT the same"}[err == nil && got == rep.SHA256])
		if !rep.Equal {
			break
		}
		if x.Dir == "" {
			os.RemoveAll(run)
			os.Remove(run + ".log")
			os.Remove(run + ".faults.jsonl")
		}
	}
	rep.StepTime = x.stepTime()
	rep.sum()
	if !rep.Equal {
		return rep, fmt.Errorf("a disturbed run did not give the undisturbed one's weights; its files are in %s", dir)
	}
	return rep, nil
}

// calm is the run that nobody disturbs.
func (x *chaos) calm(ctx context.Context, dir string) (string, error) {
	p, err := x.start(ctx, dir, x.Commands.Coordinator(dir, "", ""))
	if err != nil {
		return "", err
	}
	<-p.done
	killDescendants(x.guard.Process.Pid) // of one that was killed
	if p.err != nil {
		return "", fmt.Errorf("%w: %s", p.err, p.lastWords())
	}
	return p.hash, nil
}

// stepTime is the median time between two commits that nothing disturbed.
func (x *chaos) stepTime() float64 {
	if len(x.gaps) == 0 {
		return 0
	}
	sort.Float64s(x.gaps)
	return x.gaps[len(x.gaps)/2]
}
