package data

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/vlaring/vlaring/pkg/models"
)

// Range says which micro-batches a rank takes: [Lo, Hi) of each step in
// [Start, End), counted from 0.
type Range struct {
	Start, End uint64 // End 0: without end
	Lo, Hi     int
}

// Prefetcher reads and collates a rank's micro-batches ahead of their use, in
// one goroutine of its own and in bounded memory: at most ahead batches are
// ready, and one more is in the caller's hands. Batch buffers are reused.
//
//	feed ──> collate ──> | ready: ahead buffers | ──> Next ──> caller (1 buffer)
//	            ^                                                 |
//	            └───────────────── free buffers ──────────────────┘
//
// Next and Close are for one goroutine; Close waits for the reader to end.
type Prefetcher struct {
	feed    Feed
	micro   int
	collate *Collator // the reader's
	own     *Collator // the caller's, for what was not foreseen
	spec    models.Spec

	cancel context.CancelFunc
	done   sync.WaitGroup
	ready  chan fetched
	free   chan *models.Batch

	head  *fetched      // taken from ready, not asked for yet
	lent  *models.Batch // the caller's until its next call
	spare *models.Batch // of unforeseen micro-batches
	err   error
}

type fetched struct {
	step  uint64
	m     int
	batch *models.Batch
	err   error
}

// ErrClosed is returned by Next after Close or past the range's last step.
var ErrClosed = errors.New("data: no more batches")

// NewPrefetcher starts reading r's micro-batches of micro samples each, ahead
// of them at a time (at least 1).
func NewPrefetcher(feed Feed, meta Meta, micro, ahead int, r Range) (*Prefetcher, error) {
	if ahead < 1 || micro < 1 || r.Lo < 0 || r.Hi < r.Lo {
		return nil, fmt.Errorf("prefetch: %d micro-batches ahead of %d samples each, micro-batches [%d, %d)", ahead, micro, r.Lo, r.Hi)
	}
	p := &Prefetcher{feed: feed, micro: micro, spec: meta.Spec, ready: make(chan fetched, ahead), free: make(chan *models.Batch, ahead+1)}
	var err error
	if p.collate, err = NewTrainingCollator(meta); err != nil {
		return nil, err
	}
	if p.own, err = NewTrainingCollator(meta); err != nil {
		return nil, err
	}
	// Of ahead+1 buffers one is lent and the reader fills another, so the
	// channel's last place is for the batch being written.
	for i := 0; i < ahead+1; i++ {
		p.free <- models.NewBatch(micro, meta.Spec)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.done.Add(1)
	go p.read(ctx, r)
	return p, nil
}

// read runs until the range or ctx ends, or a micro-batch fails: a failure is
// the last thing it passes on.
func (p *Prefetcher) read(ctx context.Context, r Range) {
	defer p.done.Done()
	defer close(p.ready)
	if r.Lo == r.Hi {
		return
	}
	for step := r.Start; r.End == 0 || step < r.End; step++ {
		for m := r.Lo; m < r.Hi; m++ {
			var b *models.Batch
			select {
			case b = <-p.free:
			case <-ctx.Done():
				return
			}
			f := fetched{step: step, m: m, batch: b, err: p.fill(ctx, p.collate, step, m, b)}
			select {
			case p.ready <- f:
			case <-ctx.Done():
				return
			}
			if f.err != nil {
				return
			}
		}
	}
}

// fill reads micro-batch m of step into b. A panic in a source becomes an
// error that carries its stack, since nobody could recover it elsewhere.
func (p *Prefetcher) fill(ctx context.Context, c *Collator, step uint64, m int, b *models.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("step %d, micro-batch %d: panic while reading: %v\n%s", step+1, m, r, debug.Stack())
		}
	}()
	samples, err := p.feed.Micro(ctx, step, m)
	if err == nil {
		err = withWayOn(c.Collate(samples, b))
	}
	if err != nil {
		return fmt.Errorf("step %d, micro-batch %d: %w", step+1, m, err)
	}
	return nil
}

// Next returns the batch of micro-batch m of step (from 0; messages count
// steps from 1, as metrics do). It is valid until the following call. What
// comes in the foreseen order is ready or on its way; anything else, such as
// the micro-batch of a lost worker, is read at once, and the foreseen ones
// stay in line. An error of reading ahead is returned when its micro-batch is
// asked for, and again whenever it is asked for after that.
func (p *Prefetcher) Next(ctx context.Context, step uint64, m int) (*models.Batch, error) {
	if p.lent != nil {
		p.free <- p.lent
		p.lent = nil
	}
	if p.err != nil {
		return nil, p.err
	}
	for p.head == nil || before(p.head.step, p.head.m, step, m) {
		if p.head != nil { // passed over for good
			p.free <- p.head.batch
			p.head = nil
		}
		select {
		case f, ok := <-p.ready:
			if !ok {
				return p.direct(ctx, step, m)
			}
			p.head = &f
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if p.head.step != step || p.head.m != m {
		return p.direct(ctx, step, m)
	}
	if p.head.err != nil {
		return nil, p.head.err
	}
	p.lent = p.head.batch
	p.head = nil
	return p.lent, nil
}

// before reports whether micro-batch (s1, m1) comes before (s2, m2).
func before(s1 uint64, m1 int, s2 uint64, m2 int) bool { return s1 < s2 || s1 == s2 && m1 < m2 }

// direct reads a micro-batch that is not in line, on the caller's goroutine.
func (p *Prefetcher) direct(ctx context.Context, step uint64, m int) (*models.Batch, error) {
	if p.spare == nil {
		p.spare = models.NewBatch(p.micro, p.spec)
	}
	if err := p.fill(ctx, p.own, step, m, p.spare); err != nil {
		return nil, err
	}
	return p.spare, nil
}

// Close stops the reader and waits for it; Next returns ErrClosed from then on.
func (p *Prefetcher) Close() error {
	p.err = ErrClosed
	p.cancel()
	p.done.Wait()
	return nil
}
