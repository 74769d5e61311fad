// Package feedtest is the conformance suite of data.Feed: samples are those of
// the job's order, whoever holds the data.
package feedtest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/data"
)

// limit fails a test that would hang. Nothing waits for it otherwise.
const limit = 30 * time.Second

// Steps is how many steps the feeds of the suite must have.
const Steps = 100

// Run tests an implementation. open returns a feed of the samples of src, which
// src may fail to read, in the given order.
func Run(t *testing.T, src data.Source, open func(t *testing.T, src data.Source, order data.Order) data.Feed) {
	for _, c := range []struct {
		name string
		test func(*testing.T, data.Source, func(t *testing.T, src data.Source, order data.Order) data.Feed)
	}{
		{"order", testOrder},
		{"bounds", testBounds},
		{"concurrent", testConcurrent},
		{"a sample that cannot be read", testUnreadable},
		{"cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, src, open) })
	}
}

func orderOf(src data.Source) data.Order {
	return data.Order{Seed: 11, N: src.Len(), Global: 12, Micro: 3, Shuffle: true}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// want are the samples of a micro-batch, read one by one, in their wire form.
func want(t *testing.T, src data.Source, o data.Order, step uint64, m int) []byte {
	t.Helper()
	var l []data.Sample
	first := step*uint64(o.Global) + uint64(m*o.Micro)
	for k := range uint64(o.Micro) {
		i, epoch := o.At(first + k)
		s, err := src.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		s.Epoch = epoch
		l = append(l, s)
	}
	return data.EncodeSamples(nil, step, m, l)
}

// testOrder asks out of order, and twice.
func testOrder(t *testing.T, src data.Source, open func(*testing.T, data.Source, data.Order) data.Feed) {
	o := orderOf(src)
	f := open(t, src, o)
	for _, step := range []uint64{0, 7, 1, Steps - 1, 7} {
		for m := o.Micros() - 1; m >= 0; m-- {
			got, err := f.Micro(within(t), step, m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(data.EncodeSamples(nil, step, m, got), want(t, src, o, step, m)) {
				t.Errorf("micro-batch %d of step %d is not that of the order", m, step)
			}
		}
	}
}

func testBounds(t *testing.T, src data.Source, open func(*testing.T, data.Source, data.Order) data.Feed) {
	o := orderOf(src)
	f := open(t, src, o)
	for _, m := range []int{-1, o.Micros()} {
		if got, err := f.Micro(within(t), 3, m); err == nil {
			t.Errorf("micro-batch %d of %d has %d samples", m, o.Micros(), len(got))
		}
	}
}

func testConcurrent(t *testing.T, src data.Source, open func(*testing.T, data.Source, data.Order) data.Feed) {
	o := orderOf(src)
	f := open(t, src, o)
	var wg sync.WaitGroup
	for i := range 4 * o.Micros() {
		step, m := uint64(i/o.Micros()/2), i%o.Micros() // each by two goroutines
		wg.Go(func() {
			got, err := f.Micro(within(t), step, m)
			if err != nil || !bytes.Equal(data.EncodeSamples(nil, step, m, got), want(t, src, o, step, m)) {
				t.Errorf("micro-batch %d of step %d: %v", m, step, err)
			}
		})
	}
	wg.Wait()
}

// broken is a Source of which no sample can be read until it is mended.
type broken struct {
	data.Source
	mended atomic.Bool
}

func (b *broken) Sample(i int) (data.Sample, error) {
	if !b.mended.Load() {
		return data.Sample{}, errors.New("the picture of record 17 does not decode")
	}
	return b.Source.Sample(i)
}

// testUnreadable: the error says which sample, and does not outlive its cause.
func testUnreadable(t *testing.T, src data.Source, open func(*testing.T, data.Source, data.Order) data.Feed) {
	o, b := orderOf(src), &broken{Source: src}
	f := open(t, b, o)
	_, err := f.Micro(within(t), 2, 1)
	if err == nil || !strings.Contains(err.Error(), "training sample") || !strings.Contains(err.Error(), "the picture of record 17 does not decode") {
		t.Errorf("got %v, want the sample and why", err)
	}
	b.mended.Store(true)
	got, err := f.Micro(within(t), 2, 1)
	if err != nil || !bytes.Equal(data.EncodeSamples(nil, 2, 1, got), want(t, src, o, 2, 1)) {
		t.Errorf("once it can be read: %v", err)
	}
}

func testCancelled(t *testing.T, src data.Source, open func(*testing.T, data.Source, data.Order) data.Feed) {
	f := open(t, src, orderOf(src))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Micro(ctx, 0, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
