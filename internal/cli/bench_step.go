package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
	"github.com/vlaring/vlaring/internal/plain"
)

func newBenchStep() *cobra.Command {
	var f bench.StepOptions
	var asJSON, gate bool
	var scaling, rounds int
	c := &cobra.Command{
		Use:   "step [JOB.yaml]",
		Short: "Time whole training steps: forward, backward, clipping and AdamW",
		Long: `Time whole training steps of a model, or of a job's model and batch, on one random
batch over and over: forward, backward, the norm of the gradient and AdamW.

  default   the reference's model: 34.6 million parameters, 224×224 pixels
  small     d_model 128, 4 layers, 64×64 pixels, patches of 16
  low, mid, high: the presets, see 'coordinator presets'

The rate is the model's nominal arithmetic, counted as if everything were
computed; "performed" leaves out what nobody needs of the last vision block. The peak
is that of fused multiply-adds; with --precision bf16 that of the CPU's tiles (AMX)
where it has them. A job's
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
			if err := f.Options.Check(); err != nil {
				return err
			}
			if len(args) == 1 {
				if c.Flags().Changed("model") {
					return usagef("%s names a model, and so does --model %s: give one of them", args[0], f.Model)
				}
				f.Job = args[0]
			}
			if err := f.Check(); err != nil {
				return err
			}
			if err := within("rounds", rounds, 1, 100); err != nil {
				return err
			}
			if c.Flags().Changed("scaling") {
				r, err := bench.Threads(c.Context(), f, scaling, rounds)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(c.OutOrStdout(), r)
				}
				printThreads(c.OutOrStdout(), r)
				return nil
			}
			var ready func() error
			if gate { // of --scaling: all processes begin when all are warm
				ready = func() error {
					fmt.Fprintln(c.OutOrStdout(), bench.GateReady)
					_, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
					return err
				}
			}
			r, err := bench.Step(f, ready)
			if err != nil {
				return err
			}
			return answer(c, asJSON, r, func(out io.Writer) error { return printStep(out, r) })
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.Model, "model", "default", "default, small, low, mid or high")
	fl.IntVar(&f.Batch, "batch", 0, "samples of a micro-batch (default 8, of the small model 32, of a job batch.micro)")
	fl.IntVar(&f.Tokens, "tokens", 8, "instruction tokens, of a model")
	fl.Float64Var(&f.Dropout, "dropout", 0.1, "dropout, of a model")
	fl.StringVar(&f.Precision, "precision", "", "float32 (default) or bf16; of a job, its own")
	fl.BoolVar(&f.Recompute, "recompute", false, "compute activations anew in backward")
	fl.IntVar(&scaling, "scaling", 0, "compare N threads with N processes of one thread")
	fl.Lookup("scaling").NoOptDefVal = "2"
	fl.IntVar(&rounds, "rounds", 3, "turns of --scaling, of which the medians count")
	fl.BoolVar(&gate, "gate", false, "begin at a line on standard input")
	fl.MarkHidden("gate")
	benchFlags(c, &f.Options, &asJSON, 10*time.Second, "the steps, at least three")
	return c
}

func printStep(out io.Writer, r *bench.StepReport) error {
	fmt.Fprintf(out, "%s: %s, %d parameters; %d samples a step in micro-batches of %d, %d tokens; %d steps\n", r.Model, r.Kind, r.Parameters, r.Batch, r.Micro, r.Tokens, r.Steps)
	printMachine(out, &r.Machine)
	fmt.Fprintf(out, "\n%-18s %8.2f samples/s, %.1f ms a step (median; best %.1f)\n", "speed", r.Samples, r.StepMS, r.StepBestMS)
	fmt.Fprintf(out, "%-18s %8.1f GFLOP/s, %s of the peak; performed %s (%.2f of %.2f GFLOP a sample)\n", "arithmetic", r.Rate, percent(r.Share), percent(r.Performed), r.Done, r.Nominal)
	if r.SamplesByCPU > 0 {
		fmt.Fprintf(out, "%-18s %8.2f samples/s, %s of the peak; performed %s\n", "by CPU time", r.SamplesByCPU, percent(r.ShareByCPU), percent(r.PerformedCPU))
	}
	fmt.Fprintf(out, "%-18s %8.2f samples/s: forward alone, as a server does it\n", "answering", r.Answers)
	fmt.Fprintf(out, "%-18s %8d a step, %d bytes\n", "Go allocations", r.Allocs, r.AllocBytes)
	if r.Resident > 0 {
		fmt.Fprintf(out, "%-18s %s peak resident\n", "memory", plain.Bytes(r.Resident))
	}
	p := r.Plan
	fmt.Fprintf(out, "%-18s %s: parameters %s, gradients %s, moments %s, activations %s, batch %s\n\n", "memory planned", plain.Bytes(p.Total), plain.Bytes(p.Parameters), plain.Bytes(p.Gradients),
		plain.Bytes(p.Moments), plain.Bytes(p.Activations), plain.Bytes(p.Batch))
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

func printThreads(out io.Writer, r *bench.ThreadsReport) {
	fmt.Fprintf(out, "%s, %s, %d core(s); medians of %d round(s)\n", r.Model, r.CPU, r.Cores, r.Rounds)
	fmt.Fprintf(out, "%-36s %8.2f samples/s\n", "one process, one thread", r.Alone)
	fmt.Fprintf(out, "%-36s %8.2f samples/s\n", fmt.Sprintf("%d processes at once, a thread each", r.N), r.Independent)
	fmt.Fprintf(out, "%-36s %8.2f samples/s, %.2f× one thread, %s of the processes\n", fmt.Sprintf("one process, %d threads", r.N), r.Threads, r.Speedup, percent(r.Share))
}
