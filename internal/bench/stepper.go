package bench

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
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
	Recompute bool // activations are computed anew in backward
}

func (f *StepChoice) check() error {
	if err := usage.Within("batch", f.Batch, 0, 1<<16); err != nil {
		return err
	}
	if !(f.Dropout >= 0 && f.Dropout < 1) {
		return usage.Errorf("--dropout %v: want 0 to below 1", f.Dropout)
	}
	return usage.Within("tokens", f.Tokens, 1, 5000)
}

// args are the flags that choose the same step in another process.
func (f *StepChoice) args() []string {
	a := []string{"--batch", strconv.Itoa(f.Batch), "--tokens", strconv.Itoa(f.Tokens), "--dropout", strconv.FormatFloat(f.Dropout, 'g', -1, 64), "--recompute=" + strconv.FormatBool(f.Recompute)}
	if f.Job != "" {
		return append(a, f.Job)
	}
	return append(a, "--model", f.Model)
}

// benched is a step to be measured.
type benched struct {
	name          string
	model         *models.Model
	spec          models.Spec
	micro, micros int
	opt           models.ProgramOptions
	optimizer     train.Optimizer
	lr, decay     float64
	clip          float64
	cost          models.Cost
}

func (f *StepChoice) open() (*benched, error) {
	if f.Job != "" {
		return f.openJob()
	}
	x := &benched{name: f.Model, micros: 1, opt: models.ProgramOptions{Train: true, Recompute: f.Recompute}, clip: 1,
		optimizer: train.Adam{Betas: [2]float64{0.9, 0.999}, Eps: 1e-8}, lr: 1e-4, decay: 0.01}
	m, ok := benchModels[f.Model]
	names := "default, small"
	for _, p := range models.Presets() {
		names += ", " + p.Name
		if p.Name == f.Model {
			m, ok = benchModels["default"], true
			m.config.ImageSize, m.config.PatchSize, m.config.DModel, m.config.NHeads, m.config.NLayers = p.ImageSize, p.PatchSize, p.DModel, p.NHeads, p.NLayers
		}
	}
	if !ok {
		return nil, usage.Errorf("--model %q: want one of %s, or a JOB.yaml without --model", f.Model, names)
	}
	m.config.Dropout = float32(f.Dropout)
	if x.micro = f.Batch; x.micro == 0 {
		x.micro = m.batch
	}
	var err error
	if x.model, err = models.New(m.config); err != nil {
		return nil, err
	}
	x.spec = x.model.Spec(f.Tokens)
	x.cost = x.model.Cost(x.spec)
	x.model.Init(1)
	return x, nil
}

func (f *StepChoice) openJob() (*benched, error) {
	j, err := train.Kinds().Load(f.Job, nil)
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
	m.Init(j.Seed)
	x := &benched{name: j.Name, model: m, spec: o.Spec, micro: o.Micro, micros: o.Global / o.Micro, optimizer: o.Optimizer, lr: j.Optimizer.LR, decay: o.WeightDecay, clip: o.ClipNorm, cost: m.Cost(o.Spec),
		opt: models.ProgramOptions{Train: true, Head: o.Head, Recompute: o.Recompute || f.Recompute}}
	if f.Batch > 0 {
		x.micro, x.micros = f.Batch, 1
	}
	return x, nil
}

// The parts of a step.
const (
	phaseLoad = iota
	phaseForward
	phaseBackward
	phaseFold
	phaseNorm
	phaseOptimizer
	phases
)

var phaseNames = [phases]string{"load", "forward", "backward", "fold", "norm", "optimizer"}

// stepper trains on one batch over and over.
type stepper struct {
	benched
	rt          *tensor.Runtime
	prog        *models.Program
	batch       *models.Batch
	grad, micro []float32 // sum, and one micro-batch's where there are several
	slots       [][]float32
	n           uint64
	phases      [phases]time.Duration
	at          time.Time
	heap        *heapCount // where allocations are counted
}

func newStepper(rt *tensor.Runtime, x *benched) (*stepper, error) {
	s := &stepper{benched: *x, rt: rt}
	var err error
	if s.prog, err = x.model.Program(rt, x.micro, x.spec, x.opt); err != nil {
		return nil, err
	}
	n := x.model.Params().Len()
	s.grad = tensor.Floats(n)
	for range x.optimizer.Slots() {
		s.slots = append(s.slots, tensor.Floats(n))
	}
	s.micro = s.grad
	if x.micros > 1 {
		s.micro = tensor.Floats(n)
	}
	s.batch = randomBatch(x.model.Config().VocabSize, x.micro, x.spec)
	return s, nil
}

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

func (s *stepper) lap(phase int) {
	if s.heap != nil {
		s.heap.lap(phase)
	}
	now := time.Now()
	s.phases[phase] += now.Sub(s.at)
	s.at = now
}

func (s *stepper) step() error {
	ps, count := s.model.Params(), 0
	s.at = time.Now()
	for m := range s.micros {
		if err := s.prog.Load(s.batch); err != nil {
			return err
		}
		s.prog.SetStep(1, s.n, true)
		s.lap(phaseLoad)
		s.prog.Forward()
		count += s.prog.Losses()[0].Count()
		s.lap(phaseForward)
		slab := s.grad
		if m > 0 {
			slab = s.micro
		}
		ps.BindGrads(slab)
		s.prog.Backward()
		s.lap(phaseBackward)
		if m > 0 {
			tensor.Fold(s.grad, s.micro)
			s.lap(phaseFold)
		}
	}
	s.rt.Div(s.grad, s.grad, float32(float64(count)/float64(s.prog.Losses()[0].Nominal())))
	norm := s.rt.GradNorm(ps, s.grad)
	s.lap(phaseNorm)
	scale := 1.0
	if s.clip > 0 {
		scale = min(1, s.clip/(norm+1e-6))
	}
	s.n++
	s.optimizer.Step(s.rt, train.Update{Weights: ps.Values(), Grad: s.grad, Slots: s.slots, Step: s.n, Scale: float32(scale), LR: s.lr, WeightDecay: s.decay})
	s.lap(phaseOptimizer)
	return nil
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
	slab := 4 * int64(len(s.grad))
	p := Plan{Parameters: slab, Gradients: slab, Moments: int64(len(s.slots)) * slab, Activations: s.prog.MemoryBytes(),
		Batch: s.batch.Bytes()}
	if s.micros > 1 {
		p.Gradients += slab
	}
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
