package cli

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/board"
	"github.com/vlaring/vlaring/internal/runlist"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

func newRuns() *cobra.Command {
	var asJSON, diffJSON, sendJSON, tensorBoard bool
	var out string
	var track []string
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
	send := &cobra.Command{Use: "send RUN", Short: "Send what a run has recorded to trackers, or to TensorBoard's files: nothing is there twice", Args: exactArgs("RUN"),
		RunE: func(c *cobra.Command, args []string) error {
			to, err := board.Sinks(tensorBoard, track)
			if err == nil && len(to) == 0 {
				err = usagef("where to? give --track trackio:URL, --track mlflow:URL or --tensorboard")
			}
			if err != nil {
				return err
			}
			sent, err := run.Send(c.Context(), args[0], train.Kinds(), Version(), to)
			if err != nil {
				return err
			}
			return answer(c, sendJSON, sent, words(func() string { return run.SentText(sent) }))
		}}
	send.Flags().StringArrayVar(&track, "track", nil, "a tracker: trackio:URL or mlflow:URL (repeatable)")
	send.Flags().BoolVar(&tensorBoard, "tensorboard", false, "write TensorBoard's event files into the run directory, without pictures")
	send.Flags().BoolVar(&sendJSON, "json", false, "print one JSON array")
	return group(&cobra.Command{Use: "runs", Short: "List runs, compare two, send one to a tracker"}, ls, diff, send)
}
