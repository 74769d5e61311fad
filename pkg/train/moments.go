package train

import (
	"bytes"
	"fmt"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// Holding is what a worker says of the moments that it has.
type Holding struct {
	Have   []HeldRange `json:"have"`
	Origin *Origin     `json:"origin,omitempty"`
}

// HeldRange are moments of one step, in the order of a checkpoint's file.
type HeldRange struct {
	Lo   int    `json:"lo"`
	Hi   int    `json:"hi"`
	Step uint64 `json:"step"`
}

// MostMoments is how many of a range are handed out at a time: 8 MiB of each slot.
const MostMoments = 2 << 20

// MomentBytes is what MostMoments take.
func (t *Trainer) MomentBytes() int64 { return 4 * int64(len(t.slots)) * MostMoments }

// Sharded says that the ranks share out the moments among them.
func (t *Trainer) Sharded() bool { return t.shards != nil }

// Shards are the ranges of moments that a rank of a world holds: its own, and
// the next rank's.
func (t *Trainer) Shards(rank, world int) []allreduce.Range { return t.shards.held(rank, world) }

// AllMoments is the range of all of them.
func (t *Trainer) AllMoments() allreduce.Range { return allreduce.Range{Hi: t.shards.total} }

// Holding is what is here, of all steps: what a worker has in the making may be the
// state of a step that it has not heard is committed.
func (t *Trainer) Holding() Holding {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s, h := t.shards, Holding{Have: []HeldRange{}}
	if t.void {
		return h
	}
	for _, r := range s.have {
		h.Have = append(h.Have, HeldRange{r.Lo, r.Hi, r.step})
	}
	if s.next != nil {
		for _, r := range s.next.ranges {
			h.Have = append(h.Have, HeldRange{r.Lo, r.Hi, s.next.step})
		}
	}
	h.Origin = s.origin
	return h
}

// Moments are those of a range, of which all are here or in the making: one slot
// of the optimizer after the other.
func (t *Trainer) Moments(r allreduce.Range, step uint64) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.shards
	if r.Lo < 0 || r.Hi > s.total || r.Lo >= r.Hi || r.Hi-r.Lo > MostMoments {
		return nil, fmt.Errorf("moments %d to %d of %d", r.Lo, r.Hi, s.total)
	}
	out := make([]float32, 0, len(t.slots)*(r.Hi-r.Lo))
	switch {
	case t.void:
	case len(s.missing([]allreduce.Range{r}, step)) == 0:
		for _, slab := range t.slots {
			for _, f := range s.slab(r) {
				out = append(out, slab[f.Lo:f.Hi]...)
			}
		}
		return octets.Bytes(out), nil
	case s.next != nil && s.next.step == step:
		at := 0
		for _, k := range s.next.ranges {
			if k.Lo <= r.Lo && r.Hi <= k.Hi {
				lo, hi := at+r.Lo-k.Lo, at+r.Hi-k.Lo
				for _, slot := range s.next.slots {
					out = append(out, slot[lo:hi]...)
				}
				return octets.Bytes(out), nil
			}
			at += k.Hi - k.Lo
		}
	}
	return nil, fmt.Errorf("moments %d to %d of step %d are not here", r.Lo, r.Hi, step)
}

// TakeMoments takes on what Moments has given of a range of the state's. Its step
// is not in the bytes: whoever asked for them asked for those of this state.
func (t *Trainer) TakeMoments(r allreduce.Range, b []byte) error {
	n := r.Hi - r.Lo
	if want := 4 * len(t.slots) * n; len(b) != want {
		return fmt.Errorf("%d bytes of moments, want %d", len(b), want)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, slab := range t.slots {
		for _, f := range t.shards.slab(r) {
			at := 4 * (i*n + f.at - r.Lo)
			octets.PutAt(slab[f.Lo:f.Hi], 0, b[at:at+4*(f.Hi-f.Lo)])
		}
	}
	t.shards.note(r, t.step)
	return nil
}

// Missing is what of need is not here of the state's moments.
func (t *Trainer) Missing(need []allreduce.Range) []allreduce.Range {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.shards.missing(need, t.step)
}

// Share is what is here of a checkpoint of the state: the runs of bytes of each of
// its files. It must not change until they are read.
func (t *Trainer) Share() (files map[string]checkpoint.ShareFile, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	f, err := t.files()
	if err != nil {
		return nil, err
	}
	s, size, header := t.shards, f.optimizer.Size(), f.optimizer.DataStart()
	runs := []checkpoint.ShareRun{{Size: header}}
	for slot := range t.slots {
		for _, h := range s.have {
			if h.step == t.step {
				runs = append(runs, checkpoint.ShareRun{Offset: header + 4*(int64(slot)*int64(s.total)+int64(h.Lo)), Size: 4 * int64(h.Hi-h.Lo)})
			}
		}
	}
	return map[string]checkpoint.ShareFile{
		ModelFile:     {Size: f.model.Size(), Runs: []checkpoint.ShareRun{{Size: f.model.Size()}}},
		OptimizerFile: {Size: size, Runs: runs},
	}, nil
}

// MomentsFile is where a checkpoint's file of all moments is written as it comes:
// those of need go to their places, the header is kept, and the rest goes nowhere.
type MomentsFile struct {
	t    *Trainer
	need []allreduce.Range
	ours *safetensors.View
	head []byte
}

// WriteAt is io.WriterAt's. It never fails: what nobody needs is passed over.
func (m *MomentsFile) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(m.head)) {
		copy(m.head[off:], p)
	}
	s := m.t.shards
	for i, slab := range m.t.slots {
		base := int64(len(m.head)) + 4*int64(i)*int64(s.total)
		for _, r := range m.need {
			if base+4*int64(r.Hi) <= off || base+4*int64(r.Lo) >= off+int64(len(p)) {
				continue
			}
			for _, f := range s.slab(r) {
				at := base + 4*int64(f.at)
				lo, hi := max(at, off), min(at+4*int64(f.Hi-f.Lo), off+int64(len(p)))
				if lo < hi {
					octets.PutAt(slab[f.Lo:f.Hi], int(lo-at), p[lo-off:hi-off])
				}
			}
		}
	}
	return len(p), nil
}

// MomentsFile begins to take the moments of need from a file.
func (t *Trainer) MomentsFile(need []allreduce.Range) (*MomentsFile, error) {
	f, err := t.files()
	if err != nil {
		return nil, err
	}
	return &MomentsFile{t: t, need: need, ours: f.optimizer, head: make([]byte, f.optimizer.DataStart())}, nil
}

// Ours says whether what was written, a file of so many bytes, is laid out as
// this program does it. If another has written it, its tensors lie elsewhere: Read takes them.
func (m *MomentsFile) Ours(size int64) bool {
	want := make([]byte, len(m.head))
	m.ours.ReadAt(want, 0)
	return size == m.ours.Size() && bytes.Equal(want, m.head)
}

// Read takes the moments from a file of any order of tensors.
func (m *MomentsFile) Read(file *safetensors.File) error {
	t := m.t
	if err := checkpoint.Match(file, t.wantMoments(file)); err != nil {
		return err
	}
	for i, s := range t.opt.Optimizer.Slots() {
		slab := t.slots[i]
		for _, p := range t.params.List() {
			if !t.keeps(p) {
				continue
			}
			x := make([]float32, p.Size())
			if err := file.Float32Into(slotName(s.Name, p.Name), x); err != nil {
				return err
			}
			for _, r := range m.need {
				for _, f := range t.shards.slab(r) {
					if lo, hi := max(f.Lo, p.Offset), min(f.Hi, p.Offset+p.Size()); lo < hi {
						copy(slab[lo:hi], x[lo-p.Offset:hi-p.Offset])
					}
				}
			}
		}
	}
	return nil
}

// Take makes what was written the state's, which must still be that of step.
func (m *MomentsFile) Take(step uint64) error {
	t := m.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.step != step {
		return fmt.Errorf("the moments of step %d came when step %d had been committed", step, t.step)
	}
	for _, r := range m.need {
		t.shards.note(r, t.step)
	}
	return nil
}
