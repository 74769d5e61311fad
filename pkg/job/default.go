package job

import (
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// The words that a job file can choose from.
var (
	deliveries  = []string{"auto", "local", "bus"}
	nonFinite   = []string{"stop", "skip"}
	stragglers  = []string{"keep", "shed", "drop"}
	divergences = []string{"resync", "rewind"}
	topologies  = []string{"broker", "mesh"}
	wires       = []string{"float32", "bf16"}
	precisions  = []string{"float32", "bf16"}
	reductions  = []string{"exact", "fast"}
	moments     = []string{"replicated", "sharded"}
	schedules   = []string{"constant", "cosine", "linear"}
)

// Default returns the job that a file starts from, by its model.kind and
// data.kind: a complete one, but for the name and the data's path. Values that
// follow from others (d_ff, loss, max_workers) are those of the defaults.
func (k Kinds) Default(modelKind, dataKind string) Job {
	j := k.start(choice{model: modelKind, data: dataKind})
	j.derive(func(string) bool { return false })
	return j
}

// choice is what a job file says first: what the other defaults depend on.
type choice struct{ model, preset, data, loss, optimizer string }

// start is Default before anything follows from anything.
func (k Kinds) start(of choice) Job {
	j := Job{
		Model:      Model{Kind: of.model},
		Data:       Data{Kind: of.data, Shuffle: true, Delivery: "auto", Holdout: Holdout{Fraction: 0.1}},
		Batch:      Batch{Global: 64, Micro: 8, Group: 1},
		Loss:       Loss{Kind: of.loss},
		Optimizer:  Optimizer{Kind: of.optimizer, LR: 3e-4, WeightDecay: 0.01, ClipNorm: 1},
		Train:      Train{Steps: 1000, CheckEvery: 50, NonFinite: "stop"},
		Checkpoint: Checkpoint{Every: 100, Keep: 3, Wait: Duration(10 * time.Minute)},
		Cluster: Cluster{Workers: 2, MinWorkers: 1,
			Heartbeat: Duration(200 * time.Millisecond), Deadline: Duration(time.Second),
			JoinTimeout: Duration(time.Minute), ChunkBytes: 512 << 10, WindowBytes: 8 << 20,
			Topology: "broker", Reduce: "exact", Wire: "float32", Optimizer: "replicated", Straggler: "keep", Divergence: "resync", MaxDivergences: 3, Stall: Duration(5 * time.Second), OrphanTimeout: Duration(5 * time.Minute)},
		kinds: k,
	}
	if j.Model.Kind == "" && len(k.Models) > 0 {
		j.Model.Kind = k.Models[0].Name
	}
	if j.Optimizer.Kind == "" && len(k.Optimizers) > 0 {
		j.Optimizer.Kind = k.Optimizers[0].Name
	}
	if len(k.Roads) > 0 {
		j.Cluster.Road = k.Roads[0].Name
	}
	model := find(k.Models, j.Model.Kind)
	j.Model.Options = model.Options
	if p, _ := model.preset(of.preset); p.Name != "" {
		j.Model.Options = p.Options
	}
	j.Data.Options = find(k.Data, j.Data.Kind).Options
	j.Loss.Options = find(k.Losses, j.Loss.Kind).Options
	j.Optimizer.Options = find(k.Optimizers, j.Optimizer.Kind).Options
	return j
}

// derive fills what is not given from what is.
func (j *Job) derive(given func(key string) bool) {
	if j.Precision == precisions[0] { // the same job as one that does not say it
		j.Precision = ""
	}
	if m, ok := j.Model.Options.(ModelOptions); ok && !given("loss") && !given("loss.kind") {
		if fit := j.kinds.fitting(m.Answers()); len(fit) > 0 {
			j.Loss = Loss{fit[0].Name, fit[0].Options}
		}
	}
	for _, o := range []*Options{&j.Model.Options, &j.Data.Options, &j.Loss.Options, &j.Optimizer.Options} {
		if *o != nil {
			*o = (*o).Resolve(j, given)
		}
	}
	if d := &j.Distill; d.Active() {
		if !given("distill.alpha") {
			d.Alpha = 0.5
		}
		if !given("distill.temperature") {
			d.Temperature = 2
		}
	}
	if h := j.Data.Holdout; h.apart() && !given("data.holdout.fraction") {
		j.Data.Holdout.Fraction = 0
	}
	if !given("batch.micro") { // the largest divisor up to the default
		for j.Batch.Micro > 1 && j.Batch.Global%j.Batch.Micro != 0 {
			j.Batch.Micro--
		}
	}
	j.deriveRollouts(given)
	if b := &j.Checkpoint.Best; !given("checkpoint.best.metric") && b.Count > 0 {
		b.Metric = "loss"
	} else if !given("checkpoint.best.count") && b.Metric != "" {
		b.Count = 1
	}
	j.Optimizer.EMA.derive(given)
	j.Schedule.derive()
	c := &j.Cluster
	if !given("cluster.workers") {
		c.Workers = max(c.Workers, c.MinWorkers)
		if given("cluster.max_workers") {
			c.Workers = min(c.Workers, c.MaxWorkers)
		}
	}
	if !given("cluster.min_workers") {
		c.MinWorkers = max(1, min(c.MinWorkers, c.Workers))
	}
	if !given("cluster.max_workers") {
		most := limits.Workers
		if c.Topology == "mesh" {
			most = limits.Mesh
		}
		work := j.Batch.Global / max(j.Batch.Micro, 1) / max(j.Batch.Group, 1) // for so many
		c.MaxWorkers = max(1, c.Workers, min(work, most))
	}
	if !given("cluster.chunk_bytes") && c.BucketBytes > 0 {
		c.ChunkBytes = min(c.ChunkBytes, c.BucketBytes)
	}
}

// averaged is the EMA of a job that says no more of it.
var averaged = EMA{Max: 0.9999, Power: 0.75}

// derive fills in what is not given: both numbers of a decay that grows, none
// beside one that is constant.
func (e *EMA) derive(given func(key string) bool) {
	if !e.Active() {
		return
	}
	all := averaged
	if e.Decay != nil {
		all = EMA{}
	}
	if !given("optimizer.ema.max") {
		e.Max = all.Max
	}
	if !given("optimizer.ema.power") {
		e.Power = all.Power
	}
}

// implied is the kind of a schedule that names none.
func (s Schedule) implied() string {
	if s.MinLR == nil {
		return "constant"
	}
	return "cosine"
}

// derive fills in the kind, and of one that goes down the 0 at its end.
func (s *Schedule) derive() {
	if s.Kind == "" {
		s.Kind = s.implied()
	} else if s.Kind != "constant" && s.MinLR == nil {
		s.MinLR = new(float64)
	}
}
