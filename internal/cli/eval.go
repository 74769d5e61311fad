package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
)

func newEval() *cobra.Command {
	var dir, path, split string
	var threads, samples int
	var asJSON, exits bool
	var plot, weights, set string
	c := &cobra.Command{
		Use:   "eval --checkpoint DIR",
		Short: "Measure a checkpoint on the held-out split, or on other data",
		Long: `Measure a checkpoint on the held-out split of the data it was trained on: the
error of each degree of freedom in physical units, beside that of always
predicting the training mean. DIR is a checkpoint, or a run directory for its
newest one.

--data names where that data is here, or other data of the same features, such
as a test set: then all of it is measured, with the checkpoint's vocabulary and
statistics, unless --split says heldout or train, which divide it as the job does.

A checkpoint of a job with optimizer.ema is measured with its averaged weights;
--weights raw takes those that were trained.

--exits measures a model with model.exits instead: error against latency, for
every exit and for thresholds of doubt that let each sample choose its depth.`,
		Example: "  coordinator eval --checkpoint runs/bridge\n  coordinator eval --checkpoint runs/bridge/checkpoints/step-00000100 --data /data/bridge --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"", "heldout", "train", "all"}, split) {
				return usagef("--split %q: want heldout, train or all", split)
			}
			m, err := openToMeasure(dir, path, split, set)
			if err != nil {
				return err
			}
			defer m.Close()
			if err := m.Use(weights); err != nil {
				return err
			}
			if m.Other != "" {
				fmt.Fprintln(c.ErrOrStderr(), m.Other)
			}
			src, split, err := m.Source(split)
			if err != nil {
				return err
			}
			if samples < 0 || samples > 0 && !exits {
				return usagef("--samples %d: want a number of samples from 1 with --exits, or none for all", samples)
			}
			if plot != "" && !exits {
				return usagef("--plot draws what --exits measures: give both")
			}
			if exits {
				rep, err := m.Exits(c.Context(), src, split, threads, samples)
				if err != nil {
					return err
				}
				if plot != "" {
					if err := view.PlotExits(plot, rep, fmt.Sprintf("%s, step %d: error against latency", m.Job.Name, m.Step)); err != nil {
						return err
					}
				}
				if asJSON {
					return printJSON(c.OutOrStdout(), rep)
				}
				fmt.Fprint(c.OutOrStdout(), rep.Text(split))
				sayWeights(c.OutOrStdout(), m.Said())
				return nil
			}
			rep, err := m.Evaluate(c.Context(), src, split, threads)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), rep)
			}
			fmt.Fprint(c.OutOrStdout(), rep.Text())
			return nil
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	fl.StringVar(&path, "data", "", "where the data is here, or other data of the same features (default: as in the job)")
	fl.StringVar(&set, "data-set", "", "of a mixture: the set whose statistics count, measured alone")
	fl.StringVar(&split, "split", "", "heldout, train or all (default: heldout; all of other data)")
	weightsFlag(c, &weights)
	threadsFlag(c, &threads, machine.Threads(), "compute threads")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	fl.BoolVar(&exits, "exits", false, "measure the exits of a model with model.exits: error against latency")
	fl.IntVar(&samples, "samples", 0, "with --exits: the first so many samples alone, since they run one at a time; 0: all")
	fl.StringVar(&plot, "plot", "", "with --exits: PNG file to draw the table to")
	return c
}

// weightsFlag is the option by which a command that opens a checkpoint takes its
// weights.
func weightsFlag(c *cobra.Command, weights *string) {
	c.Flags().StringVar(weights, "weights", "", "ema or raw: the averaged weights, or those that were trained (default: ema where the checkpoint has it)")
}

// sayWeights says which of a checkpoint's weights a result is of, where there is a choice: with the result, since beside an error it is noise.
func sayWeights(out io.Writer, said string) {
	if said != "" {
		fmt.Fprintln(out, said)
	}
}

// opened is a checkpoint that a command works with.
type opened struct{ *trained.Checkpoint }

// checkpointDir accepts a checkpoint, a checkpoints directory or a run directory.
func checkpointDir(dir string) (string, error) {
	if dir == "" {
		return "", usagef("--checkpoint DIR is missing: a directory such as runs/NAME/checkpoints/step-00000100, or runs/NAME for its newest")
	}
	dir, passed, err := trained.FindSaying(context.Background(), dir, func(line string) { fmt.Fprintln(os.Stderr, line) })
	for _, p := range passed {
		fmt.Fprintln(os.Stderr, p)
	}
	return dir, err
}

// openCheckpoint opens a checkpoint's model, verified, and then its data, if with
// says so: which is given the data's base.
func openCheckpoint(dir string, with func(c *trained.Checkpoint, base string) error) (opened, error) {
	dir, err := checkpointDir(dir)
	if err != nil {
		return opened{}, err
	}
	c, err := trained.Open(dir, train.Kinds())
	if err != nil {
		return opened{}, err
	}
	if with != nil {
		if err := with(c, run.BaseDir(c.Dir)); err != nil {
			c.Close()
			return opened{}, err
		}
	}
	return opened{c}, nil
}

// loadWeights opens a checkpoint's model, without its data, with the weights that are asked for; of a mixture with the
// statistics of the set called set, where it is named.
func loadWeights(dir, weights, set string) (opened, error) {
	m, err := openCheckpoint(dir, func(c *trained.Checkpoint, _ string) error { return c.OfSet(set) })
	if err != nil {
		return m, err
	}
	if err := m.Use(weights); err != nil {
		m.Close()
		return m, err
	}
	return m, nil
}

// openTrained also opens the data, at path where it is given.
func openTrained(dir, path string) (opened, error) {
	return openCheckpoint(dir, func(c *trained.Checkpoint, base string) error { return c.OpenData(base, path, scanDir()) })
}

// openToMeasure also opens what is to be measured: the data, or other data at path;
// of a mixture the set called set, or all.
func openToMeasure(dir, path, split, set string) (opened, error) {
	return openCheckpoint(dir, func(c *trained.Checkpoint, base string) error {
		if err := c.OfSet(set); err != nil {
			return err
		}
		return c.OpenToMeasure(base, path, split, scanDir())
	})
}
