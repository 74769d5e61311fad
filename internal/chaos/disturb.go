package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/transport"
)

// Times of a disturbed run.
const (
	standstill     = time.Minute      // without a commit after a fault: the run has failed
	endWait        = 10 * time.Minute // after the last fault, for the end of the run
	brokerPatience = 10 * time.Second // how long the place of a broker that was shut down may be somebody else's, such as a client's whose port the system chose
)

// scene is a run that is being disturbed: its processes, and what is known of it.
type scene struct {
	*chaos
	dir    string
	broker transport.Host
	port   int
	token  string
	conn   transport.Member
	coord  *coordinator
	joined []*exec.Cmd // workers from elsewhere
	watch  commits
	last   run.Status // of the newest answer
}

// disturbed is one run with at most most faults.
func (x *chaos) disturbed(ctx context.Context, dir string, most int) (hash string, faults []Fault, err error) {
	s := &scene{chaos: x, dir: dir, watch: commits{path: filepath.Join(dir, "metrics.jsonl")}}
	defer s.close()
	notes, err := s.open(ctx)
	if err != nil {
		return "", nil, err
	}
	defer notes.Close()
	s.watch.next(ctx, s.ended, time.Minute) // it has begun
	for len(faults) < most && !s.ended() {
		s.quiet(ctx, time.Duration(x.rng.ExpFloat64()*float64(x.Pace)))
		if s.ended() || s.watch.steps >= x.Job.Train.Steps-2 {
			break
		}
		s.ask(ctx)
		f := Fault{Kind: x.draw[x.rng.IntN(len(x.draw))], Step: s.watch.steps, Workers: len(s.last.Workers)}
		if f.Worker, f.Time, err = s.do(ctx, f.Kind, len(faults)); err != nil {
			return "", faults, err
		}
		seconds, ok := s.watch.recovered(ctx, f.Time, s.ended, standstill)
		if !ok && !s.ended() {
			return "", faults, fmt.Errorf("nothing was committed for a minute after: %s (step %d)\n%s", f.Kind, s.watch.steps, s.coord.lastWords())
		}
		f.Seconds = seconds
		faults = append(faults, f)
		if err := json.NewEncoder(notes).Encode(f); err != nil {
			return "", faults, err
		}
	}
	hash, err = s.finish(ctx)
	return hash, faults, err
}

// open starts the broker and the coordinator, connects, and makes the file of faults.
func (s *scene) open(ctx context.Context) (notes *os.File, err error) {
	if s.broker, err = (transport.NATS{}).Host(transport.HostOptions{}); err != nil {
		return nil, err
	}
	s.port, s.token = netaddr.Port(s.broker.URL()), s.broker.Token()
	if err := s.startCoordinator(ctx); err != nil {
		return nil, err
	}
	if notes, err = os.Create(s.dir + ".faults.jsonl"); err != nil {
		return nil, err
	}
	s.conn, err = transport.NATS{}.Dial(ctx, s.broker.URL(), transport.Credentials{Token: s.token}, transport.Options{Job: s.Job.Name, Member: "chaos"})
	if err != nil {
		notes.Close()
		return nil, err
	}
	return notes, nil
}

// close leaves nobody, whatever happened.
func (s *scene) close() {
	for _, c := range s.joined {
		c.Process.Kill()
		c.Wait()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.broker != nil {
		s.broker.Shutdown()
	}
	if s.coord != nil {
		s.coord.kill()
	}
	killDescendants(s.guard.Process.Pid)
}

func (s *scene) ended() bool { return s.coord.ended() }

func (s *scene) startCoordinator(ctx context.Context) error {
	c, err := s.start(ctx, s.dir, s.Commands.Coordinator(s.dir, s.broker.URL(), s.token))
	if err == nil {
		s.coord = c
	}
	return err
}

// ask takes the job's status, which stays as it was where nobody answers.
func (s *scene) ask(ctx context.Context) {
	try, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if b, err := cluster.AskJob(try, s.conn.Bus(), s.Job.Name, cluster.Ask{What: "status"}); err == nil {
		json.Unmarshal(b, &s.last)
	}
}

// worker is any of those that were there.
func (s *scene) worker() (w run.WorkerStatus, ok bool) {
	if len(s.last.Workers) == 0 {
		return w, false
	}
	return s.last.Workers[s.rng.IntN(len(s.last.Workers))], true
}

// do does a fault. It returns which worker was hit, and since when the job can
// go on: n numbers workers from elsewhere.
func (s *scene) do(ctx context.Context, kind string, n int) (hit string, at time.Time, err error) {
	at = time.Now()
	switch kind {
	case killWorker:
		return s.killOne(), at, nil
	case freezeWorker:
		if w, ok := s.worker(); ok {
			hit = w.Worker
			syscall.Kill(w.PID, syscall.SIGSTOP)
			time.AfterFunc(time.Duration(s.rng.Int64N(int64(2*time.Duration(s.Job.Cluster.Deadline)))), func() { syscall.Kill(w.PID, syscall.SIGCONT) })
		}
		return hit, at, nil
	case killCoordinator, killBoth:
		if kind == killBoth {
			hit = s.killOne()
		}
		s.coord.kill()
		pause(ctx, time.Duration(s.rng.Int64N(int64(500*time.Millisecond))))
		err = s.startCoordinator(ctx)
		return hit, time.Now(), err
	case restartBroker:
		s.broker.Shutdown()
		next, err := comeBack(ctx, s.port, s.token, brokerPatience)
		if err == nil {
			s.broker = next
		}
		return "", time.Now(), err
	case joinWorker:
		cmd := s.marked(s.Commands.Worker(s.broker.URL(), s.token, fmt.Sprintf("x%d", n), filepath.Join(s.dir, "rescue")))
		if err := cmd.Start(); err != nil {
			return "", at, err
		}
		s.joined = append(s.joined, cmd)
		return "", at, nil
	case releaseWorker:
		if m := len(s.last.Workers); m > 1 {
			cluster.AskJob(ctx, s.conn.Bus(), s.Job.Name, cluster.Ask{What: "scale", Workers: m - 1})
		}
		return "", at, nil
	case tellAll:
		for _, w := range s.last.Workers {
			syscall.Kill(w.PID, syscall.SIGTERM)
		}
		return "", at, nil
	}
	panic("chaos: no such fault: " + kind)
}

func (s *scene) killOne() (hit string) {
	if w, ok := s.worker(); ok {
		hit = w.Worker
		syscall.Kill(w.PID, syscall.SIGKILL)
	}
	return hit
}

// quiet lets the job run, and measures how long its steps take.
func (s *scene) quiet(ctx context.Context, d time.Duration) {
	end := time.Now().Add(d)
	var at time.Time
	for time.Now().Before(end) && !s.ended() && ctx.Err() == nil {
		if s.watch.read() {
			now := time.Now()
			if !at.IsZero() {
				s.gaps = append(s.gaps, now.Sub(at).Seconds())
			}
			at = now
		}
		pause(ctx, 2*time.Millisecond)
	}
}

// finish waits for the run's end and returns the hash of its weights. A line for
// every step must be there, no more and no less.
func (s *scene) finish(ctx context.Context) (hash string, err error) {
	select {
	case <-s.coord.done:
	case <-time.After(endWait):
		s.coord.kill()
		return "", fmt.Errorf("it does not end\n%s", s.coord.lastWords())
	case <-ctx.Done():
		<-s.coord.done
		return "", context.Cause(ctx)
	}
	if s.coord.err != nil {
		return "", fmt.Errorf("%w\n%s", s.coord.err, s.coord.lastWords())
	}
	s.watch.read()
	if steps := s.Job.Train.Steps; s.watch.steps != steps || s.watch.lines != steps {
		return "", fmt.Errorf("metrics.jsonl has %d lines up to step %d, want %d", s.watch.lines, s.watch.steps, steps)
	}
	return s.coord.hash, nil
}

// comeBack starts a broker where one was.
func comeBack(ctx context.Context, port int, token string, patience time.Duration) (transport.Host, error) {
	for end := time.Now().Add(patience); ; {
		b, err := transport.NATS{}.Host(transport.HostOptions{Port: port, Token: token})
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("the broker does not come back at its port %d, within %v: %w", port, patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// pause waits for d, or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
