package page

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
)

// stored is a checkpoint on the disk.
type stored struct {
	Step     uint64 `json:"step"`
	Bytes    int64  `json:"bytes"`
	Created  int64  `json:"created"` // ms; 0: it does not say
	State    string `json:"state"`
	Problem  string `json:"problem,omitempty"`
	Latest   bool   `json:"latest,omitempty"`
	Loss     number `json:"loss,omitempty"` // mean of the training steps before it
	Best     bool   `json:"best,omitempty"`
	Metric   string `json:"metric,omitempty"`  // by which it is
	Checked  string `json:"checked,omitempty"` // what reading every byte of it has found: good, or what is wrong
	Checking bool   `json:"checking,omitempty"`
}

// checks are the checkpoints of a run that were read to the last byte since the page
// was opened, one at a time.
type checks struct {
	mu   sync.Mutex
	done atomic.Int64
	of   map[checked]string
	now  map[uint64]bool
}

// checked is a checkpoint as it was when it was read: one that is stored again is another.
type checked struct {
	step  uint64
	bytes int64
	made  int64
}

// listCheckpoints lists what lies in the run's checkpoints, if that folder is below root.
func (r *reader) listCheckpoints(root *os.Root, j *job.Job) ([]stored, error) {
	list := []stored{}
	if i, err := root.Stat("checkpoints"); err != nil || !i.IsDir() {
		return list, nil
	}
	entries, err := r.entries(root)
	if err != nil {
		return list, err
	}
	metric, higher := "", false
	if j != nil && j.Checkpoint.Best.Count > 0 {
		metric, higher = j.Checkpoint.Best.Metric, j.Best().HigherIsBetter
	} else if slices.Contains(r.held.names(), "loss") {
		metric = job.Held + "loss"
	}
	best := r.bestStep(entries, metric, higher)
	r.checks.mu.Lock()
	defer r.checks.mu.Unlock()
	for _, e := range entries {
		s := stored{Step: e.Step, Bytes: e.Size, State: e.State.String(), Problem: e.Problem, Latest: e.Latest, Checking: r.checks.now[e.Step],
			Checked: r.checks.of[checked{e.Step, e.Size, e.Created.UnixNano()}]}
		if !e.Created.IsZero() {
			s.Created = e.Created.UnixMilli()
		}
		if e.Training != nil {
			s.Loss = number(e.Training.Loss)
		}
		if best != 0 && e.Step == best {
			s.Best, s.Metric = true, metric
		}
		list = append(list, s)
	}
	return list, nil
}

// entriesKept is how long a list of checkpoints counts while its folder is the same:
// what goes wrong within one of them does not show there.
const entriesKept = time.Minute

// entries are the run's checkpoints. Their manifests are read again where one was
// stored or removed, which changes the folder: there may be very many.
func (r *reader) entries(root *os.Root) ([]checkpoint.Entry, error) {
	i, err := root.Stat("checkpoints")
	if err != nil {
		return nil, err
	}
	if now := r.now(); i.ModTime() != r.listed.changed || now.Sub(r.listed.at) > entriesKept || now.Sub(i.ModTime()) < 2*time.Second { // clocks of file systems are coarse
		r.listed.entries, r.listed.err = checkpoint.List(filepath.Join(r.spot.path(), "checkpoints"))
		r.listed.changed, r.listed.at = i.ModTime(), now
	}
	return r.listed.entries, r.listed.err
}

// bestStep is the step of the best of entries by metric; 0: it is of none.
func (r *reader) bestStep(entries []checkpoint.Entry, metric string, higher bool) (best uint64) {
	held, isHeld := strings.CutPrefix(metric, job.Held)
	var top float64
	for _, e := range entries {
		v, has := 0.0, false
		if isHeld {
			v, has = r.held.at(e.Step, held)
		} else if metric == "loss" && e.Training != nil {
			v, has = e.Training.Loss, true
		}
		if has && (best == 0 || higher && v > top || !higher && v < top) {
			best, top = e.Step, v
		}
	}
	return best
}

// at is the value of key at a step that has a bucket of its own.
func (c *curve) at(step uint64, key string) (float64, bool) {
	k, known := c.number[key]
	i, found := slices.BinarySearchFunc(c.spans, step, func(s span, step uint64) int {
		switch {
		case s.last < step:
			return -1
		case s.first > step:
			return 1
		}
		return 0
	})
	if !known || !found || i >= len(c.columns[k]) || c.columns[k][i].n == 0 {
		return 0, false
	}
	return c.columns[k][i].sum / float64(c.columns[k][i].n), true
}

// verify has the checkpoint of a step read to the last byte, beside whoever asks. one is
// held while it is read: the disk is the training's.
func (r *reader) verify(step uint64, one chan struct{}) error {
	root, err := r.spot.open()
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := root.Stat(filepath.Join("checkpoints", checkpoint.DirName(step))); err != nil {
		return err
	}
	dir := filepath.Join(r.spot.path(), "checkpoints")
	entries, err := checkpoint.List(dir)
	if err != nil {
		return err
	}
	c := &r.checks
	for _, e := range entries {
		if e.Step != step {
			continue
		}
		is := checked{e.Step, e.Size, e.Created.UnixNano()}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.now == nil {
			c.now, c.of = map[uint64]bool{}, map[checked]string{}
		}
		if c.now[step] || c.of[is] != "" || len(c.of) > maxRuns {
			return nil
		}
		c.now[step] = true
		go func() {
			one <- struct{}{}
			rep := checkpoint.Verify(filepath.Join(dir, checkpoint.DirName(step)))
			<-one
			found := "good"
			if !rep.OK {
				found = strings.Join(rep.Problems, "; ")
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.now, step)
			c.of[is] = found
			c.done.Add(1)
		}()
		return nil
	}
	return nil
}
