package cli

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tensor/measure"
)

// stepReport is what a training step costs on this machine.
type stepReport struct {
	benchMachine
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

	Phases []benchPhase `json:"phases"`
	Kinds  []benchKind  `json:"kinds"`

	Allocs     uint64    `json:"allocations_per_step"` // on the Go heap
	AllocBytes uint64    `json:"allocated_bytes_per_step"`
	Resident   int64     `json:"peak_resident_bytes"` // of the process, 0 where the system does not tell
	Plan       benchPlan `json:"plan"`
}

// benchPhase is a part of the step.
type benchPhase struct {
	Name  string  `json:"name"`
	MS    float64 `json:"ms"` // mean
	Share float64 `json:"share"`
}

// benchKind is what operations of one kind take of a step.
type benchKind struct {
	Kind           string  `json:"kind"`
	Ops            int     `json:"ops"`
	ForwardMS      float64 `json:"forward_ms"` // mean
	BackwardMS     float64 `json:"backward_ms"`
	ForwardGFLOPs  float64 `json:"forward_gflops,omitempty"`
	BackwardGFLOPs float64 `json:"backward_gflops,omitempty"`
	Share          float64 `json:"share"` // of the step
}

// benchPlan is the memory that a step is known to need, in bytes.
type benchPlan struct {
	Parameters  int64 `json:"parameters"`
	Gradients   int64 `json:"gradients"`
	Moments     int64 `json:"moments"`
	Activations int64 `json:"activations"` // and their gradients
	Batch       int64 `json:"batch"`
	Total       int64 `json:"total"`
}

type stepFlags struct {
	benchFlags
	stepChoice
	scaling int
	rounds  int
	gate    bool
}

func newBenchStep() *cobra.Command {
	var f stepFlags
	c := &cobra.Command{
		Use:   "step [JOB.yaml]",
		Short: "Time whole training steps: forward, backward, clipping and AdamW",
		Long: `Time whole training steps of a model, or of a job's model and batch, on one random
batch over and over: forward, backward, the norm of the gradient and AdamW.

  default   the reference's model: 34.6 million parameters, 224×224 pixels
  small     d_model 128, 4 layers, 64×64 pixels, patches of 16
  low, mid, high: the presets, see 'coordinator presets'

The rate is the model's nominal arithmetic, counted as if everything were
computed; "performed" leaves out what nobody needs of the last vision block. A job's
data is opened for its shapes and vocabulary; a step is then batch.global samples in
micro-batches of batch.micro, folded, and --batch makes it one micro-batch.

--scaling=N starts processes of this program in turns: one on one thread, N of them
at once on a thread each, and one on N threads.`,
		Example: "  coordinator bench step\n  coordinator bench step --model small --threads 2\n  coordinator bench step examples/tabletop.yaml --json\n  coordinator bench step --scaling",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("coordinator bench step wants at most one JOB.yaml, and got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.benchFlags.check(); err != nil {
				return err
			}
			if len(args) == 1 {
				if c.Flags().Changed("model") {
					return usagef("%s names a model, and so does --model %s: give one of them", args[0], f.model)
				}
				f.job = args[0]
			}
			if err := f.stepChoice.check(); err != nil {
				return err
			}
			if err := within("rounds", f.rounds, 1, 100); err != nil {
				return err
			}
			if c.Flags().Changed("scaling") {
				if err := within("scaling", f.scaling, 2, 1<<10); err != nil {
					return err
				}
				return f.scale(c)
			}
			var ready func() error
			if f.gate { // of --scaling: all processes begin when all are warm
				ready = func() error {
					fmt.Fprintln(c.OutOrStdout(), gateReady)
					_, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
					return err
				}
			}
			r, err := f.measure(ready)
			if err != nil {
				return err
			}
			if f.asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			return r.print(c.OutOrStdout())
		},
	}
	fl := c.Flags()
	f.stepChoice.register(c)
	fl.IntVar(&f.scaling, "scaling", 0, "compare N threads with N processes of one thread")
	fl.Lookup("scaling").NoOptDefVal = "2"
	fl.IntVar(&f.rounds, "rounds", 3, "turns of --scaling, of which the medians count")
	fl.BoolVar(&f.gate, "gate", false, "begin at a line on standard input")
	fl.MarkHidden("gate")
	f.benchFlags.register(c, 10*time.Second, "the steps, at least three")
	return c
}

// measure runs steps for the budget. ready, which may be nil, is called
// between warming up and measuring.
func (f *stepFlags) measure(ready func() error) (*stepReport, error) {
	x, err := f.open()
	if err != nil {
		return nil, err
	}
	rt := tensor.NewRuntime(f.threads)
	defer rt.Close()
	s, err := newStepper(rt, x)
	if err != nil {
		return nil, err
	}
	defer s.prog.Close()
	for range 2 {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	r := &stepReport{benchMachine: newBenchMachine(f.threads), Model: x.name, Kind: x.model.Config().Kind, Parameters: x.model.Params().Count(), Batch: x.micro * x.micros, Micro: x.micro,
		Tokens: x.spec.Tokens, Recompute: x.opt.Recompute}
	if r.Allocs, r.AllocBytes, err = s.allocations(5); err != nil {
		return nil, err
	}
	if ready != nil {
		if err := ready(); err != nil {
			return nil, err
		}
	}
	s.prog.SetProfile(true)
	s.phases = [phases]time.Duration{}
	var walls, cpus, peaks, shares, cpuShares []float64
	before := measure.Peak(rt, 5)
	for begin := time.Now(); len(walls) < 3 || time.Since(begin) < f.budget; {
		c, at := measure.CPUTime(), time.Now()
		if err := s.step(); err != nil {
			return nil, err
		}
		wall, cpu := time.Since(at).Seconds(), (measure.CPUTime() - c).Seconds()
		after := measure.Peak(rt, 5)
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
	if cpu := measure.Median(cpus); f.threads == 1 && cpu > 0 {
		r.SamplesByCPU, r.ShareByCPU = float64(r.Batch)/cpu, measure.Median(cpuShares)
		r.PerformedCPU = r.ShareByCPU * r.Done / r.Nominal
	}
	r.Bandwidth = measure.New(rt).Bandwidth(f.slab) / 1e9
	return r, nil
}

// breakdown divides the time by phase and by kind of operation.
func (s *stepper) breakdown(r *stepReport) {
	n := float64(r.Steps)
	total := 0.0
	for _, d := range s.phases {
		total += d.Seconds()
	}
	for i, d := range s.phases {
		if d > 0 {
			r.Phases = append(r.Phases, benchPhase{phaseNames[i], 1e3 * d.Seconds() / n, d.Seconds() / total})
		}
	}
	rate := func(flops int64, d time.Duration) float64 {
		return float64(flops) / max(d.Seconds(), 1e-9) / 1e9
	}
	done := int64(0)
	for _, k := range s.prog.Profile() {
		done += k.ForwardFLOPs + k.BackwardFLOPs
		r.Kinds = append(r.Kinds, benchKind{k.Kind, k.Ops, 1e3 * k.Forward.Seconds() / n, 1e3 * k.Backward.Seconds() / n,
			rate(k.ForwardFLOPs, k.Forward), rate(k.BackwardFLOPs, k.Backward), (k.Forward + k.Backward).Seconds() / total})
	}
	r.Done = float64(done) / n / float64(r.Batch) / 1e9
}

func (r *stepReport) print(out io.Writer) error {
	fmt.Fprintf(out, "%s: %s, %d parameters; %d samples a step in micro-batches of %d, %d tokens; %d steps\n", r.Model, r.Kind, r.Parameters, r.Batch, r.Micro, r.Tokens, r.Steps)
	r.benchMachine.print(out)
	fmt.Fprintf(out, "\n%-18s %8.2f samples/s, %.1f ms a step (median; best %.1f)\n", "speed", r.Samples, r.StepMS, r.StepBestMS)
	fmt.Fprintf(out, "%-18s %8.1f GFLOP/s, %s of the peak; performed %s (%.2f of %.2f GFLOP a sample)\n", "arithmetic", r.Rate, percent(r.Share), percent(r.Performed), r.Done, r.Nominal)
	if r.SamplesByCPU > 0 {
		fmt.Fprintf(out, "%-18s %8.2f samples/s, %s of the peak; performed %s\n", "by CPU time", r.SamplesByCPU, percent(r.ShareByCPU), percent(r.PerformedCPU))
	}
	fmt.Fprintf(out, "%-18s %8d a step, %d bytes\n", "Go allocations", r.Allocs, r.AllocBytes)
	if r.Resident > 0 {
		fmt.Fprintf(out, "%-18s %s peak resident\n", "memory", bytesText(r.Resident))
	}
	p := r.Plan
	fmt.Fprintf(out, "%-18s %s: parameters %s, gradients %s, moments %s, activations %s, batch %s\n\n", "memory planned", bytesText(p.Total), bytesText(p.Parameters), bytesText(p.Gradients),
		bytesText(p.Moments), bytesText(p.Activations), bytesText(p.Batch))
	var l []string
	for _, p := range r.Phases {
		l = append(l, fmt.Sprintf("%s %.1f ms (%s)", p.Name, p.MS, percent(p.Share)))
	}
	fmt.Fprintf(out, "%s\n\n", strings.Join(l, ", "))
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "OPERATION\tNUMBER\tFORWARD MS\tGFLOP/s\tBACKWARD MS\tGFLOP/s\tOF THE STEP\t\n")
	rate := func(x float64) string {
		if x == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", x)
	}
	for _, k := range r.Kinds {
		fmt.Fprintf(w, "%s\t%d\t%.2f\t%s\t%.2f\t%s\t%s\t\n", k.Kind, k.Ops, k.ForwardMS, rate(k.ForwardGFLOPs), k.BackwardMS, rate(k.BackwardGFLOPs), percent(k.Share))
	}
	return w.Flush()
}
