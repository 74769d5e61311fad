package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/natsbus"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

type chaosFlags struct {
	faults  int
	limit   time.Duration
	pace    time.Duration
	seed    uint64
	workers int
	threads int
	dir     string
	kinds   []string
	set     []string
	asJSON  bool
}

// The kinds of faults, and how often each is drawn in proportion.
const (
	killWorker      = "worker killed"
	freezeWorker    = "worker frozen"
	killCoordinator = "coordinator killed"
	restartBroker   = "broker restarted"
	joinWorker      = "worker joined"
	releaseWorker   = "worker released"
	killBoth        = "coordinator and worker killed"
)

var chaosShares = []struct {
	kind  string
	share int
}{{killWorker, 7}, {freezeWorker, 3}, {killCoordinator, 3}, {restartBroker, 2}, {joinWorker, 2}, {releaseWorker, 2}, {killBoth, 1}}

func newChaos() *cobra.Command {
	var f chaosFlags
	c := &cobra.Command{
		Use:   "chaos JOB.yaml",
		Short: "Train a job while killing, freezing and adding its processes, and compare the result",
		Long: `Train JOB.yaml once undisturbed, then again and again while its processes are
killed, frozen, added and restarted at random, and compare the weights: they must
be the same to the last bit. Every run is of real processes over a NATS broker of
its own.

Faults: worker killed (SIGKILL), worker frozen (SIGSTOP) for up to twice the
deadline, coordinator killed and started again, broker restarted, worker joined,
worker released, coordinator and a worker killed at once. In the table those that
hit a worker from elsewhere, which no coordinator had started, have lines of their
own, and so have those that hit the only worker: with it goes all state, and the
job goes back to its newest checkpoint.

In --dir each run has its directory, RUN.log with what its coordinators said, and
RUN.faults.jsonl with a line for each fault. However it ends, by Ctrl-C, an
error or SIGKILL, no process of it is left.
` + exitHelp,
		Example: `  coordinator chaos examples/tabletop.yaml --set train.steps=300 --faults 30
  coordinator chaos examples/tabletop.yaml --for 1h --faults 1000 --pace 3s`,
		Args: exactArgs("JOB.yaml"),
		RunE: func(c *cobra.Command, args []string) error { return runChaos(c, args[0], &f) },
	}
	fl := c.Flags()
	fl.IntVar(&f.faults, "faults", 20, "faults in all; runs are repeated until so many have been done")
	fl.DurationVar(&f.limit, "for", 10*time.Minute, "begin no run after so long")
	fl.DurationVar(&f.pace, "pace", 2*time.Second, "mean time between two faults")
	fl.Uint64Var(&f.seed, "seed", 1, "of the choice of faults")
	fl.IntVar(&f.workers, "workers", 3, "workers to begin with")
	fl.IntVar(&f.threads, "threads", 1, "compute threads a worker")
	fl.StringVar(&f.dir, "dir", "", "where the runs are kept (default: a temporary directory, removed if all is well)")
	fl.StringSliceVar(&f.kinds, "kinds", nil, "faults to choose from, by name as in the table (default: all)")
	fl.StringArrayVar(&f.set, "set", nil, "override a value of the job file: key=value")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object at the end")
	return c
}

// chaosReport is the verdict.
type chaosReport struct {
	Equal    bool         `json:"equal"` // every disturbed run gave the weights of the undisturbed one
	SHA256   string       `json:"model_sha256"`
	Runs     int          `json:"runs"`
	Faults   int          `json:"faults"`
	Steps    int          `json:"steps"` // of one run
	StepTime float64      `json:"step_s"`
	Seed     uint64       `json:"seed"`
	Kinds    []chaosKind  `json:"kinds"`
	Problems []string     `json:"problems,omitempty"`
	all      []chaosFault // in order
}

// chaosKind sums up the faults of one kind: seconds without a commit, from the
// fault on, or from the restart where something was restarted.
type chaosKind struct {
	Kind   string  `json:"kind"`
	Count  int     `json:"count"`
	Median float64 `json:"median_s"`
	Most   float64 `json:"max_s"`
}

// chaosFault is a line of RUN.faults.jsonl.
type chaosFault struct {
	Time    time.Time `json:"time"`
	Step    int       `json:"step"` // committed before
	Kind    string    `json:"kind"`
	Worker  string    `json:"worker,omitempty"` // that was hit
	Workers int       `json:"workers"`          // before
	Seconds float64   `json:"seconds"`
}

func runChaos(c *cobra.Command, path string, f *chaosFlags) error {
	j, err := train.Kinds().Load(path, f.set)
	if err != nil {
		return err
	}
	if f.workers < 1 || f.faults < 1 || f.pace <= 0 {
		return usagef("--workers, --faults and --pace must be above 0")
	}
	draw, err := f.draw()
	if err != nil {
		return err
	}
	dir := f.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "vlaring-chaos-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	say := func(format string, a ...any) {
		if !f.asJSON {
			fmt.Fprintf(c.OutOrStdout(), format+"\n", a...)
		}
	}
	x := &chaos{flags: f, draw: draw, job: j, path: path, say: say, rng: rand.New(rand.NewPCG(f.seed, 0))}
	if x.self, err = os.Executable(); err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
	defer cancel()
	outlivePipes()
	if err := adoptOrphans(); err != nil {
		return err
	}
	dismiss, err := x.setGuard()
	if err != nil {
		return err
	}
	defer dismiss()
	rep := &chaosReport{Equal: true, Steps: j.Train.Steps, Seed: f.seed}
	say("undisturbed run, %d workers, %d steps …", f.workers, j.Train.Steps)
	began := time.Now()
	if rep.SHA256, err = x.calm(ctx, filepath.Join(dir, "calm")); err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped by a signal")
		}
		return fmt.Errorf("the undisturbed run: %w; its files are in %s", err, dir)
	}
	say("  %s in %v", rep.SHA256, time.Since(began).Round(100*time.Millisecond))
	for end := time.Now().Add(f.limit); rep.Faults < f.faults && time.Now().Before(end) && ctx.Err() == nil; {
		rep.Runs++
		run := filepath.Join(dir, fmt.Sprintf("run-%03d", rep.Runs))
		got, faults, err := x.disturbed(ctx, run, f.faults-rep.Faults)
		rep.Faults += len(faults)
		rep.all = append(rep.all, faults...)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("stopped by a signal after %d faults, all runs before with the same bits; its files are in %s", rep.Faults, dir)
		case err != nil:
			rep.Equal = false
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: %v", run, err))
		case got != rep.SHA256:
			rep.Equal = false
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: weights %s", run, got))
		}
		say("run %d: %d faults, %d in all: %s", rep.Runs, len(faults), rep.Faults, map[bool]string{true: "same bits", false: "NOT the same"}[err == nil && got == rep.SHA256])
		if !rep.Equal {
			break
		}
		if f.dir == "" {
			os.RemoveAll(run)
			os.Remove(run + ".log")
			os.Remove(run + ".faults.jsonl")
		}
	}
	rep.StepTime = x.stepTime()
	rep.sum()
	if f.asJSON {
		if err := json.NewEncoder(c.OutOrStdout()).Encode(rep); err != nil {
			return err
		}
	} else {
		rep.print(c.OutOrStdout())
	}
	if !rep.Equal {
		return fmt.Errorf("a disturbed run did not give the undisturbed one's weights; its files are in %s", dir)
	}
	if f.dir == "" {
		return os.RemoveAll(dir)
	}
	return nil
}

// draw is the chosen kinds, each as often as its share.
func (f *chaosFlags) draw() (l []string, err error) {
	var names []string
	for _, k := range chaosShares {
		names = append(names, k.kind)
		if len(f.kinds) == 0 || slices.Contains(f.kinds, k.kind) {
			l = append(l, slices.Repeat([]string{k.kind}, k.share)...)
		}
	}
	for _, k := range f.kinds {
		if !slices.Contains(names, k) {
			return nil, usagef("--kinds %q: want some of %s", k, strings.Join(names, ", "))
		}
	}
	return l, nil
}

func (r *chaosReport) sum() {
	by := map[string][]float64{}
	for _, f := range r.all {
		switch {
		case f.Worker == "":
		case f.Workers == 1: // with it goes all state: back to the last checkpoint
			f.Kind += ", the only one"
		case !run.Local(f.Worker):
			f.Kind += ", from elsewhere"
		}
		by[f.Kind] = append(by[f.Kind], f.Seconds)
	}
	for k, l := range by {
		sort.Float64s(l)
		r.Kinds = append(r.Kinds, chaosKind{k, len(l), l[len(l)/2], l[len(l)-1]})
	}
	sort.Slice(r.Kinds, func(i, j int) bool { return r.Kinds[i].Kind < r.Kinds[j].Kind })
}

func (r *chaosReport) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\ttimes\twithout a commit, median\tmost\t")
	for _, k := range r.Kinds {
		fmt.Fprintf(w, "%s\t%d\t%.2f s\t%.2f s\t\n", k.Kind, k.Count, k.Median, k.Most)
	}
	w.Flush()
	fmt.Fprintf(out, "a step takes %.2f s (median)\n", r.StepTime)
	for _, p := range r.Problems {
		fmt.Fprintln(out, "PROBLEM", p)
	}
	verdict := "the same bits as undisturbed"
	if !r.Equal {
		verdict = "NOT the undisturbed run's weights"
	}
	fmt.Fprintf(out, "%d faults in %d runs: %s\n", r.Faults, r.Runs, verdict)
}

// chaos drives the runs.
type chaos struct {
	flags *chaosFlags
	draw  []string
	job   *job.Job
	path  string
	self  string
	say   func(string, ...any)
	rng   *rand.Rand
	gaps  []float64 // between commits, of quiet stretches
	mark  string    // of its processes' environment
	guard *exec.Cmd
}

// chaosEnv marks the processes of one chaos.
const chaosEnv = "VLARING_CHAOS"

// setGuard starts a process that ends all of this chaos's once chaos itself is
// gone, however that comes: one that SIGKILL ends can tidy nothing up, and would
// leave workers frozen for ever. dismiss ends it.
func (x *chaos) setGuard() (dismiss func(), err error) {
	x.mark = fmt.Sprintf("%d-%x", os.Getpid(), rand.Uint64())
	x.guard = exec.Command(x.self, "chaos-guard", x.mark)
	x.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := x.guard.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := x.guard.Start(); err != nil {
		return nil, err
	}
	return func() {
		hold.Close()
		x.guard.Wait()
	}, nil
}

// newChaosGuard is the command of that process.
func newChaosGuard() *cobra.Command {
	return &cobra.Command{Use: "chaos-guard MARK", Hidden: true, Args: exactArgs("MARK"), RunE: func(c *cobra.Command, args []string) error {
		signal.Ignore(endSignals()...)
		io.Copy(io.Discard, c.InOrStdin()) // until chaos is gone
		killMarked(chaosEnv, args[0])
		return nil
	}}
}

// environment is that of the processes that chaos starts.
func (x *chaos) environment(more ...string) []string {
	return append(append(withoutEnv(os.Environ(), tokenEnv, childEnv, chaosEnv), chaosEnv+"="+x.mark), more...)
}

func (x *chaos) args(dir string, more ...string) []string {
	a := []string{"train", x.path, "--json", "--run-dir", dir, "--workers", strconv.Itoa(x.flags.workers), "--threads", strconv.Itoa(x.flags.threads)}
	for _, s := range x.flags.set {
		a = append(a, "--set", s)
	}
	return append(a, more...)
}

func (x *chaos) calm(ctx context.Context, dir string) (string, error) {
	p, err := x.start(ctx, dir, x.args(dir), "")
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

// chaosProc is a coordinator's process.
type chaosProc struct {
	cmd  *exec.Cmd
	log  string
	hash string // of its end event
	done chan struct{}
	err  error
}

// start starts a coordinator whose words go to the end of DIR.log.
func (x *chaos) start(ctx context.Context, dir string, args []string, token string) (*chaosProc, error) {
	p := &chaosProc{cmd: exec.CommandContext(ctx, x.self, args...), done: make(chan struct{})}
	p.cmd.Env = x.environment()
	if token != "" {
		p.cmd.Env = append(p.cmd.Env, tokenEnv+"="+token)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for chaos alone
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p.log, p.cmd.Stderr = f.Name(), f
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		defer f.Close()
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<24)
		for s.Scan() {
			var e struct {
				Event  string `json:"event"`
				SHA256 string `json:"model_sha256"`
			}
			if json.Unmarshal(s.Bytes(), &e) == nil && e.Event == "end" {
				p.hash = e.SHA256
			}
		}
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

func (p *chaosProc) lastWords() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-2000):])
}

// disturbed is one run with at most most faults.
func (x *chaos) disturbed(ctx context.Context, dir string, most int) (hash string, faults []chaosFault, err error) {
	var coord *chaosProc
	defer func() { // whatever happened, nobody is left
		if coord != nil {
			coord.cmd.Process.Kill()
			<-coord.done
		}
		killDescendants(x.guard.Process.Pid)
	}()
	broker, err := natsbus.StartBroker(natsbus.BrokerOptions{})
	if err != nil {
		return "", nil, err
	}
	defer func() { broker.Shutdown() }()
	port, token := run.PortOf(broker.URL()), broker.Token()
	args := x.args(dir, "--nats", broker.URL(), "--set", "cluster.topology=broker") // one that can be restarted
	if coord, err = x.start(ctx, dir, args, token); err != nil {
		return "", nil, err
	}
	notes, err := os.Create(dir + ".faults.jsonl")
	if err != nil {
		return "", nil, err
	}
	defer notes.Close()
	conn, err := natsbus.Connect(ctx, broker.URL(), natsbus.Credentials{Token: token}, natsbus.ConnOptions{Job: x.job.Name, Member: "chaos"})
	if err != nil {
		return "", nil, err
	}
	defer conn.Close()
	var joined []*exec.Cmd
	defer func() {
		for _, c := range joined {
			c.Process.Kill()
			c.Wait()
		}
	}()
	watch := &commits{path: filepath.Join(dir, "metrics.jsonl")}
	var last run.Status
	status := func() bool {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		b, err := cluster.AskJob(try, conn.Bus(), x.job.Name, cluster.Ask{What: "status"})
		return err == nil && json.Unmarshal(b, &last) == nil
	}
	worker := func() (run.WorkerStatus, bool) {
		if len(last.Workers) == 0 {
			return run.WorkerStatus{}, false
		}
		return last.Workers[x.rng.IntN(len(last.Workers))], true
	}
	ended := func() bool {
		select {
		case <-coord.done:
			return true
		default:
			return false
		}
	}
	restart := func() error {
		coord.cmd.Process.Kill()
		<-coord.done
		x.pause(ctx, time.Duration(x.rng.Int64N(int64(500*time.Millisecond))))
		next, err := x.start(ctx, dir, args, token)
		if err == nil {
			coord = next
		}
		return err
	}
	watch.next(ctx, ended, time.Minute) // it has begun
	for len(faults) < most && !ended() {
		x.quiet(ctx, watch, time.Duration(x.rng.ExpFloat64()*float64(x.flags.pace)), ended)
		if ended() || watch.steps >= x.job.Train.Steps-2 {
			break
		}
		status()
		kind, at, hit := x.draw[x.rng.IntN(len(x.draw))], time.Now(), ""
		switch kind {
		case killWorker:
			if w, ok := worker(); ok {
				hit = w.Worker
				syscall.Kill(w.PID, syscall.SIGKILL)
			}
		case freezeWorker:
			if w, ok := worker(); ok {
				hit = w.Worker
				syscall.Kill(w.PID, syscall.SIGSTOP)
				time.AfterFunc(time.Duration(x.rng.Int64N(int64(2*time.Duration(x.job.Cluster.Deadline)))), func() { syscall.Kill(w.PID, syscall.SIGCONT) })
			}
		case killCoordinator:
			if err := restart(); err != nil {
				return "", faults, err
			}
			at = time.Now()
		case restartBroker:
			broker.Shutdown()
			next, err := comeBack(ctx, port, token, brokerPatience)
			if err != nil {
				return "", faults, err
			}
			broker = next
			at = time.Now()
		case joinWorker:
			cmd := exec.Command(x.self, "worker", "--nats", broker.URL(), "--job", x.job.Name, "--id", fmt.Sprintf("x%d", len(faults)),
				"--threads", strconv.Itoa(x.flags.threads), "--rescue-dir", filepath.Join(dir, "rescue"))
			cmd.Env = x.environment(tokenEnv+"="+token, childEnv+"="+childOfServer)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				return "", faults, err
			}
			joined = append(joined, cmd)
		case releaseWorker:
			if m := len(last.Workers); m > 1 {
				cluster.AskJob(ctx, conn.Bus(), x.job.Name, cluster.Ask{What: "scale", Workers: m - 1})
			}
		case killBoth:
			if w, ok := worker(); ok {
				hit = w.Worker
				syscall.Kill(w.PID, syscall.SIGKILL)
			}
			if err := restart(); err != nil {
				return "", faults, err
			}
			at = time.Now()
		}
		f := chaosFault{Time: at, Step: watch.steps, Kind: kind, Worker: hit, Workers: len(last.Workers)}
		seconds, ok := watch.recovered(ctx, at, ended, time.Minute)
		if !ok && !ended() {
			return "", faults, fmt.Errorf("nothing was committed for a minute after: %s (step %d)\n%s", kind, watch.steps, coord.lastWords())
		}
		f.Seconds = seconds
		faults = append(faults, f)
		if err := json.NewEncoder(notes).Encode(f); err != nil {
			return "", faults, err
		}
	}
	select {
	case <-coord.done:
	case <-time.After(10 * time.Minute):
		coord.cmd.Process.Kill()
		<-coord.done
		return "", faults, fmt.Errorf("it does not end\n%s", coord.lastWords())
	case <-ctx.Done():
		<-coord.done
		return "", faults, context.Cause(ctx)
	}
	if coord.err != nil {
		return "", faults, fmt.Errorf("%w\n%s", coord.err, coord.lastWords())
	}
	watch.read()
	if watch.steps != x.job.Train.Steps || watch.lines != x.job.Train.Steps {
		return "", faults, fmt.Errorf("metrics.jsonl has %d lines up to step %d, want %d", watch.lines, watch.steps, x.job.Train.Steps)
	}
	return coord.hash, faults, nil
}

// brokerPatience is how long the place of a broker that was shut down may be
// somebody else's, such as a client's whose port the system chose.
const brokerPatience = 10 * time.Second

// comeBack starts a broker where one was.
func comeBack(ctx context.Context, port int, token string, patience time.Duration) (*natsbus.Broker, error) {
	for end := time.Now().Add(patience); ; {
		b, err := natsbus.StartBroker(natsbus.BrokerOptions{Port: port, Token: token})
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

func (x *chaos) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// quiet lets the job run, and measures how long its steps take.
func (x *chaos) quiet(ctx context.Context, w *commits, d time.Duration, ended func() bool) {
	end := time.Now().Add(d)
	var at time.Time
	for time.Now().Before(end) && !ended() && ctx.Err() == nil {
		if w.read() {
			now := time.Now()
			if !at.IsZero() {
				x.gaps = append(x.gaps, now.Sub(at).Seconds())
			}
			at = now
		}
		x.pause(ctx, 2*time.Millisecond)
	}
}

func (x *chaos) stepTime() float64 {
	if len(x.gaps) == 0 {
		return 0
	}
	sort.Float64s(x.gaps)
	return x.gaps[len(x.gaps)/2]
}
