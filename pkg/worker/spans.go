package worker

import (
	"cmp"
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
	op   *timedOp // the newest
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
		s.done = append(s.done, cluster.Span{Name: s.name, Begin: s.from.UnixMicro(), Took: took(s.from, now)})
	}
	s.name, s.from = name, now
}

// took is the time between two moments by the clock that says when they were, in µs: so a
// part ends where the next one begins. That clock may be set back.
func took(from, to time.Time) int64 { return max(0, to.UnixMicro()-from.UnixMicro()) }

// take ends the part in progress, and gives what there is.
func (s *spans) take() []cluster.Span {
	s.begin("")
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.done
	s.done = nil
	return l
}

// wanted is whether the run is traced.
func (s *spans) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// timed is a Reducer whose reductions are traced, on a line of their own: each from its
// beginning, in the middle of backward, to its end; and on another line, where they may
// overlap, what becomes of each bucket by which road.
//
//	backward hands it over ── wait ──> all of the host have written it ── fold ──> folded ── total ──> its sum is here
//	                           shm                                       shm, or the road            the road between hosts
type timed struct {
	allreduce.Reducer
	spans *spans
	host  bool   // ranks of this host share memory
	road  string // between hosts; empty: there is one host
}

// The lines of a trace beside the worker's own.
const (
	reductions = 1
	buckets    = cluster.OverlapLine
)

// timedBy is r, traced where the run is. network is the road between hosts.
func (s *spans) timedBy(r allreduce.Reducer, network string) allreduce.Reducer {
	if !s.wanted() {
		return r
	}
	if road, ok := r.(*ringRoad); ok {
		r = road.Reducer
	}
	t := timed{r, s, false, network}
	switch r.(type) {
	case *allreduce.Solo:
		t.road = ""
	case *allreduce.HostRing:
		t.host, t.road = true, ""
	case *allreduce.TeamRing:
		t.host = true
	}
	return t
}

// name is that of its roads.
func (r timed) name() string {
	switch {
	case r.host && r.road != "":
		return "shm and " + r.road
	case r.host:
		return "shm"
	}
	return cmp.Or(r.road, "no road, alone")
}

func (r timed) Begin(step uint64, buckets []allreduce.Range, micro [][]float32, out []float32,
	flags func() allreduce.Flags) allreduce.Reduction {
	o := &timedOp{of: r, step: step, began: time.Now(), since: make([]time.Time, len(buckets))}
	r.spans.mu.Lock()
	r.spans.op = o // before it can be told of
	r.spans.mu.Unlock()
	o.Reduction = r.Reducer.Begin(step, buckets, micro, out, flags)
	return o
}

// timedOp is a reduction of it.
type timedOp struct {
	allreduce.Reduction
	of    timed
	step  uint64
	began time.Time

	mu    sync.Mutex
	since []time.Time // when each bucket came as far as it is; zero: it is not handed over yet
}

func (o *timedOp) Ready(bucket int) {
	now := time.Now() // first: it may be folded before Ready is back
	o.mu.Lock()
	first := o.since[bucket].IsZero()
	if first {
		o.since[bucket] = now
	}
	o.mu.Unlock()
	if first {
		o.of.spans.add(cluster.Span{Name: fmt.Sprintf("bucket %d", bucket), Begin: now.UnixMicro(), Line: reductions})
	}
	o.Reduction.Ready(bucket)
}

// marked is allreduce.Options.Marked.
func (s *spans) marked(step uint64, bucket int, m allreduce.Mark) {
	s.mu.Lock()
	o := s.op
	s.mu.Unlock()
	if o != nil && o.step == step {
		o.marked(bucket, m)
	}
}

func (o *timedOp) marked(bucket int, m allreduce.Mark) {
	what, road := "wait", "shm"
	switch m {
	case allreduce.Folded:
		what, road = "fold", cmp.Or(o.of.road, "shm")
	case allreduce.Total:
		what, road = "total", o.of.road
	}
	now := time.Now()
	o.mu.Lock()
	from := o.since[bucket]
	o.since[bucket] = now
	o.mu.Unlock()
	if !from.IsZero() {
		name := fmt.Sprintf("bucket %d, %s, %s", bucket, what, road)
		o.of.spans.add(cluster.Span{Name: name, Begin: from.UnixMicro(), Took: took(from, now), Line: buckets})
	}
}

func (o *timedOp) Wait(ctx context.Context) (allreduce.Flags, error) {
	flags, err := o.Reduction.Wait(ctx)
	o.of.spans.add(cluster.Span{Name: "reduction, " + o.of.name(), Begin: o.began.UnixMicro(),
		Took: took(o.began, time.Now()), Line: reductions})
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
