package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/features"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// Config says who a worker is, what it may use, and what it reaches the others by.
type Config struct {
	Job          string // name
	ID           string // by which ranks are ordered
	Host         string // for people
	PID          int
	Version      string          // of this program
	Threads      int             // of compute
	CPU          string          // the level of its kernels, for people
	DataDir      string          // where the job's relative data paths start; empty: the coordinator's base directory
	RescueDir    string          // where the state is kept, in a directory by ID, if no coordinator comes back
	DirectListen string          // host:port where direct connections are taken, port 0 for any; empty: none are
	Kinds        *job.Kinds      // what the job may name; nil: train.Kinds
	Leave        <-chan struct{} // closed when this machine tells the worker to go, in good order; nil: never
	Grace        time.Duration   // for how long it then waits to be let go, before it keeps its state and goes; 0: it does not wait
	Bus          cluster.Bus
	Net          allreduce.Network
	Blobs        bulk.Blobs
	Fate         Fate          // of the connection that those three are of; nil: it is never barred
	Scans        *data.ScanDir // keeps what was found in the data's files; nil: nothing is kept
	CacheDir     string        // the user's, for what frozen encoders make where it cannot be kept beside the data; empty: none
	Log          *zap.Logger
}

// Worker joins one job and works for it until it ends. A cluster.Node decides
// for it and a cluster.Driver drives that; the Worker is the Work that they have
// done: loading, fetching state, forming a ring and the step loop, one of them
// at a time, beside the driver. What the driver's goroutine looks at while a task
// runs is atomic, or has a lock of its own.
type Worker struct {
	Config

	agent   *cluster.Agent
	say     func(cluster.NodeEvent) // of the driver
	job     *job.Job
	rt      *tensor.Runtime
	trainer *train.Trainer // of Do, but for what its lock guards
	source  *source
	kept    *features.Store // what frozen encoders make
	flags   atomic.Uint32
	joining atomic.Bool                  // anew
	knobs   atomic.Pointer[job.Job]      // the job, of the same computation, with the knobs of its newest coordinator
	unheard atomic.Pointer[cluster.Join] // an introduction whose answer was lost, and the knobs with it
	refused atomic.Bool                  // by a coordinator that has changed the job
	silence atomic.Int64                 // of the coordinator, in nanoseconds
	words   atomic.Pointer[string]
	watch   watched
	reports atomic.Pointer[[]*cluster.Report]
	spans   spans  // of the step in progress
	moments shared // what this worker knows of the others' moments

	ring    atomic.Pointer[ringRoad] // made by Do, looked at by Look
	roads   roads
	stalled time.Time // when a stall was last told of
	offer   offers
	behind  sync.WaitGroup // of what goes on behind training
}

var _ cluster.Work = (*Worker)(nil)

// New returns a worker that has not joined yet. Bus, Net and Blobs stay open
// until Run has returned; their owner closes them.
func New(c Config) *Worker { return &Worker{Config: c} }

// kinds is what the job may name.
func (c Config) kinds() job.Kinds {
	if c.Kinds != nil {
		return *c.Kinds
	}
	return train.Kinds()
}

// Run joins, trains and returns how the job ended. joinCtx bounds the joining alone. The end
// of ctx ends the worker at once; see Leave for an end in good order.
func (w *Worker) Run(ctx, joinCtx context.Context) (cluster.End, error) {
	me := cluster.Join{Protocol: cluster.Protocol, Version: w.Version, Worker: w.ID, Host: w.Host, PID: w.PID,
		Threads: w.Threads, CPU: w.CPU, Memory: offerMemory()}
	var direct net.Listener
	if direct, me.Stream = listen(w.DirectListen, w.Log); direct != nil {
		defer direct.Close()
	}
	joinCtx, barred := context.WithCancelCause(joinCtx)
	driven, left := make(chan struct{}), make(chan struct{})
	defer barred(nil)
	defer close(left)
	go w.watchFate(barred, driven, left)
	w.roads = roads{net: counting{w.Net, &w.watch.overNATS}, offer: me.Memory, sent: &w.watch.everywhere, log: w.Log}
	agent, welcome, err := w.join(joinCtx, me)
	if err != nil {
		return cluster.End{}, err
	}
	w.agent = agent
	defer agent.Close()
	w.offer.init(w.Blobs)
	if err := w.introduced(joinCtx, welcome); err != nil {
		return cluster.End{}, cmp.Or(barredBy(joinCtx), err)
	}
	if w.job, err = w.kinds().Parse("the coordinator's job file", []byte(welcome.Job), nil); err != nil {
		return cluster.End{}, err
	}
	w.knobs.Store(w.job)
	if direct != nil {
		if road := train.RoadOf(w.job); road.Way().Network == "" {
			direct.Close()
		} else if err := w.roads.openBetween(road, direct, w.ID, welcome.Encrypt); err != nil {
			return cluster.End{}, err
		}
	}
	var meta data.Meta
	if err := json.Unmarshal(welcome.Data, &meta); err != nil {
		return cluster.End{}, fmt.Errorf("the coordinator's data description: %w", err)
	}
	w.rt = tensor.NewRuntime(w.Threads)
	defer w.rt.Close()
	defer holdHeap()()
	w.roads.fold = w.rt.Fold
	node := cluster.NewNode(cluster.NodeConfig{Join: me, Job: train.JobHash(w.job, meta), Heartbeat: time.Duration(w.job.Cluster.Heartbeat),
		Grace: w.Grace, Patience: time.Duration(w.job.Cluster.OrphanTimeout)}, time.Now())
	driver := cluster.NewDriver(node, agent.Inbox(), w)
	w.say = driver.Say
	close(driven)
	go w.watchLeave(driver, left)
	running, cancel := context.WithCancel(ctx)
	exit := driver.Run(running, welcome)
	w.watch.looked.Store(0) // what is left, such as keeping the state, takes as long as it does
	defer func() {          // before the runtime that it uses
		cancel()
		w.behind.Wait()
		w.leaveRing()
		w.roads.close()
		if w.source != nil {
			w.source.Close()
		}
		if w.kept != nil {
			w.Log.Debug("what frozen encoders make", zap.Int("asked_for", w.kept.Asked), zap.Int("kept", w.kept.Found))
			w.kept.Close()
		}
	}()
	return w.exit(ctx, exit)
}

// Do carries out what takes time. A panic is an event: a worker that is at
// fault says so.
func (w *Worker) Do(ctx context.Context, task cluster.Task) (ev cluster.NodeEvent) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("panic", zap.Any("value", p), zap.ByteString("stack", debug.Stack()))
			b := cluster.LoopBroke{Err: fmt.Errorf("panic: %v", p)}
			if w.trainer != nil {
				b.Digest = w.trainer.Digest()
			}
			ev = b
		}
		if l, ok := ev.(cluster.LoadFailed); ok && ctx.Err() == nil {
			w.Log.Error("cannot load", zap.Error(l.Err))
		}
	}()
	switch a := task.(type) {
	case cluster.Prepare:
		if err := w.prepare(ctx, a.Welcome); err != nil {
			return cluster.LoadFailed{Err: err}
		}
		if a.Welcome.Source != cluster.FromCoordinator {
			return cluster.Loaded{}
		}
		return w.load(ctx, a.Welcome.StartStep, a.Welcome.State)
	case cluster.Load:
		return w.load(ctx, a.Restore.StartStep, a.Restore.State)
	case cluster.Form:
		return w.form(ctx, a.Assign)
	case cluster.Run:
		w.flags.Store(0)
		return w.steps(ctx, a.Assign)
	case cluster.Halt:
		w.Log.Debug("halt", zap.String("reason", a.Reason))
		w.leaveRing()
		return cluster.HaltedNow{Digest: w.trainer.Digest()}
	}
	panic(fmt.Sprintf("worker: %T is no task", task))
}

// Act carries out what is done at once.
func (w *Worker) Act(ctx context.Context, action cluster.NodeAction) {
	switch a := action.(type) {
	case cluster.Tell:
		if err := w.agent.Tell(a.Msg); err != nil { // what matters is said again
			w.Log.Debug("telling the coordinator", zap.Error(err))
		}
	case cluster.Introduced:
		if !w.joining.CompareAndSwap(false, true) {
			break // it has been asked twice
		}
		w.behind.Go(func() {
			defer w.joining.Store(false)
			w.rejoin(ctx, a.Join)
		})
	case cluster.Raise:
		w.flags.Or(uint32(a.Flags))
	case cluster.MakeOffer:
		s := a.Snapshot
		w.behind.Go(func() { w.makeOffer(ctx, s.Step, s.Generation, s.Part, s.Parts) }) // it may wait for a Stored, which arrives here
	case cluster.Withdraw:
		w.offer.withdraw(a.Step)
	}
}

// Look says what the step loop is doing, and what the ring has waited for
// beyond the stated time, every so often.
func (w *Worker) Look() (words string, ev cluster.NodeEvent) {
	if p := w.words.Load(); p != nil {
		words = *p
	}
	if s := w.stall(); s != nil {
		ev = cluster.Waiting{Stall: *s}
	}
	return words, ev
}

// Know keeps for peers and offers what only the driver's goroutine knows.
func (w *Worker) Know(reports []*cluster.Report, silence time.Duration) {
	w.reports.Store(&reports)
	w.silence.Store(int64(silence))
	w.watch.looked.Store(time.Now().UnixNano())
}

func (w *Worker) leaveRing() {
	if r := w.ring.Swap(nil); r != nil {
		r.Close()
	}
}

func (w *Worker) exit(ctx context.Context, e cluster.Exit) (cluster.End, error) {
	if e.Err != nil {
		return e.End, w.barred(e)
	}
	if e.End.Outcome == cluster.Released && w.trainer != nil && w.trainer.Sharded() {
		w.linger(ctx)
	}
	if !e.Rescue && !(w.refused.Load() && w.trainer != nil && w.trainer.CommittedStep() > 0 && w.trainer.Digest() != "") {
		if ctx.Err() != nil {
			return e.End, context.Cause(ctx)
		}
		return e.End, nil
	}
	dir, err := w.rescue()
	if w.trainer.Sharded() { // others may need for theirs what is here
		w.linger(context.Background())
	}
	if err != nil {
		return e.End, fmt.Errorf("%s; the state of step %d is lost, for it could not be kept: %w\n"+
			"give --rescue-dir a directory that can be written and has room", e.End.Reason, w.trainer.CommittedStep(), err)
	}
	if e.Rescue && !e.End.Keep && e.End.Outcome != cluster.Released {
		e.End.Outcome = cluster.Stopped
	}
	e.End.Reason += "; its state is in " + dir
	return e.End, nil
}

// prepare builds the model and opens the data.
func (w *Worker) prepare(ctx context.Context, welcome *cluster.Welcome) (err error) {
	if w.source, err = w.openData(ctx, welcome); err != nil {
		return err
	}
	need, err := train.NeedOf(w.job, w.source.meta)
	if err != nil {
		return err
	}
	machine.BoundHeap(need.Worker)
	if here, ok := machine.Memory(); ok {
		if err := need.Workers(1, here); err != nil {
			return err
		}
	}
	model, opt, err := train.Build(w.job, w.source.meta)
	if err != nil {
		return err
	}
	if opt.Distill, err = w.teacher(ctx); err != nil {
		return err
	}
	w.spans.trace(welcome.Trace)
	order := train.Order(w.job, w.source.meta)
	w.kept = features.Open(w.keeping())
	opt.Keeper = w.kept
	opt.Samples = func(step uint64, m int) ([]int, bool) { return w.source.numbers(order.Slice(step, m, nil)) }
	if w.trainer, err = train.NewTrainer(w.rt, model, opt, func(_ uint64, words string) {
		w.doing(words)
		w.spans.begin(words)
	}); err != nil {
		return err
	}
	shape := w.trainer.Shape()
	n, bytes := shape.Buckets-1, 4*shape.Gradient // without the losses
	w.Log.Info("loaded the job", zap.Int("parameters", model.Params().Count()), zap.Int("gradient_bytes", bytes),
		zap.Int("buckets", n), zap.Int("bucket_bytes", bytes/max(n, 1)))
	if train.RoadOf(w.job).Way().Shares {
		w.roads.open(w.trainer)
	}
	w.watch.loaded.Store(true)
	return w.serveState()
}
