package train

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// verification is what a trainer has where gradients are verified (cluster.verify). A
// micro-gradient is summed bucket by bucket as backward hands it over, before it is
// folded or sent, and the checksum goes with the losses in the tail: see
// cluster.Claim. Micro-batches of others are computed again once all of this rank's
// gradients are with the ring, and what comes out goes with them.
//
//	own micro-batches ──> the last one's buckets, as backward writes them ──> checks ──> tail
//	                      └────────── the ring reduces them meanwhile ──────────────────┘
//
// The bytes that are summed are those that the fold reads: whatever has gone wrong
// before, in data, memory, processor or program, is in the checksum. It is no seal
// against a program that says one thing and sends another.
type verification struct {
	pieces []allreduce.Range // of a gradient, of the values of one parameter each
	of     []allreduce.Range // by bucket: which pieces it has
	sums   []uint32          // by piece, of the micro-gradient that is being written
	grad   []float32         // that one
	first  int               // piece that sum counts from
	sum    func(i int)

	late    map[int]bool // groups that are held, and whose checksum is yet to be taken: see claimHeld
	scratch []float32    // of gradients that are computed again; nil until then
	checks  []int        // micro-batches of others, of the next step
}

// newVerification plans the sums for buckets, of which the last is the tail, of
// losses flat gradients. A piece is at most as large as a core's own cache holds, so
// that threads share a bucket out, and is of one parameter.
func newVerification(ps *tensor.Params, of map[*tensor.Param]int, buckets, losses int) *verification {
	v := &verification{late: map[int]bool{}}
	per := (buckets - 1) / max(losses, 1)
	for b := range buckets - 1 {
		from := len(v.pieces)
		for _, p := range ps.List() {
			at, ok := of[p]
			if !ok || at != b%per { // frozen, or in another bucket
				continue
			}
			lo := b/per*ps.Len() + p.Offset
			for hi := lo + p.Size(); lo < hi; lo += summed {
				v.pieces = append(v.pieces, allreduce.Range{Lo: lo, Hi: min(lo+summed, hi)})
			}
		}
		v.of = append(v.of, allreduce.Range{Lo: from, Hi: len(v.pieces)})
	}
	v.sums = make([]uint32, len(v.pieces))
	v.sum = func(i int) {
		r := v.pieces[v.first+i]
		v.sums[v.first+i] = checksum(v.grad[r.Lo:r.Hi])
	}
	return v
}

// written sums what backward has written of g.
func (v *verification) written(rt *tensor.Runtime, bucket int, g []float32) {
	of := v.of[bucket]
	v.grad, v.first = g, of.Lo
	rt.Each(of.Hi-of.Lo, v.sum)
}

// statement is where in a tail the statements on micro-batch m stand: behind all losses.
func (t *Trainer) statement(tail []float32, m int) []float32 {
	return tail[told*(t.losses()+t.opt.Sets)*t.micros()+cluster.StatementFloats*m:]
}

// claim writes to the tail of micro-gradient m, which is written, what its checksum
// is, and that of its losses.
//
// Only values of parameters are summed: between them, where they begin at cache lines,
// and where they are frozen, memory has what was there before. A gradient that is not
// finite may have other bits on another CPU, but no step with one comes as far as
// a comparison.
func (t *Trainer) claim(tail []float32, m int) {
	var b []byte
	for _, s := range t.verify.sums {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	at := t.place(m, 0)
	sum := octets.AddSum(octets.Sum(b), octets.Bytes(tail[at:at+told*t.losses()]))
	if n := t.opt.Sets; n > 0 {
		at = t.placeOfSet(m, 0)
		sum = octets.AddSum(sum, octets.Bytes(tail[at:at+told*n]))
	}
	cluster.Claim(t.statement(tail, m), sum)
}

// claimHeld takes the checksums of gradients that are held as they are, right before
// they are handed over: what happens to them in memory meanwhile is in these, too.
// That of a gradient which is folded at once, or sent as it is written, is taken then.
func (t *Trainer) claimHeld() {
	v := t.verify
	for k := range v.late {
		if g := t.slabs.held[k]; g != nil { // else it is to be computed again
			v.grad, v.first = g, 0
			t.rt.Each(len(v.pieces), v.sum)
			t.claim(g[t.gradients():], k)
		}
	}
	clear(v.late)
}

// holds says whether a micro-gradient will lie in a slab of its own until all are there.
func (t *Trainer) holds() bool { return t.group() == 1 && t.slabs.lo > 0 && !t.slabs.fast }

// Check has the next Step compute micro-batches of other ranks again, and compare. It
// does nothing without Options.Verify.
func (t *Trainer) Check(micros []int) {
	if t.verify != nil {
		t.verify.checks = micros
	}
}

// Again computes micro-batch m of the step that comes next, and returns the checksum
// of its gradient and losses. It needs Options.Verify.
func (t *Trainer) Again(ctx context.Context, m int, in Batches) (sum uint32, err error) {
	v := t.verify
	if v.scratch == nil {
		v.scratch = tensor.Floats(t.slabs.floats)
	}
	// In the middle of a step this is asked for by micro, whose own gradient is written
	// but for its tail: what is said of that one has to outlive the one here.
	torn, write := t.slabs.torn, t.write
	defer func() { t.slabs.torn, t.write = torn || t.slabs.torn, write }()
	var times cluster.Times
	if err := t.micro(ctx, m, writing{from: v.scratch}, in, &times); err != nil {
		return 0, err
	}
	sum, _, _ = cluster.Stated(t.statement(v.scratch[t.gradients():], m))
	return sum, nil
}

// check computes again what Check has asked for, and writes to a tail what it finds.
// The tail is this rank's own, and may be of any micro-batch: each statement has a
// place of its own in the sum.
func (t *Trainer) check(ctx context.Context, tail []float32, in Batches) error {
	checks := t.verify.checks
	t.verify.checks = nil // an attempt after this one is told its own
	for _, m := range checks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		sum, err := t.Again(ctx, m, in)
		if err != nil {
			return err
		}
		cluster.Check(t.statement(tail, m), sum)
	}
	return nil
}

// unsay clears what an attempt of this step that was broken off has found: this one
// may check other micro-batches, and another rank may check those. What is said of the
// gradients that are held stays, as they do.
func (t *Trainer) unsay() {
	clear := func(g []float32) {
		for m := range t.micros() {
			cluster.Unsay(t.statement(g[t.gradients():], m))
		}
	}
	for _, g := range t.slabs.held {
		clear(g)
	}
	if g := t.slabs.part.slab; g != nil {
		clear(g)
	}
}

// DisputeError refuses a step in whose sum a gradient has one checksum by the rank that
// has sent it, and another by the rank that has computed it again. Every rank finds it
// at the same step, in the same sum.
type DisputeError struct {
	Step         uint64 // that would have been committed, from 1
	Micro        int
	Claim, Check uint32
}

func (e *DisputeError) Error() string {
	return fmt.Sprintf("step %d: the gradient of micro-batch %d is %08x by the worker that has sent it, "+
		"and %08x by the one that has computed it again", e.Step, e.Micro, e.Claim, e.Check)
}

// disputed looks for it in a sum, whose tail no division has touched. The first
// micro-batch in dispute is as good as any: whoever is wrong about it is put out.
func (t *Trainer) disputed(sum []float32) error {
	if t.verify == nil {
		return nil
	}
	for m := range t.micros() {
		if claim, check, checked := cluster.Stated(t.statement(sum[t.gradients():], m)); checked && claim != check {
			return &DisputeError{t.step + 1, m, claim, check}
		}
	}
	return nil
}
