package job

// Job is one training run. Fields not given in the file take Default's values.
type Job struct {
	Name       string     `yaml:"name"`
	Seed       uint64     `yaml:"seed"`
	Precision  string     `yaml:"precision,omitempty"` // of the operands of matrix products: "", which is float32, or bf16
	Model      Model      `yaml:"model"`
	Data       Data       `yaml:"data"`
	Batch      Batch      `yaml:"batch"`
	Loss       Loss       `yaml:"loss"` // left out: the first that fits what the model answers
	Optimizer  Optimizer  `yaml:"optimizer"`
	Schedule   Schedule   `yaml:"schedule"`
	Train      Train      `yaml:"train"`
	Init       Init       `yaml:"init,omitempty"` // first weights
	Distill    Distill    `yaml:"distill,omitempty"`
	Checkpoint Checkpoint `yaml:"checkpoint"`
	Cluster    Cluster    `yaml:"cluster"`

	kinds Kinds // that it was read with
}

// BF16 says whether matrix products round their operands to bfloat16.
func (j *Job) BF16() bool { return j.Precision == "bf16" }

// Model describes the network: its kind and the keys of that kind. A preset
// fills those that the file leaves out.
type Model struct {
	Preset    string  `yaml:"preset,omitempty"` // one of the kind's
	Kind      string  `yaml:"kind"`
	Options   Options `yaml:",inline"`             // the kind's ModelOptions
	Recompute bool    `yaml:"recompute,omitempty"` // compute activations anew in backward: the same bits in less memory
}

// Loss is what is learned from: a kind, and the keys of that kind. In a job
// file it is the bare name where there are none.
type Loss struct {
	Kind    string  `yaml:"kind"`
	Options Options `yaml:",inline"` // the kind's LossOptions
}

// Data says where samples come from. See pkg/data for each kind.
type Data struct {
	Kind     string  `yaml:"kind"`
	Path     string  `yaml:"path,omitempty"`
	Shuffle  bool    `yaml:"shuffle"`
	Delivery string  `yaml:"delivery,omitempty"` // local | bus | auto
	Holdout  Holdout `yaml:"holdout,omitempty"`
	Options  Options `yaml:",inline"` // the kind's DataOptions
}

// Holdout chooses the held-out episodes: by number of episodes from the keyed
// permutation of all of them, by name, or as a set of their own.
type Holdout struct {
	Fraction float64 `yaml:"fraction,omitempty"` // 0 ≤ fraction < 1 of the episodes, rounded to nearest, at least 1 if > 0
	Episodes []int   `yaml:"episodes,omitempty"` // explicit episode numbers; excludes fraction
	Split    string  `yaml:"split,omitempty"`    // another split, or parts of splits, of data that has them; excludes both
	Path     string  `yaml:"path,omitempty"`     // another data set of the same kind and features; excludes both
}

type Batch struct {
	Global int `yaml:"global"` // samples an optimizer step
	Micro  int `yaml:"micro"`  // samples a micro-batch; divides Global
	Group  int `yaml:"group"`  // micro-batches that one worker folds before the ring does; divides their number
}

// Groups is the number of groups of micro-batches in a step: what is shared out
// to workers.
func (j *Job) Groups() int { return j.Batch.Global / j.Batch.Micro / j.Batch.Group }

type Optimizer struct {
	Kind        string  `yaml:"kind"`
	LR          float64 `yaml:"lr"`
	Options     Options `yaml:",inline"` // the kind's
	WeightDecay float64 `yaml:"weight_decay"`
	ClipNorm    float64 `yaml:"clip_norm"` // 0: no clipping
	EMA         EMA     `yaml:"ema,omitempty"`
	Groups      []Group `yaml:"groups,omitempty"`
}

// EMA is an exponential moving average of the weights, which an optimizer keeps
// beside them; the zero EMA is none. After t steps its decay is
// min(Max, 1 - (1+t)^-Power), or Decay where that is given. In a job file it may
// be the bare word true.
type EMA struct {
	Max   float64  `yaml:"max,omitempty"`
	Power float64  `yaml:"power,omitempty"`
	Decay *float64 `yaml:"decay,omitempty"` // excludes the other two
}

// The names by which a checkpoint's weights are chosen.
const (
	Raw     = "raw" // as they were trained
	Average = "ema" // their average, where the job has one
)

// Standard is the average of a job that says no more of it.
func (EMA) Standard() any { return averaged }

// Active says that there is an average.
func (e EMA) Active() bool { return e != EMA{} }

// Schedule is linear warm-up, and from there on what Kind says: the whole rate to
// the end, or down to MinLR at Train.Steps, in half a cosine or in a line.
type Schedule struct {
	Kind        string   `yaml:"kind,omitempty"` // constant | cosine | linear; left out: cosine with a MinLR, constant without
	WarmupSteps int      `yaml:"warmup_steps"`
	MinLR       *float64 `yaml:"min_lr,omitempty"` // nil where the rate is constant
}

type Train struct {
	Steps     int `yaml:"steps"`
	EvalEvery int `yaml:"eval_every,omitempty"` // measure the checkpoints of every so many steps on the held-out split; 0: the last only

	RolloutEvery    int `yaml:"rollout_every,omitempty"`    // roll the checkpoints of every so many steps, and the last, out in the world of their data; 0: none
	RolloutEpisodes int `yaml:"rollout_episodes,omitempty"` // so many episodes each

	Freeze []string `yaml:"freeze,omitempty"` // patterns of parameters that keep their first values
	Cache  *Bytes   `yaml:"cache,omitempty"`  // of what frozen encoders make of instructions and pictures, kept beside the data: the same bits in less time. nil: DefaultCache; 0: nothing is kept

	CheckEvery int    `yaml:"check_every"` // steps between comparisons of all workers' states; 0: at checkpoints only
	NonFinite  string `yaml:"non_finite"`  // a step whose loss or gradient is not finite: stop | skip
}

// DefaultCache is Train.Cache where it is left out.
const DefaultCache Bytes = 1 << 30

// CacheBytes is how much is kept of what frozen encoders make.
func (t Train) CacheBytes() int64 {
	if t.Cache == nil {
		return int64(DefaultCache)
	}
	return int64(*t.Cache)
}

type Checkpoint struct {
	Every     int  `yaml:"every"`                // steps; 0: at the end and on stop only
	Keep      int  `yaml:"keep"`                 // newest complete checkpoints kept; 0: all
	KeepEvery int  `yaml:"keep_every,omitempty"` // those of steps that it divides are kept too; 0: none
	Best      Best `yaml:"best,omitempty"`       // and the best ones

	Wait        Duration `yaml:"wait"`                   // how long the last state waits in the workers' memory for a disk that does not take it; 0s: ten tries
	Upload      string   `yaml:"upload,omitempty"`       // an address in an object store, s3://BUCKET/PREFIX, that checkpoints are copied to beside training
	FallbackDir string   `yaml:"fallback_dir,omitempty"` // where checkpoints go, in a directory by the job's name, that the run directory's disk does not take
}

// Best are the checkpoints that are kept for their quality.
type Best struct {
	Metric string `yaml:"metric,omitempty"` // loss | heldout_loss | heldout_ and one of the loss's metrics
	Count  int    `yaml:"count,omitempty"`  // 0: none
}

type Cluster struct {
	Workers     int      `yaml:"workers"`
	MinWorkers  int      `yaml:"min_workers"`
	MaxWorkers  int      `yaml:"max_workers"`
	Heartbeat   Duration `yaml:"heartbeat"`    // default 200ms
	Deadline    Duration `yaml:"deadline"`     // default 1s
	JoinTimeout Duration `yaml:"join_timeout"` // how long the coordinator waits for the first workers
	BucketBytes int      `yaml:"bucket_bytes"` // gradient bucket; 0: as fits the model
	ChunkBytes  int      `yaml:"chunk_bytes"`  // message payload; default 512 KiB
	WindowBytes int      `yaml:"window_bytes"` // in flight on a link of the ring; default 8 MiB

	Topology       string   `yaml:"topology"`         // how members reach each other: broker | mesh (a broker in every worker)
	Road           string   `yaml:"road"`             // how gradients travel: auto (shared memory within a host, NATS between hosts) | nats | shm | direct
	Reduce         string   `yaml:"reduce"`           // exact (bits of the job) | fast (each worker folds all that is its own: bits of the number of workers)
	Wire           string   `yaml:"wire"`             // of gradients between hosts: float32 | bf16 (with reduce fast)
	Optimizer      string   `yaml:"optimizer"`        // replicated (each worker holds all moments) | sharded (each holds those of its own shard and of the next worker's)
	Straggler      string   `yaml:"straggler"`        // a worker that stays slow: keep | shed (fewer micro-batches) | drop
	Divergence     string   `yaml:"divergence"`       // a worker whose state is not the others': resync (from the majority) | rewind (all, to the last checkpoint)
	MaxDivergences int      `yaml:"max_divergences"`  // a worker whose state was not the others' so often is put out for good; 0: never
	Verify         float64  `yaml:"verify,omitempty"` // share of micro-batches that another worker computes again, 0 to 1; whoever has sent another gradient is put out
	Stall          Duration `yaml:"stall"`            // waiting that is reported; default 5s
	OrphanTimeout  Duration `yaml:"orphan_timeout"`   // how long workers wait for a coordinator that is gone; default 5m
}
