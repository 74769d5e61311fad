package tensor

import (
	"cmp"
	"slices"

	"github.com/vlaring/vlaring/internal/kernel"
)

// The memory plan. A replay is a fixed sequence of events, and every piece of
// memory has a life in it; pieces whose lives do not meet share addresses.
//
//	events    F0 F1 … Fn-1 │ Bn-1 … B1 B0           forward and backward of operations
//	          with Recompute: … Rj … Rk Bk … Bj …    a segment's forward again, before its backward
//
//	data of v        from the event that makes it to the last forward that reads it;
//	                 to the end if a backward reads it; for good if nothing reads it (a result)
//	inside a segment from each making to the last reader before the next one
//	an operation's own memory (op.reserve): as data that its backward reads
//	gradient of v    from the backward of its last reader to that of its maker
//
// Without backward (ForwardOnly) the events end at Fn-1: data lives to its last
// reader, an operation's own memory during its operation, and what is for the
// backward alone is not there.
//
// Data lives in one arena and gradients in another, so that Backward may be
// called again for another loss.

// event is a step of a replay.
type event struct {
	op       int
	backward bool
}

// segment is a run of operations [first, last] that backward computes anew.
type segment struct{ first, last int }

// piece is memory to be placed.
type piece struct {
	dst   *[]float32
	n     int
	lives [][2]int // events, both ends included
	at    int
}

// forever is an event after all others.
const forever = 1 << 30

func meet(a, b [][2]int) bool {
	for _, x := range a {
		for _, y := range b {
			if x[0] <= y[1] && y[0] <= x[1] {
				return true
			}
		}
	}
	return false
}

// align rounds up to whole cache lines.
func align(n int) int { return (n + slabAlign - 1) / slabAlign * slabAlign }

// arrange gives every piece an address, large ones first, each the lowest that
// is free all its life, and returns how many floats that takes.
func (t *Tape) arrange(pieces []*piece) (total int) {
	if t.apart {
		for _, p := range pieces {
			p.lives = [][2]int{{0, forever}}
		}
	}
	order := slices.Clone(pieces)
	slices.SortStableFunc(order, func(a, b *piece) int { return cmp.Compare(b.n, a.n) })
	var placed []*piece // by address
	for _, p := range order {
		p.at = 0
		for _, o := range placed {
			if !meet(p.lives, o.lives) {
				continue
			}
			if p.at+align(p.n) <= o.at {
				break
			}
			p.at = max(p.at, o.at+align(o.n))
		}
		i, _ := slices.BinarySearchFunc(placed, p, func(a, b *piece) int { return cmp.Compare(a.at, b.at) })
		placed = slices.Insert(placed, i, p)
		total = max(total, p.at+align(p.n))
	}
	return total
}

// schedule returns the events of a replay, forward and backward where there is one.
func (t *Tape) schedule() (events []event) {
	n := len(t.ops)
	for i := range n {
		events = append(events, event{op: i})
	}
	if t.forward {
		return events
	}
	for i := n - 1; i >= 0; i-- {
		if s := t.segmentEnding(i); s != nil {
			for j := s.first; j <= s.last; j++ {
				events = append(events, event{op: j})
			}
		}
		events = append(events, event{i, true})
	}
	return events
}

// segmentEnding returns the segment whose last operation is number i, or nil.
func (t *Tape) segmentEnding(i int) *segment {
	for k := range t.segments {
		if t.segments[k].last == i {
			return &t.segments[k]
		}
	}
	return nil
}

// segmentOf returns the segment that operation i is in, or nil.
func (t *Tape) segmentOf(i int) *segment {
	for k, s := range t.segments {
		if s.first <= i && i <= s.last {
			return &t.segments[k]
		}
	}
	return nil
}

// lives returns the events between which memory written by the forward of
// operation made must last, given who reads it.
func (t *Tape) lives(events []event, made int, reads func(e event) bool) (lives [][2]int) {
	// What leaves its segment is not given up: backward may be called again, and a result be looked at.
	s := t.segmentOf(made)
	again := s != nil
	for _, e := range events {
		if again && reads(e) && (e.op < s.first || e.op > s.last) {
			again = false
		}
	}
	for at, e := range events {
		switch {
		case e.op == made && !e.backward:
			lives = append(lives, [2]int{at, at})
		case len(lives) > 0 && reads(e):
			end := at
			if at >= len(t.ops) && !again { // in a backward, which computes segments anew too
				end = forever
			}
			lives[len(lives)-1][1] = max(lives[len(lives)-1][1], end)
		}
	}
	return lives
}

// dataPieces lists the data of activations and what operations reserve.
func (t *Tape) dataPieces() (pieces []*piece) {
	events := t.schedule()
	needed := make([][]*Var, len(t.ops)) // by backward: all that the operation knows, unless it says
	for i, o := range t.ops {
		vars := t.ins[i]
		if t.outs[i] != nil {
			vars = append(slices.Clone(vars), t.outs[i])
		}
		if k, ok := o.(interface{ needs() []*Var }); ok {
			vars = k.needs()
		}
		for _, v := range vars {
			needed[i] = append(needed[i], v.root())
		}
	}
	for _, v := range t.vars {
		if v.base != nil || v.dataOf != nil {
			continue
		}
		p := &piece{dst: &v.Data, n: v.Size(), lives: [][2]int{{0, forever}}}
		if v.rounded {
			p.n = (p.n + 1) / 2
		}
		if v.made >= 0 && v.first >= 0 && !v.result {
			p.lives = t.lives(events, v.made, func(e event) bool {
				if e.backward {
					return slices.Contains(needed[e.op], v)
				}
				return slices.Contains(t.ins[e.op], v)
			})
		}
		pieces = append(pieces, p)
	}
	for i, o := range t.ops {
		if r, ok := o.(interface{ reserve(*Tape) []reserved }); ok {
			for _, b := range r.reserve(t) {
				if b.back && t.forward {
					continue
				}
				lives := [][2]int{{0, forever}}
				if !b.kept {
					lives = t.lives(events, i, func(e event) bool { return e.backward && e.op == i })
				}
				pieces = append(pieces, &piece{dst: b.dst, n: b.n, lives: lives})
			}
		}
	}
	return pieces
}

// reserved is memory of an operation's own, written by its forward for its
// backward; kept: for good; back: it is of no use to the forward.
type reserved struct {
	dst        *[]float32
	n          int
	kept, back bool
}

// gradPieces lists the gradients of activations.
func (t *Tape) gradPieces() (pieces []*piece) {
	n := len(t.ops)
	of := map[*Var]*piece{}
	for _, v := range slices.Backward(t.vars) { // a sum comes after what it sums
		if v.base != nil || !v.grad || v.first < 0 {
			continue
		}
		end := n - 1 - v.made
		if v.keep || v.made < 0 {
			end = forever
		}
		if p := of[v.gradOf]; p != nil {
			p.lives[0][1] = max(p.lives[0][1], end)
			of[v] = p
			continue
		}
		size := v.Size()
		if v.gradRounded {
			size = (size + 1) / 2
		}
		of[v] = &piece{dst: &v.Grad, n: size, lives: [][2]int{{n - 1 - v.first, end}}}
		pieces = append(pieces, of[v])
	}
	return pieces
}

// Seal ends the recording and binds memory.
func (t *Tape) Seal() {
	need(!t.sealed, "Tape.Seal", "one call", "another")
	t.sealed = true
	t.roundVars()
	t.roundGrads()
	t.joinResiduals()
	for _, pieces := range [][]*piece{t.dataPieces(), t.gradPieces()} {
		slab, r := floats(t.arrange(pieces))
		t.memory = append(t.memory, r)
		t.floats += len(slab)
		for _, p := range pieces {
			*p.dst = slab[p.at : p.at+p.n : p.at+p.n]
		}
	}
	for _, v := range slices.Backward(t.vars) {
		if v.dataOf != nil {
			v.Data = v.dataOf.Data
		}
		if v.gradOf != nil {
			v.Grad = v.gradOf.Grad
		}
	}
	for _, v := range t.vars {
		if v.rounded {
			v.words, v.Data = wordsOf(v.Data)[:v.Size()], nil
		}
	}
	for _, o := range t.ops {
		if l, ok := o.(*linear); ok && l.y.gradRounded {
			l.dyWords, l.y.Grad = wordsOf(l.y.Grad)[:l.y.Size()], nil
		}
	}
	for _, v := range t.vars {
		if v.base != nil {
			r := v.root()
			v.Data, v.Grad, v.words = r.Data, r.Grad, r.words
		}
	}
	for _, o := range t.ops {
		if b, ok := o.(interface{ bind(*Tape) }); ok {
			b.bind(t)
		}
	}
}

// pastCaches is the bytes of a pass over memory after which caches hold nothing of what it began with.
const pastCaches = 16 << 20

// late says that what only backward reads is gone from the caches until then.
func (t *Tape) late() bool { return 4*t.floats > t.past }

// store copies rows that only backward reads, past the caches where they would be gone from there until then.
func (t *Tape) store(dst []float32, dstRow int, src []float32, srcRow, rows, cols int) {
	kernel.CopyRows(dst, dstRow, src, srcRow, rows, cols, t.late())
}

// MemoryBytes is what the tape holds for activations and their gradients, the
// threads' scratch left out.
func (t *Tape) MemoryBytes() int64 { return 4 * int64(t.floats) }
