package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/features"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// source is where a worker's samples come from.
type source struct {
	meta data.Meta
	feed data.Feed
	job  *job.Job
	set  data.Dataset // nil where the coordinator delivers
}

// openData uses the data on this machine where it is the coordinator's, and
// the coordinator's delivery otherwise, as data.delivery allows.
func (w *Worker) openData(ctx context.Context, welcome *cluster.Welcome) (*source, error) {
	d := &source{job: w.job}
	if err := json.Unmarshal(welcome.Data, &d.meta); err != nil {
		return nil, fmt.Errorf("the coordinator's data description: %w", err)
	}
	base := w.DataDir
	if base == "" {
		base = welcome.BaseDir
	}
	if w.job.Data.Delivery != "bus" {
		set, err := train.OpenDataContext(ctx, w.job, base, &d.meta, data.Watch{Scans: w.Scans, Theirs: w.coordinatorsScan,
			Progress: w.scanning(), Here: w.job.Data.Delivery != "local"})
		switch {
		case err == nil:
			d.set = set
			if d.feed, err = data.NewLocalFeed(set.Train(), train.Order(w.job, d.meta)); err != nil {
				set.Close()
				return nil, err
			}
			return d, nil
		case w.job.Data.Delivery == "local":
			return nil, fmt.Errorf("data.delivery is local: %w", err)
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, data.ErrOtherData):
			return nil, err
		}
		w.Log.Info("the data is not on this machine: the coordinator sends the samples", zap.Error(err))
	}
	d.feed = data.Delivered{Get: func(ctx context.Context, name string, limit int64) ([]byte, error) {
		return w.Blobs.Get(ctx, cluster.CoordinatorName, name, limit)
	}}
	return d, nil
}

// ScanPrefix begins the names under which the coordinator has its data's Scans, by
// their names, for workers that see the same files.
const ScanPrefix = "scan/"

// coordinatorsScan is a data.Watch's Theirs: the coordinator has none of data that
// is read in a moment, or of other data than here.
func (w *Worker) coordinatorsScan(ctx context.Context, name string) (*data.Scan, error) {
	b, err := w.Blobs.Get(ctx, cluster.CoordinatorName, ScanPrefix+name, data.MaxScan)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		var s *data.Scan
		if s, err = data.DecodeScan(b); err == nil {
			w.Log.Debug("the coordinator has scanned the data: it is not read again where it is the same here", zap.Int("bytes", len(b)))
			return s, nil
		}
	}
	w.Log.Debug("the data is scanned here", zap.Error(err))
	return nil, nil
}

// scanning is a data.Watch's Progress: a line in the log now and then, while the
// data takes long.
func (w *Worker) scanning() func(data.Progress) {
	said := time.Now()
	return func(p data.Progress) {
		if now := time.Now(); now.Sub(said) >= 10*time.Second {
			said = now
			w.Log.Info("scanning the data", zap.String("path", p.Path), zap.Int64("done", p.Done),
				zap.Int64("of", p.Total), zap.String("unit", p.Unit))
		}
	}
}

// keeping is where what frozen encoders make is kept, and how much of it.
func (w *Worker) keeping() features.Options {
	beside := ""
	if w.source.set != nil {
		beside = w.source.set.Beside()
	}
	o := features.Of(w.source.meta, beside, w.CacheDir, w.job.Train.CacheBytes(), true)
	o.Say = func(line string) {
		w.Log.Warn(line)
		w.agent.Tell(&cluster.Notice{Worker: w.ID, Text: line}) // of no use to anything but people: it may be lost
	}
	return o
}

func (d *source) Close() {
	if d.set != nil {
		d.set.Close()
	}
}

// ahead is how many micro-batches are read before they are needed.
const ahead = 4

// numbers turns places in the training split into the samples' numbers in the
// whole data set, where this worker has the data.
func (d *source) numbers(places []int) ([]int, bool) {
	if d.set == nil {
		return places, false
	}
	out := make([]int, len(places))
	for k, i := range places {
		n, ok := data.Number(d.set.Train(), i)
		if !ok {
			return places, false
		}
		out[k] = n
	}
	return out, true
}

// batches reads a generation's micro-batches ahead of the step loop.
func (d *source) batches(a *cluster.Assign) (*data.Prefetcher, error) {
	r := a.Group.Rank
	return data.NewPrefetcher(d.feed, d.meta, d.job.Batch.Micro, ahead, data.Range{Start: a.Step, End: uint64(d.job.Train.Steps),
		Lo: a.Group.Micro[r] * d.job.Batch.Group, Hi: a.Group.Micro[r+1] * d.job.Batch.Group})
}
