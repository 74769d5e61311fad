package run

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/bucket"
	"github.com/vlaring/vlaring/pkg/job"
)

// mirror keeps in an object store the checkpoints that retention keeps, of those on the
// disk and those that the store has already: so that a machine that began with an empty
// disk removes none that others are kept for.
type mirror struct {
	from   checkpoint.Place
	to     *bucket.Store
	job    *job.Job
	scores func(entries []checkpoint.Entry) map[uint64]float64
	fresh  bool // the run began anew: what is in the store is not its own

	admitted bool                        // what is in the store is this run's
	has      map[uint64]checkpoint.Entry // nil: to be asked
	bad      map[uint64]bool             // whose bytes on the disk are not their manifest's

	on func(step uint64, done, total int64) // progress of an upload

	wrong  sync.Mutex   // of what follows
	rid    *uint64      // what the store has after that step is to go first; nil: nothing is
	ridden func() error // is told once it has
}

// openMirror makes ready for the store that a job names; nil where it names none.
func openMirror(ctx context.Context, j *job.Job, dir string) (*mirror, error) {
	if j.Checkpoint.Upload == "" {
		return nil, nil
	}
	to, err := bucket.Open(ctx, j.Checkpoint.Upload)
	if err != nil {
		return nil, usage.Errorf("checkpoint.upload: %w", err)
	}
	return &mirror{from: checkpoint.Local(filepath.Join(dir, "checkpoints")), to: to, job: j, bad: map[uint64]bool{}, on: func(uint64, int64, int64) {},
		scores: func(entries []checkpoint.Entry) map[uint64]float64 {
			lines, _, err := ReadEval(dir, math.MaxUint64)
			if err != nil {
				lines = nil // what is best is not known now: the newest are kept
			}
			return scoresOf(PolicyOf(j).Metric, entries, lines)
		}}, nil
}

// ask finds out what the store has, and refuses another run's.
func (m *mirror) ask() error {
	if m.has != nil {
		return nil
	}
	entries, err := m.to.List()
	if err != nil {
		return err
	}
	if err := m.admit(entries); err != nil {
		return err
	}
	has := map[uint64]checkpoint.Entry{}
	for _, e := range entries {
		has[e.Step] = e
	}
	m.has = has
	return nil
}

// foreignError says that a store holds another run's checkpoints.
type foreignError struct{ text string }

func (e *foreignError) Error() string { return e.text }

func (m *mirror) admit(entries []checkpoint.Entry) error {
	if m.admitted || len(entries) == 0 {
		m.admitted = true
		return nil
	}
	newest := entries[len(entries)-1]
	if m.fresh {
		return &foreignError{fmt.Sprintf("checkpoint.upload: %s already holds checkpoints, up to step %d: go on from them with --resume, or give another prefix", m.to, newest.Step)}
	}
	man, err := m.to.Place().In(checkpoint.DirName(newest.Step)).ReadManifest()
	if errors.Is(err, checkpoint.ErrAway) {
		return err
	}
	if err == nil && man.Job != m.job.Name {
		return &foreignError{fmt.Sprintf("checkpoint.upload: %s holds checkpoints of job %q, and this is job %q: give another prefix", m.to, man.Job, m.job.Name)}
	}
	m.admitted = true
	return nil
}

// wanted says which checkpoints of the disk the store lacks, the newest first, and
// which of the store go. It decides, and asks nobody.
func wanted(local []checkpoint.Entry, has map[uint64]checkpoint.Entry, p checkpoint.Policy, scores func([]checkpoint.Entry) map[uint64]float64) (put []checkpoint.Entry, remove []checkpoint.Decision) {
	all := map[uint64]checkpoint.Entry{}
	for step, e := range has {
		e.Latest = e.Latest && len(local) == 0
		all[step] = e
	}
	here := map[uint64]bool{}
	for _, e := range local {
		if e.State == checkpoint.Complete {
			all[e.Step], here[e.Step] = e, true
		}
	}
	var both []checkpoint.Entry
	for _, e := range all {
		both = append(both, e)
	}
	slices.SortFunc(both, func(a, b checkpoint.Entry) int {
		if a.Step < b.Step {
			return -1
		}
		return 1
	})
	for i, d := range checkpoint.Retain(both, p, scores(both), nil) {
		kept, stored := has[d.Step]
		same := stored && kept.State == checkpoint.Complete && kept.Created.Equal(both[i].Created)
		switch {
		case d.Keep && here[d.Step] && !same:
			put = append(put, both[i])
		case !d.Keep && stored:
			remove = append(remove, d)
		}
	}
	slices.Reverse(put)
	return put, remove
}

// missing is what the store lacks, as far as is known.
func (m *mirror) missing() ([]checkpoint.Entry, error) {
	local, err := m.from.List()
	if err != nil {
		return nil, err
	}
	put, _ := wanted(local, m.has, PolicyOf(m.job), m.scores)
	return put, nil
}

// pass brings the store one step nearer to what it is to have, and says whether there
// is more to do. began is told of the step before it is uploaded, done after.
func (m *mirror) pass(ctx context.Context, began func(step uint64), done func(step uint64, bytes int64, took time.Duration)) (more bool, err error) {
	if err := m.ridUp(); err != nil {
		return true, err
	}
	first := m.has == nil
	if err := m.ask(); err != nil {
		return false, err
	}
	local, err := m.from.List()
	if err != nil {
		return false, err
	}
	local = slices.DeleteFunc(local, func(e checkpoint.Entry) bool { return m.bad[e.Step] })
	if first {
		m.to.Sweep(func(step uint64) bool { // what stays is room in the store, and no more
			return slices.ContainsFunc(local, func(e checkpoint.Entry) bool { return e.Step == step })
		})
	}
	put, remove := wanted(local, m.has, PolicyOf(m.job), m.scores)
	if len(put) > 0 {
		e := put[0]
		began(e.Step)
		start := time.Now()
		there, err := m.put(ctx, e)
		switch {
		case errors.Is(err, checkpoint.ErrCorrupt): // on the disk: the others are worth having
			m.bad[e.Step] = true
			return true, err
		case err != nil:
			m.has = nil
			return true, err
		case there:
			m.has[e.Step] = e
			done(e.Step, e.Size, time.Since(start))
		}
		return true, nil
	}
	for _, d := range remove {
		if err := m.to.Remove(d.Step); err != nil {
			m.has = nil
			return true, err
		}
		delete(m.has, d.Step)
	}
	return false, nil
}

// put uploads a checkpoint, unless retention was quicker.
func (m *mirror) put(ctx context.Context, e checkpoint.Entry) (there bool, err error) {
	r, err := m.from.Open(e.Step)
	if errors.Is(err, checkpoint.ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	return true, m.to.Put(ctx, r, func(n int64) { m.on(e.Step, n, e.Size) })
}
