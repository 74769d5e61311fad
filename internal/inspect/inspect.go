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
	"github.com/vlaring/vlaring/pkg/train"
)

// Check reads and decodes all of a data set. Its error says how many faults there
// are, of which kinds, and how to go on; a run.ResumableError says that ctx has
// ended it, and a usage.Error that Options cannot be.
func Check(ctx context.Context, o Options) (err error) {
	t, err := o.target()
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
	tell := func(sum data.Summary) error {
		if o.JSON {
			return json.NewEncoder(out).Encode(map[string]any{"event": "summary", "summary": sum})
		}
		_, err := fmt.Fprint(out, sum.Text(false))
		return err
	}
	sum, told, err := o.survey(ctx, t, "checking", data.Survey{Fault: l.add}, data.Watch{Fault: l.add}, tell)
	switch {
	case ctx.Err() != nil:
		if !o.JSON {
			fmt.Fprintf(out, "stopped: %s in what was checked\n", counted(l.n, "fault"))
		}
		return errors.Join(l.err, run.ResumableError{Text: "stopped by Ctrl-C before everything was checked"})
	case err != nil && o.JSON, err != nil && l.n > 0: // what the records left out have led to
		l.add(data.Fault{Kind: "data", What: err.Error()})
	case err != nil:
		return train.Placed(err, o.Arg, o.Set)
	}
	l.err = errors.Join(l.err, told)
	if o.JSON {
		l.err = errors.Join(l.err, json.NewEncoder(out).Encode(map[string]any{"event": "end", "samples": sum.Samples, "faults": l.n, "kinds": l.kinds}))
	}
	switch {
	case l.err != nil:
		return l.err
	case l.n > 0:
		return fmt.Errorf("%s: %s (%s)\n%s", o.Arg, counted(l.n, "fault"), l.counts(), l.wayOn())
	case !o.JSON:
		fmt.Fprintf(out, "%s: all %d samples are read and decoded, and nothing is wrong\n", o.Arg, sum.Samples)
	}
	return nil
}

// Info sums a data set up. Its errors are of Check's kinds; one sample that
// cannot be decoded is one.
func Info(ctx context.Context, o Options) error {
	t, err := o.target()
	if err != nil {
		return err
	}
	out := o.Out
	faults, first := 0, ""
	tell := func(sum data.Summary) error {
		if o.JSON {
			return json.NewEncoder(out).Encode(sum)
		}
		_, err := fmt.Fprint(out, sum.Text(false))
		return err
	}
	_, told, err := o.survey(ctx, t, "looking at", data.Survey{Fault: func(f data.Fault) {
		if faults++; faults == 1 {
			first = f.String()
		}
	}}, data.Watch{}, tell)
	switch {
	case ctx.Err() != nil:
		return run.ResumableError{Text: "stopped by Ctrl-C"}
	case err != nil:
		return o.opening(err)
	case told != nil:
		return told
	}
	if faults > 0 {
		return fmt.Errorf("%s cannot be used; the first: %s\nlist all that is wrong: coordinator data check %s", counted(faults, "sample"), first, plain.ShellWord(o.Arg))
	}
	return nil
}
