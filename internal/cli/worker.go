package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/health"
	"github.com/vlaring/vlaring/internal/kubeflow"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/transport"
	"github.com/vlaring/vlaring/pkg/worker"
)

type workerFlags struct {
	log      view.Log
	conn     connFlags
	mesh     meshFlags
	health   healthFlags
	hang     time.Duration
	job      string
	id       string
	threads  int
	dataDir  string
	rescue   string
	direct   string
	patience time.Duration
	grace    time.Duration
}

func newWorker(use string, hidden bool) *cobra.Command {
	var f workerFlags
	c := &cobra.Command{
		Use:    use + " --nats URL --job NAME",
		Hidden: hidden,
		Short:  "Join a training job and work for it until it ends",
		Long: `Join the job NAME on the NATS server at URL and work for it until it ends.

Model, data order and batch sizes come from the coordinator; this machine only
decides how many threads to use. Where the job's data is not on this machine
the coordinator sends the samples.
` + exitHelp,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return runWorker(c, &f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.job, "job", "", "name of the job")
	fl.StringVar(&f.id, "id", "", "this worker's id (default: host name, pid and a random suffix); ranks follow the order of ids")
	threadsFlag(c, &f.threads, 0, "compute threads (default: all cores)")
	fl.StringVar(&f.dataDir, "data-dir", "", "where the job's relative data paths start here (default: as on the coordinator)")
	fl.StringVar(&f.rescue, "rescue-dir", "rescue", "where the state is kept as a checkpoint, in a directory by the worker's id, if no coordinator comes back for cluster.orphan_timeout")
	fl.StringVar(&f.direct, "direct-listen", "", "host:port where other hosts' workers connect, where cluster.road is direct (default: the address that leads to the server, a free port)")
	fl.DurationVar(&f.patience, "join-timeout", time.Minute, "how long to look for the server and the coordinator")
	fl.DurationVar(&f.grace, "leave-timeout", leaveTimeout, "how long a worker that a signal tells to leave waits for the coordinator, which has the newest state stored if all leave; then it keeps the state in --rescue-dir and leaves; 0: it leaves at once")
	fl.DurationVar(&f.hang, "hang-timeout", hangs, "with --health: /healthz fails once the same part of a step has gone on here for so long, without another worker being waited for; 0: never")
	f.conn.register(c)
	f.health.register(c)
	f.mesh.register(c)
	logFlags(c, &f.log)
	return c
}

func runWorker(c *cobra.Command, f *workerFlags) error {
	if f.job == "" {
		return usagef("--job NAME is missing: the name in the job file that the coordinator trains")
	}
	switch {
	case f.conn.url == "" && f.mesh.join == "":
		return usagef("--nats URL, or --mesh HOST:PORT, is missing: the coordinator prints the one to use")
	case f.conn.url != "" && f.mesh.join != "":
		return usagef("--nats connects to a server and --mesh starts one here: give one of them")
	}
	if err := cluster.ValidName("job name", f.job); err != nil {
		return usage.Wrap(err)
	}
	if f.threads < 0 || f.threads > 1024 {
		return usagef("--threads %d: want 1 to 1024, or 0 for all cores that it may use", f.threads)
	}
	if f.threads == 0 {
		f.threads = machine.Threads()
	}
	runtime.GOMAXPROCS(goThreads(runtime.GOMAXPROCS(0), f.threads))
	if err := tensor.CPUError(); err != nil {
		return usage.Wrap(err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	var warned []string
	creds, err := f.conn.credentials(func(text string) { warned = append(warned, text) })
	if err != nil {
		return err
	}
	if f.id == "" && creds.Key != nil {
		f.id = creds.Key.ID
	} else if f.id == "" {
		f.id = cluster.UniqueID(host, os.Getpid())
	}
	if err := cluster.ValidID(f.id); err != nil {
		return usage.Wrap(err)
	}
	if f.grace < 0 {
		return usagef("--leave-timeout %v: want 0 or more", f.grace)
	}
	told, cancel := signal.NotifyContext(c.Context(), endSignals()...)
	defer cancel()
	context.AfterFunc(told, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) }) // a pass over a micro-batch cannot be interrupted: a second one ends at once
	if os.Getenv(childEnv) != "" {                                                  // what reaches the whole process group or terminal is the coordinator's to decide
		signal.Ignore(os.Interrupt, syscall.SIGHUP)
	}
	outlivePipes()
	log, err := f.log.Logger(view.NewWatched(c.ErrOrStderr(), cancel))
	if err != nil {
		return err
	}
	log = log.With(zap.String("worker", f.id))
	for _, text := range warned {
		log.Warn(text)
	}
	var watched health.Worker
	endHealth, err := watched.Serve(f.health.options("worker", f.job), f.hang, func(text string) { log.Info(text) })
	if err != nil {
		return err
	}
	defer endHealth()

	// left is the error of one that was told to leave by a signal, whatever it was busy with.
	left := func(err error) error {
		if told.Err() != nil && c.Context().Err() == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(told))) {
			return run.ResumableError{Text: "told to leave by a signal before the job ended"}
		}
		return err
	}
	joinCtx, cancelJoin := context.WithTimeout(told, f.patience)
	defer cancelJoin()
	event := func(text string) { log.Warn(text) }
	var bus atomic.Pointer[cluster.Bus] // of conn, once there is one
	var broker transport.Host
	if f.mesh.join != "" {
		if broker, err = f.mesh.start(f.job, creds, event); err != nil {
			return err
		}
		defer broker.Shutdown()
	}
	conn, err := transport.Connect(joinCtx, transport.Of(f.conn.url), broker, f.conn.url, creds, transport.Options{Job: f.job, Member: f.id, Event: event, Moved: run.Moved(os.Getenv(childEnv)), Trouble: func(text string) {
		log.Error(text)
		if b := bus.Load(); b != nil { // who looks at the coordinator's log is to see it
			(*b).Publish(cluster.FromSubject(f.job, f.id), cluster.Encode(&cluster.Notice{Worker: f.id, Text: text}))
		}
	}})
	if err != nil {
		return left(err)
	}
	defer conn.Close()
	control := conn.Bus()
	bus.Store(&control)
	ring, err := conn.Network()
	if err != nil {
		return err
	}
	defer ring.Close()
	blobs, err := conn.Blobs(nil)
	if err != nil {
		return err
	}
	defer blobs.Close()
	if f.direct == "" {
		f.direct = net.JoinHostPort(netaddr.Local(cmp.Or(f.conn.url, f.mesh.join)), "0")
	} else if _, _, err := usage.Listen("--direct-listen", f.direct); err != nil {
		return err
	}
	if err := tensor.CPURefused(); err != nil {
		log.Debug("products of bfloat16 run on vectors", zap.Error(err))
	}
	w := worker.New(worker.Config{Job: f.job, DirectListen: f.direct, ID: f.id, Host: host, PID: os.Getpid(), Version: Version(), Threads: f.threads, CPU: tensor.CPULevel(),
		DataDir: f.dataDir, RescueDir: f.rescue, Leave: told.Done(), Grace: f.grace, Bus: control, Net: ring, Blobs: blobs, Fate: conn, Scans: scanDir(), CacheDir: cacheDir(), Log: log})
	watched.Watch(w.Standing)
	defer kubeflow.Report(os.Getenv, w.Standing, func(text string) { log.Warn(text) })()
	end, err := w.Run(c.Context(), joinCtx)
	if err != nil {
		return left(err)
	}
	log.Debug("the job has ended", zap.Stringer("outcome", end.Outcome), zap.String("reason", end.Reason))
	switch end.Outcome { // a worker that leaves an unfinished job never exits 0: an Indexed Job would count it complete
	case cluster.Done:
		return nil
	case cluster.Stopped:
		return run.ResumableError{Text: "the job ended early: " + end.Reason}
	case cluster.Released:
		return run.ResumableError{Text: "released: " + end.Reason}
	}
	if end.Alone {
		return fmt.Errorf("the job goes on without this worker: %s", end.Reason)
	}
	return fmt.Errorf("the job failed: %s", end.Reason)
}

// leaveTimeout is for how long a worker waits to be let go: within half a minute, as
// Kubernetes gives by default and machines on loan often, its state can still be kept.
const leaveTimeout = 20 * time.Second

// goThreads is how many threads run Go code at once in a worker: one more than
// compute, at least. Kernels cannot be interrupted, and on a machine that has
// other work the system takes the processor from the threads that hold them: if
// heartbeats had to wait for one of those, a worker that lives would be silent.
func goThreads(now, compute int) int { return max(now, compute+1) }
