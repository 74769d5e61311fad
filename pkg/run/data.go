package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// openedData is a job's data, and what is known of it.
type openedData struct {
	set     data.Dataset
	meta    data.Meta
	summary data.Summary
	bad     []data.Fault // of the samples that opening looked at
}

// surveyed is how many samples are decoded when a run opens its data.
const surveyed = 16

// openData opens the job's data, with the statistics and vocabulary of the
// checkpoint where there is one, and sums it up. Other data than the
// checkpoint's is refused unless the change is accepted. It hears the first
// Ctrl-C.
func (b *beginning) openData(ctx context.Context, hear *stops) (err error) {
	ctx, done := hear.during(ctx)
	defer func() {
		if reason := done(); reason != nil {
			if err == nil {
				b.data.set.Close()
			}
			err = b.stopped(reason, "while the data was opened")
		}
	}()
	progress, end := b.opt.UI.Scan()
	defer end()
	scans := b.opt.Scans
	if scans == nil { // it goes where the run goes
		scans = &data.ScanDir{Dir: b.dir.at("scans"), Least: data.LeastScan}
	}
	watch := data.Watch{Progress: progress, Scans: scans, Note: b.opt.UI.Line}
	var meta *data.Meta
	if from := b.from; from != nil {
		meta = new(data.Meta)
		if err := json.Unmarshal(from.Manifest.Data, meta); err != nil {
			return fmt.Errorf("%s: data: %w", from.Dir, err)
		}
		watch.Other = true
		if watch.Former, err = readIndex(b.dir.path, meta.Fingerprint); err != nil {
			b.opt.UI.Line(err.Error()) // what differs will not be known, no more
		}
	}
	set, err := train.OpenDataContext(ctx, b.job, b.opt.BaseDir, meta, watch)
	if errors.Is(err, data.ErrOtherData) || err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		var key *data.KeyError
		if errors.As(err, &key) {
			return err // of the job: the data is not at fault
		}
		if _, mixed := b.job.Data.Options.(data.Mixture); mixed || b.job.Data.Path != "" {
			err = fmt.Errorf("%w\nlist all that is wrong: %s", err, b.opt.Check)
		}
		return err
	}
	defer func() {
		if err != nil {
			set.Close()
		}
	}()
	b.data = openedData{set: set, meta: set.Meta()}
	if c := set.Change(); c != nil {
		if !b.opt.AcceptData || !b.opt.Resume { // workers that live on are given up: that takes --resume
			return fmt.Errorf("%w: %s\nbring the data back, or go on with it as it is now: %s --accept-data-change", data.ErrOtherData, c.Text(), b.opt.Again)
		}
		b.data.meta = data.Accept(*meta, b.data.meta, *c, b.start, b.job.Batch.Global)
		b.plan.otherWorkers = true // and their steps beyond the checkpoint are of other data
	}
	if b.data.summary, err = set.Survey(ctx, data.Survey{Samples: surveyed, Threads: b.opt.Threads, Fault: func(f data.Fault) {
		b.data.bad = append(b.data.bad, f)
	}}); err != nil {
		return err
	}
	return keepIndex(ctx, b.dir.path, set, b.data.meta.Fingerprint)
}

// show says what the data is, what is odd about it and what has changed. start is
// the step that the run goes on from, check the command that finds all faults.
func (d *openedData) show(v voice, start uint64, check string) {
	if d.summary.Path != "" {
		v.Event("data", strings.TrimSuffix(d.summary.Text(true), "\n"), map[string]any{"summary": d.summary})
	} else {
		v.Script("data", map[string]any{"summary": d.summary})
	}
	for _, f := range d.bad {
		v.log.Warn("the data: "+f.String(), zap.String("list all", check))
		v.Script("fault", map[string]any{"fault": f})
	}
	for _, f := range d.summary.Findings {
		v.log.Warn("the data: " + f.String())
		v.Script("finding", map[string]any{"finding": f})
	}
	if c := d.set.Change(); c != nil {
		text := "going on with changed data: " + c.Text()
		if c.Epoch {
			text += fmt.Sprintf("\na new epoch begins after step %d: from there on each of the %d training samples comes once an epoch", start, d.meta.Train)
		} else {
			text += "\nthe order of the samples stays what it was"
		}
		v.Event("data_change", text, map[string]any{"change": d.meta.Changes[len(d.meta.Changes)-1]})
	}
}

// scan is what was found in the data's files, encoded, by the name that a worker
// asks for.
func (d *openedData) scan(_ context.Context, name string) ([]byte, error) {
	for _, s := range d.set.Scans() {
		if worker.ScanPrefix+s.Name() == name {
			return s.Encode(), nil
		}
	}
	return nil, errors.New("no Scan is kept of this data")
}
