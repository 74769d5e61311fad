package job

import "github.com/vlaring/vlaring/internal/limits"

import "time"

// The kinds that a job file can name.
var (
	modelKinds    = []string{"vla", "vit", "cross_modal", "encoder", "lstm"}
	dataKinds     = []string{"tabletop", "copy", "tensors", "rlds", "folder", "recall"}
	lossKinds     = []string{"mse", "cross_entropy"}
	optimizers    = []string{"adamw", "adam"}
	deliveries    = []string{"auto", "local", "bus"}
	scenes        = []string{"cluttered", "simple"}
	visions       = []string{"vit", "cnn"}
	attentions    = []string{"full", "local", "strided"}
	visionTokens  = []string{"cls", "patches"}
	layouts       = []string{"nchw", "nhwc"}
	nonFinite     = []string{"stop", "skip"}
	stragglers    = []string{"keep", "shed", "drop"}
	divergences   = []string{"resync", "rewind"}
	topologies    = []string{"broker", "mesh"}
	wires         = []string{"float32", "bf16"}
	reductions    = []string{"exact", "fast"}
	roads         = []string{"auto", "nats", "shm", "direct"}
	bestMetrics   = []string{"loss", "heldout_loss", "heldout_l1", "heldout_accuracy"}
	normalisation = []string{"none", "mean_std", "min_max", "quantile"}
)

func takesImages(modelKind string) bool { return modelKind == "vla" || modelKind == "vit" }
func takesTokens(modelKind string) bool { return modelKind == "vla" || namesTokens(modelKind) }

// namesTokens are the kinds whose output is a token at every position.
func namesTokens(modelKind string) bool { return modelKind == "encoder" || modelKind == "lstm" }

// sequences are the synthetic kinds of data for those.
func sequences(dataKind string) bool { return dataKind == "copy" || dataKind == "recall" }

// Default returns the job that a file starts from, by its model.kind and
// data.kind: a complete one, but for the name and the data's path. Values that
// follow from others (d_ff, loss, max_workers) are those of the defaults.
func Default(modelKind, dataKind string) Job {
	j := Job{
		Model: Model{Kind: modelKind, DModel: 512, NHeads: 8, NLayers: 6, Dropout: 0.1, PadToken: -1},
		Data:  Data{Kind: dataKind, Shuffle: true, Delivery: "auto"},
		Batch: Batch{Global: 64, Micro: 8, Group: 1},
		Optimizer: Optimizer{Kind: "adamw", LR: 3e-4, Betas: [2]float64{0.9, 0.999}, Eps: 1e-8,
			WeightDecay: 0.01, ClipNorm: 1},
		Train:      Train{Steps: 1000, CheckEvery: 50, NonFinite: "stop"},
		Checkpoint: Checkpoint{Every: 100, Keep: 3, Wait: Duration(10 * time.Minute)},
		Cluster: Cluster{Workers: 2, MinWorkers: 1,
			Heartbeat: Duration(200 * time.Millisecond), Deadline: Duration(time.Second),
			JoinTimeout: Duration(time.Minute), ChunkBytes: 512 << 10, WindowBytes: 8 << 20,
			Topology: "broker", Road: "auto", Reduce: "exact", Wire: "float32", Straggler: "keep", Divergence: "resync", MaxDivergences: 3, Stall: Duration(5 * time.Second), OrphanTimeout: Duration(5 * time.Minute)},
	}
	m := &j.Model
	if takesImages(modelKind) {
		m.ImageSize, m.PatchSize, m.Channels, m.Vision = 224, 16, 3, "vit"
	}
	if takesTokens(modelKind) {
		m.MaxLen = 5000 // the reference's
	}
	if !namesTokens(modelKind) {
		m.ActionDim = 7
	}
	switch modelKind {
	case "vla":
		m.VisionTokens = "cls"
	case "cross_modal":
		m.VisionDim, m.LanguageDim = 768, 512
	case "encoder": // the reference's copy task
		m.VocabSize, m.DModel, m.NHeads, m.NLayers = 100, 128, 4, 2
	case "lstm":
		m.VocabSize, m.DModel, m.NHeads, m.NLayers = 100, 128, 0, 2
	}
	switch dataKind {
	case "tabletop":
		j.Data.Episodes, j.Data.Scene = 2000, "cluttered"
	case "copy":
		j.Data.Episodes, j.Data.SeqLen = 10000, 16
	case "recall":
		j.Data.Episodes, j.Data.SeqLen, j.Data.Distance = 10000, 16, 15
	case "rlds":
		j.Data.Split = "train"
	case "tensors":
		j.Data.Normalize = "none"
	}
	if dataKind != "tensors" {
		j.Data.Holdout.Fraction = 0.1
	}
	switch dataKind { // those whose vocabulary is built from words: 0 is padding
	case "tabletop", "rlds", "folder":
		j.Data.Normalize = "mean_std"
		if takesTokens(modelKind) {
			m.PadToken = 0
		}
	}
	j.derive(func(string) bool { return false })
	return j
}

// derive fills what is not given from what is.
func (j *Job) derive(given func(key string) bool) {
	if !given("model.d_ff") && j.Model.Kind != "lstm" {
		j.Model.DFF = 4 * j.Model.DModel
	}
	j.deriveVariants(given)
	if !given("loss") {
		j.Loss = "mse"
		if namesTokens(j.Model.Kind) {
			j.Loss = "cross_entropy"
		}
	}
	if h := j.Data.Holdout; (len(h.Episodes) > 0 || h.Split != "" || h.Path != "") && !given("data.holdout.fraction") {
		j.Data.Holdout.Fraction = 0
	}
	if !given("batch.micro") { // the largest divisor up to the default
		for j.Batch.Micro > 1 && j.Batch.Global%j.Batch.Micro != 0 {
			j.Batch.Micro--
		}
	}
	if b := &j.Checkpoint.Best; !given("checkpoint.best.metric") && b.Count > 0 {
		b.Metric = "loss"
	} else if !given("checkpoint.best.count") && b.Metric != "" {
		b.Count = 1
	}
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
