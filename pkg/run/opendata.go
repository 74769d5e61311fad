package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// surveyed is how many samples are decoded when a run opens its data.
const surveyed = 16

// openData opens the job's data, with the statistics and vocabulary of the
// checkpoint where there is one, and sums it up. Other data than the
// checkpoint's is refused unless the change is accepted. It hears the first
// Ctrl-C.
func (r *Run) openData(ctx context.Context, from *checkpoint.Found) (err error) {
	ctx, done := r.stoppable(ctx)
	defer func() {
		if reason := done(); reason != nil {
			if err == nil {
				r.dataset.Close()
			}
			err = fmt.Errorf("%w while the data was opened; no step was committed, so there is nothing to resume", reason)
			if from != nil {
				err = ResumableError{fmt.Sprintf("%v while the data was opened, at step %d\nresume with: %s", reason, r.start, r.again)}
			}
		}
	}()
	progress, end := r.ui.Scan()
	defer end()
	if r.scans == nil { // it goes where the run goes
		r.scans = &data.ScanDir{Dir: filepath.Join(r.dir, "scans"), Least: data.LeastScan}
	}
	watch := data.Watch{Progress: progress, Scans: r.scans}
	var meta *data.Meta
	if from != nil {
		meta = new(data.Meta)
		if err := json.Unmarshal(from.Manifest.Data, meta); err != nil {
			return fmt.Errorf("%s: data: %w", from.Dir, err)
		}
		watch.Other = true
		if watch.Former, err = readIndex(r.dir, meta.Fingerprint); err != nil {
			r.ui.Line(err.Error()) // what differs will not be known, no more
		}
	}
	set, err := train.OpenDataContext(ctx, r.job, r.baseDir, meta, watch)
	if errors.Is(err, data.ErrOtherData) || err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		if r.job.Data.Path != "" {
			err = fmt.Errorf("%w\nlist all that is wrong: %s", err, r.check)
		}
		return err
	}
	defer func() {
		if err != nil {
			set.Close()
		}
	}()
	r.dataset, r.meta = set, set.Meta()
	if c := set.Change(); c != nil {
		if !r.acceptData || !r.resume { // workers that live on are given up: that takes --resume
			return fmt.Errorf("%w: %s\nbring the data back, or go on with it as it is now: %s --accept-data-change", data.ErrOtherData, c.Text(), r.again)
		}
		r.meta = data.Accept(*meta, r.meta, *c, r.start, r.job.Batch.Global)
		r.plan.otherWorkers = true // and their steps beyond the checkpoint are of other data
	}
	if r.summary, err = set.Survey(ctx, data.Survey{Samples: surveyed, Threads: r.threads, Fault: func(f data.Fault) {
		r.badSamples = append(r.badSamples, f)
	}}); err != nil {
		return err
	}
	return r.keepIndex(ctx)
}

// offerScans lets workers have what was found in the data's files. It is encoded
// when somebody asks.
func (r *Run) offerScans(l *link) error {
	return l.blobs.OfferFunc(worker.ScanPrefix, func(_ context.Context, name string) ([]byte, error) {
		for _, s := range r.dataset.Scans() {
			if worker.ScanPrefix+s.Name() == name {
				return s.Encode(), nil
			}
		}
		return nil, errors.New("no Scan is kept of this data")
	})
}

// stoppable is a context that ends when somebody asks the run to stop. The
// function that comes with it ends that, and returns the reason if so.
func (r *Run) stoppable(ctx context.Context) (context.Context, func() error) {
	ctx, cancel := context.WithCancel(ctx)
	enough, ended := make(chan struct{}), make(chan struct{})
	var reason error
	go func() {
		defer close(ended)
		select {
		case s := <-r.stop:
			reason = errors.New(s)
			cancel()
		case <-enough:
		}
	}()
	return ctx, func() error {
		close(enough)
		<-ended
		cancel()
		return reason
	}
}

// showData says what the data is, what is odd about it and what has changed.
func (r *Run) showData() {
	if r.summary.Path != "" {
		r.view.Event("data", strings.TrimSuffix(r.summary.Text(true), "\n"), map[string]any{"summary": r.summary})
	} else {
		r.view.Script("data", map[string]any{"summary": r.summary})
	}
	for _, f := range r.badSamples {
		r.log.Warn("the data: "+f.String(), zap.String("list all", r.check))
		r.view.Script("fault", map[string]any{"fault": f})
	}
	for _, f := range r.summary.Findings {
		r.log.Warn("the data: " + f.String())
		r.view.Script("finding", map[string]any{"finding": f})
	}
	if c := r.dataset.Change(); c != nil {
		text := "going on with changed data: " + c.Text()
		if c.Epoch {
			text += fmt.Sprintf("\na new epoch begins after step %d: from there on each of the %d training samples comes once an epoch", r.start, r.meta.Train)
		} else {
			text += "\nthe order of the samples stays what it was"
		}
		r.view.Event("data_change", text, map[string]any{"change": r.meta.Changes[len(r.meta.Changes)-1]})
	}
}

// keptIndexes is how many indexes of its data a run directory keeps: the
// checkpoint that a run goes on from may be older than the newest change.
const keptIndexes = 8

func indexPath(dir, fingerprint string) string {
	hash := strings.TrimPrefix(fingerprint, "sha256:")
	return filepath.Join(dir, "data-"+hash[:min(12, len(hash))]+".index")
}

// keepIndex writes the index of the data to the run directory.
func (r *Run) keepIndex(ctx context.Context) error {
	path := indexPath(r.dir, r.meta.Fingerprint)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	x, err := r.dataset.Index(ctx)
	if errors.Is(err, data.ErrNoIndex) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, x.Encode(), 0o644); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(r.dir, "data-*.index"))
	if err != nil || len(old) <= keptIndexes {
		return err
	}
	age := map[string]int64{}
	for _, p := range old {
		if i, err := os.Stat(p); err == nil {
			age[p] = i.ModTime().UnixNano()
		}
	}
	slices.SortFunc(old, func(a, b string) int { return int((age[a] - age[b]) / 1e6) })
	for _, p := range old[:len(old)-keptIndexes] {
		if p != path {
			os.Remove(p)
		}
	}
	return nil
}

// maxIndexFile bounds the index of a data set.
const maxIndexFile = 1 << 34

// readIndex reads the index of the data with a fingerprint; nil if there is none.
func readIndex(dir, fingerprint string) (*data.Index, error) {
	path := indexPath(dir, fingerprint)
	b, err := regular.Read(path, maxIndexFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := data.DecodeIndex(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}
