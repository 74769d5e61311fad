package allreduce

import (
	"context"
	"time"
)

// Solo reduces for a world of one: it folds the rank's own micro-gradients, and
// needs no network, no goroutine and no memory.
type Solo struct {
	fold   func(dst, src []float32)
	closed bool
	op     soloOp // the newest: the one before is over, and nobody looks at it
}

// NewSolo returns the part of a generation's only member. fold adds src to dst;
// nil: plain Go.
func NewSolo(fold func(dst, src []float32)) *Solo {
	o := Options{Fold: fold}
	o.defaults()
	return &Solo{fold: o.Fold}
}

// KeepsSum is true: the first micro-gradient becomes the sum.
func (s *Solo) KeepsSum() bool { return true }

// Stats are zero: nothing is sent.
func (s *Solo) Stats() Stats { return Stats{} }

// Waiting is for nobody.
func (s *Solo) Waiting() (*FaultError, time.Time) { return nil, time.Time{} }

// Close fails operations from now on.
func (s *Solo) Close() error {
	s.closed = true
	return nil
}

// Begin starts a step whose micro-gradients are whole by Wait. There is at least
// one. buckets and out are not used.
func (s *Solo) Begin(_ uint64, _ []Range, micro [][]float32, _ []float32, flags func() Flags) Reduction {
	if len(micro) == 0 {
		panic("allreduce: rank 0 was given no micro-gradient: the fold begins with one of its own")
	}
	s.op = soloOp{solo: s, micro: micro, flags: flags}
	return &s.op
}

// Gather has nothing to do: own has all there is.
func (s *Solo) Gather(_ uint64, _ []Shard, own, _ []float32) Reduction {
	s.op = soloOp{solo: s, micro: [][]float32{own}}
	return &s.op
}

type soloOp struct {
	solo  *Solo
	micro [][]float32
	flags func() Flags
	over  error
}

func (o *soloOp) Ready(int) {}

func (o *soloOp) Wait(ctx context.Context) (Flags, error) {
	switch {
	case o.over != nil:
		return 0, o.over
	case o.solo.closed:
		return 0, ErrClosed
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	}
	for _, g := range o.micro[1:] {
		o.solo.fold(o.micro[0], g)
	}
	o.micro = o.micro[:1]
	if o.flags == nil {
		return 0, nil
	}
	return o.flags(), nil
}

func (o *soloOp) Abort() { o.over, o.solo.closed = ErrAborted, true }

func (o *soloOp) Sum() ([]float32, bool) { return o.micro[0], true }
