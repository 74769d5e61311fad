package bench

import (
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// StepReport is what a training step costs on this machine.
type StepReport struct {
	Machine
	Model      string `json:"model"`
	Kind       string `json:"kind"`
	Parameters int    `json:"parameters"`
	Batch      int    `json:"batch"` // samples a step
	Micro      int    `json:"micro"` // samples a micro-batch
	Tokens     int    `json:"tokens"`
	Recompute  bool   `json:"recompute"`
	Steps      int    `json:"steps"`

	StepMS       float64 `json:"step_ms"` // median
	StepBestMS   float64 `json:"step_best_ms"`
	Samples      float64 `json:"samples_per_s"`                         // of the median step
	SamplesByCPU float64 `json:"samples_per_s_of_cpu_time,omitempty"`   // one thread
	Rate         float64 `json:"gflops"`                                // nominal cost over the median step
	Share        float64 `json:"share_of_peak"`                         // median of the steps' shares of the peak beside each
	ShareByCPU   float64 `json:"share_of_peak_by_cpu_time,omitempty"`   // one thread
	Performed    float64 `json:"performed_share_of_peak"`               // of what is left to do once what nobody needs is left out
	PerformedCPU float64 `json:"performed_share_by_cpu_time,omitempty"` // one thread
	Nominal      float64 `json:"gflop_per_sample"`                      // the model's, forward and backward
	Done         float64 `json:"performed_gflop_per_sample"`

	Answers      float64 `json:"answers_per_s"`                       // forward alone, as a server does it: see answering
	AnswersByCPU float64 `json:"answers_per_s_of_cpu_time,omitempty"` // one thread

	Phases []Phase `json:"phases"`
	Kinds  []Kind  `json:"kinds"`

	Allocs     uint64 `json:"allocations_per_step"` // on the Go heap
	AllocBytes uint64 `json:"allocated_bytes_per_step"`
	Resident   int64  `json:"peak_resident_bytes"` // of the process, 0 where the system does not tell
	Plan       Plan   `json:"plan"`
}

// Phase is a part of the step.
type Phase struct {
	Name  string  `json:"name"`
	MS    float64 `json:"ms"` // mean
	Share float64 `json:"share"`
}

// Kind is what operations of one kind take of a step.
type Kind struct {
	Kind           string  `json:"kind"`
	Ops            int     `json:"ops"`
	ForwardMS      float64 `json:"forward_ms"` // mean
	BackwardMS     float64 `json:"backward_ms"`
	ForwardGFLOPs  float64 `json:"forward_gflops,omitempty"`
	BackwardGFLOPs float64 `json:"backward_gflops,omitempty"`
	Share          float64 `json:"share"` // of the step
}

// Plan is the memory that a step is known to need, in bytes.
type Plan struct {
	Parameters  int64 `json:"parameters"`
	Gradients   int64 `json:"gradients"`
	Moments     int64 `json:"moments"`
	Activations int64 `json:"activations"` // and their gradients
	Batch       int64 `json:"batch"`
	Total       int64 `json:"total"`
}

// StepOptions are the step and how it is measured.
type StepOptions struct {
	Options
	StepChoice
}

// Check refuses what cannot be measured, by a usage.Error.
func (f *StepOptions) Check() error {
	if err := f.Options.Check(); err != nil {
		return err
	}
	return f.StepChoice.check()
}

// Step runs training steps for the budget. ready, which may be nil, is called
// between warming up and measuring. What it refuses of its options is a
// usage.Error.
func Step(f StepOptions, ready func() error) (*StepReport, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	x, err := f.open()
	if err != nil {
		return nil, err
	}
	rt := tensor.NewRuntime(f.Threads)
	defer rt.Close()
	s, err := newStepper(rt, x)
	if err != nil {
		return nil, err
	}
	defer s.trainer.Close()
	for range 2 {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	r := &StepReport{Machine: newMachine(f.Threads), Model: x.name, Kind: x.model.Options().Name(), Parameters: x.model.Params().Count(), Batch: x.opt.Global, Micro: x.opt.Micro,
		Tokens: x.opt.Spec.Len(models.Instruction, 0), Recompute: x.opt.Recompute}
	if r.Allocs, r.AllocBytes, err = s.allocations(5); err != nil {
		return nil, err
	}
	if ready != nil {
		if err := ready(); err != nil {
			return nil, err
		}
	}
	s.trainer.SetProfile(true)
	s.phases = [phases]time.Duration{}
	var walls, cpus, peaks, shares, cpuShares []float64
	var peakOf func(*tensor.Runtime, int) float64
	peakOf, r.Tiles = measure.PeakOf(x.model.BF16())
	before := peakOf(rt, 5)
	for begin := time.Now(); len(walls) < 3 || time.Since(begin) < f.Budget; {
		c, at := measure.CPUTime(), time.Now()
		if err := s.step(); err != nil {
			return nil, err
		}
		wall, cpu := time.Since(at).Seconds(), (measure.CPUTime() - c).Seconds()
		after := peakOf(rt, 5)
		peak := max(before, after)
		before = after
		walls, cpus, peaks = append(walls, wall), append(cpus, cpu), append(peaks, peak)
		work := float64(r.Batch) * float64(x.cost.TrainFLOPs)
		shares, cpuShares = append(shares, work/wall/peak), append(cpuShares, work/max(cpu, 1e-9)/peak)
	}
	r.Resident = peakResident()
	r.Plan = s.plan()
	r.Steps, r.StepMS, r.StepBestMS = len(walls), 1e3*measure.Median(walls), 1e3*slices.Min(walls)
	r.Samples, r.Share, r.Peak = float64(r.Batch)/(r.StepMS/1e3), measure.Median(shares), measure.Median(peaks)/1e9
	r.Nominal = float64(x.cost.TrainFLOPs) / 1e9
	r.Rate = r.Samples * r.Nominal
	s.breakdown(r)
	r.Performed = r.Share * r.Done / r.Nominal
	if cpu := measure.Median(cpus); f.Threads == 1 && cpu > 0 {
		r.SamplesByCPU, r.ShareByCPU = float64(r.Batch)/cpu, measure.Median(cpuShares)
		r.PerformedCPU = r.ShareByCPU * r.Done / r.Nominal
	}
	if err := s.answering(rt, r, f.Budget/4); err != nil {
		return nil, err
	}
	r.Bandwidth = measure.New(rt).Bandwidth(f.Slab) / 1e9
	return r, nil
}

// answering times what a server does with as many samples as a micro-batch has: forward alone, which keeps nothing for backward, of weights
// that were laid out once.
func (s *stepper) answering(rt *tensor.Runtime, r *StepReport, budget time.Duration) error {
	p, err := s.model.Program(rt, s.opt.Micro, s.opt.Spec, models.ProgramOptions{Forward: true, Settled: true})
	if err != nil {
		return err
	}
	defer p.Close()
	p.SetStep(s.opt.Seed, 0, false)
	if err := p.Load(s.batch); err != nil {
		return err
	}
	p.ForwardStage(0) // which lays the weights out
	var walls, cpus []float64
	for begin := time.Now(); len(walls) < 3 || time.Since(begin) < budget; {
		c, at := measure.CPUTime(), time.Now()
		p.ForwardStage(0)
		walls, cpus = append(walls, time.Since(at).Seconds()), append(cpus, (measure.CPUTime()-c).Seconds())
	}
	r.Answers = float64(s.opt.Micro) / measure.Median(walls)
	if cpu := measure.Median(cpus); rt.Threads() == 1 && cpu > 0 {
		r.AnswersByCPU = float64(s.opt.Micro) / cpu
	}
	return nil
}

// breakdown divides the time by part of the step and by kind of operation.
func (s *stepper) breakdown(r *StepReport) {
	n := float64(r.Steps)
	kinds, slabs := s.trainer.Profile()
	parts := []struct {
		name string
		took time.Duration
	}{
		{"load", s.phases[phaseLoad]}, {"forward", s.phases[phaseForward]}, {"backward", s.phases[phaseBackward] - slabs.Fold}, {"fold", slabs.Fold},
		{"norm", slabs.Norm}, {"optimizer", s.phases[phaseRing] + s.phases[phaseOptimizer] - slabs.Norm},
	}
	total := 0.0
	for _, p := range parts {
		total += p.took.Seconds()
	}
	for _, p := range parts {
		if p.took > 0 {
			r.Phases = append(r.Phases, Phase{p.name, 1e3 * p.took.Seconds() / n, p.took.Seconds() / total})
		}
	}
	rate := func(flops int64, d time.Duration) float64 {
		return float64(flops) / max(d.Seconds(), 1e-9) / 1e9
	}
	done := int64(0)
	for _, k := range kinds {
		done += k.ForwardFLOPs + k.BackwardFLOPs
		r.Kinds = append(r.Kinds, Kind{k.Kind, k.Ops, 1e3 * k.Forward.Seconds() / n, 1e3 * k.Backward.Seconds() / n,
			rate(k.ForwardFLOPs, k.Forward), rate(k.BackwardFLOPs, k.Backward), (k.Forward + k.Backward).Seconds() / total})
	}
	r.Done = float64(done) / n / float64(r.Batch) / 1e9
}
