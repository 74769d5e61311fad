package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// Bounds on sizes: far above what anyone trains, low enough that no product of
// them overflows.
const (
	maxDim     = 1 << 16
	maxLayers  = 1 << 10
	maxSamples = limits.Samples
	maxVocab   = limits.Vocabulary
	maxWorkers = limits.Workers
	maxSteps   = 1<<31 - 1
	maxName    = limits.Name
)

// Validate returns nil, or an *Error with every mistake found. A Job that Load
// or Parse returned is valid; call it again after changing one.
func (j *Job) Validate() error {
	found := j.check()
	if len(found) == 0 {
		return nil
	}
	e := &Error{}
	for _, f := range found {
		e.Problems = append(e.Problems, Problem{Key: f.keys[0], Text: f.text})
	}
	return e
}

// finding is a mistake in a value: the key to show, and the others that the
// check looked at.
type finding struct {
	keys []string
	text string
}

type checker struct{ found []finding }

// bad records a finding; keys are separated by spaces, the one to show first.
func (c *checker) bad(keys, format string, args ...any) {
	c.found = append(c.found, finding{strings.Fields(keys), fmt.Sprintf(format, args...)})
}

// within checks least ≤ v ≤ most and reports whether it holds.
func (c *checker) within(key string, v, least, most int) bool {
	switch {
	case v < least:
		c.bad(key, "%d is too small; want at least %d", v, least)
	case v > most:
		c.bad(key, "%d is too large; want at most %d", v, most)
	default:
		return true
	}
	return false
}

// oneOf checks v against the words of an enumeration.
func (c *checker) oneOf(key, v string, words []string) bool {
	switch {
	case slices.Contains(words, v):
		return true
	case v == "":
		c.bad(key, "is missing; want one of %s", strings.Join(words, ", "))
	default:
		c.bad(key, "%q is unknown; %s", v, meant(v, words))
	}
	return false
}

// unused refuses a value that the job's kind has no use for.
func (c *checker) unused(key string, zero bool, kind string) {
	if !zero {
		c.bad(key, "has no meaning for %s; leave it out", kind)
	}
}

func (j *Job) check() []finding {
	c := &checker{}
	switch {
	case j.Name == "":
		c.bad("name", "is missing; want letters, digits, - and _")
	case len(j.Name) > maxName:
		c.bad("name", "has %d characters; want at most %d", len(j.Name), maxName)
	default:
		for _, r := range j.Name {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				c.bad("name", "%q has %q in it; want letters, digits, - and _ (it is a directory's name and part of NATS subjects)", j.Name, r)
				break
			}
		}
	}
	if j.checkModel(c) {
		j.checkData(c)
		want := "mse"
		if namesTokens(j.Model.Kind) {
			want = "cross_entropy"
		}
		if c.oneOf("loss", j.Loss, lossKinds) && j.Loss != want {
			c.bad("loss", "%s does not fit model.kind %s; want %s", j.Loss, j.Model.Kind, want)
		}
	}
	b := j.Batch
	g, m := c.within("batch.global", b.Global, 1, maxSamples), c.within("batch.micro", b.Micro, 1, maxSamples)
	if g && m && b.Global%b.Micro != 0 {
		c.bad("batch.micro batch.global", "%d does not divide batch.global %d; want one of %s", b.Micro, b.Global, divisors(b.Global))
	} else if micros := b.Global / max(b.Micro, 1); g && m && c.within("batch.group", b.Group, 1, micros) && micros%b.Group != 0 {
		c.bad("batch.group batch.micro batch.global", "%d does not divide the %d micro-batches of a step; want one of %s", b.Group, micros, divisors(micros))
	}
	j.checkOptimizer(c)
	j.checkTransfer(c)
	j.checkDistill(c)
	j.checkCheckpoint(c)
	j.checkCluster(c)
	return c.found
}

func (j *Job) checkModel(c *checker) bool {
	m := j.Model
	if m.Preset != "" {
		c.oneOf("model.preset", m.Preset, presetNames())
	}
	if !c.oneOf("model.kind", m.Kind, modelKinds) {
		return false
	}
	kind := "model.kind " + m.Kind
	if takesImages(m.Kind) {
		i, p := c.within("model.image_size", m.ImageSize, 1, maxDim), c.within("model.patch_size", m.PatchSize, 1, maxDim)
		if i && p && m.ImageSize%m.PatchSize != 0 {
			c.bad("model.patch_size model.image_size", "%d does not divide model.image_size %d; want one of %s", m.PatchSize, m.ImageSize, divisors(m.ImageSize))
		}
		c.within("model.channels", m.Channels, 1, maxDim)
	} else {
		c.unused("model.image_size", m.ImageSize == 0, kind)
		c.unused("model.patch_size", m.PatchSize == 0, kind)
		c.unused("model.channels", m.Channels == 0, kind)
	}
	if takesTokens(m.Kind) {
		v := c.within("model.vocab_size", m.VocabSize, 0, maxVocab)
		c.within("model.max_len", m.MaxLen, 1, maxVocab)
		if c.within("model.pad_token", m.PadToken, -1, maxVocab) && v && m.VocabSize > 0 && m.PadToken >= m.VocabSize {
			c.bad("model.pad_token model.vocab_size", "%d is outside the vocabulary of %d; want 0 to %d, or -1 for no padding", m.PadToken, m.VocabSize, m.VocabSize-1)
		}
	} else {
		c.unused("model.vocab_size", m.VocabSize == 0, kind)
		c.unused("model.max_len", m.MaxLen == 0, kind)
		c.unused("model.pad_token", m.PadToken == -1, kind)
	}
	if m.Kind == "cross_modal" {
		c.within("model.vision_dim", m.VisionDim, 1, maxDim)
		c.within("model.language_dim", m.LanguageDim, 1, maxDim)
	} else {
		c.unused("model.vision_dim", m.VisionDim == 0, kind)
		c.unused("model.language_dim", m.LanguageDim == 0, kind)
	}
	if !namesTokens(m.Kind) {
		c.within("model.action_dim", m.ActionDim, 1, maxDim)
	} else {
		c.unused("model.action_dim", m.ActionDim == 0, kind)
	}
	d, h := c.within("model.d_model", m.DModel, 1, maxDim), false
	if m.Kind == "lstm" {
		c.unused("model.n_heads", m.NHeads == 0, kind)
		c.unused("model.d_ff", m.DFF == 0, kind)
	} else {
		h = c.within("model.n_heads", m.NHeads, 1, maxDim)
		c.within("model.d_ff model.d_model", m.DFF, 1, 8*maxDim)
	}
	if d && m.DModel%2 != 0 {
		c.bad("model.d_model", "%d is odd; the positional table pairs sines with cosines, so want an even number", m.DModel)
	}
	if d && h && m.DModel%m.NHeads != 0 {
		c.bad("model.n_heads model.d_model", "%d does not divide model.d_model %d; want one of %s", m.NHeads, m.DModel, divisors(m.DModel))
	}
	least := 1
	if m.Kind == "vla" { // halved between its encoders and the fusion
		least = 2
	}
	c.within("model.n_layers", m.NLayers, least, maxLayers)
	if !(m.Dropout >= 0 && m.Dropout < 1) {
		c.bad("model.dropout", "%v is outside 0 ≤ dropout < 1", m.Dropout)
	}
	j.checkVariants(c)
	return true
}

func (j *Job) checkData(c *checker) {
	d := j.Data
	if !c.oneOf("data.kind", d.Kind, dataKinds) {
		return
	}
	kind := "data.kind " + d.Kind
	switch m := j.Model.Kind; {
	case namesTokens(m) && !sequences(d.Kind) && d.Kind != "tensors":
		c.bad("data.kind model.kind", "%s has no labels for model.kind %s; want copy, recall or tensors", d.Kind, m)
	case m == "cross_modal" && d.Kind != "tensors":
		c.bad("data.kind model.kind", "%s has no given features for model.kind cross_modal; want tensors", d.Kind)
	case takesImages(m) && sequences(d.Kind):
		c.bad("data.kind model.kind", "%s has no images for model.kind %s; want tabletop, rlds, folder or tensors", d.Kind, m)
	}
	files := d.Kind == "tensors" || d.Kind == "rlds" || d.Kind == "folder"
	if files && d.Path == "" {
		c.bad("data.path", "is missing; %s reads files", kind)
	}
	if !files {
		c.unused("data.path", d.Path == "", kind)
	}
	if sequences(d.Kind) {
		c.within("data.seq_len", d.SeqLen, 1, maxSamples)
		if d.Kind == "copy" && namesTokens(j.Model.Kind) && j.Model.VocabSize >= 0 && j.Model.VocabSize < 2 {
			c.bad("model.vocab_size data.kind", "%d is too small; the copy task needs at least 2 words", j.Model.VocabSize)
		}
		if d.SeqLen > j.Model.MaxLen && j.Model.MaxLen > 0 {
			c.bad("data.seq_len model.max_len", "%d is longer than model.max_len %d", d.SeqLen, j.Model.MaxLen)
		}
	} else {
		c.unused("data.seq_len", d.SeqLen == 0, kind)
	}
	j.checkRecall(c)
	if sequences(d.Kind) || d.Kind == "tabletop" {
		c.within("data.episodes", d.Episodes, 1, maxVocab)
	} else {
		c.unused("data.episodes", d.Episodes == 0, kind)
	}
	if d.Kind == "tabletop" {
		c.oneOf("data.scene", d.Scene, scenes)
	} else {
		c.unused("data.scene", d.Scene == "", kind)
	}
	if d.Kind != "rlds" {
		c.unused("data.split", d.Split == "", kind)
		c.unused("data.camera", d.Camera == "", kind)
		c.unused("data.action", len(d.Action) == 0, kind)
	}
	if d.Kind != "tensors" {
		c.unused("data.layout", d.Layout == "", kind)
	} else if d.Layout != "" {
		c.oneOf("data.layout", d.Layout, layouts)
	}
	if n := j.Model.Channels; takesImages(j.Model.Kind) && (d.Kind == "tabletop" || d.Kind == "rlds" || d.Kind == "folder") && n != 1 && n != 3 && n > 0 {
		c.bad("model.channels data.kind", "is %d, and %s gives pictures of 3 channels (RGB) or 1 (grey); data.kind tensors takes any number", n, kind)
	}
	if sequences(d.Kind) {
		c.unused("data.normalize", d.Normalize == "", kind)
	} else {
		c.oneOf("data.normalize", d.Normalize, normalisation)
	}
	if slices.Contains([]string{"tensors", "rlds", "folder"}, d.Kind) {
		for i, s := range d.Skip {
			c.within(fmt.Sprintf("data.skip[%d]", i), s, 0, 1<<31-1)
		}
	} else {
		c.unused("data.skip", len(d.Skip) == 0, kind)
	}
	j.checkActions(c)
	c.within("data.max_tokens", d.MaxTokens, 0, maxVocab)
	c.oneOf("data.delivery", d.Delivery, deliveries)
	h := d.Holdout
	if !(h.Fraction >= 0 && h.Fraction < 1) {
		c.bad("data.holdout.fraction", "%v is outside 0 ≤ fraction < 1", h.Fraction)
	}
	if len(h.Episodes) > 0 && h.Fraction != 0 {
		c.bad("data.holdout.fraction data.holdout.episodes", "both fraction and episodes are given; want one of them")
	}
	if h.Split != "" || h.Path != "" {
		key := "data.holdout.split"
		if h.Path != "" {
			key = "data.holdout.path"
		}
		if h.Fraction != 0 || len(h.Episodes) > 0 {
			c.bad(key+" data.holdout.fraction data.holdout.episodes", "names a set of its own, and fraction or episodes a part of the training set; want one of them")
		}
		if sequences(d.Kind) || d.Kind == "tabletop" {
			c.unused("data.holdout.path", h.Path == "", kind)
		}
		if d.Kind != "rlds" {
			c.unused("data.holdout.split", h.Split == "", kind)
		}
	}
	seen := map[int]bool{}
	for i, e := range h.Episodes {
		key := fmt.Sprintf("data.holdout.episodes[%d]", i)
		if c.within(key, e, 0, maxVocab) && seen[e] {
			c.bad(key, "episode %d is listed twice", e)
		}
		seen[e] = true
	}
}

func (j *Job) checkOptimizer(c *checker) {
	o, s := j.Optimizer, j.Schedule
	c.oneOf("optimizer.kind", o.Kind, optimizers)
	if !(o.LR > 0) {
		c.bad("optimizer.lr", "%v is not a learning rate; want a number above 0", o.LR)
	}
	for i, b := range o.Betas {
		if !(b >= 0 && b < 1) {
			c.bad(fmt.Sprintf("optimizer.betas[%d] optimizer.betas", i), "%v is outside 0 ≤ beta < 1", b)
		}
	}
	if !(o.Eps > 0) {
		c.bad("optimizer.eps", "%v is not above 0", o.Eps)
	}
	if !(o.WeightDecay >= 0) {
		c.bad("optimizer.weight_decay", "%v is below 0", o.WeightDecay)
	}
	if !(o.ClipNorm >= 0) {
		c.bad("optimizer.clip_norm", "%v is below 0; want a norm, or 0 for no clipping", o.ClipNorm)
	}
	steps := c.within("train.steps", j.Train.Steps, 1, maxSteps)
	c.within("train.check_every", j.Train.CheckEvery, 0, maxSteps)
	c.oneOf("train.non_finite", j.Train.NonFinite, nonFinite)
	if c.within("schedule.warmup_steps", s.WarmupSteps, 0, maxSteps) && steps && s.WarmupSteps > j.Train.Steps {
		c.bad("schedule.warmup_steps train.steps", "%d is more than train.steps %d", s.WarmupSteps, j.Train.Steps)
	}
	if s.MinLR != nil && !(*s.MinLR >= 0 && *s.MinLR <= o.LR) {
		c.bad("schedule.min_lr optimizer.lr", "%v is outside 0 to optimizer.lr %v", *s.MinLR, o.LR)
	}
}

func (j *Job) checkCluster(c *checker) {
	k := j.Cluster
	w := c.within("cluster.workers", k.Workers, 1, maxWorkers)
	lo, hi := c.within("cluster.min_workers", k.MinWorkers, 1, maxWorkers), c.within("cluster.max_workers", k.MaxWorkers, 1, maxWorkers)
	if w && lo && k.MinWorkers > k.Workers {
		c.bad("cluster.min_workers cluster.workers", "%d is more than cluster.workers %d", k.MinWorkers, k.Workers)
	}
	if w && hi && k.MaxWorkers < k.Workers {
		c.bad("cluster.max_workers cluster.workers", "%d is less than cluster.workers %d", k.MaxWorkers, k.Workers)
	}
	for _, t := range []struct {
		key string
		d   Duration
	}{{"cluster.heartbeat", k.Heartbeat}, {"cluster.deadline", k.Deadline}, {"cluster.join_timeout", k.JoinTimeout}, {"cluster.stall", k.Stall}, {"cluster.orphan_timeout", k.OrphanTimeout}} {
		if t.d < Duration(time.Millisecond) || t.d > Duration(24*time.Hour) {
			c.bad(t.key, "%v is outside 1ms to 24h", t.d)
		}
	}
	if k.Heartbeat > 0 && k.Deadline > 0 && k.Deadline < 2*k.Heartbeat {
		c.bad("cluster.deadline cluster.heartbeat", "%v is less than two heartbeats of %v: one that is late would count as a death", k.Deadline, k.Heartbeat)
	}
	b := k.BucketBytes == 0 || c.within("cluster.bucket_bytes", k.BucketBytes, 64, limits.Bucket)
	if c.oneOf("cluster.topology", k.Topology, topologies) && k.Topology == "mesh" && hi && k.MaxWorkers > limits.Mesh {
		c.bad("cluster.max_workers cluster.topology", "%d workers are too many for cluster.topology mesh, in which each has a connection to the server of every other; want at most %d, or cluster.topology broker", k.MaxWorkers, limits.Mesh)
	}
	if beats := float64(k.Workers) / time.Duration(k.Heartbeat).Seconds(); w && k.Heartbeat > 0 && beats > limits.Rate {
		c.bad("cluster.heartbeat cluster.workers", "%v makes %.0f heartbeats a second of %d workers, which the coordinator has to answer; want at least %v", k.Heartbeat, beats, k.Workers, leastHeartbeat(k.Workers))
	}
	c.oneOf("cluster.road", k.Road, roads)
	c.oneOf("cluster.reduce", k.Reduce, reductions)
	if c.oneOf("cluster.wire", k.Wire, wires) && k.Wire != "float32" && k.Reduce != "fast" {
		c.bad("cluster.wire cluster.reduce", "%s rounds sums on their way, and cluster.reduce %s gives the same bits for any number of workers; want float32, or cluster.reduce fast", k.Wire, k.Reduce)
	}
	c.oneOf("cluster.straggler", k.Straggler, stragglers)
	c.oneOf("cluster.divergence", k.Divergence, divergences)
	c.within("cluster.max_divergences", k.MaxDivergences, 0, 1000)
	c.within("cluster.window_bytes", k.WindowBytes, 1<<10, limits.Window)
	if c.within("cluster.chunk_bytes cluster.bucket_bytes", k.ChunkBytes, 64, limits.Chunk) && k.ChunkBytes%4 != 0 {
		c.bad("cluster.chunk_bytes", "%d is no multiple of 4, the bytes of a float32", k.ChunkBytes)
	}
	if b && k.BucketBytes%4 != 0 {
		c.bad("cluster.bucket_bytes", "%d is no multiple of 4, the bytes of a float32", k.BucketBytes)
	}
}

// leastHeartbeat is the shortest interval in whole milliseconds at which so many
// workers may say that they live.
func leastHeartbeat(workers int) Duration {
	d := time.Duration(workers) * time.Second / limits.Rate
	return Duration((d + time.Millisecond - 1) / time.Millisecond * time.Millisecond)
}

// divisors lists n's, all of them if few, for people to choose from.
func divisors(n int) string {
	var d []string
	for i := 1; i <= n; i++ {
		if n%i == 0 {
			d = append(d, fmt.Sprint(i))
		}
	}
	if len(d) > 12 {
		d = append(append(d[:6:6], "…"), d[len(d)-5:]...)
	}
	return strings.Join(d, ", ")
}
