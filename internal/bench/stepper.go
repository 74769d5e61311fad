package bench

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// benchModels are the two models that docs/performance.md and tools/peer
// speak of; the presets are known too.
var benchModels = map[string]struct {
	config models.Config
	batch  int
}{
	"default": {models.Config{Kind: models.VLA, VocabSize: 10000, ImageSize: 224, PatchSize: 16, Channels: 3, DModel: 512, NHeads: 8, NLayers: 6, ActionDim: 7, Dropout: 0.1, PadToken: 0}, 8},
	"small":   {models.Config{Kind: models.VLA, VocabSize: 1000, ImageSize: 64, PatchSize: 16, Channels: 3, DModel: 128, NHeads: 4, NLayers: 4, ActionDim: 7, Dropout: 0.1, PadToken: 0}, 32},
}

// StepChoice says what step is to be measured.
type StepChoice struct {
	Model     string // default, small or a preset
	Job       string // file, instead of Model; empty: none
	Batch     int    // samples of a micro-batch; 0: the model's own
	Tokens    int    // instruction tokens, of a model
	Dropout   float64
	Recompute bool   // activations are computed anew in backward
	Precision string // float32 or bf16; of a job, empty is its own
}

func (f *StepChoice) check() error {
	if err := usage.Within("batch", f.Batch, 0, 1<<16); err != nil {
		return err
	}
	if !(f.Dropout >= 0 && f.Dropout < 1) {
		return usage.Errorf("--dropout %v: want 0 to below 1", f.Dropout)
	}
	if f.Precision != "" && f.Precision != "float32" && f.Precision != "bf16" {
		return usage.Errorf("--precision %q: want float32 or bf16", f.Precision)
	}
	return usage.Within("tokens", f.Tokens, 1, 5000)
}

// args are the flags that choose the same step in another process.
func (f *StepChoice) args() []string {
	a := []string{"--batch", strconv.Itoa(f.Batch), "--tokens", strconv.Itoa(f.Tokens), "--dropout", strconv.FormatFloat(f.Dropout, 'g', -1, 64), "--recompute=" + strconv.FormatBool(f.Recompute)}
	if f.Precision != "" {
		a = append(a, "--precision", f.Precision)
	}
	if f.Job != "" {
		return append(a, f.Job)
	}
	return append(a, "--model", f.Model)
}

// benched is a step to be measured.
type benched struct {
	name  string
	model *models.Model
	opt   train.Options
	cost  models.Cost
}

// micros is the number of micro-batches of a step.
func (x *benched) micros() int { return x.opt.Global / x.opt.Micro }

func (f *StepChoice) open() (*benched, error) {
	if f.Job != "" {
		return f.openJob()
	}
	m, ok := benchModels[f.Model]
	names := "default, small"
	for _, p := range models.Presets() {
		names += ", " + p.Name
		if p.Name == f.Model {
			m, ok = benchModels["default"], true
			m.config.ImageSize, m.config.PatchSize, m.config.DModel, m.config.NHeads, m.config.NLayers, m.config.Fusion = p.ImageSize, p.PatchSize, p.DModel, p.NHeads, p.NLayers, p.Fusion
		}
	}
	if !ok {
		return nil, usage.Errorf("--model %q: want one of %s, or a JOB.yaml without --model", f.Model, names)
	}
	m.config.Dropout = float32(f.Dropout)
	model, err := models.New(m.config, nil)
	if err != nil {
		return nil, err
	}
	model.SetBF16(f.Precision == "bf16")
	model.Init(1)
	batch := f.Batch
	if batch == 0 {
		batch = m.batch
	}
	o := train.Options{Seed: 1, Spec: model.Spec(f.Tokens), Global: batch, Micro: batch, Recompute: f.Recompute, ClipNorm: 1, BucketBytes: train.BucketBytes(model.Params().Len()),
		Optimizer: train.Adam{Betas: [2]float64{0.9, 0.999}, Eps: 1e-8}, WeightDecay: 0.01, Schedule: train.LRSchedule{Kind: "constant", LR: 1e-4}}
	return &benched{name: f.Model, model: model, opt: o, cost: model.Cost(o.Spec)}, nil
}

func (f *StepChoice) openJob() (*benched, error) {
	j, err := train.Load(f.Job, nil)
	if err != nil {
		return nil, err
	}
	if j.Distill.Active() {
		return nil, usage.Errorf("%s: bench step measures a model without a teacher: leave distill out", f.Job)
	}
	base, err := filepath.Abs(filepath.Dir(f.Job))
	if err != nil {
		return nil, err
	}
	set, err := train.OpenData(j, base, nil)
	if err != nil {
		return nil, err
	}
	meta := set.Meta()
	set.Close()
	m, o, err := train.Build(j, meta)
	if err != nil {
		return nil, err
	}
	if f.Precision != "" {
		m.SetBF16(f.Precision == "bf16")
	}
	m.Init(j.Seed)
	o.Recompute = o.Recompute || f.Recompute
	if f.Batch > 0 {
		o.Global, o.Micro, o.Group = f.Batch, f.Batch, 1
	}
	return &benched{name: j.Name, model: m, opt: o, cost: m.Cost(o.Spec)}, nil
}

// The parts of a step, as a trainer goes through them: folds belong to backward,
// the norm to the optimizer, of which breakdown takes them.
const (
	phaseLoad = iota
	phaseForward
	phaseBackward
	phaseRing // of one rank: nothing
	phaseOptimizer
	phases
)

// stepper takes a trainer, the only rank, through steps on one batch over and
// over. It is its Batches.
type stepper struct {
	*benched
	trainer *train.Trainer
	ring    *allreduce.Solo
	batch   *models.Batch
	phases  [phases]time.Duration
	phase   int
	at      time.Time
	heap    *heapCount // where allocations are counted
}

func newStepper(rt *tensor.Runtime, x *benched) (*stepper, error) {
	s := &stepper{benched: x, ring: allreduce.NewSolo(rt.Fold), batch: randomBatch(x.model.Options().Wants().Vocab(), x.opt.Micro, x.opt.Spec)}
	var err error
	s.trainer, err = train.NewTrainer(rt, x.model, x.opt, s.enter)
	return s, err
}

// Next is the batch of every micro-batch.
func (s *stepper) Next(context.Context, uint64, int) (*models.Batch, error) { return s.batch, nil }

// randomBatch is noise of the right shapes: time does not depend on it.
func randomBatch(vocab, n int, spec models.Spec) *models.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	b := models.NewBatch(n, spec)
	for i := range b.IDs {
		b.IDs[i] = uint64(i)
	}
	for _, c := range b.Values {
		for i := range c.Floats {
			c.Floats[i] = 2*r.Float32() - 1
		}
		for i := range c.Ints {
			c.Ints[i] = min(1, int32(vocab)-1) + int32(r.IntN(max(1, vocab-1)))
		}
	}
	return b
}

// enter ends the part of a step that goes on, and begins the one of this name.
func (s *stepper) enter(_ uint64, name string) {
	s.lap()
	s.phase = slices.Index([]string{"data", "forward", "backward", "ring", "optimizer"}, name)
}

// lap counts what has passed for the part that goes on.
func (s *stepper) lap() {
	if s.heap != nil {
		s.heap.lap(s.phase)
	}
	now := time.Now()
	s.phases[s.phase] += now.Sub(s.at)
	s.at = now
}

func (s *stepper) step() error {
	s.phase, s.at = phaseLoad, time.Now()
	groups := s.micros() / max(s.opt.Group, 1)
	_, err := s.trainer.Step(context.Background(), s.ring, 0, groups, s, nil)
	s.lap()
	return err
}

// allocations counts what a step takes from the Go heap. Each part of it counts
// as the least of n steps: the broker that is linked into this program looks at
// its own process once a second, and that allocates too.
func (s *stepper) allocations(n int) (count, bytes uint64, err error) {
	s.heap = &heapCount{}
	defer func() { s.heap = nil }()
	for i := range n {
		runtime.ReadMemStats(&s.heap.before)
		s.heap.step = [phases][2]uint64{}
		if err := s.step(); err != nil {
			return 0, 0, err
		}
		for p, now := range s.heap.step {
			for k := range now {
				if least := &s.heap.least[p][k]; i == 0 || now[k] < *least {
					*least = now[k]
				}
			}
		}
	}
	for _, x := range s.heap.least {
		count, bytes = count+x[0], bytes+x[1]
	}
	return count, bytes, nil
}

// heapCount counts allocations and bytes by phase.
type heapCount struct {
	before, now runtime.MemStats
	step, least [phases][2]uint64
}

func (h *heapCount) lap(phase int) {
	runtime.ReadMemStats(&h.now)
	h.step[phase][0] += h.now.Mallocs - h.before.Mallocs
	h.step[phase][1] += h.now.TotalAlloc - h.before.TotalAlloc
	h.before = h.now
}

func (s *stepper) plan() Plan {
	slab := 4 * int64(s.model.Params().Len())
	gradients, activations := s.trainer.Memory()
	p := Plan{Parameters: slab, Gradients: gradients, Moments: int64(len(s.opt.Optimizer.Slots())) * slab, Activations: activations, Batch: s.batch.Bytes()}
	p.Total = p.Parameters + p.Gradients + p.Moments + p.Activations + p.Batch
	return p
}

// peakResident is the most memory that this process ever held, as Linux tells
// it; 0 elsewhere.
func peakResident() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for l := bufio.NewScanner(f); l.Scan(); {
		if v, ok := strings.CutPrefix(l.Text(), "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscanf(v, "%d kB", &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
