package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

// dataFlags are the flags of data check and data info.
type dataFlags struct {
	set     []string
	asJSON  bool
	out     string
	threads int
}

func newData() *cobra.Command {
	c := &cobra.Command{
		Use:   "data",
		Short: "Look at a data set: check all of it, or sum it up",
		RunE:  func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(newDataCheck(), newDataInfo())
	return c
}

func newDataCheck() *cobra.Command {
	var f dataFlags
	c := &cobra.Command{
		Use:   "check JOB.yaml|PATH",
		Short: "Decode every picture and read every record, and list all that is wrong",
		Long: `Decode every picture and read every record of a data set, and list all that is
wrong: file, record or line, episode and frame. PATH is a data set without a
job: a folder with manifest.jsonl, an RLDS folder with dataset_info.json (all of
its cameras), or a .safetensors file.

The first ` + fmt.Sprint(faultsShown) + ` faults are printed, and how many there are of each kind; --json and
--out have them all, one JSON object a line.

Exit codes:
  0  everything is read and decoded, and nothing is wrong
  1  there are faults
  2  wrong usage, or a mistake in the job file
  3  stopped by Ctrl-C; the faults found so far are listed`,
		Example: "  coordinator data check examples/bridge.yaml --set data.path=/data/bridge\n  coordinator data check /data/bridge --out faults.jsonl",
		Args:    exactArgs("JOB.yaml|PATH"),
		RunE:    func(c *cobra.Command, args []string) error { return checkData(c, args[0], &f) },
	}
	f.register(c)
	c.Flags().StringVar(&f.out, "out", "", "file for all faults, one JSON object a line")
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

Exit codes:
  0  done
  1  the data cannot be opened, or a picture does not decode; data check lists all faults
  2  wrong usage, or a mistake in the job file
  3  stopped by Ctrl-C`,
		Example: "  coordinator data info examples/bridge.yaml\n  coordinator data info /data/bridge --json",
		Args:    exactArgs("JOB.yaml|PATH"),
		RunE:    func(c *cobra.Command, args []string) error { return infoData(c, args[0], &f) },
	}
	f.register(c)
	return c
}

func (f *dataFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringArrayVar(&f.set, "set", nil, "override a key of the job file, e.g. --set data.path=DIR (repeatable)")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object a line on standard output")
	fl.IntVar(&f.threads, "threads", runtime.GOMAXPROCS(0), "threads that decode")
}

// target is one data set to look at: of a job, or one camera of a path.
type target struct {
	cfg   job.Data
	wants models.Spec
	seed  uint64
	base  string
	free  bool // no model says what size pictures become
}

// targets reads the argument of a data command: a job file, or a data set.
func (f *dataFlags) targets(arg string) ([]target, error) {
	if f.threads < 1 || f.threads > 1024 {
		return nil, usagef("--threads %d: want 1 to 1024", f.threads)
	}
	if ext := filepath.Ext(arg); ext == ".yaml" || ext == ".yml" {
		j, err := train.Kinds().Load(arg, f.set)
		if err != nil {
			return nil, err
		}
		base, err := filepath.Abs(filepath.Dir(arg))
		return []target{{j.Data, data.WantsOf(j.Model.Options), j.Seed, base, false}}, err
	}
	if len(f.set) > 0 {
		return nil, usagef("--set overrides keys of a job file, and %s is not one (.yaml)", arg)
	}
	found, err := data.Recognise(arg)
	var out []target
	for _, r := range found {
		out = append(out, target{r.Data, r.Wants, 0, ".", true})
	}
	return out, err
}

// faultsShown is how many faults are printed in full.
const faultsShown = 20

// faultList prints the first faults and counts all.
type faultList struct {
	out    io.Writer // for people; nil with --json
	all    *json.Encoder
	kinds  map[string]int
	seen   map[string]bool // of record faults, which each camera of a data set has anew
	n      int
	skip   []int // samples that data.skip could leave out
	others bool  // there are faults that it cannot
	err    error // of writing
}

func (l *faultList) add(f data.Fault) {
	if f.Sample == nil || f.Kind == "record" {
		if l.seen[f.What] {
			return
		}
		l.seen[f.What] = true
	}
	l.n++
	l.kinds[f.Kind]++
	if f.Sample != nil && len(l.skip) <= faultsShown {
		l.skip = append(l.skip, *f.Sample)
	}
	l.others = l.others || f.Sample == nil
	if l.all != nil {
		l.err = errors.Join(l.err, l.all.Encode(struct {
			Event string `json:"event"`
			data.Fault
		}{"fault", f}))
	}
	if l.out != nil && l.n <= faultsShown {
		text := f.String()
		if name := fmt.Sprintf("sample %d", ptrOr(f.Sample, -1)); f.Sample != nil && !strings.HasPrefix(text, name) {
			text = name + ": " + text // as data.skip takes it
		}
		fmt.Fprintf(l.out, "%s: %.400s\n", f.Kind, text)
	}
	if l.out != nil && l.n == faultsShown+1 {
		fmt.Fprintf(l.out, "… more are counted; --out FILE has them all\n")
	}
}

// counts are the kinds by name.
func (l *faultList) counts() string {
	var s []string
	for _, k := range []string{"line", "record", "file", "picture", "value", "data"} {
		if n := l.kinds[k]; n > 0 {
			s = append(s, fmt.Sprintf("%d of kind %s", n, k))
		}
	}
	return strings.Join(s, ", ")
}

// wayOn says how to go on.
func (l *faultList) wayOn() string {
	slices.Sort(l.skip)
	ids := slices.Compact(l.skip)
	s := "repair or replace what is named"
	if !l.others && len(ids) <= faultsShown {
		s += fmt.Sprintf(", or leave the samples out: --set data.skip='%s'", strings.ReplaceAll(fmt.Sprint(ids), " ", ","))
	} else if !l.others {
		s += ", or leave the samples out: data.skip lists them by their numbers, which --out FILE has"
	}
	return s + "; a run that stands is resumed with --resume --accept-data-change"
}

func checkData(c *cobra.Command, arg string, f *dataFlags) (err error) {
	targets, err := f.targets(arg)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	l := &faultList{out: out, kinds: map[string]int{}, seen: map[string]bool{}}
	if f.asJSON {
		l.out, l.all = nil, json.NewEncoder(out)
	}
	if f.out != "" {
		file, err := os.Create(f.out)
		if err != nil {
			return err
		}
		defer func() { l.err = errors.Join(l.err, file.Close()) }()
		w := io.Writer(file)
		if f.asJSON {
			w = io.MultiWriter(out, file)
		}
		l.all = json.NewEncoder(w)
	}
	ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
	defer cancel()
	samples := 0
	for _, t := range targets {
		sum, err := t.survey(ctx, c.ErrOrStderr(), "checking", data.Survey{Threads: f.threads, Fault: l.add}, data.Watch{Fault: l.add, Scans: scanDir()})
		samples = max(samples, sum.Samples) // each camera of a data set has all
		switch {
		case ctx.Err() != nil:
			if !f.asJSON {
				fmt.Fprintf(out, "stopped: %s in what was checked\n", counted(l.n, "fault"))
			}
			return errors.Join(l.err, run.ResumableError{Text: "stopped by Ctrl-C before everything was checked"})
		case err != nil && f.asJSON, err != nil && l.n > 0: // what the records left out have led to
			l.add(data.Fault{Kind: "data", What: err.Error()})
		case err != nil:
			return err
		case f.asJSON:
			l.err = errors.Join(l.err, json.NewEncoder(out).Encode(map[string]any{"event": "summary", "summary": sum}))
		default:
			fmt.Fprint(out, sum.Text(false))
		}
	}
	if f.asJSON {
		l.err = errors.Join(l.err, json.NewEncoder(out).Encode(map[string]any{"event": "end", "samples": samples, "faults": l.n, "kinds": l.kinds}))
	}
	switch {
	case l.err != nil:
		return l.err
	case l.n > 0:
		return fmt.Errorf("%s: %s (%s)\n%s", arg, counted(l.n, "fault"), l.counts(), l.wayOn())
	case !f.asJSON:
		fmt.Fprintf(out, "%s: all %d samples are read and decoded, and nothing is wrong\n", arg, samples)
	}
	return nil
}

// survey opens a target and looks at its samples.
func (t target) survey(ctx context.Context, screen io.Writer, what string, s data.Survey, w data.Watch) (data.Summary, error) {
	v := view.NewScan(screen, "scanning")
	defer v.End()
	w.Progress = v.Progress
	d, err := data.OpenContext(ctx, t.cfg, t.wants, t.seed, t.base, nil, w)
	if err != nil {
		return data.Summary{}, err
	}
	defer d.Close()
	v.End()
	v = view.NewScan(screen, what)
	defer v.End()
	s.Progress, s.AnySize = v.Progress, t.free
	return d.Survey(ctx, s)
}

func infoData(c *cobra.Command, arg string, f *dataFlags) error {
	targets, err := f.targets(arg)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
	defer cancel()
	out := c.OutOrStdout()
	faults, first := 0, ""
	for _, t := range targets {
		sum, err := t.survey(ctx, c.ErrOrStderr(), "looking at", data.Survey{Threads: f.threads, Fault: func(f data.Fault) {
			if faults++; faults == 1 {
				first = f.String()
			}
		}}, data.Watch{Scans: scanDir()})
		switch {
		case ctx.Err() != nil:
			return run.ResumableError{Text: "stopped by Ctrl-C"}
		case err != nil:
			return fmt.Errorf("%w\nlist all that is wrong: coordinator data check %s", err, plain.ShellWord(arg))
		case f.asJSON:
			if err := json.NewEncoder(out).Encode(sum); err != nil {
				return err
			}
		default:
			fmt.Fprint(out, sum.Text(false))
		}
	}
	if faults > 0 {
		return fmt.Errorf("%s cannot be used; the first: %s\nlist all that is wrong: coordinator data check %s", counted(faults, "sample"), first, plain.ShellWord(arg))
	}
	return nil
}

// counted is a number with its word in the right form.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", view.Grouped(int64(n)), what)
}

func ptrOr(p *int, or int) int {
	if p == nil {
		return or
	}
	return *p
}
