package cluster

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vlaring/vlaring/internal/limits"
)

// What others say is bounded by what a job can be, so that a forged or broken
// message is dropped at the entrance instead of being believed.
const (
	// maxGeneration bounds the first generation that is heard of: a new one each
	// millisecond, for 34 years.
	maxGeneration = 1 << 40
	// maxLeap bounds how far a generation may be ahead of the newest that is known.
	maxLeap = 1 << 30
	// maxPieces bounds the files of one part of a checkpoint.
	maxPieces = 16
	// maxSums bounds the checksums of an offer, and maxSum the bytes of one.
	maxSums, maxSum = 8, 64
	// maxTargets bounds the targets of a step: whole numbers up to it are float64.
	maxTargets = 1 << 53
	// maxSets bounds the sets of a mixture of data.
	maxSets = 1 << 10
	// maxSeconds bounds the time of a part of a step: 30 years.
	maxSeconds = 1e9
	// maxWords bounds the texts of others that are passed on, in bytes.
	maxWords = 2000
	// maxExcerpt bounds what an error shows of a message that cannot be read.
	maxExcerpt = 200
)

// check is what in a member's message no worker of this job can mean: numbers
// beyond the job's, which would be believed, summed or allocated.
func (m *machine) check(msg fromWorker) error {
	step := uint64(0)
	switch e := msg.(type) {
	case *Ready:
		step = e.Step
	case *Standing:
		if step = e.Step; e.Verdict != nil {
			if err := e.Verdict.check(&m.cfg); err != nil {
				return err
			}
		}
	case *Heartbeat:
		step = e.Step
	case *Fault:
		step = e.Step
	case *Report:
		if step = e.Step; step == 0 {
			return errors.New("a report of step 0")
		}
		if err := m.checkReport(e); err != nil {
			return fmt.Errorf("a report of step %d with %w", step, err)
		}
	case *Offer:
		step = e.Step
		if !reachable(m.generation, e.Generation) {
			return fmt.Errorf("a part of a checkpoint of generation %d", e.Generation)
		}
		if err := e.check(); err != nil {
			return fmt.Errorf("a part of the checkpoint of step %d with %w", step, err)
		}
	}
	if step > m.cfg.Steps {
		return fmt.Errorf("step %d of %d", step, m.cfg.Steps)
	}
	return nil
}

// checkReport looks at the numbers of a report. Comparisons are made so that NaN
// fails them.
func (m *machine) checkReport(e *Report) error {
	if e.World < 1 || e.World > limits.Workers || e.Rank < 0 || e.Rank >= e.World {
		return fmt.Errorf("rank %d of %d", e.Rank, e.World)
	}
	if e.Micro < 0 || e.Micro > m.cfg.Micro {
		return fmt.Errorf("%d micro-batches of %d", e.Micro, m.cfg.Micro)
	}
	if len(e.Spans) > MaxSpans {
		return fmt.Errorf("%d spans", len(e.Spans))
	}
	for _, s := range e.Spans {
		if s.Took < 0 || s.Took > maxSeconds*1e6 || s.Begin < 0 || s.Begin > math.MaxInt64/2 || len(s.Name) > 64 || s.Line < 0 || s.Line > 7 {
			return fmt.Errorf("a span %.40q of %d µs from %d on", s.Name, s.Took, s.Begin)
		}
	}
	if len(e.Sets) > maxSets {
		return fmt.Errorf("losses of %d sets", len(e.Sets))
	}
	for i, x := range e.Sets {
		if x.Targets < 0 || x.Targets > e.Targets || x.Loss-x.Loss != 0 {
			return fmt.Errorf("the loss %v over %d targets of set %d", x.Loss, x.Targets, i)
		}
	}
	if e.Targets < 0 || e.Targets > maxTargets || (e.Targets == 0) != (e.Refused != "") {
		return fmt.Errorf("%d targets, refused because of %.80q", e.Targets, e.Refused)
	}
	if !(math.Abs(e.Loss) <= math.MaxFloat64) {
		return fmt.Errorf("loss %v", e.Loss)
	}
	t := e.Times
	for _, s := range []float64{t.Data, t.Forward, t.Backward, t.Ring, t.Optimizer, t.Hash, t.Step} {
		if !(s >= 0 && s <= maxSeconds) {
			return fmt.Errorf("a time of %v s", s)
		}
	}
	if !(e.GradNorm >= 0 && e.GradNorm <= math.MaxFloat64) || math.IsNaN(e.LR) || math.IsInf(e.LR, 0) {
		return fmt.Errorf("gradient norm %v and learning rate %v", e.GradNorm, e.LR)
	}
	return nil
}

// check says whether an offer is of one part of a checkpoint. Whether the parts fit
// together, their owner sees when all are there.
func (e *Offer) check() error {
	if e.Parts < 1 || e.Parts > limits.Workers || e.Part < 0 || e.Part >= e.Parts {
		return fmt.Errorf("part %d of %d", e.Part, e.Parts)
	}
	if len(e.Files) > maxPieces {
		return fmt.Errorf("%d files", len(e.Files))
	}
	if len(e.Sums) > maxSums || slices.ContainsFunc(e.Sums, func(s string) bool { return len(s) > maxSum }) {
		return fmt.Errorf("%d checksums", len(e.Sums))
	}
	for _, p := range e.Files {
		if p.Offset < 0 || p.Size < 0 || p.Total < 0 || p.Offset > p.Total || p.Size > p.Total-p.Offset {
			return fmt.Errorf("bytes %d+%d of %d of file %.80q", p.Offset, p.Size, p.Total, p.File)
		}
	}
	return nil
}

// reachable says whether a job whose newest known generation is known, 0 for none,
// can be in generation g. A worker that followed an impossible one would be lost to
// the job, and a coordinator that adopted it would lock the job out for ever.
func reachable(known, g uint64) bool {
	if known == 0 {
		return g <= maxGeneration
	}
	return g <= known || g-known <= maxLeap
}

// check is why a seat cannot be a place in this job, whose newest known generation
// is known; nil: it can.
func (s *Seat) check(cfg *Config, known uint64) error {
	if !reachable(known, s.Generation) {
		return fmt.Errorf("generation %d, and the newest known is %d", s.Generation, known)
	}
	if s.Fence > s.Generation {
		return fmt.Errorf("generation %d, and a fence at %d", s.Generation, s.Fence)
	}
	if s.Step > cfg.Steps {
		return fmt.Errorf("step %d of %d", s.Step, cfg.Steps)
	}
	if n := len(s.Members); n < 1 || n > limits.Workers {
		return fmt.Errorf("%d members", n)
	}
	seen := map[string]bool{}
	for _, id := range s.Members {
		if err := ValidID(id); err != nil {
			return err
		}
		if seen[id] {
			return fmt.Errorf("worker %s on two ranks", id)
		}
		seen[id] = true
	}
	b := s.Micro
	ok := len(b) == len(s.Members)+1 && b[0] == 0 && b[len(b)-1] == cfg.Micro
	for i := 1; ok && i < len(b); i++ {
		ok = b[i] >= b[i-1]
	}
	if !ok {
		return fmt.Errorf("bounds of %d micro-batches that do not divide %d over %d ranks", len(b), cfg.Micro, len(s.Members))
	}
	return nil
}

// sound says whether an assignment can be carried out at all. A worker must not
// fall over one that cannot, whoever sent it.
func (a *Assign) sound() bool {
	world := len(a.Group.Members)
	for _, b := range [][]int{a.First, a.Group.Micro} {
		if world < 1 || len(b) != world+1 || b[0] != 0 || !slices.IsSorted(b) {
			return false
		}
	}
	if a.Fence > a.Group.Generation {
		return false
	}
	bad := func(id string) bool { return ValidID(id) != nil }
	return a.soundHosts() && a.Group.Rank >= 0 && a.Group.Rank < world &&
		!slices.ContainsFunc(a.Group.Members, bad) && !slices.ContainsFunc(a.Sources, bad)
}
