package data

import (
	"context"
	"fmt"
)

// LocalFeed is the Feed of whoever holds the data: it looks up each
// micro-batch's samples in the order and reads them from the source. It is
// safe for concurrent use.
type LocalFeed struct {
	source Source
	order  Order
}

var _ Feed = (*LocalFeed)(nil)

// NewLocalFeed joins a source and its order.
func NewLocalFeed(source Source, order Order) (*LocalFeed, error) {
	if err := order.Validate(); err != nil {
		return nil, err
	}
	if source.Len() != order.N {
		return nil, fmt.Errorf("data order: it is of %d samples, the training split has %d", order.N, source.Len())
	}
	return &LocalFeed{source, order}, nil
}

// Micro returns the samples of micro-batch m of step, in order. Errors name
// the sample's index in the split.
func (f *LocalFeed) Micro(ctx context.Context, step uint64, m int) ([]Sample, error) {
	if m < 0 || m >= f.order.Micros() {
		return nil, fmt.Errorf("micro-batch %d of step %d: a step has %d micro-batches", m, step, f.order.Micros())
	}
	out := make([]Sample, f.order.Micro)
	for i, pos := 0, f.order.position(step, m); i < len(out); i, pos = i+1, pos+1 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, epoch := f.order.At(pos)
		var err error
		if out[i], err = f.source.Sample(s); err != nil {
			return nil, fmt.Errorf("training sample %d: %w", s, withWayOn(err))
		}
		out[i].Epoch = epoch
		f.order.reword(&out[i])
	}
	return out, nil
}
