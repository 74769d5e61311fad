package job

import (
	"fmt"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// Bounds: far above what anyone trains, low enough that no product of them
// overflows.
const (
	maxSamples = limits.Samples
	maxWorkers = limits.Workers
	maxSteps   = 1<<31 - 1
	maxName    = limits.Name
	maxPower   = 10 // of optimizer.ema: it is below 1 in use
)

// Validate returns nil, or an *Error with every mistake found. A Job that Load
// or Parse returned is valid; call it again after changing one.
func (j *Job) Validate() error {
	return j.check().Err()
}

func (j *Job) check() *Checker {
	c := &Checker{Job: j}
	switch {
	case j.Name == "":
		c.Bad("name", "is missing; want letters, digits, - and _")
	case len(j.Name) > maxName:
		c.Bad("name", "has %d characters; want at most %d", len(j.Name), maxName)
	default:
		for _, r := range j.Name {
			if !limits.NameRune(r) {
				c.Bad("name", "%q has %q in it; want letters, digits, - and _ (it is a directory's name and part of NATS subjects)", j.Name, r)
				break
			}
		}
	}
	if c.kind("model.kind", j.Model.Kind, j.kinds.Models, j.Model.Options) {
		j.checkKinds(c)
	}
	b := j.Batch
	g, m := c.Within("batch.global", b.Global, 1, maxSamples), c.Within("batch.micro", b.Micro, 1, maxSamples)
	if g && m && b.Global%b.Micro != 0 {
		c.Bad("batch.micro batch.global", "%d does not divide batch.global %d; want one of %s", b.Micro, b.Global, Divisors(b.Global))
	} else if micros := b.Global / max(b.Micro, 1); g && m && c.Within("batch.group", b.Group, 1, micros) && micros%b.Group != 0 {
		c.Bad("batch.group batch.micro batch.global", "%d does not divide the %d micro-batches of a step; want one of %s", b.Group, micros, Divisors(micros))
	}
	j.checkOptimizer(c)
	j.checkTransfer(c)
	j.checkDistill(c)
	j.checkCheckpoint(c)
	j.checkCluster(c)
	return c
}

// checkKinds hands the sections of model, data and loss to their kinds, and checks
// that these go together.
func (j *Job) checkKinds(c *Checker) {
	model := j.Model.Options.(ModelOptions)
	_, presets := find(j.kinds.Models, j.Model.Kind).preset(j.Model.Preset)
	if j.Model.Preset != "" {
		c.OneOf("model.preset", j.Model.Preset, presets)
	}
	if c.kind("data.kind", j.Data.Kind, j.kinds.Data, j.Data.Options) {
		if f := lacking(j.Data.Options.(DataOptions), model.Takes()); f != "" {
			c.Bad("data.kind model.kind", "%s has no %s for model.kind %s; want %s", j.Data.Kind, f, j.Model.Kind, Or(j.kinds.giving(model.Takes())))
		}
		j.checkData(c)
	}
	fit := names(j.kinds.fitting(model.Answers()))
	if c.kind("loss", j.Loss.Kind, j.kinds.Losses, j.Loss.Options) && !slices.Contains(fit, j.Loss.Kind) {
		c.Bad("loss", "%s does not fit model.kind %s; want %s", j.Loss.Kind, j.Model.Kind, Or(fit))
	}
}

// checkData checks the keys that all kinds of data have.
func (j *Job) checkData(c *Checker) {
	c.OneOf("data.delivery", j.Data.Delivery, deliveries)
	j.checkHoldout(c)
}

func (j *Job) checkHoldout(c *Checker) {
	h := j.Data.Holdout
	if !(h.Fraction >= 0 && h.Fraction < 1) {
		c.Bad("data.holdout.fraction", "%v is outside 0 ≤ fraction < 1", h.Fraction)
	}
	if len(h.Episodes) > 0 && h.Fraction != 0 {
		c.Bad("data.holdout.fraction data.holdout.episodes", "both fraction and episodes are given; want one of them")
	}
	if h.Split != "" || h.Path != "" {
		key := "data.holdout.split"
		if h.Path != "" {
			key = "data.holdout.path"
		}
		if h.Fraction != 0 || len(h.Episodes) > 0 {
			c.Bad(key+" data.holdout.fraction data.holdout.episodes", "names a set of its own, and fraction or episodes a part of the training set; want one of them")
		}
	}
	seen := map[int]bool{}
	for i, e := range h.Episodes {
		key := fmt.Sprintf("data.holdout.episodes[%d]", i)
		if c.Within(key, e, 0, limits.Vocabulary) && seen[e] {
			c.Bad(key, "episode %d is listed twice", e)
		}
		seen[e] = true
	}
}

func (j *Job) checkOptimizer(c *Checker) {
	if j.Precision != "" {
		c.OneOf("precision", j.Precision, precisions)
	}
	o, s := j.Optimizer, j.Schedule
	c.kind("optimizer.kind", o.Kind, j.kinds.Optimizers, o.Options)
	if !(o.LR > 0) {
		c.Bad("optimizer.lr", "%v is not a learning rate; want a number above 0", o.LR)
	}
	if !(o.WeightDecay >= 0) {
		c.Bad("optimizer.weight_decay", "%v is below 0", o.WeightDecay)
	}
	if !(o.ClipNorm >= 0) {
		c.Bad("optimizer.clip_norm", "%v is below 0; want a norm, or 0 for no clipping", o.ClipNorm)
	}
	steps := c.Within("train.steps", j.Train.Steps, 1, maxSteps)
	c.Within("train.check_every", j.Train.CheckEvery, 0, maxSteps)
	c.OneOf("train.non_finite", j.Train.NonFinite, nonFinite)
	if c.Within("schedule.warmup_steps", s.WarmupSteps, 0, maxSteps) && steps && s.WarmupSteps > j.Train.Steps {
		c.Bad("schedule.warmup_steps train.steps", "%d is more than train.steps %d", s.WarmupSteps, j.Train.Steps)
	}
	if e := o.EMA; e.Decay != nil {
		if !(*e.Decay > 0 && *e.Decay < 1) {
			c.Bad("optimizer.ema.decay", "%v is outside 0 < decay < 1", *e.Decay)
		}
		if e.Max != 0 || e.Power != 0 {
			c.Bad("optimizer.ema.decay optimizer.ema.max optimizer.ema.power", "a constant decay is given, and one that grows by max and power; want one of them")
		}
	} else if e.Active() {
		if !(e.Max > 0 && e.Max < 1) {
			c.Bad("optimizer.ema.max", "%v is outside 0 < max < 1", e.Max)
		}
		if !(e.Power > 0 && e.Power <= maxPower) {
			c.Bad("optimizer.ema.power", "%v is outside 0 < power ≤ %d", e.Power, maxPower)
		}
	}
	if c.OneOf("schedule.kind", s.Kind, schedules) && s.Kind == "constant" && s.MinLR != nil {
		c.Bad("schedule.min_lr schedule.kind", "a constant schedule does not go down to it; leave it out, or want schedule.kind cosine or linear")
	}
	if s.MinLR != nil && !(*s.MinLR >= 0 && *s.MinLR <= o.LR) {
		c.Bad("schedule.min_lr optimizer.lr", "%v is outside 0 to optimizer.lr %v", *s.MinLR, o.LR)
	}
}

func (j *Job) checkCluster(c *Checker) {
	k := j.Cluster
	w := c.Within("cluster.workers", k.Workers, 1, maxWorkers)
	lo, hi := c.Within("cluster.min_workers", k.MinWorkers, 1, maxWorkers), c.Within("cluster.max_workers", k.MaxWorkers, 1, maxWorkers)
	if w && lo && k.MinWorkers > k.Workers {
		c.Bad("cluster.min_workers cluster.workers", "%d is more than cluster.workers %d", k.MinWorkers, k.Workers)
	}
	if w && hi && k.MaxWorkers < k.Workers {
		c.Bad("cluster.max_workers cluster.workers", "%d is less than cluster.workers %d", k.MaxWorkers, k.Workers)
	}
	for _, t := range []struct {
		key string
		d   Duration
	}{{"cluster.heartbeat", k.Heartbeat}, {"cluster.deadline", k.Deadline}, {"cluster.join_timeout", k.JoinTimeout}, {"cluster.stall", k.Stall}, {"cluster.orphan_timeout", k.OrphanTimeout}} {
		if t.d < Duration(time.Millisecond) || t.d > Duration(24*time.Hour) {
			c.Bad(t.key, "%v is outside 1ms to 24h", t.d)
		}
	}
	if k.Heartbeat > 0 && k.Deadline > 0 && k.Deadline < 2*k.Heartbeat {
		c.Bad("cluster.deadline cluster.heartbeat", "%v is less than two heartbeats of %v: one that is late would count as a death", k.Deadline, k.Heartbeat)
	}
	b := k.BucketBytes == 0 || c.Within("cluster.bucket_bytes", k.BucketBytes, 64, limits.Bucket)
	if c.OneOf("cluster.topology", k.Topology, topologies) && k.Topology == "mesh" && hi && k.MaxWorkers > limits.Mesh {
		c.Bad("cluster.max_workers cluster.topology", "%d workers are too many for cluster.topology mesh, in which each has a connection to the server of every other; want at most %d, or cluster.topology broker", k.MaxWorkers, limits.Mesh)
	}
	if beats := float64(k.Workers) / time.Duration(k.Heartbeat).Seconds(); w && k.Heartbeat > 0 && beats > limits.Rate {
		c.Bad("cluster.heartbeat cluster.workers", "%v makes %.0f heartbeats a second of %d workers, which the coordinator has to answer; want at least %v", k.Heartbeat, beats, k.Workers, leastHeartbeat(k.Workers))
	}
	if c.OneOf("cluster.road", k.Road, names(j.kinds.Roads)) {
		j.Road().Check(c)
	}
	c.OneOf("cluster.reduce", k.Reduce, reductions)
	if c.OneOf("cluster.wire", k.Wire, wires) && k.Wire != "float32" && k.Reduce != "fast" {
		c.Bad("cluster.wire cluster.reduce", "%s rounds sums on their way, and cluster.reduce %s gives the same bits for any number of workers; want float32, or cluster.reduce fast", k.Wire, k.Reduce)
	}
	if c.OneOf("cluster.optimizer", k.Optimizer, moments) && k.Optimizer == "sharded" && k.Reduce == "fast" {
		c.Bad("cluster.optimizer cluster.reduce", "sharded moments have the bits of cluster.reduce exact; want cluster.reduce exact, or cluster.optimizer replicated")
	}
	c.OneOf("cluster.straggler", k.Straggler, stragglers)
	c.OneOf("cluster.divergence", k.Divergence, divergences)
	c.Within("cluster.max_divergences", k.MaxDivergences, 0, 1000)
	if !(k.Verify >= 0 && k.Verify <= 1) {
		c.Bad("cluster.verify", "%v is outside 0 to 1: it is the share of micro-batches that another worker computes again, such as 0.05", k.Verify)
	}
	if k.Verify > 0 && k.MaxWorkers == 1 {
		c.Bad("cluster.verify cluster.max_workers", "one worker has all micro-batches, and nobody checks it; want cluster.max_workers 3 or more, for two that disagree need a third, or cluster.verify 0")
	}
	if b := j.Batch; k.Verify > 0 && b.Micro > 0 && b.Group > 0 && j.Groups() == 1 {
		c.Bad("cluster.verify batch.micro", "a step of batch.global %d in micro-batches of %d, %d to a group, is one worker's, and nobody checks it; want a smaller batch.micro, or cluster.verify 0", b.Global, b.Micro, b.Group)
	}
	c.Within("cluster.window_bytes", k.WindowBytes, 1<<10, limits.Window)
	if c.Within("cluster.chunk_bytes cluster.bucket_bytes", k.ChunkBytes, 64, limits.Chunk) && k.ChunkBytes%4 != 0 {
		c.Bad("cluster.chunk_bytes", "%d is no multiple of 4, the bytes of a float32", k.ChunkBytes)
	}
	if b && k.BucketBytes%4 != 0 {
		c.Bad("cluster.bucket_bytes", "%d is no multiple of 4, the bytes of a float32", k.BucketBytes)
	}
}

// leastHeartbeat is the shortest interval in whole milliseconds at which so many
// workers may say that they live.
func leastHeartbeat(workers int) Duration {
	d := time.Duration(workers) * time.Second / limits.Rate
	return Duration((d + time.Millisecond - 1) / time.Millisecond * time.Millisecond)
}
