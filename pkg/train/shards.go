package train

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// shards are the moments of an optimizer that the ranks share out among them
// (cluster.optimizer: sharded; Rajbhandari and others, "ZeRO: Memory
// Optimizations Toward Training Trillion Parameter Models", 2020, stage 1). The
// moments of all parameters, in the order of a checkpoint's file, are cut into as
// many shards as there are ranks:
//
//	rank 0   │ shard 0 │ shard 1 │         │         │
//	rank 1   │         │ shard 1 │ shard 2 │         │     each updates its own
//	rank 2   │         │         │ shard 2 │ shard 3 │     and the next one's,
//	rank 3   │ shard 0 │         │         │ shard 3 │     the buddy copy
//
// So any rank may be lost, and any number of ranks of which no two follow each
// other, and every moment is still there. An update is computed by the same
// operations on the same numbers, whoever does it: the bits are the replicated
// optimizer's.
//
// A rank updates beside what it holds (next), gathers everybody's new weights,
// and only then makes it the state, all at once. Where the gathering breaks, the
// state of before is whole; and where another rank had all weights by then and
// has committed, what is in next belongs to them: whoever has all weights knows
// that each rank had its own in next before.
//
// Ranges of moments are in elements of the file's order here; those of weights
// and gradients are in the slab's.
type shards struct {
	places []spot // tensors in the file's order
	total  int    // elements of them
	rank   int
	world  int
	plan   []allreduce.Shard // who updates what of the slab
	keep   []allreduce.Range // that this rank updates: its own shard, and then the next rank's
	have   []stretch         // moments that are here, in order; none overlaps another
	next   *pending          // of the step in progress, or of one that broke; nil: none
	origin *Origin           // where the moments of the state are that no rank has yet
	memory []float32         // for next, where there is no other
	piece  []float32         // of weights in the making
}

// stretch is a run of moments that are here.
type stretch struct {
	allreduce.Range
	step uint64 // updates that they have had
}

// pending are moments and, in the sum's memory, weights of the step that has yet
// to be committed.
type pending struct {
	step   uint64
	ranges []allreduce.Range
	slots  [][]float32 // of the ranges, one behind the other
	lent   bool        // slots lie in a slab of gradients, which the next step's computing writes to
}

// Origin says where a state's moments come from that no rank holds: from the
// coordinator's file, or from nowhere, where they are zero.
type Origin struct {
	Step uint64
	File *cluster.Blob
}

// leastSharded is the smallest world that shares out anything: in one of two a
// shard and its buddy copy are all there is, and each updates it in place.
const leastSharded = 3

// grain is what shards are cut at, in elements: a cache line.
const grain = 16

func newShards(ps *tensor.Params, slots []Slot) *shards {
	s := &shards{}
	keeps := keeping(slots)
	for _, p := range ps.List() {
		if !keeps(p) {
			continue
		}
		s.places = append(s.places, spot{name: p.Name, offset: p.Offset, size: p.Size()})
		s.total += p.Size()
	}
	slices.SortFunc(s.places, func(a, b spot) int { return cmp.Compare(a.name, b.name) })
	s.place(0, 1)
	return s
}

// restored takes note that all moments are here, as those of step.
func (s *shards) restored(step uint64) {
	s.next, s.origin, s.have = nil, nil, nil
	s.note(allreduce.Range{Hi: s.total}, step)
}

// shard is the shard of a rank.
func (s *shards) shard(rank, world int) allreduce.Range {
	cut := func(r int) int {
		if r == world {
			return s.total
		}
		return s.total / grain * r / world * grain
	}
	return allreduce.Range{Lo: cut(rank), Hi: cut(rank + 1)}
}

// held is what a rank of a world holds: its shard and, where it is another, the
// next one.
func (s *shards) held(rank, world int) []allreduce.Range {
	l := []allreduce.Range{s.shard(rank, world)}
	if world > 1 {
		l = append(l, s.shard((rank+1)%world, world))
	}
	return l
}

// place has this rank update what its place in a world gives it.
func (s *shards) place(rank, world int) {
	s.rank, s.world, s.keep = rank, world, s.held(rank, world)
	s.plan = s.plan[:0]
	for r := range world {
		for _, f := range s.slab(s.shard(r, world)) {
			s.plan = append(s.plan, allreduce.Shard{Range: f.Range, Rank: r})
		}
	}
	slices.SortFunc(s.plan, func(a, b allreduce.Shard) int { return cmp.Compare(a.Lo, b.Lo) })
	s.plan = slices.CompactFunc(s.plan, func(a, b allreduce.Shard) bool { return a.Lo == a.Hi && b.Lo == b.Hi })
	merged := s.plan[:0]
	for _, p := range s.plan {
		if n := len(merged); n > 0 && merged[n-1].Hi == p.Lo && merged[n-1].Rank == p.Rank {
			merged[n-1].Hi = p.Hi
		} else {
			merged = append(merged, p)
		}
	}
	s.plan = merged
}

// Seat has this rank update, from the next step on, what its place in a world
// gives it, and keep moments for that alone once the step is committed. It must
// have all of them before: see Missing.
func (t *Trainer) Seat(rank, world int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.shards; s.rank != rank || s.world != world {
		s.place(rank, world)
	}
}

// fragment is a part of a range that lies in one piece of the slab.
type fragment struct {
	allreduce.Range     // of the slab
	at              int // of its first element in the file's order
}

// slab is where a range lies in the slab.
func (s *shards) slab(r allreduce.Range) (l []fragment) {
	at := 0
	for _, p := range s.places {
		lo, hi := max(r.Lo, at), min(r.Hi, at+p.size)
		if lo < hi {
			l = append(l, fragment{allreduce.Range{Lo: p.offset + lo - at, Hi: p.offset + hi - at}, lo})
		}
		at += p.size
	}
	return l
}

// missing is what of need is not here with the moments of step.
func (s *shards) missing(need []allreduce.Range, step uint64) (l []allreduce.Range) {
	for _, r := range need {
		for _, h := range s.have {
			if h.step != step || h.Hi <= r.Lo || h.Lo >= r.Hi {
				continue
			}
			if h.Lo > r.Lo {
				l = append(l, allreduce.Range{Lo: r.Lo, Hi: h.Lo})
			}
			r.Lo = min(h.Hi, r.Hi)
		}
		if r.Lo < r.Hi {
			l = append(l, r)
		}
	}
	return l
}

// note takes note that a range is here now.
func (s *shards) note(r allreduce.Range, step uint64) {
	if r.Lo == r.Hi {
		return
	}
	var l []stretch
	for _, h := range s.have { // what was there before is overwritten
		if h.Lo < r.Lo && h.Hi > r.Lo {
			l = append(l, stretch{allreduce.Range{Lo: h.Lo, Hi: r.Lo}, h.step})
		}
		if h.Hi > r.Hi && h.Lo < r.Hi {
			l = append(l, stretch{allreduce.Range{Lo: r.Hi, Hi: h.Hi}, h.step})
		}
		if h.Hi <= r.Lo || h.Lo >= r.Hi {
			l = append(l, h)
		}
	}
	l = append(l, stretch{r, step})
	slices.SortFunc(l, func(a, b stretch) int { return cmp.Compare(a.Lo, b.Lo) })
	s.have = l[:0]
	for _, h := range l {
		if n := len(s.have); n > 0 && s.have[n-1].Hi == h.Lo && s.have[n-1].step == h.step {
			s.have[n-1].Hi = h.Hi
		} else {
			s.have = append(s.have, h)
		}
	}
}

// update computes what this rank updates of the step that follows t.step: the
// moments into next, the weights into g, the gradient, in its place.
func (t *Trainer) update(g []float32, rate float64, scale float32) {
	s := t.shards
	n := 0
	for _, r := range s.keep {
		n += r.Hi - r.Lo
	}
	t.drop(false) // what an earlier attempt at this step has left lies in the same memory
	memory, lent := t.spare(len(t.slots)*n, g)
	next := &pending{step: t.step + 1, ranges: slices.Clone(s.keep), lent: lent}
	for i := range t.slots {
		next.slots = append(next.slots, memory[i*n:(i+1)*n])
	}
	const piece = 1 << 18
	if s.piece == nil {
		s.piece = tensor.Floats(piece)
	}
	values, at := t.params.Values(), 0
	for _, r := range s.keep {
		for _, f := range s.slab(r) {
			for lo := f.Lo; lo < f.Hi; lo += piece {
				hi := min(lo+piece, f.Hi)
				w := s.piece[:hi-lo]
				copy(w, values[lo:hi])
				t.cuts = t.cuts[:0]
				for i, slot := range next.slots {
					x := slot[at : at+hi-lo]
					copy(x, t.slots[i][lo:hi])
					t.cuts = append(t.cuts, x)
				}
				t.optimize(allreduce.Range{Lo: lo, Hi: hi}, w, g[lo:hi], t.cuts, rate, scale)
				copy(g[lo:hi], w)
				at += hi - lo
			}
		}
	}
	t.mu.Lock()
	s.next = next
	t.mu.Unlock()
}

// spare is memory for n floats until the step is committed: a slab that is of no
// use any more, if there is one beside g.
func (t *Trainer) spare(n int, g []float32) (memory []float32, lent bool) {
	if t.total != nil && &t.total[0] == &g[0] {
		if slab, err := t.slabs.any(); err == nil && len(slab) >= n {
			t.slabs.torn = true
			return slab, true
		}
	}
	if len(t.shards.memory) < n {
		t.shards.memory = tensor.Floats(n)
	}
	return t.shards.memory, false
}

// drop gives up what a gathering that broke has left in next, before its memory is
// written to: a worker that is behind would take it for its moments. lent: only if
// it lies in a slab of gradients.
func (t *Trainer) drop(lent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.shards; s.next != nil && (s.next.lent || !lent) {
		s.next = nil
	}
}

// gather exchanges the new weights of a step, which stand in mean, and makes
// them the state with the moments that belong to them.
func (t *Trainer) gather(ctx context.Context, ring allreduce.Reducer, res *Result, mean []float32) error {
	s, start := t.shards, time.Now()
	var buddy []fragment
	if len(s.keep) > 1 {
		buddy = s.slab(s.keep[1])
	}
	mine := sumOf(mean, buddy)
	op := ring.Gather(t.step, s.plan, mean, t.out(ring))
	if _, err := op.Wait(ctx); err != nil {
		return fmt.Errorf("step %d: gathering the weights: %w", t.step+1, err)
	}
	res.Times.Ring += since(&start)
	all, _ := op.Sum()
	if sumOf(all, buddy) != mine {
		return &UnlikeError{t.step + 1, (s.rank + 1) % s.world}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.void = true // should it panic
	t.sums.drop()
	values := t.params.Values()
	for _, p := range s.plan {
		inPieces(p.Hi-p.Lo, func(lo, hi int) { copy(values[p.Lo+lo:p.Lo+hi], all[p.Lo+lo:p.Lo+hi]) })
	}
	t.promote()
	t.void = false
	t.forget()
	t.step++
	s.settle(t.step, t.slots)
	return nil
}

// promote makes what is in next the moments.
func (t *Trainer) promote() {
	s, at := t.shards, 0
	for _, r := range s.next.ranges {
		for _, f := range s.slab(r) {
			n := f.Hi - f.Lo
			for i, slot := range s.next.slots {
				copy(t.slots[i][f.Lo:f.Hi], slot[at:at+n])
			}
			at += n
		}
		s.note(r, s.next.step)
	}
	s.next = nil
}

// byteRun is a part of a file.
type byteRun struct{ offset, size int64 }

// runs are where a shard lies in the file of so many slots, of so many bytes of
// header: a run of each slot. The header goes with the first shard.
func (s *shards) runs(header int64, slots, part, parts int) (l []byteRun) {
	r := s.shard(part, parts)
	if part == 0 {
		l = append(l, byteRun{0, header})
	}
	for i := range slots {
		run := byteRun{header + 4*(int64(i)*int64(s.total)+int64(r.Lo)), 4 * int64(r.Hi-r.Lo)}
		if n := len(l); n > 0 && l[n-1].offset+l[n-1].size == run.offset {
			l[n-1].size += run.size
		} else {
			l = append(l, run)
		}
	}
	return l
}

// settleAt has what is here of the moments of step, and no others: this rank has
// missed the commit of step, or it goes on from another's state.
func (t *Trainer) settleAt(step uint64) {
	s := t.shards
	if s.next != nil && s.next.step == step {
		t.promote()
	}
	s.next, s.origin = nil, nil
	s.have = slices.DeleteFunc(s.have, func(h stretch) bool {
		if h.step != step {
			s.discard(h.Range, t.slots)
		}
		return h.step != step
	})
}

// settle ends what was for the time until step is committed: the moments of
// others, and those of other steps, go.
func (s *shards) settle(step uint64, slots [][]float32) {
	s.next, s.origin = nil, nil
	var l []stretch
	for _, h := range s.have {
		at := h.Lo
		keep := slices.SortedFunc(slices.Values(s.keep), func(a, b allreduce.Range) int { return cmp.Compare(a.Lo, b.Lo) })
		for _, k := range keep {
			lo, hi := max(k.Lo, h.Lo), min(k.Hi, h.Hi)
			if lo >= hi || h.step != step {
				continue
			}
			s.discard(allreduce.Range{Lo: at, Hi: lo}, slots)
			l = append(l, stretch{allreduce.Range{Lo: lo, Hi: hi}, step})
			at = hi
		}
		s.discard(allreduce.Range{Lo: at, Hi: h.Hi}, slots)
	}
	s.have = l
}

// discard gives up the memory of a range.
func (s *shards) discard(r allreduce.Range, slots [][]float32) {
	for _, f := range s.slab(r) {
		for _, slot := range slots {
			tensor.Discard(slot[f.Lo:f.Hi])
		}
	}
}

// passed takes note of a step that changed nothing.
func (s *shards) passed(step uint64, slots [][]float32) {
	for i := range s.have {
		if s.have[i].step == step-1 {
			s.have[i].step = step
		}
	}
	s.settle(step, slots)
}

// UnlikeError says that two ranks have computed one shard differently.
type UnlikeError struct {
	Step uint64
	Rank int // whose it is
}

func (e *UnlikeError) Error() string {
	return fmt.Sprintf("step %d: rank %d has other weights for its shard of the optimizer than its buddy here", e.Step, e.Rank)
}

// sumOf is the checksum of fragments of a slab.
func sumOf(x []float32, l []fragment) (sum uint32) {
	for _, f := range l {
		sum = sum*31 + checksum(x[f.Lo:f.Hi])
	}
	return sum
}

// wholeOf is the slab. Where slabs of gradients serve as memory for shards too, the
// gaps between its tensors are not zero in them, and are left out.
func wholeOf(ps *tensor.Params, s *shards) []allreduce.Range {
	if s == nil {
		return []allreduce.Range{{Hi: ps.Len()}}
	}
	var l []allreduce.Range
	for _, f := range s.slab(allreduce.Range{Hi: s.total}) {
		l = append(l, f.Range)
	}
	return l
}
