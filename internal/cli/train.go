package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/access"
	"github.com/vlaring/vlaring/internal/board"
	"github.com/vlaring/vlaring/internal/health"
	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/page"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

type trainFlags struct {
	log      view.Log
	conn     connFlags
	health   healthFlags
	workers  int
	threads  int
	runDir   string
	resume   bool
	accept   bool
	set      []string
	asJSON   bool
	listen   string
	routes   string
	handover bool
	board    bool
	track    []string
	trace    string
	ui       string
}

func newTrain() *cobra.Command {
	var f trainFlags
	c := &cobra.Command{
		Use:   "train JOB.yaml",
		Short: "Train a job: a broker and worker processes on this machine, unless told otherwise",
		Long: `Train the job of JOB.yaml.

Without further flags this starts a NATS broker on a random loopback port with a
random token, and cluster.workers worker processes of this same program.
--listen lets workers on other machines join, --nats uses a NATS server that
runs elsewhere, and --workers 0 starts no process here and waits for
cluster.workers workers from elsewhere.

Workers that die are replaced, others may join at any time, and a coordinator
that dies is started again with the same command: the job goes on where it was.

Ctrl-C finishes the step, stores a checkpoint and says how to resume; a second
one ends at once. SIGTERM, SIGHUP (a closed terminal; not under nohup) and an
output that nobody reads any more (| head) do the same.
` + exitHelp,
		Example: `  coordinator train examples/tabletop.yaml
  coordinator train examples/bridge.yaml --set data.path=/data/bridge --workers 3
  coordinator train examples/tabletop.yaml --resume --workers 1`,
		Args: exactArgs("JOB.yaml"),
		RunE: func(c *cobra.Command, args []string) error {
			return runTrain(c, args[0], &f)
		},
	}
	fl := c.Flags()
	fl.IntVar(&f.workers, "workers", -1, "worker processes to start here; 0: none, wait for cluster.workers from elsewhere (default: cluster.workers)")
	fl.Lookup("workers").DefValue = "0" // which help leaves out: it has said it
	threadsFlag(c, &f.threads, 0, "compute threads a worker (default: cores divided by local workers)")
	fl.StringVar(&f.runDir, "run-dir", "", "where the run is kept (default runs/NAME)")
	fl.BoolVar(&f.resume, "resume", false, "continue from the newest checkpoint in the run directory that verifies, or start if there is none")
	fl.BoolVar(&f.accept, "accept-data-change", false, "with --resume: go on though the data is not what it was; statistics, vocabulary and held-out split stay the run's, and the change is recorded in its checkpoints")
	fl.StringArrayVar(&f.set, "set", nil, "override a key of the job file, e.g. --set train.steps=50 (repeatable)")
	fl.BoolVar(&f.handover, "handover", false, "SIGTERM leaves the job to a coordinator that is started again with this command: its workers wait for it")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object a line on standard output")
	fl.StringVar(&f.listen, "listen", "", "host:port on which the embedded broker listens for workers from elsewhere; port 0 is a free one (default: loopback, a free port)")
	fl.StringVar(&f.routes, "routes", "", "host:port on which the embedded broker listens for those of the workers, where cluster.topology is mesh (default: --listen's host or loopback, a free port)")
	fl.BoolVar(&f.board, "tensorboard", false, "also write TensorBoard event files, to tensorboard/ in the run directory")
	fl.StringVar(&f.ui, "ui", "", "show the run in a browser, at host:port of this machine (--ui alone: "+page.DefaultListen+")")
	fl.Lookup("ui").NoOptDefVal = page.DefaultListen
	fl.StringVar(&f.trace, "trace", "", "also write what each rank does when to this file, as Chrome trace events (for ui.perfetto.dev)")
	fl.StringArrayVar(&f.track, "track", nil, "also send the records to a tracker: trackio:URL or mlflow:URL (repeatable)")
	f.conn.register(c)
	f.health.register(c)
	logFlags(c, &f.log)
	return c
}

func runTrain(c *cobra.Command, path string, f *trainFlags) error {
	j, err := train.LoadAgain(path, f.set, func(name string) *job.Job {
		return run.Prior(cmp.Or(f.runDir, filepath.Join("runs", name)), train.Kinds())
	})
	if err != nil {
		return err
	}
	if c.Flags().Changed("workers") {
		if err := within("workers", f.workers, 0, limits.Workers); err != nil {
			return err
		}
	}
	local := f.workers
	if local < 0 {
		local = j.Cluster.Workers
	}
	if local > 0 {
		j.Cluster.Workers = local
		j.Cluster.MinWorkers = min(j.Cluster.MinWorkers, local)
		j.Cluster.MaxWorkers = max(j.Cluster.MaxWorkers, local)
	}
	if f.conn.url != "" && f.listen != "" {
		return usagef("--nats uses a server that runs elsewhere and --listen starts one here: give one of them")
	}
	if f.conn.url != "" && j.Cluster.Topology == run.TopologyMesh {
		return usagef("cluster.topology is mesh, which the coordinator's own broker is a part of, and --nats uses one that runs elsewhere: give one of them")
	}
	threads := f.threads
	if threads == 0 {
		threads = max(1, machine.Threads()/max(1, local))
	}
	f.runDir = cmp.Or(f.runDir, filepath.Join("runs", j.Name))
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return err
	}
	worker, err := f.worker()
	if err != nil {
		return err
	}
	sinks, err := board.Sinks(f.board, f.track)
	if err != nil {
		return err
	}
	show := &view.Screens{Job: j.Name, Steps: uint64(j.Train.Steps), JSON: f.asJSON, Log: f.log}
	watched := health.NewRun(f.health.options("coordinator", j.Name), j.Train.Steps, j.Batch.Global)
	r := run.New(run.Options{Job: j, JobPath: path, BaseDir: base, Dir: f.runDir, Resume: f.resume, AcceptData: f.accept, Local: local, Threads: threads,
		Server: run.Server{URL: f.conn.url, Listen: f.listen, Routes: f.routes, Credentials: f.conn.credentials}, Worker: worker, Version: Version(), Scans: scanDir(), CacheDir: cacheDir(),
		Again: resumeCommand(c, []string{path}, f.runDir), Check: checkCommand(path, f.set), UI: watched.UI(show), Sinks: watched.Sinks(sinks), Trace: f.trace})

	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	outlivePipes()
	unread := func(what string) func() {
		return func() { r.Stop("stopped since nobody reads its standard " + what + " any more") }
	}
	missing := view.MissingText
	if f.asJSON {
		missing = view.MissingEvent
	}
	out := view.NewOutlet(view.NewWatched(c.OutOrStdout(), unread("output")), missing)
	errOut := view.NewOutlet(view.NewWatched(c.ErrOrStderr(), unread("error")), view.MissingText)
	defer errOut.Close(ctx)
	defer out.Close(ctx)
	show.Out, show.Err = out, errOut
	endPage, err := page.Beside(page.Options{Dirs: []string{f.runDir}, Coming: true, Listen: f.ui, Flag: "--ui", Kinds: train.Kinds(), Scans: scanDir()}, show.Line)
	if err != nil {
		return err
	}
	defer endPage()
	endHealth, err := watched.Serve(r.Pulse, show.Line)
	if err != nil {
		return err
	}
	defer endHealth()
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, endSignals()...)
	defer signal.Stop(stop)
	h := heed{stop: r.Stop, end: cancel, newest: r.Newest, waits: r.WaitsForDisk}
	if f.handover {
		h.handover = func() { go r.HandOver(cancel) }
	}
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		for {
			select {
			case s := <-stop:
				h.signal(s)
			case <-finished:
				return
			}
		}
	}()
	err = r.Train(ctx)
	if errors.Is(err, context.Canceled) && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return train.Placed(err, path, f.set)
}

// worker is the command of a local worker: this program's own, with the logs and
// the server of this one.
func (f *trainFlags) worker() (func(run.Place) *exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return func(p run.Place) *exec.Cmd {
		how, where := "--nats", p.URL
		if p.Mesh != "" {
			how, where = "--mesh", p.Mesh
		}
		args := []string{"worker", how, where, "--job", p.Job, "--id", p.ID, "--threads", strconv.Itoa(p.Threads), "--log-format", f.log.Format, "--rescue-dir", p.RescueDir}
		k := p.Credentials
		for _, x := range [][2]string{{"--tls-ca", k.TLS.CA}, {"--tls-cert", k.TLS.Cert}, {"--tls-key", k.TLS.Key}, {"--user", k.User}, {"--creds", k.CredsFile}, {"--tls-server-name", k.TLS.Name}} {
			if x[1] != "" {
				args = append(args, x[0], x[1])
			}
		}
		if f.log.Verbose {
			args = append(args, "--verbose")
		}
		cmd := exec.Command(self, args...)
		secret, parent := k.Token, childOfServer
		if k.User != "" {
			secret = k.Password
		} else if p.Key != "" {
			secret = p.Key
		}
		if p.Address != "" {
			parent = p.Address
		}
		cmd.Env = append(access.Without(os.Environ(), tokenEnv, childEnv), tokenEnv+"="+secret, childEnv+"="+parent)
		return cmd
	}, nil
}
