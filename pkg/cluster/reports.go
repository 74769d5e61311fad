package cluster

import (
	"fmt"
	"math"
)

// report records a commit. Each member knows the whole step, so one
// report would do; the others add their times, and must agree.
func (m *machine) report(e *Report) {
	if e.Generation < m.trust.fence || m.rollback.disowns { // the job has rolled back since, or is about to
		return
	}
	w := m.roster.members[e.Worker]
	// A step of this generation shows that the worker holds the others' state: it
	// has taken part in their sum, and has applied it.
	if e.Step > w.Step && e.Generation == m.generation && m.phase == Running {
		w.State, w.Digest = true, ""
		delete(m.trust.suspects, w.Worker)
		m.blame.committed()
		m.oversight.again = false
		if e.Micro > 0 {
			w.pace.add((e.Times.Forward + e.Times.Backward) / float64(e.Micro))
		}
	}
	w.Step = max(w.Step, e.Step)
	if m.ledger.enter(e, m.at, len(m.roster.places)) {
		m.closeSteps((*stepReports).whole)
	}
}

// closeSteps announces committed steps in order, for as long as there is enough of
// each, and compares what their reports say.
func (m *machine) closeSteps(enough func(*stepReports) bool) {
	for {
		r, news := m.ledger.next(enough)
		if r == nil {
			return
		}
		list := r.byRank()
		if news {
			m.act(stepDone{list})
		}
		step := m.ledger.reported
		agreed := m.compare(step, list)
		if d := list[0].Digest; d != "" && agreed && len(list) == r.world {
			m.trust.learn(step, d)
		}
		m.watchPace(list)
		m.saveWhole()
	}
}

// ballot is what of a report must be the same bits on every member.
type ballot struct {
	refused bool   // the update was
	norm    uint64 // bits of the gradient's, unless it was refused
	state   string // its digest, where all say it
	weights string // their checksum
}

// ballotOf is a report's. A digest longer than ours is somebody's nonsense, of which
// only the beginning is shown.
func ballotOf(r *Report) ballot {
	b := ballot{refused: r.Refused != "", state: r.Digest[:min(len(r.Digest), 24)], weights: r.Weights[:min(len(r.Weights), 8)]}
	if !b.refused {
		b.norm = math.Float64bits(r.GradNorm)
	}
	return b
}

func (b ballot) String() string {
	s := fmt.Sprintf("gradient norm %v", math.Float64frombits(b.norm))
	if b.refused {
		s = "no update"
	}
	if b.weights != "" {
		s += ", weights " + b.weights
	}
	if b.state != "" {
		s += " and state " + b.state
	}
	return s
}

// compare says whether all members of this generation said the same of a step.
// Those of older ones have been asked since where they stand. Where they differ,
// judge sees to it.
func (m *machine) compare(step uint64, list []*Report) (agreed bool) {
	var first *ballot
	alike := true
	for _, o := range list {
		if o.Generation == m.generation {
			if b := ballotOf(o); first == nil {
				first = &b
			} else if alike = b == *first; !alike {
				break
			}
		}
	}
	if alike { // in all but a few steps of a job, so no words are made for it
		return first != nil
	}
	said := votes{}
	for _, o := range list {
		if o.Generation == m.generation {
			said.add(ballotOf(o).String(), o.Worker)
		}
	}
	m.judge(step, said)
	return false
}
