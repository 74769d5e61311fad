package cli

import (
	"context"
	"fmt"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/inspect"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/data"
)

// dataFlags are the flags of data check and data info.
type dataFlags struct{ inspect.Options }

// run does what looks at the data set that the argument names, until a signal.
func (f *dataFlags) run(look func(context.Context, inspect.Options) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		o := f.Options
		o.Arg, o.Scans, o.Out, o.Progress = args[0], scanDir(), c.OutOrStdout(), c.ErrOrStderr()
		if inspect.IsPage(o.File) {
			o.File, o.Page = "", o.File
		}
		ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
		defer cancel()
		return look(ctx, o)
	}
}

func newData() *cobra.Command {
	return group(&cobra.Command{Use: "data", Short: "Look at a data set, convert one, or import its videos"},
		newDataCheck(), newDataInfo(), newDataStats(), newDataImport(), newDataConvert())
}

func newDataCheck() *cobra.Command {
	var f dataFlags
	c := &cobra.Command{
		Use:   "check JOB.yaml|PATH",
		Short: "Decode every picture and read every record, and list all that is wrong",
		Long: `Decode every picture and read every record of a data set, and list all that is
wrong: file, record or line, episode and frame. PATH is a data set without a
job, with all its cameras and its state: a LeRobot data set, a folder with
manifest.jsonl, an RLDS folder with dataset_info.json, or a .safetensors file.

The first ` + fmt.Sprint(inspect.FaultsShown) + ` faults are printed, and how many there are of each kind; --json and
--out have them all, one JSON object a line. --out page.png draws samples instead,
as for data info.

Exit codes:
  0  everything is read and decoded, and nothing is wrong
  1  there are faults
  2  wrong usage, or a mistake in the job file
  3  stopped by Ctrl-C; the faults found so far are listed`,
		Example: "  coordinator data check examples/bridge.yaml --set data.path=/data/bridge\n  coordinator data check /data/bridge --out faults.jsonl",
		Args:    exactArgs("JOB.yaml|PATH"),
		RunE:    f.run(inspect.Check),
	}
	f.register(c)
	f.scripts(c)
	c.Flags().StringVar(&f.File, "out", "", "file for all faults, one JSON object a line; page.png: a page of samples")
	return c
}

func newDataInfo() *cobra.Command {
	var f dataFlags
	c := &cobra.Command{
		Use:   "info JOB.yaml|PATH",
		Short: "Sum up a data set: episodes, pictures, instructions, actions, and what is odd",
		Long: `Sum up a data set: episodes, samples, the held-out split, pictures,
instructions, action dimensions, and what is odd about them. All pictures are
decoded. PATH is a data set without a job, as for data check.

--out page.png draws samples of different episodes as the model sees them:
pictures, as they are and as data.augment changes them, instruction, actions and
state before the range that they have in training.

Exit codes:
  0  done
  1  the data cannot be opened, or a picture does not decode; data check lists all faults
  2  wrong usage, or a mistake in the job file
  3  stopped by Ctrl-C`,
		Example: "  coordinator data info examples/bridge.yaml\n  coordinator data info /data/bridge --json\n  coordinator data info examples/metaworld.yaml --out page.png",
		Args:    exactArgs("JOB.yaml|PATH"),
		RunE:    f.run(inspect.Info),
	}
	f.register(c)
	f.scripts(c)
	c.Flags().StringVar(&f.Page, "out", "", "draw samples on a page: page.png")
	return c
}

func newDataStats() *cobra.Command {
	var f dataFlags
	c := &cobra.Command{
		Use:   "stats JOB.yaml|PATH",
		Short: "The statistics of actions and state, and what normalisation makes of them",
		Long: `Tell the statistics of all numbers that are normalised, actions and state, over
the training split: mean, standard deviation, least and largest value, 1 % and
99 % quantiles of each dimension, what the least and the largest become, and what
is odd about them. No picture is decoded, but for --out page.png: a page of samples,
as of data info. PATH is as for data check.

Exit codes:
  0  done
  1  the data cannot be opened
  2  wrong usage, or a mistake in the job file
  3  stopped by Ctrl-C`,
		Example: "  coordinator data stats examples/bridge.yaml --set data.normalize=quantile\n  coordinator data stats /data/bridge --json",
		Args:    exactArgs("JOB.yaml|PATH"),
		RunE:    f.run(inspect.Stats),
	}
	f.register(c)
	f.scripts(c)
	c.Flags().StringVar(&f.Page, "out", "", "draw samples on a page: page.png")
	return c
}

func newDataImport() *cobra.Command {
	var f dataFlags
	var from data.Import
	c := &cobra.Command{
		Use:   "import JOB.yaml|PATH",
		Short: "Decode the videos of a LeRobot data set once, into frames that training reads",
		Long: `Decode the videos of a LeRobot data set once, with the ffmpeg on the PATH, into a
frame store beside the data: pixels of at most --size a side, from which
training, checks and workers read. It says first what that will take. Stopped or
killed, the same command goes on with the videos that are missing.

Exit codes:
  0  the frames of all videos are there
  1  failed, or a video is faulty; the others are imported
  2  wrong usage, or a mistake in the job file
  3  stopped by Ctrl-C; what is done is kept`,
		Example: "  coordinator data import job.yaml\n  coordinator data import /data/g1 --size 224 --camera cam_high",
		Args:    exactArgs("JOB.yaml|PATH"),
		RunE: f.run(func(ctx context.Context, o inspect.Options) error {
			return inspect.Import(ctx, o, from)
		}),
	}
	f.register(c)
	fl := c.Flags()
	fl.StringArrayVar(&from.Cameras, "camera", nil, "camera whose videos are imported (repeatable; default: the job's, or all)")
	fl.IntVar(&from.Size, "size", 0, "longest side of a frame, in pixels (default: model.image_size of the job, or 224)")
	fl.StringVar(&from.Frames, "frames", "", "folder of the frame store (default: .vlaring/frames in the data set)")
	return c
}

func (f *dataFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringArrayVar(&f.Set, "set", nil, "override a key of the job file, e.g. --set data.path=DIR (repeatable)")
	threadsFlag(c, &f.Threads, machine.Threads(), "threads that decode")
}

func (f *dataFlags) scripts(c *cobra.Command) {
	c.Flags().BoolVar(&f.JSON, "json", false, "print one JSON object a line on standard output")
}
