package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
)

// Check reads and decodes all of a data set. Its error says how many faults there
// are, of which kinds, and how to go on; a run.ResumableError says that ctx has
// ended it, and a usage.Error that Options cannot be.
func Check(ctx context.Context, o Options) (err error) {
	targets, err := o.targets()
	if err != nil {
		return err
	}
	out := o.Out
	l := &faultList{out: out, kinds: map[string]int{}, seen: map[string]bool{}}
	if o.JSON {
		l.out, l.all = nil, json.NewEncoder(out)
	}
	if o.File != "" {
		file, e := os.Create(o.File)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		w := io.Writer(file)
		if o.JSON {
			w = io.MultiWriter(out, file)
		}
		l.all = json.NewEncoder(w)
	}
	samples := 0
	for _, t := range targets {
		sum, err := t.survey(ctx, o.Progress, "checking", data.Survey{Threads: o.Threads, Fault: l.add}, data.Watch{Fault: l.add, Scans: o.Scans})
		samples = max(samples, sum.Samples) // each camera of a data set has all
		switch {
		case ctx.Err() != nil:
			if !o.JSON {
				fmt.Fprintf(out, "stopped: %s in what was checked\n", counted(l.n, "fault"))
			}
			return errors.Join(l.err, run.ResumableError{Text: "stopped by Ctrl-C before everything was checked"})
		case err != nil && o.JSON, err != nil && l.n > 0: // what the records left out have led to
			l.add(data.Fault{Kind: "data", What: err.Error()})
		case err != nil:
			return err
		case o.JSON:
			l.err = errors.Join(l.err, json.NewEncoder(out).Encode(map[string]any{"event": "summary", "summary": sum}))
		default:
			fmt.Fprint(out, sum.Text(false))
		}
	}
	if o.JSON {
		l.err = errors.Join(l.err, json.NewEncoder(out).Encode(map[string]any{"event": "end", "samples": samples, "faults": l.n, "kinds": l.kinds}))
	}
	switch {
	case l.err != nil:
		return l.err
	case l.n > 0:
		return fmt.Errorf("%s: %s (%s)\n%s", o.Arg, counted(l.n, "fault"), l.counts(), l.wayOn())
	case !o.JSON:
		fmt.Fprintf(out, "%s: all %d samples are read and decoded, and nothing is wrong\n", o.Arg, samples)
	}
	return nil
}

// Info sums a data set up. Its errors are of Check's kinds; one sample that
// cannot be decoded is one.
func Info(ctx context.Context, o Options) error {
	targets, err := o.targets()
	if err != nil {
		return err
	}
	out := o.Out
	faults, first := 0, ""
	for _, t := range targets {
		sum, err := t.survey(ctx, o.Progress, "looking at", data.Survey{Threads: o.Threads, Fault: func(f data.Fault) {
			if faults++; faults == 1 {
				first = f.String()
			}
		}}, data.Watch{Scans: o.Scans})
		switch {
		case ctx.Err() != nil:
			return run.ResumableError{Text: "stopped by Ctrl-C"}
		case err != nil:
			return fmt.Errorf("%w\nlist all that is wrong: coordinator data check %s", err, plain.ShellWord(o.Arg))
		case o.JSON:
			if err := json.NewEncoder(out).Encode(sum); err != nil {
				return err
			}
		default:
			fmt.Fprint(out, sum.Text(false))
		}
	}
	if faults > 0 {
		return fmt.Errorf("%s cannot be used; the first: %s\nlist all that is wrong: coordinator data check %s", counted(faults, "sample"), first, plain.ShellWord(o.Arg))
	}
	return nil
}
