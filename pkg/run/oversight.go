package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// verifyFile has who has taken part since which step, where gradients are verified
// (cluster.verify): what a liar has taken part in is dropped, whichever coordinator
// finds it.
const verifyFile = "verify.json"

// disownedDir is where checkpoints go that are dropped.
const disownedDir = "disowned"

// oversight is what verifyFile holds.
type oversight struct {
	cluster.Record
	// Dropping: what is here of later steps is being dropped. A coordinator that finds
	// this goes on with it before it begins. nil: nothing is.
	Dropping *uint64 `json:"dropping,omitempty"`
	// Uploaded: the same of the object store, which may be away.
	Uploaded *uint64 `json:"dropping_uploaded,omitempty"`
}

// overseer keeps verifyFile. Its methods may be called from any goroutine.
type overseer struct {
	mu   sync.Mutex
	path string
	is   oversight
}

// readOversight takes up that of a run directory; none is an empty one.
func readOversight(dir string) (*overseer, error) {
	o := &overseer{path: filepath.Join(dir, verifyFile)}
	b, err := regular.Read(o.path, 1<<24)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return o, nil
	case err == nil:
		err = json.Unmarshal(b, &o.is)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which says who has taken part since when: %w\nremove it to go on: wrong gradients that are found from then on are dropped back to where the run goes on now", o.path, err)
	}
	return o, nil
}

// take replaces the record by r, unless what is here is newer: records are written by two
// goroutines.
func (o *oversight) take(r cluster.Record) {
	if r.Edition > o.Edition {
		o.Record = r
	}
}

// drop notes that what is here of steps after after goes, and what was uploaded of them. Of
// what goes already, the most counts.
func (o *oversight) drop(after uint64, uploaded bool) {
	if o.Dropping == nil || *o.Dropping > after {
		o.Dropping = &after
	}
	if uploaded && (o.Uploaded == nil || *o.Uploaded > *o.Dropping) {
		o.Uploaded = o.Dropping
	}
}

// change changes the file.
func (o *overseer) change(f func(*oversight)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(&o.is)
	b, err := json.MarshalIndent(o.is, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(o.path, append(b, '\n'), 0o644)
}

func (o *overseer) now() oversight {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.is
}

// disown sets aside what the run directory's stores have of steps after after, and
// returns the steps. One that is on another file system than its store is removed.
func (d *directory) disown(after uint64) (steps []uint64, err error) {
	for i, dir := range d.stores() {
		store, to := d.store, d.at(disownedDir)
		switch entries, lerr := checkpoint.List(dir); {
		case errors.Is(lerr, os.ErrNotExist):
			continue
		case lerr != nil:
			return steps, lerr
		case len(entries) == 0 || entries[len(entries)-1].Step <= after:
			continue
		}
		if i > 0 {
			if s := d.spareDir(); s != "" && dir == filepath.Join(s, "checkpoints") {
				to = filepath.Join(s, disownedDir)
				store, err = d.spare.open(s)
			} else {
				store, err = checkpoint.OpenDisk(dir)
			}
			if err != nil {
				return steps, err
			}
		}
		more, err := store.SetAside(after, to)
		steps = append(steps, more...)
		if err != nil {
			return steps, err
		}
	}
	return steps, nil
}

// finishDisowning goes on with what a coordinator was dropping when it died.
func (b *beginning) finishDisowning() error {
	if !b.opt.Resume && !b.dir.takeover {
		b.oversight = &overseer{path: b.dir.at(verifyFile)}
		return nil
	}
	var err error
	if b.oversight, err = readOversight(b.dir.path); err != nil {
		return err
	}
	is := b.oversight.now()
	if after := is.Dropping; after != nil {
		if _, err := b.dir.disown(*after); err != nil {
			return err
		}
		if lines, more, err := ReadEval(b.dir.path, *after); err != nil {
			return err
		} else if more {
			if err := writeEval(b.dir.path, lines); err != nil {
				return err
			}
		}
		f, _, err := openMetrics(b.dir.at(MetricsFile), *after, false, newLosses(1))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Close(), b.oversight.change(func(o *oversight) { o.Dropping = nil })); err != nil {
			return err
		}
		b.say("disowned", fmt.Sprintf("what was kept after step %d is dropped: gradients were wrong (cluster.verify), and the coordinator before this one had begun to", *after),
			map[string]any{"after": *after})
	}
	return nil
}

// forgetUploaded notes that the object store has nothing any more that is wrong.
func (b *beginning) forgetUploaded() error {
	return b.oversight.change(func(o *oversight) { o.Uploaded = nil })
}

// record is what coordinators before this one have kept. Who was put out is not taken
// back by one that takes over; a run that is resumed begins to count anew.
func (s *session) record() cluster.Record {
	r := s.oversight.now().Record
	if !s.dir.takeover {
		r.Out, r.Fence = nil, 0
	}
	return r
}

// keep keeps what the coordinator knows of who has taken part.
func (s *session) keep(r cluster.Record) {
	s.aside.do(func() {
		if err := s.oversight.change(func(o *oversight) { o.take(r) }); err != nil {
			s.log.Error("who takes part since when is not kept (cluster.verify): " + err.Error())
		}
	})
}

// disown drops all that the run has kept of steps after after, and says so.
func (s *session) disown(after uint64, r cluster.Record) error {
	err := s.oversight.change(func(o *oversight) {
		o.take(r)
		o.drop(after, s.mirror != nil)
		after = *o.Dropping
	})
	if err != nil {
		return err
	}
	steps, err := s.dir.disown(after)
	s.upload.disown(after, s.forgetUploaded) // not before that, or it would bring there again what is wrong
	for _, step := range steps {
		s.offers.withdraw(func(blob string) bool {
			return blob == worker.StateBlobName(train.ModelFile, step) || blob == worker.StateBlobName(train.OptimizerFile, step)
		})
	}
	if err != nil {
		return err
	}
	if err := errors.Join(s.eval.disown(after), s.rec.disown(s.dir.path, after)); err != nil {
		return err
	}
	s.sinks.disown(after)
	if err := s.oversight.change(func(o *oversight) { o.Dropping = nil }); err != nil {
		return err
	}
	text := fmt.Sprintf("dropped what was computed after step %d: lines of %s and %s", after, MetricsFile, EvalFile)
	if len(steps) > 0 {
		var names []string
		for _, step := range steps {
			names = append(names, fmt.Sprint(step))
		}
		text += fmt.Sprintf("; the checkpoints of steps %s are set aside in %s", plain.Few(names, 8), strings.TrimSuffix(s.dir.at(disownedDir), "/"))
	}
	s.Event("disowned", text, map[string]any{"after": after, "checkpoints": steps})
	return nil
}

// disown drops lines of steps after after, whose losses no checkpoint is to have.
func (r *recorder) disown(dir string, after uint64) error {
	done := make(chan error, 1)
	r.desk.do(func() { done <- r.reopen(dir, after) })
	return <-done
}

// reopen is of the desk's goroutine, as the lines are.
func (r *recorder) reopen(dir string, after uint64) error {
	r.lines.Write(nil) // what a full disk has not taken: some of it may stay
	recent := newLosses(r.job.Checkpoint.Every)
	f, had, err := openMetrics(filepath.Join(dir, MetricsFile), after, false, recent)
	if err != nil {
		return err
	}
	l, err := newLines(f)
	if err != nil {
		f.Close()
		return err
	}
	r.file.Close()
	r.file, r.lines = f, l
	r.noted.Store(min(r.noted.Load(), after))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.losses, r.tally = recent, had.tally
	return nil
}

// disown drops the measures of checkpoints after after, that in progress too.
func (e *evaluator) disown(after uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.round++; e.next > after {
		e.next = 0
	}
	var kept []Heldout
	for _, h := range e.lines {
		if h.Step <= after {
			kept = append(kept, h)
		}
	}
	if len(kept) == len(e.lines) {
		return nil
	}
	e.lines = kept
	return writeEval(e.dir.path, e.lines)
}

// disown has followers told of steps after after again.
func (s sinks) disown(after uint64) {
	for _, f := range s {
		back := after
		f.back.Store(&back)
		f.nudge()
	}
}

// disown has the store rid of checkpoints after after, before anything else.
func (u *uploader) disown(after uint64, done func() error) {
	if u == nil {
		return
	}
	u.mirror.disown(after, done)
	u.stored()
}

// disown has the next pass begin with removing what is after after. done is told then.
func (m *mirror) disown(after uint64, done func() error) {
	m.wrong.Lock()
	defer m.wrong.Unlock()
	if m.rid == nil || *m.rid > after {
		m.rid = &after
	}
	m.ridden = done
}

// ridUp removes what disown has asked for.
func (m *mirror) ridUp() error {
	m.wrong.Lock()
	after, done := m.rid, m.ridden
	m.wrong.Unlock()
	if after == nil {
		return nil
	}
	m.has = nil
	if err := m.ask(); err != nil {
		return err
	}
	for step := range m.has {
		if step > *after {
			if err := m.to.Remove(step); err != nil {
				m.has = nil
				return err
			}
			delete(m.has, step)
		}
	}
	m.wrong.Lock()
	all := m.rid == after
	if all {
		m.rid = nil
	}
	m.wrong.Unlock()
	if !all { // there is more by now
		return nil
	}
	return done()
}
