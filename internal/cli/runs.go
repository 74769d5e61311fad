package cli

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/runlist"
	"github.com/vlaring/vlaring/pkg/train"
)

func newRuns() *cobra.Command {
	c := &cobra.Command{Use: "runs", Short: "List runs, and compare two",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q: want ls or diff", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var asJSON, diffJSON bool
	var out string
	ls := &cobra.Command{Use: "ls [DIR]", Short: "List the runs in a directory: state, step, losses, best measure, speed", Args: upTo(1, "DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := runlist.List(cmp.Or(runDirArg(args, 0), "runs"), train.Kinds(), time.Now())
			if err != nil {
				return err
			}
			return answer(c, asJSON, list, words(func() string { return runlist.Table(list) }))
		}}
	ls.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	diff := &cobra.Command{Use: "diff A B", Short: "Compare two runs: keys of their jobs, bits, curves, final measures", Args: exactArgs("A", "B"),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := runlist.Compare(args[0], args[1], train.Kinds(), time.Now())
			if err != nil {
				return err
			}
			if out != "" {
				if err := d.Draw(out); err != nil {
					return err
				}
			}
			return answer(c, diffJSON, d, words(d.Text))
		}}
	diff.Flags().BoolVar(&diffJSON, "json", false, "print one JSON object, with the curves")
	diff.Flags().StringVar(&out, "out", "", "PNG file to draw the curves in")
	c.AddCommand(ls, diff)
	return c
}
