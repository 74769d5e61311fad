package cluster

import (
	"fmt"
	"slices"
)

// judge looks at what members say of one step, which must be the same. Where it
// is not, the generation ends, and the minority gets the state of the majority.
// Without a majority, or by policy, no member's state counts. judge goes by what
// they said of this one step: when they come to rest each may stand at another,
// with nobody to compare with.
func (m *machine) judge(step uint64, said votes) {
	if len(said) < 2 {
		return
	}
	m.trust.broken = fmt.Sprintf("workers disagree after step %d: %v", step, said)
	m.trust.strike(said, m.cfg.MaxDivergences)
	if m.trust.tied || m.cfg.Divergence == RewindDivergence {
		m.trust.torn = m.trust.broken
		return
	}
	m.suspect(step, said)
}

// suspect marks the members that differ from the majority: their state does not
// count until they have committed a step with the others again.
func (m *machine) suspect(step uint64, said votes) {
	most, _ := said.majority()
	for _, vote := range said.sorted() {
		if vote == most {
			continue
		}
		for _, id := range said[vote] {
			m.note("%s has diverged: after step %d it has %s, %d others have %s; it gets their state",
				m.roster.named(id), step, vote, len(said[most]), most)
			m.trust.suspects[id] = true
			if w := m.roster.members[id]; w != nil {
				w.State = false
			}
		}
	}
}

// expel puts members out that have diverged too often.
func (m *machine) expel() {
	for {
		id, ok := m.trust.nextOutcast()
		if !ok {
			return
		}
		const cure = "look for bad memory or a bad processor in its machine"
		why := fmt.Sprintf("it has diverged %d times in this run (cluster.max_divergences), and is not taken back: %s",
			m.trust.strikes[id], cure)
		w := m.roster.members[id]
		if w == nil {
			m.trust.ban(id, why, nil)
			continue
		}
		m.putOut(w, why)
	}
}

// PartError says that the parts of a checkpoint did not make the state that all
// of their workers hold: what those of Workers handed out is not what they and
// others say that it is. Workers is empty where that cannot be told.
type PartError struct {
	Workers []string
	Reason  string
}

func (e *PartError) Error() string { return e.Reason }

// accuse marks workers that did not hand out what they hold: they have diverged.
// Their part of the next checkpoint comes from others, whose state they get first.
func (m *machine) accuse(e *PartError) {
	m.saves.owed = true
	known := slices.DeleteFunc(slices.Clone(e.Workers), func(id string) bool { return m.roster.members[id] == nil })
	if len(known) == 0 || len(known) >= len(m.roster.members) { // no other member has it
		return
	}
	for _, id := range known {
		m.trust.count(id, m.cfg.MaxDivergences)
		m.trust.suspects[id] = true
		m.roster.members[id].State = false
		m.trust.broken = e.Reason
	}
}

// disown has a member's state not count, and gives it another one if it can.
func (m *machine) disown(w *Member) {
	w.Status, w.State = AtRest, false
	m.trust.suspects[w.Worker] = true
	m.equip(w)
}

// raiseFence follows a rollback under an earlier coordinator, which a worker has
// told: the state of members of older generations does not count.
func (m *machine) raiseFence(fence uint64) {
	if fence <= m.trust.fence {
		return
	}
	m.trust.fence = fence
	if m.phase != Gathering {
		return
	}
	m.ledger.committed = m.rollback.base.Step
	for _, w := range m.roster.list {
		switch {
		case w.Seat == nil || !w.State:
		case w.Seat.Generation < fence:
			m.disown(w)
		default:
			m.ledger.commit(w.Seat.Step)
		}
	}
}
