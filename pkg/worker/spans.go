package worker

import (
	"sync"
	"time"

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
