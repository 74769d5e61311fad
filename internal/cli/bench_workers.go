package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
)

func newBenchWorkers() *cobra.Command {
	var f bench.WorkersOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "scaling [JOB.yaml]...",
		Short: "Train the same job on one worker and on several, over each road",
		Long: `Train the same job on one worker and on several, which are processes of one thread
each, in turns, and print what more workers are worth:

  small     d_model 128, 4 layers, 64×64 pixels, micro-batches of 32
  default   the reference's model, micro-batches of 8
  JOB.yaml  a job as it is, but for its number of steps

The first two have as many micro-batches a step as the most workers, two at least,
and read random tensors from a file, so that nothing but training takes time. Step times are medians of metrics.jsonl after a warm-up of a fifth of the steps;
ratios are medians over the rounds of two runs of the same round. All runs of a job
must end with the same weights.`,
		Example: "  coordinator bench scaling examples/tabletop.yaml\n  coordinator bench scaling --models small --roads nats --workers 1,2,4 --json",
		RunE: func(c *cobra.Command, args []string) error {
			f.Jobs = args
			r, err := bench.Workers(c.Context(), f, c.ErrOrStderr())
			if err != nil {
				return err
			}
			return answer(c, asJSON, r, func(out io.Writer) error { return printWorkers(out, r) })
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&f.Models, "models", []string{"small", "default"}, "small, default; none with ''")
	fl.StringSliceVar(&f.Roads, "roads", []string{"auto", "nats"}, "cluster.road of runs with several workers: auto, nats, shm")
	fl.IntSliceVar(&f.Workers, "workers", []int{1, 2}, "numbers of workers")
	threadsFlag(c, &f.Threads, 1, "compute threads of a worker")
	fl.IntVar(&f.Rounds, "rounds", 3, "turns of which the medians count")
	fl.IntVar(&f.Steps, "steps", 0, fmt.Sprintf("steps of a run (default: small %d, default %d, a job file %d)", bench.DefaultSteps("small"), bench.DefaultSteps("default"), bench.DefaultSteps("")))
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printWorkers(out io.Writer, r *bench.WorkersReport) error {
	fmt.Fprintf(out, "%s; %d thread(s) a worker, medians of %d round(s)\n\n", &r.Host, r.Threads, r.Rounds)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "JOB\tWORKERS\tROAD\tSTEP MS\tSAMPLES/s\tOF ONE\tRING\t\n")
	for _, b := range r.Rows {
		over, road := "-", b.Road
		if b.OverOne > 0 {
			over = fmt.Sprintf("%.2f×", b.OverOne)
		}
		if road == "" {
			road = "-"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%.2f\t%.1f\t%s\t%s\t\n", b.Job, b.Workers, road, b.StepMS, b.Samples, over, percent(b.Ring))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(out, `
SAMPLES/s  samples of a step by its median time
OF ONE     the same by that of one worker in the same round
RING       share of a step in which the slowest worker waits for the ring after backward: what overlap does not hide
`)
	return err
}
