package cluster

import (
	"fmt"
	"time"
)

// tick looks at deadlines: silent members, messages without effect, which are sent
// again, and waits that have become long.
func (m *machine) tick() {
	for _, w := range m.roster.list {
		if silent := m.at.Sub(w.LastSeen); silent > m.cfg.Deadline && !m.at.Before(m.pardon) {
			m.lose(w, fmt.Sprintf("not heard from for %v", silent.Round(time.Millisecond)))
		}
	}
	m.awaited()
	m.hastenVerdicts()
	if text := m.stalls.over(m.at); text != "" {
		m.note("%s", text)
	}
	m.flush(false)
	if m.orders.flags != 0 && m.phase == Running && m.at.Sub(m.orders.flagged) > m.nagAfter() {
		m.flag(m.orders.flags)
	}
	m.partLate()
	for _, w := range m.roster.list {
		if m.at.Sub(w.nagged) > m.nagAfter() {
			m.nag(w)
		}
	}
}

// A member in the middle of a pass over a micro-batch answers heartbeats
// meanwhile, so the others wait for it. lateAfter deadlines of that are worth a
// line. After hangsAfter it is taken for one that hangs: in a read of a dead
// disk, say.
const (
	lateAfter  = 10
	hangsAfter = 30 * time.Minute
)

// awaited looks at members that all others wait for: those that have yet to say
// where they stand, or to take their place.
func (m *machine) awaited() {
	waited := m.at.Sub(m.began)
	if m.phase != Settling && m.phase != Forming || waited < lateAfter*m.cfg.Deadline {
		m.waits.saidLate = false
		return
	}
	var late []*Member
	for _, w := range m.roster.list {
		if m.phase == Settling && w.Status == Stepping || m.phase == Forming && w.Status == Assigned {
			late = append(late, w)
		}
	}
	for _, w := range late {
		if !m.waits.saidLate {
			m.note("waiting for %s, which has been told to stop and is in: %s", m.roster.named(w.Worker), w.Phase)
		}
		if waited > hangsAfter {
			m.dismiss(w, fmt.Sprintf("it answers, but has not come to rest for %v: it hangs in: %s", hangsAfter, w.Phase))
		}
	}
	m.waits.saidLate = m.waits.saidLate || len(late) > 0
}

// nagAfter is how long a message may take to have an effect before it is sent again.
func (m *machine) nagAfter() time.Duration { return min(m.cfg.Deadline/3, 500*time.Millisecond) }

// nag sends again what a member seems not to have heard. Messages are resent until
// their effect shows, and have it once.
func (m *machine) nag(w *Member) {
	switch {
	case w.Status == Loading && w.restoring:
		m.tellRestore(w)
	case m.phase == Settling && w.Status == Stepping:
		m.tellRecall(w, "again")
	case m.phase == Forming && w.Status == Assigned:
		m.act(send{w.Worker, m.assignment(w)})
	case m.phase == Running && w.Status == Listening && w.at == nodeFormed:
		m.act(send{w.Worker, &Go{Generation: m.generation}})
	case m.storing() && w.Status == AtRest:
		if m.saves.last.tries >= maxTries && m.at.Sub(w.nagged) < tryEvery {
			return
		}
		m.requestParts()
	default:
		return
	}
	w.nagged = m.at
}

// flush closes steps that not all members have reported: all such steps where the
// generation is over, else those that have waited for long. Steps that no worker
// can report any more, because another coordinator has their reports, are passed over
// in the end: checkpoints would wait for them.
func (m *machine) flush(all bool) {
	m.closeSteps(func(r *stepReports) bool { return all || m.at.Sub(r.first) > m.cfg.Deadline })
	long := 4 * m.cfg.Deadline
	l := &m.ledger
	if len(l.steps) == 0 && m.storing() && l.reported < l.committed && m.at.Sub(m.began) > long { // no more reports will come
		m.missing(l.reported+1, l.committed)
		m.saveWhole()
		return
	}
	if m.phase != Running && !m.storing() { // the steps may be run again
		return
	}
	if first, last, ok := l.gap(m.at.Add(-long)); ok {
		m.missing(first, last)
		m.flush(all)
	}
}

// missing passes over steps whose reports no worker has.
func (m *machine) missing(first, last uint64) {
	m.note("nobody has the reports of steps %d to %d: their metrics are missing", first, last)
	m.ledger.skip(last)
}
