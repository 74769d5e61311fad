package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Worker joins one job and works for it until it ends. It drives a
// cluster.Node, which decides; what takes time (loading, fetching state, the
// step loop) runs in one goroutine at a time beside it.
type Worker struct {
	Job       string // name
	ID        string
	Host      string
	PID       int
	Version   string
	Threads   int
	CPU       string
	DataDir   string // where the job's relative data paths start; empty: the coordinator's base directory
	RescueDir string // where the state is kept, in a directory by ID, if no coordinator comes back
	Bus       cluster.Bus
	Net       allreduce.Network
	Blobs     Blobs
	Log       *zap.Logger

	agent   *cluster.Agent
	node    *cluster.Node
	job     *job.Job
	trainer *Trainer
	source  *workerData
	events  chan any // for the node, from what runs beside it
	backlog []any    // taken from events, not given to the node yet
	flags   atomic.Uint32
	joining atomic.Bool  // anew
	heard   atomic.Int64 // when the coordinator was last heard, Unix nanoseconds
	words   atomic.Pointer[string]
	reports atomic.Pointer[[]*cluster.Report]

	task   *task                    // what runs beside the node
	ring   atomic.Pointer[ringRoad] // made beside the node, looked at by its driver
	roads  roads
	offer  offers
	behind sync.WaitGroup // of what goes on behind training
	left   chan struct{}  // closed when nobody takes events any more
}

// task is a goroutine that the node's driver started and can end.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// Run joins, trains and returns how the job ended. joinCtx bounds the joining alone.
func (w *Worker) Run(ctx, joinCtx context.Context) (cluster.End, error) {
	me := cluster.Join{Protocol: cluster.Protocol, Version: w.Version, Worker: w.ID, Host: w.Host, PID: w.PID, Threads: w.Threads, CPU: w.CPU, Memory: offerMemory()}
	w.roads = roads{net: w.Net, offer: me.Memory, log: w.Log}
	agent, welcome, err := cluster.JoinJob(joinCtx, w.Bus, w.Job, me)
	if err != nil {
		return cluster.End{}, err
	}
	w.agent = agent
	defer agent.Close()
	w.events, w.left = make(chan any, 16), make(chan struct{})
	w.offer.init(w.Blobs)
	if w.job, err = job.Parse("the coordinator's job file", []byte(welcome.Job), nil); err != nil {
		return cluster.End{}, err
	}
	rt := tensor.NewRuntime(w.Threads)
	defer rt.Close()
	heartbeat := time.Duration(w.job.Cluster.Heartbeat)
	w.node = cluster.NewNode(cluster.NodeConfig{Join: me, Job: cluster.JobHash([]byte(welcome.Job)), Heartbeat: heartbeat, Patience: time.Duration(w.job.Cluster.OrphanTimeout)}, time.Now())
	ctx, cancel := context.WithCancel(ctx)
	w.start(ctx, func(ctx context.Context) any {
		if err := w.prepare(ctx, rt, welcome); err != nil {
			return cluster.LoadFailed{Err: err}
		}
		if welcome.Source != cluster.FromCoordinator {
			return cluster.Loaded{}
		}
		return w.load(ctx, welcome.StartStep, welcome.State)
	})
	defer func() { // before the runtime that it uses
		cancel()
		w.stop()
		close(w.left)
		w.behind.Wait()
		w.leaveRing()
		w.roads.close()
		if w.source != nil {
			w.source.Close()
		}
	}()
	return w.serve(ctx, heartbeat)
}

// start runs f beside the node and passes on what it returns.
func (w *Worker) start(ctx context.Context, f func(context.Context) any) {
	w.stop()
	ctx, cancel := context.WithCancel(ctx)
	t := &task{cancel: cancel, done: make(chan struct{})}
	w.task = t
	go func() {
		ev := w.guard(func() any { return f(ctx) })
		if ev != nil {
			w.pass(ctx, ev)
		}
		close(t.done)
	}()
}

// guard makes an event of a panic: a worker that is at fault says so.
func (w *Worker) guard(f func() any) (ev any) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("panic", zap.Any("value", p), zap.ByteString("stack", debug.Stack()))
			b := cluster.LoopBroke{Err: fmt.Errorf("panic: %v", p)}
			if w.trainer != nil {
				b.Digest = w.trainer.Digest()
			}
			ev = b
		}
	}()
	return f()
}

// stop ends what runs beside the node and waits for it. What it still has to
// tell, such as a commit, is kept for the node.
func (w *Worker) stop() {
	t := w.task
	if t == nil {
		return
	}
	w.task = nil
	t.cancel()
	for {
		select {
		case ev := <-w.events:
			w.backlog = append(w.backlog, ev)
		case <-t.done:
			return
		}
	}
}

// serve steps the node until it says Exit.
func (w *Worker) serve(ctx context.Context, heartbeat time.Duration) (cluster.End, error) {
	tick := time.NewTicker(max(heartbeat/4, time.Millisecond))
	defer tick.Stop()
	w.heard.Store(time.Now().UnixNano())
	var stalled time.Time
	done := ctx.Done()
	for {
		var ev any
		if len(w.backlog) > 0 {
			ev, w.backlog = w.backlog[0], w.backlog[1:]
		} else {
			select {
			case <-done:
				done = nil
				ev = cluster.Depart{Reason: "it was told to stop by a signal"}
			case ev = <-w.agent.Inbox():
				w.heard.Store(time.Now().UnixNano())
			case ev = <-w.events:
				if l, ok := ev.(cluster.LoadFailed); ok {
					w.Log.Error("cannot load", zap.Error(l.Err))
				}
			case <-tick.C:
				ev = cluster.Tick{}
				if s := w.stall(&stalled); s != nil {
					ev = cluster.Waiting{Stall: *s}
				}
			}
		}
		if p := w.words.Load(); p != nil {
			w.node.Busy(*p)
		}
		for _, a := range w.node.Step(time.Now(), ev) {
			if exit, ok := a.(cluster.Exit); ok {
				return w.exit(ctx, exit)
			}
			w.act(ctx, a)
		}
		r := w.node.Reports()
		w.reports.Store(&r)
	}
}

func (w *Worker) leaveRing() {
	if r := w.ring.Swap(nil); r != nil {
		r.Close()
	}
}

// act carries out an action of the node.
func (w *Worker) act(ctx context.Context, a any) {
	switch a := a.(type) {
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
			_, err := w.agent.Join(ctx, a.Join)
			var refused *cluster.RefusedError
			if errors.As(err, &refused) {
				w.Log.Error("refused", zap.Error(err))
				w.pass(ctx, &cluster.End{Outcome: cluster.Failed, Reason: err.Error()})
			}
		})
	case cluster.Load:
		w.start(ctx, func(ctx context.Context) any { return w.load(ctx, a.Restore.StartStep, a.Restore.State) })
	case cluster.Form:
		w.start(ctx, func(ctx context.Context) any { return w.form(ctx, a.Assign) })
	case cluster.Run:
		w.flags.Store(0)
		w.start(ctx, func(ctx context.Context) any { return w.steps(ctx, a.Assign) })
	case cluster.Raise:
		w.flags.Or(uint32(a.Flags))
	case cluster.Halt:
		w.Log.Debug("halt", zap.String("reason", a.Reason))
		w.stop()
		w.leaveRing()
		w.start(ctx, func(context.Context) any { return cluster.HaltedNow{Digest: w.trainer.Digest()} })
	case cluster.MakeOffer:
		s := a.Snapshot
		w.behind.Go(func() { w.makeOffer(ctx, s.Step, s.Generation, s.Part, s.Parts) }) // it may wait for a Stored, which arrives here
	case cluster.Withdraw:
		w.offer.withdraw(a.Step)
	}
}

func (w *Worker) exit(ctx context.Context, e cluster.Exit) (cluster.End, error) {
	w.stop()
	if !e.Rescue {
		if ctx.Err() != nil {
			return e.End, context.Cause(ctx)
		}
		return e.End, nil
	}
	dir, err := w.rescue()
	if err != nil {
		return e.End, fmt.Errorf("%s; keeping the state failed too: %w", e.End.Reason, err)
	}
	e.End.Outcome = cluster.Stopped
	e.End.Reason += "; its state is in " + dir
	return e.End, nil
}

// prepare builds the model and opens the data.
func (w *Worker) prepare(ctx context.Context, rt *tensor.Runtime, welcome *cluster.Welcome) (err error) {
	if w.source, err = w.openData(welcome); err != nil {
		return err
	}
	model, opt, err := Build(w.job, w.source.meta)
	if err != nil {
		return err
	}
	if opt.Distill, err = w.teacher(ctx); err != nil {
		return err
	}
	order := Order(w.job, w.source.meta)
	opt.Samples = func(step uint64, m int) []int { return order.Slice(step, m, nil) }
	if w.trainer, err = NewTrainer(rt, model, opt, func(_ uint64, words string) { w.words.Store(&words) }); err != nil {
		return err
	}
	if w.job.Cluster.Road != string(cluster.NATSRoad) {
		w.roads.open(w.trainer)
	}
	return w.serveState()
}

// steps is the step loop of one generation. It ends with the job's last step,
// with the step that the ring's flags name, with the generation, or at fault.
func (w *Worker) steps(ctx context.Context, a *cluster.Assign) any {
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
	var bad *NonFiniteError
	var source *sourceError
	switch {
	case errors.As(err, &ring):
		b.Peer = ring.Peer
	case errors.As(err, &source):
		b.Peer = source.peer
	case errors.As(err, &bad):
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
	steps, every, check := uint64(w.job.Train.Steps), uint64(w.job.Checkpoint.Every), uint64(w.job.Train.CheckEvery)
	bounds := a.First
	for t.CommittedStep() < steps {
		res, err := t.Step(ctx, ring, bounds[g.Rank], bounds[g.Rank+1], in, func() allreduce.Flags { return allreduce.Flags(w.flags.Load()) })
		if err != nil {
			return err
		}
		bounds = g.Micro
		step := t.CommittedStep()
		stop := res.Flags&allreduce.FlagStop != 0
		w.flags.And(^uint32(allreduce.FlagCheckpoint)) // the others end the loop; this one has had its effect
		due := stop || step == steps || every > 0 && step%every == 0 || res.Flags&allreduce.FlagCheckpoint != 0
		stats := ring.Stats()
		r := cluster.Report{Step: step, Loss: res.Loss, Targets: res.Targets, GradNorm: res.GradNorm, LR: res.LR, Refused: res.Refused, Micro: res.Computed,
			Times: res.Times, RingBytes: stats.BytesSent, Faults: stats.Faults()}
		if due || check > 0 && step%check == 0 {
			r.Digest = t.Digest()
		}
		select { // whatever ends, the node must hear of it
		case w.events <- cluster.Committed{Report: r}:
		case <-w.left:
		}
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

func (w *Worker) pass(ctx context.Context, ev any) bool {
	select {
	case w.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// stall says what the ring has waited for beyond the stated time, every so often.
func (w *Worker) stall(last *time.Time) *cluster.Stall {
	ring := w.ring.Load()
	if ring == nil {
		return nil
	}
	f, since := ring.Waiting()
	limit := time.Duration(w.job.Cluster.Stall)
	now := time.Now()
	if f == nil || limit <= 0 || now.Sub(since) < limit || now.Sub(*last) < limit {
		return nil
	}
	*last = now
	return &cluster.Stall{Step: f.Step + 1, Bucket: f.Bucket, Pass: f.Pass.String(), Chunk: f.Chunk, Peer: f.Peer, Seconds: now.Sub(since).Seconds()}
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
		f, err := out.Create(p.file, p.total)
		if err != nil {
			return "", err
		}
		if _, err := f.WriteAt(p.data, 0); err != nil {
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
