package tensor

import "time"

// OpTime is what the operations of one kind took since Profile was called
// last, over all replays.
type OpTime struct {
	Kind                        string        `json:"kind"`
	Ops                         int           `json:"ops"` // on the tape
	Forward                     time.Duration `json:"forward_ns"`
	Backward                    time.Duration `json:"backward_ns"` // recomputation included
	ForwardFLOPs, BackwardFLOPs int64         // of matrix products; a multiply-add is two
}

// costed is an operation that says what it is. flops counts the matrix
// products of one forward and one backward.
type costed interface {
	kind() string
	flops() (forward, backward int64)
}

// profile times operations by kind; nil is off.
type profile struct {
	kinds []OpTime
	of    []int // by operation
}

// SetProfile turns the timing of operations on or off, after Seal. It costs
// two readings of the clock an operation.
func (t *Tape) SetProfile(on bool) {
	if t.profile = nil; !on {
		return
	}
	p := &profile{}
	for _, o := range t.ops {
		kind := "other"
		if c, ok := o.(costed); ok {
			kind = c.kind()
		}
		i := 0
		for i < len(p.kinds) && p.kinds[i].Kind != kind {
			i++
		}
		if i == len(p.kinds) {
			p.kinds = append(p.kinds, OpTime{Kind: kind})
		}
		p.kinds[i].Ops++
		p.of = append(p.of, i)
	}
	t.profile = p
}

// Profile returns the times by kind of operation, in the order in which the
// kinds first appear on the tape, and begins anew; nil without SetProfile.
func (t *Tape) Profile() []OpTime {
	if t.profile == nil {
		return nil
	}
	kinds := t.profile.kinds
	t.SetProfile(true)
	return kinds
}

// runForward runs one operation; again says that it is a recomputation.
func (t *Tape) runForward(i int, again bool) {
	o := t.ops[i]
	if t.profile == nil {
		o.forward(t)
		return
	}
	start := time.Now()
	o.forward(t)
	k := &t.profile.kinds[t.profile.of[i]]
	f := int64(0)
	if c, ok := o.(costed); ok {
		f, _ = c.flops()
	}
	if again {
		k.Backward += time.Since(start)
		k.BackwardFLOPs += f
	} else {
		k.Forward += time.Since(start)
		k.ForwardFLOPs += f
	}
}

func (t *Tape) runBackward(i int) {
	o := t.ops[i]
	if t.profile == nil {
		o.backward(t)
		return
	}
	start := time.Now()
	o.backward(t)
	k := &t.profile.kinds[t.profile.of[i]]
	k.Backward += time.Since(start)
	if c, ok := o.(costed); ok {
		_, f := c.flops()
		k.BackwardFLOPs += f
	}
}

// SlabTimes is what a runtime has spent on whole slabs, beside what a tape
// does: on folds of gradients, on their division and their norm, and on updates.
type SlabTimes struct{ Fold, Norm, Update time.Duration }

// SetProfile turns the timing of what is done with whole slabs on or off. It
// costs two readings of the clock a slab, or a bucket of one.
func (r *Runtime) SetProfile(on bool) { r.timed, r.spent = on, SlabTimes{} }

// Profile returns the times since it was called last; zero without SetProfile.
func (r *Runtime) Profile() (t SlabTimes) {
	t, r.spent = r.spent, SlabTimes{}
	return t
}

// begin is when something begins that is timed; zero where nothing is.
func (r *Runtime) begin() (at time.Time) {
	if r.timed {
		at = time.Now()
	}
	return at
}

// end adds what has passed since begin to a time.
func end(at time.Time, to *time.Duration) {
	if !at.IsZero() {
		*to += time.Since(at)
	}
}
