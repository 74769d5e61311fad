package cli

import (
	"fmt"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

type pruneFlags struct {
	keep, keepEvery, best int
	metric                string
	dryRun, asJSON        bool
}

func newCheckpointPrune() *cobra.Command {
	var f pruneFlags
	c := &cobra.Command{
		Use:   "prune RUN-DIR",
		Short: "Remove the checkpoints that a run's retention does not keep; says which and why first",
		Long: `Remove the checkpoints that retention does not keep. The rules are those of the
run's job file (checkpoint.keep, .keep_every, .best); options replace them one
by one. The whole plan, with reasons, is printed before anything is removed.

Kept are the newest --keep complete checkpoints, those of steps that
--keep-every divides, the --best ones by --metric, the one committed last, and
every damaged one. A run that is going on is not touched: it prunes itself.`,
		Example: "  coordinator checkpoint prune runs/bridge --dry-run\n  coordinator checkpoint prune runs/bridge --keep 2 --keep-every 1000 --best 1 --metric heldout_l1",
		Args:    exactArgs("RUN-DIR"),
		RunE:    func(c *cobra.Command, args []string) error { return prune(c, args[0], &f) },
	}
	fl := c.Flags()
	fl.IntVar(&f.keep, "keep", 0, "newest complete checkpoints to keep")
	fl.IntVar(&f.keepEvery, "keep-every", 0, "keep those of every so many steps too")
	fl.IntVar(&f.best, "best", 0, "keep so many of the best too")
	fl.StringVar(&f.metric, "metric", "loss", "what is best: "+metricNames())
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the plan and remove nothing")
	fl.BoolVar(&f.asJSON, "json", false, "print the plan as one JSON object")
	return c
}

func prune(c *cobra.Command, dir string, f *pruneFlags) error {
	b, err := regular.Read(filepath.Join(dir, run.JobCopy), 1<<20)
	if err != nil {
		return usagef("%s is not the directory of a run: %w", dir, err)
	}
	j, err := train.Kinds().Parse(filepath.Join(dir, run.JobCopy), b, nil)
	if err != nil {
		return err
	}
	p, err := f.policy(c, run.PolicyOf(j))
	if err != nil {
		return err
	}
	if !f.dryRun {
		lock, err := checkpoint.LockRunDir(dir)
		if err != nil {
			return fmt.Errorf("%w\n(--dry-run looks without changing anything)", err)
		}
		defer lock.Unlock()
	}
	plan, err := run.PlanPrune(dir, p)
	if err != nil {
		return err
	}
	plan.DryRun = f.dryRun
	if err := answer(c, f.asJSON, plan, words(plan.Text)); err != nil || f.dryRun {
		return err
	}
	return plan.Prune(dir, func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) })
}

// metricNames lists what checkpoints can be kept by.
func metricNames() string {
	var names []string
	for _, m := range train.Kinds().Metrics() {
		names = append(names, m.Name)
	}
	return job.Or(names)
}

// policy is the run's, with what the options replace.
func (f *pruneFlags) policy(c *cobra.Command, p checkpoint.Policy) (checkpoint.Policy, error) {
	given := c.Flags().Changed
	for _, x := range []struct {
		flag string
		v    int
		to   *int
	}{{"keep", f.keep, &p.Keep}, {"keep-every", f.keepEvery, &p.KeepEvery}, {"best", f.best, &p.Best}} {
		if given(x.flag) {
			if x.v < 0 {
				return p, usagef("--%s %d: want 0 or more", x.flag, x.v)
			}
			*x.to = x.v
		}
	}
	if given("metric") || p.Metric == "" {
		m, ok := train.Kinds().Metric(f.metric)
		if !ok {
			return p, usagef("--metric %q: want %s", f.metric, metricNames())
		}
		p.Metric, p.Higher = m.Name, m.HigherIsBetter
	}
	if p.Keep == 0 && (given("keep-every") || given("best")) {
		return p, usagef("the run keeps all its checkpoints (checkpoint.keep 0): give --keep too")
	}
	return p, nil
}

func newCheckpointUpload() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "upload RUN-DIR [s3://BUCKET/PREFIX]",
		Short: "Bring a run's checkpoints to an object store, as a run with checkpoint.upload does",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
			defer cancel()
			done, err := run.Upload(ctx, args[0], append(args, "")[1], func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) })
			if err != nil {
				return err
			}
			return answer(c, asJSON, done, words(done.Text))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
