package data

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// A member that does not hold the data is sent the samples of its own
// micro-batches (data.delivery): it asks for them by a name, and the coordinator
// answers with what the codec makes of them. Both ends are here; what carries name
// and answer is not (see pkg/bulk).
//
//	Delivered.Micro(step, m) ── "micro/STEP/M" ──> Deliver ─> Feed.Micro ─> EncodeSamples
//	          samples <── DecodeSamples <──────────────────────────┘

// DeliveryPrefix begins the names of micro-batches.
const DeliveryPrefix = "micro/"

// maxDelivery bounds one micro-batch on its way, in bytes.
const maxDelivery = 1 << 30

// Deliver answers for the names that begin with DeliveryPrefix: those of the
// micro-batches, micros a step, of the steps below steps.
func Deliver(feed Feed, steps uint64, micros int) func(ctx context.Context, name string) ([]byte, error) {
	return func(ctx context.Context, name string) ([]byte, error) {
		first, second, two := strings.Cut(strings.TrimPrefix(name, DeliveryPrefix), "/")
		step, err1 := strconv.ParseUint(first, 10, 64)
		m, err2 := strconv.Atoi(second)
		if !two || err1 != nil || err2 != nil || m < 0 || m >= micros || step >= steps {
			return nil, fmt.Errorf("no such micro-batch: %.80q", name)
		}
		samples, err := feed.Micro(ctx, step, m)
		if err != nil {
			return nil, err
		}
		return EncodeSamples(nil, step, m, samples), nil
	}
}

// Delivered is the Feed of a member that is sent its samples. Get fetches what
// Deliver makes of a name, at most limit bytes of it.
type Delivered struct {
	Get func(ctx context.Context, name string, limit int64) ([]byte, error)
}

var _ Feed = Delivered{}

// Micro returns the samples of micro-batch m of step, in order.
func (f Delivered) Micro(ctx context.Context, step uint64, m int) ([]Sample, error) {
	b, err := f.Get(ctx, fmt.Sprintf("%s%d/%d", DeliveryPrefix, step, m), maxDelivery)
	if err != nil {
		return nil, fmt.Errorf("samples from the coordinator: %w", err)
	}
	gotStep, gotM, samples, err := DecodeSamples(b)
	if err == nil && (gotStep != step || gotM != m) {
		err = fmt.Errorf("the coordinator sent micro-batch %d of step %d for %d of %d", gotM, gotStep, m, step)
	}
	return samples, err
}
