package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// form takes a place in a new generation: it listens on the ring before anyone sends.
func (w *Worker) form(ctx context.Context, a *cluster.Assign) cluster.NodeEvent {
	w.settled(ctx)
	w.leaveRing() // of the generation before, in which all stand
	w.moments.form(a.Group.Members)
	if got := w.trainer.Digest(); len(a.Sources) == 0 && got != a.Digest {
		return cluster.LoadFailed{Err: fmt.Errorf("assigned from state %s, but the state here is %s", a.Digest, got), Digest: got}
	}
	ring, err := w.roads.ring(ctx, a, w.trainer, w.ringOptions())
	var memory *memoryError
	switch {
	case ctx.Err() != nil: // recalled
		if err == nil { // left open it would read frames that are for the next ring
			ring.Close()
		}
		return nil
	case errors.As(err, &memory):
		return cluster.LoadFailed{Err: err, Peer: memory.peer, Unshared: true}
	case err != nil:
		return cluster.LoadFailed{Err: err}
	}
	w.ring.Store(&ringRoad{ring})
	return cluster.Listens{Generation: a.Group.Generation}
}

// ringDeadline is when a ring gives up by itself. The dead are found long
// before by others; this is for what nobody foresaw.
const ringDeadline = 30 * time.Minute

// steps is the step loop of one generation. It ends with the job's last step,
// with the step that the ring's flags name, with the generation, or at fault.
func (w *Worker) steps(ctx context.Context, a *cluster.Assign) cluster.NodeEvent {
	err := w.loop(ctx, a)
	w.watch.began.Store(0)
	t := w.trainer
	var dispute *train.DisputeError
	if err == nil || errors.As(err, &dispute) {
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
	case errors.As(err, &bad), errors.Is(err, allreduce.ErrUnsendable) && !errors.Is(err, cluster.ErrRefused): // who is barred is that alone
		b.Fatal = true
	}
	w.Log.Warn("cannot go on", zap.Uint64("step", t.CommittedStep()), zap.Error(err))
	return b
}

func (w *Worker) loop(ctx context.Context, a *cluster.Assign) error {
	t, g := w.trainer, a.Group
	w.watch.place.Store(int64(g.Rank) + 1)
	w.watch.planned.Store(uint64(w.job.Train.Steps))
	ring := w.spans.timedBy(w.ring.Load(), cmp.Or(train.RoadOf(w.job).Way().Network, "nats"))
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
	raised := func() allreduce.Flags { return allreduce.Flags(w.flags.Load()) }
	committed := time.Now() // or begun
	faults := uint64(0)     // of this ring, that have been counted
	for t.CommittedStep() < steps {
		if checks := a.Checks(t.CommittedStep(), w.job.Batch.Group); len(checks) > 0 {
			t.Check(checks)
		}
		res, err := t.Step(ctx, ring, bounds[g.Rank], bounds[g.Rank+1], in, raised)
		if err != nil {
			return w.judge(ctx, a, in, err)
		}
		bounds = g.Micro
		w.moments.committed()
		w.spans.begin("hash")
		summing := time.Now()
		weights := t.WeightsSum()
		res.Times.Hash = time.Since(summing).Seconds()
		step := t.CommittedStep()
		stop := res.Flags&allreduce.FlagStop != 0
		w.flags.And(^uint32(allreduce.FlagCheckpoint)) // the others end the loop; this one has had its effect
		due := stop || step == steps || every > 0 && step%every == 0 || res.Flags&allreduce.FlagCheckpoint != 0
		stats := ring.Stats()
		now := time.Now()
		res.Times.Step, committed = now.Sub(committed).Seconds(), now
		r := cluster.Report{Step: step, Loss: res.Loss, Targets: res.Targets, Sets: res.Sets, GradNorm: res.GradNorm,
			LR: res.LR, Refused: res.Refused, Micro: res.Computed, Weights: weights,
			Times: res.Times, RingBytes: stats.BytesSent, Faults: stats.Faults()}
		if due || check > 0 && step%check == 0 {
			w.spans.begin("digest")
			r.Digest = t.Digest()
		}
		r.Spans = w.spans.take()
		w.watch.committed(step, res, w.ring.Load(), 4*t.Shape().Gradient)
		w.watch.faults.Add(r.Faults - faults)
		faults = r.Faults
		w.say(cluster.Committed{Report: r}) // whatever ends, the node must hear of it
		if due {
			w.spans.begin("part of a checkpoint")
			w.pending("checkpoint")
			w.makeOffer(ctx, step, g.Generation, g.Rank, len(g.Members))
		}
		if stop || res.Flags&allreduce.FlagReform != 0 {
			return nil
		}
	}
	return nil
}

// judge computes a micro-batch again whose gradient is in dispute, and says what it
// finds: even where the generation is over by then, so that the others know. Other
// errors pass through.
func (w *Worker) judge(ctx context.Context, a *cluster.Assign, in train.Batches, err error) error {
	var d *train.DisputeError
	if !errors.As(err, &d) {
		return err
	}
	w.doing("verify")
	own, aerr := w.trainer.Again(context.WithoutCancel(ctx), d.Micro, in)
	if aerr != nil {
		return aerr
	}
	w.Log.Warn("a gradient is in dispute", zap.Error(err), zap.String("here", fmt.Sprintf("%08x", own)))
	w.say(cluster.Disputed{Verdict: a.Verdict(d.Step-1, d.Micro, w.job.Batch.Group, d.Claim, d.Check, own)})
	return err
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
	w.watch.stalls.Add(1)
	return &cluster.Stall{Step: f.Step + 1, Bucket: f.Bucket, Pass: f.Pass.String(),
		Chunk: f.Chunk, Peer: f.Peer, Seconds: now.Sub(since).Seconds()}
}
