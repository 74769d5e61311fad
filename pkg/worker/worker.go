package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// Worker joins one job and works for it until it ends. A cluster.Node decides
// for it and a cluster.Driver drives that; the Worker is the Work that they have
// done: loading, fetching state, forming a ring and the step loop, one of them
// at a time, beside the driver.
type Worker struct {
	Job          string // name
	ID           string
	Host         string
	PID          int
	Version      string
	Threads      int
	CPU          string
	DataDir      string // where the job's relative data paths start; empty: the coordinator's base directory
	RescueDir    string // where the state is kept, in a directory by ID, if no coordinator comes back
	DirectListen string // host:port where direct connections are taken, port 0 for any; empty: none are
	Bus          cluster.Bus
	Net          allreduce.Network
	Blobs        bulk.Blobs
	Scans        *data.ScanDir // keeps what was found in the data's files; nil: nothing is kept
	Log          *zap.Logger

	agent   *cluster.Agent
	say     func(cluster.NodeEvent) // of the driver
	job     *job.Job
	rt      *tensor.Runtime
	trainer *train.Trainer // of Do, but for what its lock guards
	source  *source
	flags   atomic.Uint32
	joining atomic.Bool                  // anew
	knobs   atomic.Pointer[job.Job]      // the job, of the same computation, with the knobs of its newest coordinator
	unheard atomic.Pointer[cluster.Join] // an introduction whose answer was lost, and the knobs with it
	refused atomic.Bool                  // by a coordinator that has changed the job
	silence atomic.Int64                 // of the coordinator, in nanoseconds
	words   atomic.Pointer[string]
	reports atomic.Pointer[[]*cluster.Report]
	moments shared // what this worker knows of the others' moments

	ring    atomic.Pointer[ringRoad] // made by Do, looked at by Look
	roads   roads
	stalled time.Time // when a stall was last told of
	offer   offers
	behind  sync.WaitGroup // of what goes on behind training
}

var _ cluster.Work = (*Worker)(nil)

// Run joins, trains and returns how the job ended. joinCtx bounds the joining alone.
func (w *Worker) Run(ctx, joinCtx context.Context) (cluster.End, error) {
	me := cluster.Join{Protocol: cluster.Protocol, Version: w.Version, Worker: w.ID, Host: w.Host, PID: w.PID, Threads: w.Threads, CPU: w.CPU, Memory: offerMemory()}
	var direct net.Listener
	if direct, me.Stream = listen(w.DirectListen, w.Log); direct != nil {
		defer direct.Close()
	}
	w.roads = roads{net: w.Net, offer: me.Memory, log: w.Log}
	agent, welcome, err := cluster.JoinJob(joinCtx, w.Bus, w.Job, me)
	if err != nil {
		return cluster.End{}, err
	}
	w.agent = agent
	defer agent.Close()
	w.offer.init(w.Blobs)
	if err := w.introduced(joinCtx, welcome); err != nil {
		return cluster.End{}, err
	}
	if w.job, err = train.Kinds().Parse("the coordinator's job file", []byte(welcome.Job), nil); err != nil {
		return cluster.End{}, err
	}
	w.knobs.Store(w.job)
	if direct != nil {
		if w.job.Cluster.Road != string(cluster.DirectRoad) {
			direct.Close()
		} else if err := w.roads.goDirect(direct, w.ID, welcome.Encrypt); err != nil {
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
		Patience: time.Duration(w.job.Cluster.OrphanTimeout)}, time.Now())
	driver := cluster.NewDriver(node, agent.Inbox(), w)
	w.say = driver.Say
	running, cancel := context.WithCancel(ctx)
	exit := driver.Run(running, welcome)
	defer func() { // before the runtime that it uses
		cancel()
		w.behind.Wait()
		w.leaveRing()
		w.roads.close()
		if w.source != nil {
			w.source.Close()
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
}

func (w *Worker) leaveRing() {
	if r := w.ring.Swap(nil); r != nil {
		r.Close()
	}
}

func (w *Worker) exit(ctx context.Context, e cluster.Exit) (cluster.End, error) {
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
	var weights *weightsError
	if errors.As(err, &weights) {
		return e.End, fmt.Errorf("%s; %w", e.End.Reason, err)
	}
	if err != nil {
		return e.End, fmt.Errorf("%s; the state of step %d is lost, for it could not be kept: %w\ngive --rescue-dir a directory that can be written and has room", e.End.Reason, w.trainer.CommittedStep(), err)
	}
	if e.Rescue && !e.End.Keep {
		e.End.Outcome = cluster.Stopped
	}
	e.End.Reason += "; its state is in " + dir
	return e.End, nil
}

// rejoin introduces the worker to a coordinator that does not know it, and
// takes on the knobs of its job.
func (w *Worker) rejoin(ctx context.Context, me cluster.Join) {
	welcome, err := w.agent.Join(ctx, me)
	if err == nil {
		err = w.describe(ctx, welcome)
	}
	var refused *cluster.RefusedError
	switch {
	case errors.As(err, &refused):
		w.Log.Error("refused", zap.Error(err))
		w.refused.Store(true)
		w.say(&cluster.End{Outcome: cluster.Failed, Reason: err.Error()})
	case err != nil:
		w.unheard.Store(&me)
	default:
		w.unheard.Store(nil)
		j, err := train.Kinds().Parse("the coordinator's job file", []byte(welcome.Job), nil)
		if err != nil {
			w.Log.Error("the coordinator's job", zap.Error(err))
			return
		}
		w.knobs.Store(j)
		w.say(cluster.Retimed{Heartbeat: time.Duration(j.Cluster.Heartbeat), Patience: time.Duration(j.Cluster.OrphanTimeout)})
	}
}

// settled waits until the worker has the knobs that the others have: they say
// at which steps states are compared and stored.
func (w *Worker) settled(ctx context.Context) {
	for ctx.Err() == nil && (w.joining.Load() || w.unheard.Load() != nil) {
		if me := w.unheard.Load(); me != nil && w.joining.CompareAndSwap(false, true) {
			w.rejoin(ctx, *me)
			w.joining.Store(false)
			continue
		}
		time.Sleep(time.Millisecond)
	}
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
	order := train.Order(w.job, w.source.meta)
	opt.Samples = func(step uint64, m int) ([]int, bool) { return w.source.numbers(order.Slice(step, m, nil)) }
	if w.trainer, err = train.NewTrainer(w.rt, model, opt, func(_ uint64, words string) { w.words.Store(&words) }); err != nil {
		return err
	}
	shape := w.trainer.Shape()
	n, bytes := shape.Buckets-1, 4*shape.Gradient // without the losses
	w.Log.Info("loaded the job", zap.Int("parameters", model.Params().Count()), zap.Int("gradient_bytes", bytes),
		zap.Int("buckets", n), zap.Int("bucket_bytes", bytes/max(n, 1)))
	if w.job.Cluster.Road != string(cluster.NATSRoad) {
		w.roads.open(w.trainer)
	}
	return w.serveState()
}

// steps is the step loop of one generation. It ends with the job's last step,
// with the step that the ring's flags name, with the generation, or at fault.
func (w *Worker) steps(ctx context.Context, a *cluster.Assign) cluster.NodeEvent {
	err := w.loop(ctx, a)
	t := w.trainer
	if err == nil {
		return cluster.LoopEnded{Digest: t.Digest()}
	}
	if ctx.Err() != nil {
		return nil // the generation is over; whoever ended it knows why
	}
	b := cluster.LoopBroke{Err: err, Digest: t.Digest()}
	var ring *allreduce.FaultError
	var bad *train.NonFiniteError
	var source *sourceError
	var lost *lostError
	var unlike *train.UnlikeError
	switch {
	case errors.As(err, &ring):
		b.Peer = ring.Peer
	case errors.As(err, &source):
		b.Peer = source.peer
	case errors.As(err, &lost):
		b.Lost = true
	case errors.As(err, &unlike):
		b.Unlike = true
	case errors.As(err, &bad), errors.Is(err, allreduce.ErrUnsendable):
		b.Fatal = true
	}
	w.Log.Warn("cannot go on", zap.Uint64("step", t.CommittedStep()), zap.Error(err))
	return b
}

func (w *Worker) loop(ctx context.Context, a *cluster.Assign) error {
	t, g, ring := w.trainer, a.Group, w.ring.Load()
	in, err := w.source.batches(a)
	if err != nil {
		return err
	}
	defer in.Close()
	if len(a.Sources) > 0 {
		if err := w.catchUp(ctx, a); err != nil {
			return err
		}
	}
	if t.Sharded() {
		if err := w.stock(ctx, t.Shards(g.Rank, len(g.Members))); err != nil {
			return err
		}
		t.Seat(g.Rank, len(g.Members))
	}
	steps, every, check := uint64(w.job.Train.Steps), uint64(w.knobs.Load().Checkpoint.Every), uint64(w.job.Train.CheckEvery)
	bounds := a.First
	committed := time.Now() // or begun
	for t.CommittedStep() < steps {
		res, err := t.Step(ctx, ring, bounds[g.Rank], bounds[g.Rank+1], in, func() allreduce.Flags { return allreduce.Flags(w.flags.Load()) })
		if err != nil {
			return err
		}
		bounds = g.Micro
		w.moments.committed()
		step := t.CommittedStep()
		stop := res.Flags&allreduce.FlagStop != 0
		w.flags.And(^uint32(allreduce.FlagCheckpoint)) // the others end the loop; this one has had its effect
		due := stop || step == steps || every > 0 && step%every == 0 || res.Flags&allreduce.FlagCheckpoint != 0
		stats := ring.Stats()
		now := time.Now()
		res.Times.Step, committed = now.Sub(committed).Seconds(), now
		r := cluster.Report{Step: step, Loss: res.Loss, Targets: res.Targets, GradNorm: res.GradNorm, LR: res.LR, Refused: res.Refused, Micro: res.Computed,
			Times: res.Times, RingBytes: stats.BytesSent, Faults: stats.Faults()}
		if due || check > 0 && step%check == 0 {
			r.Digest = t.Digest()
		}
		w.say(cluster.Committed{Report: r}) // whatever ends, the node must hear of it
		if due {
			s := "checkpoint"
			w.words.Store(&s)
			w.makeOffer(ctx, step, g.Generation, g.Rank, len(g.Members))
		}
		if stop || res.Flags&allreduce.FlagReform != 0 {
			return nil
		}
	}
	return nil
}

// stall says what the ring has waited for beyond the stated time, every so often.
func (w *Worker) stall() *cluster.Stall {
	ring := w.ring.Load()
	if ring == nil {
		return nil
	}
	f, since := ring.Waiting()
	limit := time.Duration(w.knobs.Load().Cluster.Stall)
	now := time.Now()
	if f == nil || limit <= 0 || now.Sub(since) < limit || now.Sub(w.stalled) < limit {
		return nil
	}
	w.stalled = now
	return &cluster.Stall{Step: f.Step + 1, Bucket: f.Bucket, Pass: f.Pass.String(), Chunk: f.Chunk, Peer: f.Peer, Seconds: now.Sub(since).Seconds()}
}

// rescueWeights keeps the weights alone, where the moments that belong to them
// were with workers that are gone, and says so.
func (w *Worker) rescueWeights(step uint64, why error) error {
	model, _, err := w.trainer.Living()
	if err != nil {
		return err
	}
	dir := filepath.Join(w.RescueDir, w.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, fmt.Sprintf("weights-%08d.safetensors", step))
	if err := atomicfile.WriteFrom(path, 0o644, func(out io.Writer) error {
		_, err := io.Copy(out, io.NewSectionReader(model, 0, model.Size()))
		return err
	}); err != nil {
		return err
	}
	return &weightsError{path, why}
}

// weightsError says that no more than the weights of a state could be kept.
type weightsError struct {
	path string
	why  error
}

func (e *weightsError) Error() string {
	return fmt.Sprintf("%v; the weights alone are in %s\nresume from the last checkpoint, or begin a new run from them (init.path: %s)", e.why, e.path, e.path)
}

// rescue keeps the committed state on this machine's disk as a checkpoint.
func (w *Worker) rescue() (string, error) {
	// a directory of its own: the workers of a machine are orphans at the same
	// moment, and a store takes what another has half written for a crash's
	store, err := checkpoint.OpenDisk(filepath.Join(w.RescueDir, w.ID))
	if err != nil {
		return "", err
	}
	meta, err := json.Marshal(w.source.meta)
	if err != nil {
		return "", err
	}
	step := w.trainer.CommittedStep()
	if w.trainer.Sharded() {
		if err := w.collect(); err != nil {
			return "", w.rescueWeights(step, err)
		}
	}
	parts, err := w.trainer.Part(0, 1, nil)
	if err != nil {
		return "", err
	}
	out, err := store.Begin(step)
	if err != nil {
		return "", err
	}
	defer out.Abort()
	for _, p := range parts {
		f, err := out.Create(p.File, p.Total)
		if err != nil {
			return "", err
		}
		if _, err := f.WriteAt(p.Data, 0); err != nil {
			return "", err
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
	m := checkpoint.Manifest{Step: step, Cursor: step * uint64(w.job.Batch.Global), Seed: w.job.Seed, Job: w.job.Name, Software: w.Version,
		World: 1, Data: meta, Config: w.job.YAML()}
	if err := out.Commit(m); err != nil {
		return "", err
	}
	return store.Dir(), nil
}
