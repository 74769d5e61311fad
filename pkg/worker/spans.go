package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// spans are the parts of the step in progress, for a run that is traced: they are told
// with the step's report. The parts are the trainer's phases, so a trace costs a look at
// the clock for each of those; without one it costs nothing but a lock.
type spans struct {
	mu   sync.Mutex
	on   bool
	name string // of the part in progress; empty: none
	from time.Time
	done []cluster.Span
}

// trace begins or ends tracing.
func (s *spans) trace(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on, s.name, s.done = on, "", nil
}

// begin ends the part in progress, and begins another one, where it has a name.
func (s *spans) begin(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on {
		return
	}
	now := time.Now()
	if s.name != "" && len(s.done) < cluster.MaxSpans {
		s.done = append(s.done, cluster.Span{Name: s.name, Begin: s.from.UnixMicro(), Took: now.Sub(s.from).Microseconds()})
	}
	s.name, s.from = name, now
}

// take ends the part in progress, and gives what there is.
func (s *spans) take() []cluster.Span {
	s.begin("")
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.done
	s.done = nil
	return l
}

// timed is a Reducer whose reductions are traced, on a line of their own: each from its
// beginning, in the middle of backward, to its end, and in it the moments at which
// backward has handed a bucket over.
type timed struct {
	allreduce.Reducer
	spans *spans
	road  string
}

// reductions is the line of them.
const reductions = 1

// timedBy is r, traced where the run is. network is the road between hosts.
func (s *spans) timedBy(r allreduce.Reducer, network string) allreduce.Reducer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on {
		return r
	}
	if road, ok := r.(*ringRoad); ok {
		r = road.Reducer
	}
	t := timed{r, s, network}
	switch r.(type) {
	case *allreduce.Solo:
		t.road = "no road, alone"
	case *allreduce.HostRing:
		t.road = "shm"
	case *allreduce.TeamRing:
		t.road = "shm and " + network
	}
	return t
}

func (r timed) Begin(step uint64, buckets []allreduce.Range, micro [][]float32, out []float32,
	flags func() allreduce.Flags) allreduce.Reduction {
	began := time.Now()
	return &timedOp{Reduction: r.Reducer.Begin(step, buckets, micro, out, flags), of: r, began: began, ready: make([]bool, len(buckets))}
}

// timedOp is a reduction of it.
type timedOp struct {
	allreduce.Reduction
	of    timed
	began time.Time

	mu    sync.Mutex
	ready []bool
}

func (o *timedOp) Ready(bucket int) {
	o.Reduction.Ready(bucket)
	o.mu.Lock()
	first := !o.ready[bucket]
	o.ready[bucket] = true
	o.mu.Unlock()
	if first {
		o.of.spans.add(cluster.Span{Name: fmt.Sprintf("bucket %d", bucket), Begin: time.Now().UnixMicro(), Line: reductions})
	}
}

func (o *timedOp) Wait(ctx context.Context) (allreduce.Flags, error) {
	flags, err := o.Reduction.Wait(ctx)
	o.of.spans.add(cluster.Span{Name: "reduction, " + o.of.road, Begin: o.began.UnixMicro(),
		Took: time.Since(o.began).Microseconds(), Line: reductions})
	return flags, err
}

// add tells a part of a line of its own.
func (s *spans) add(x cluster.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on && len(s.done) < cluster.MaxSpans-maxOwn {
		s.done = append(s.done, x)
	}
}

// maxOwn of a report's spans are kept for the worker's own line.
const maxOwn = cluster.MaxSpans / 4
