package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Blobs moves bulk state between members. The receiver pulls; the owner only
// holds still. NATS implements it.
type Blobs interface {
	// Offer lets peers fetch size bytes of r under name until Withdraw.
	Offer(name string, size int64, sha256 string, r io.ReaderAt) error
	Withdraw(name string)
	// Fetch copies the blob that peer offers as name to dst and checks its
	// length and hash; an empty hash leaves it to the transfer's own.
	Fetch(ctx context.Context, peer, name string, size int64, sha256 string, dst io.WriterAt) error
	// Get fetches a blob of unknown size, of at most limit bytes, whole.
	Get(ctx context.Context, peer, name string, limit int64) ([]byte, error)
}

// CoordinatorPeer is the coordinator's name among the owners of blobs.
const CoordinatorPeer = "coordinator"

// Names of the files of a checkpoint, as blobs and on the disk.
const (
	ModelFile     = "model.safetensors"
	OptimizerFile = "optimizer.safetensors"
)

// Worker joins one job and works for it until it ends.
type Worker struct {
	Job     string // name
	ID      string
	Host    string
	PID     int
	Version string
	Threads int
	CPU     string
	DataDir string // where the job's relative data paths start; empty: the coordinator's base directory
	Bus     cluster.Bus
	Net     allreduce.Network
	Blobs   Blobs
	Log     *zap.Logger

	agent   *cluster.Agent
	job     *job.Job
	trainer *Trainer
	source  *workerData
	flags   atomic.Uint32
	gen     *generation

	mu      sync.Mutex
	offered uint64         // 1 + step of the snapshot on offer, 0: none
	free    chan struct{}  // holds one token while nothing is on offer
	behind  sync.WaitGroup // of what goes on behind training
}

// generation is one run of the step loop.
type generation struct {
	group  allreduce.Group
	step   uint64
	ring   *allreduce.Ring
	cancel context.CancelFunc
	done   chan struct{} // nil until Go
}

// Run joins, trains and returns how the job ended. joinCtx bounds the joining alone.
func (w *Worker) Run(ctx, joinCtx context.Context) (cluster.End, error) {
	w.free = make(chan struct{}, 1)
	w.free <- struct{}{}
	agent, welcome, err := cluster.JoinJob(joinCtx, w.Bus, w.Job, cluster.Join{Protocol: cluster.Protocol, Version: w.Version,
		Worker: w.ID, Host: w.Host, PID: w.PID, Threads: w.Threads, CPU: w.CPU})
	if err != nil {
		return cluster.End{}, err
	}
	w.agent = agent
	defer agent.Close()
	if w.job, err = job.Parse("the coordinator's job file", []byte(welcome.Job), nil); err != nil {
		return w.fault(err)
	}
	agent.At(welcome.StartStep, "loading")
	agent.Start(time.Duration(w.job.Cluster.Heartbeat), 10*time.Duration(w.job.Cluster.Deadline))

	rt := tensor.NewRuntime(w.Threads)
	defer rt.Close()
	if err := w.load(ctx, rt, welcome); err != nil {
		return w.fault(err)
	}
	defer w.source.Close()
	hash, err := w.trainer.WeightsHash()
	if err != nil {
		return w.fault(err)
	}
	w.Log.Debug("ready", zap.Uint64("step", w.trainer.CommittedStep()), zap.String("weights", hash))
	if err := agent.Tell(&cluster.Ready{Worker: w.ID, Step: w.trainer.CommittedStep(), Weights: hash}); err != nil {
		return cluster.End{}, err
	}
	return w.serve(ctx)
}

// fault tells the coordinator why this worker cannot start, and returns err.
func (w *Worker) fault(err error) (cluster.End, error) {
	w.agent.Tell(&cluster.Fault{Worker: w.ID, Error: err.Error()})
	return cluster.End{}, err
}

// load builds the model and its first state, and opens the data.
func (w *Worker) load(ctx context.Context, rt *tensor.Runtime, welcome *cluster.Welcome) (err error) {
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
	if w.trainer, err = NewTrainer(rt, model, opt, w.agent.At); err != nil {
		return err
	}
	if len(welcome.State) == 0 {
		model.Init(w.job.Seed)
		return nil
	}
	files := map[string]*safetensors.File{}
	for _, b := range welcome.State {
		buf := make(memory, b.Size)
		if err := w.Blobs.Fetch(ctx, CoordinatorPeer, b.Name, b.Size, b.SHA256, buf); err != nil {
			return fmt.Errorf("fetching %s of step %d from the coordinator: %w", b.Name, welcome.StartStep, err)
		}
		if files[b.Name], err = safetensors.Read(buf, b.Size, b.Name); err != nil {
			return err
		}
	}
	if files[OptimizerFile] == nil { // init, not a checkpoint
		return LoadWeights(w.trainer.params, files[ModelFile])
	}
	return w.trainer.Restore(welcome.StartStep, files[ModelFile], files[OptimizerFile])
}

// serve does what the coordinator says until it says End.
func (w *Worker) serve(ctx context.Context) (cluster.End, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.behind.Wait()
	defer cancel()
	defer w.halt("leaving")
	for {
		var msg any
		select {
		case <-ctx.Done():
			w.agent.Tell(&cluster.Leave{Worker: w.ID, Reason: "it was told to stop by a signal"})
			return cluster.End{}, context.Cause(ctx)
		case <-w.agent.Lost():
			return cluster.End{}, fmt.Errorf("the coordinator of job %q has not answered for %v; step %d was the last committed here",
				w.Job, 10*time.Duration(w.job.Cluster.Deadline), w.trainer.CommittedStep())
		case msg = <-w.agent.Inbox():
		}
		switch msg := msg.(type) {
		case *cluster.Assign:
			w.halt("a new generation")
			if err := w.form(msg); err != nil {
				return w.fault(err)
			}
		case *cluster.Go:
			if g := w.gen; g != nil && g.done == nil && g.group.Generation == msg.Generation {
				run, cancel := context.WithCancel(ctx)
				g.cancel, g.done = cancel, make(chan struct{})
				go func() { defer close(g.done); w.steps(run, g) }()
			}
		case *cluster.Control:
			w.flags.Or(uint32(msg.Flags))
		case *cluster.Halt:
			w.halt(msg.Reason)
			w.agent.At(w.trainer.CommittedStep(), "halted")
			w.agent.Tell(&cluster.Halted{Worker: w.ID, Generation: msg.Generation, Step: w.trainer.CommittedStep()})
		case *cluster.Snapshot:
			w.behind.Add(1)
			go func() { // it may wait for a Stored, which arrives here
				defer w.behind.Done()
				if err := w.offer(ctx); err != nil && ctx.Err() == nil {
					w.agent.Tell(&cluster.Fault{Worker: w.ID, Step: w.trainer.CommittedStep(), Error: err.Error()})
				}
			}()
		case *cluster.Stored:
			w.withdraw(msg.Step)
		case *cluster.End:
			return *msg, nil
		}
	}
}

// form joins the ring of a new generation, and listens before anyone sends.
func (w *Worker) form(a *cluster.Assign) error {
	if a.Step != w.trainer.CommittedStep() {
		return fmt.Errorf("assigned from step %d, but the state here is of step %d", a.Step, w.trainer.CommittedStep())
	}
	ring, err := allreduce.NewRing(w.Net, a.Group, allreduce.Options{ChunkBytes: w.job.Cluster.ChunkBytes})
	if err != nil {
		return err
	}
	w.flags.Store(0)
	w.gen = &generation{group: a.Group, step: a.Step, ring: ring}
	w.Log.Debug("formed", zap.Uint64("generation", a.Group.Generation), zap.Int("rank", a.Group.Rank), zap.Int("world", len(a.Group.Members)))
	return w.agent.Tell(&cluster.Formed{Worker: w.ID, Generation: a.Group.Generation})
}

// halt ends the current generation, if any, and waits for its step loop.
func (w *Worker) halt(reason string) {
	g := w.gen
	if g == nil {
		return
	}
	w.Log.Debug("generation ends", zap.Uint64("generation", g.group.Generation), zap.String("reason", reason))
	if g.done != nil {
		g.cancel()
		<-g.done
	}
	g.ring.Close()
	w.gen = nil
}

// steps is the step loop of one generation. It ends with the job's last step,
// with the step that the ring's flags name, with the generation, or at fault.
func (w *Worker) steps(ctx context.Context, g *generation) {
	err := w.loop(ctx, g)
	t := w.trainer
	if err == nil {
		w.agent.At(t.CommittedStep(), cluster.PhaseStopped)
		return
	}
	if ctx.Err() != nil {
		return // the generation is over; whoever ended it knows why
	}
	f := &cluster.Fault{Worker: w.ID, Step: t.CommittedStep(), Error: err.Error()}
	var ring *allreduce.FaultError
	if errors.As(err, &ring) {
		f.Peer = ring.Peer
	}
	w.Log.Error("cannot go on", zap.Uint64("step", t.CommittedStep()), zap.Error(err))
	w.agent.Tell(f)
}

func (w *Worker) loop(ctx context.Context, g *generation) error {
	t := w.trainer
	in, err := w.source.batches(g)
	if err != nil {
		return err
	}
	defer in.Close()
	steps, every := uint64(w.job.Train.Steps), uint64(w.job.Checkpoint.Every)
	for t.CommittedStep() < steps {
		res, err := t.Step(ctx, g.ring, g.group, in, func() allreduce.Flags { return allreduce.Flags(w.flags.Load()) })
		if err != nil {
			return err
		}
		step := t.CommittedStep()
		stats := g.ring.Stats()
		if err := w.agent.Tell(&cluster.Report{Worker: w.ID, Generation: g.group.Generation, Rank: g.group.Rank, Step: step, Losses: res.Losses,
			GradNorm: res.GradNorm, LR: res.LR, Times: res.Times, RingBytes: stats.BytesSent, Faults: stats.Faults()}); err != nil {
			return err
		}
		stop := res.Flags&allreduce.FlagStop != 0
		due := stop || step == steps || every > 0 && step%every == 0 || res.Flags&allreduce.FlagCheckpoint != 0
		if due && g.group.Rank == 0 {
			if err := w.offer(ctx); err != nil {
				return err
			}
		}
		if stop {
			return nil
		}
	}
	return nil
}

// offer copies the committed state; hashing it, putting it on offer and
// telling the coordinator go on behind training. Where the one before is still
// being fetched it waits, so that at most one copy exists. A step that is on
// offer already is not offered again.
func (w *Worker) offer(ctx context.Context) error {
	step := w.trainer.CommittedStep()
	w.mu.Lock()
	again := w.offered == step+1
	w.mu.Unlock()
	if again {
		return nil
	}
	w.agent.At(step, "checkpoint")
	select {
	case <-w.free:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s, err := w.trainer.Snapshot()
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.offered = step + 1
	w.mu.Unlock()
	w.behind.Add(1)
	go func() {
		defer w.behind.Done()
		o := &cluster.Offer{Worker: w.ID, Step: step}
		for _, f := range []struct {
			name string
			view *safetensors.View
		}{{ModelFile, s.Model}, {OptimizerFile, s.Optimizer}} {
			b := cluster.Blob{Name: snapshotName(step, f.name), Size: f.view.Size(), SHA256: hashView(f.view)}
			if err := w.Blobs.Offer(b.Name, b.Size, b.SHA256, f.view); err != nil {
				w.Log.Error("offering a checkpoint", zap.Uint64("step", step), zap.Error(err))
				return
			}
			o.Files = append(o.Files, b)
		}
		w.agent.Tell(o)
	}()
	return nil
}

func (w *Worker) withdraw(step uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.offered != step+1 {
		return
	}
	w.offered = 0
	w.Blobs.Withdraw(snapshotName(step, ModelFile))
	w.Blobs.Withdraw(snapshotName(step, OptimizerFile))
	w.free <- struct{}{}
}

// snapshotName is the blob name of one file of a snapshot.
func snapshotName(step uint64, file string) string { return fmt.Sprintf("snapshot/%d/%s", step, file) }

func hashView(v *safetensors.View) string {
	h := sha256.New()
	io.Copy(h, io.NewSectionReader(v, 0, v.Size()))
	return hex.EncodeToString(h.Sum(nil))
}

// WeightsHash is the SHA-256 of the model.safetensors that the weights make.
func (t *Trainer) WeightsHash() (string, error) {
	s, err := t.Snapshot()
	if err != nil {
		return "", err
	}
	return hashView(s.Model), nil
}

// memory is a fixed piece of memory as an io.WriterAt and io.ReaderAt.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, fmt.Errorf("write of %d bytes at %d is outside the %d announced", len(p), off, len(m))
	}
	return copy(m[off:], p), nil
}

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
