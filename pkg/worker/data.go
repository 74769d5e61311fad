package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
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
func (w *Worker) openData(welcome *cluster.Welcome) (*source, error) {
	d := &source{job: w.job}
	if err := json.Unmarshal(welcome.Data, &d.meta); err != nil {
		return nil, fmt.Errorf("the coordinator's data description: %w", err)
	}
	base := w.DataDir
	if base == "" {
		base = welcome.BaseDir
	}
	if w.job.Data.Delivery != "bus" {
		set, err := train.OpenData(w.job, base, &d.meta)
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
		return w.Blobs.Get(ctx, CoordinatorPeer, name, limit)
	}}
	return d, nil
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
