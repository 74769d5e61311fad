package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/convert"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
)

func newDataConvert() *cobra.Command {
	var o convert.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "convert SHARD... OUT",
		Short: "Make a LeRobot data set, or a folder, of WebDataset shards",
		Long: `Make a data set that jobs train from of WebDataset shards: OUT becomes a LeRobot
3.0 data set (data.kind: lerobot) where the samples say which episode they are
of, and a folder with manifest.jsonl (data.kind: folder) where each stands by
itself. SHARD is a tar archive, also compressed by gzip; {000..123} stands for
several, and - for standard input. docs/data.md says what samples hold.

HDF5 files of robomimic and LIBERO go through tools/hdf5_shards.py, which needs
Python and h5py.

OUT gets its name when all of it is written. Stopped or killed, the same command
goes on behind the last table, or 2,000 samples of a folder, that is whole, to the
same result; until then these stand in .OUT.converting. A shard that was not begun
may be repaired before.

Exit codes:
  0  done
  1  a shard cannot be read, or its samples are not alike
  2  wrong usage
  3  stopped by Ctrl-C; what is done is kept`,
		Example: "  coordinator data convert 'shards/push-{000..015}.tar' /data/push --fps 10\n  python tools/hdf5_shards.py demo.hdf5 | coordinator data convert - /data/demo",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("%s wants shards and a folder to make, and got %d argument(s)\nusage: %s", c.CommandPath(), len(args), c.UseLine())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			last := len(args) - 1
			o.Shards, o.Out, o.Stdin = args[:last], args[last], c.InOrStdin()
			switch o.Form {
			case convert.Auto, convert.LeRobot, convert.Folder:
			default:
				return usage.Errorf("--form %s: want auto, lerobot or folder", o.Form)
			}
			if o.FPS < 0 {
				return usage.Errorf("--fps %v: want frames a second", o.FPS)
			}
			ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
			defer cancel()
			v := view.NewScan(c.ErrOrStderr(), "converting")
			defer v.End()
			o.Progress = func(frames int, done, total int64) {
				v.Progress(data.Progress{Path: fmt.Sprintf("%s samples", view.Grouped(int64(frames))), Done: done >> 20, Total: total >> 20, Unit: "MiB"})
			}
			r, err := convert.Run(ctx, o)
			v.End()
			switch {
			case ctx.Err() != nil && errors.Is(err, ctx.Err()):
				return run.ResumableError{Text: "stopped by Ctrl-C" + kept(err)}
			case err != nil:
				return fmt.Errorf("%w%s", err, kept(err))
			case asJSON:
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			out := c.OutOrStdout()
			if r.Before > 0 {
				fmt.Fprintf(out, "%s frames were done before\n", view.Grouped(int64(r.Before)))
			}
			fmt.Fprintf(out, "%s: %d frames, %d episodes, %d tasks, as data.kind %s\n", o.Out, r.Frames, r.Episodes, r.Tasks, r.Form)
			for _, f := range r.Features {
				fmt.Fprintf(out, "  %s\n", f)
			}
			if len(r.Passed) > 0 {
				fmt.Fprintf(out, "passed over: %s\n", strings.Join(slices.Sorted(maps.Keys(r.Passed)), ", "))
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.Form, "form", convert.Auto, "what OUT becomes: auto, lerobot or folder")
	c.Flags().Float64Var(&o.FPS, "fps", 0, "frames a second (default: as the samples say)")
	c.Flags().StringVar(&o.Robot, "robot", "", "what the data set calls the robot")
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	c.Flags().BoolVar(&o.Afresh, "afresh", false, "begin anew, whatever an earlier conversion to OUT has done")
	return c
}

// kept says what a conversion that ended with err has done.
func kept(err error) string {
	var un *convert.Unfinished
	if !errors.As(err, &un) {
		return "; nothing is written"
	}
	return fmt.Sprintf("; %s frames are done and kept, and the same command goes on behind them", view.Grouped(int64(un.Frames)))
}
