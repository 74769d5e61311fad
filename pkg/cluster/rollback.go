package cluster

import "fmt"

// rollBack goes back to the disk's state, because no member holds the newest one.
func (m *machine) rollBack() {
	if m.rollback.underway {
		return
	}
	m.rollback.underway = true
	if m.parting.left() && m.saves.has(m.ledger.committed) {
		m.note("going on from the checkpoint of step %d, which was stored when all workers left", m.saves.stored)
	} else {
		m.note("nobody holds the job's newest state any more: going back to the disk's")
	}
	if m.phase == Running { // they are at rest, and behind a checkpoint that was stored late
		m.becomeSettling()
	}
	m.act(rewind{})
}

// mistrust rolls back to the disk's state: no member's state counts, because they
// differ, and it cannot be told which one is right, or the policy wants it so.
func (m *machine) mistrust(why string) {
	if !m.trust.mayRollBack(m.cfg.MaxDivergences > 0) {
		why = fmt.Sprintf("%s, after going back to the same checkpoint %d times", why, m.trust.rollbacks)
		if m.trust.tied {
			why += "; without a majority nobody can tell who is wrong: run with one worker more, or with one machine less, in turns"
		}
		m.finish(Failed, why)
		return
	}
	m.rollAllBack(why)
}

// rollAllBack has every member take the disk's state, whatever it holds.
func (m *machine) rollAllBack(why string) {
	m.note("%s: all go back to the disk's", why)
	m.trust.forfeit = ""
	m.rollback.total, m.rollback.underway = true, true
	clear(m.trust.known)
	m.becomeSettling()
	m.act(rewind{})
}

// restored begins anew with the disk's state, or with the job's beginning: members
// that wait for state get it from there. In a total rollback its generation is the
// fence, and all members take it.
func (m *machine) restored(e restored) {
	if m.rollback.disowns && !e.Disowned { // it may be what is being dropped
		return
	}
	m.rollback.underway = false
	if m.phase != Settling && m.phase != Paused && m.phase != Gathering {
		return // meanwhile a member came back that had the newest state
	}
	if e.Err != nil {
		m.finish(Failed, fmt.Sprintf("the job has to go back to the state on the disk, which cannot be read: %v", e.Err))
		return
	}
	total := m.rollback.total
	m.rollback = rollback{base: e, again: true, wary: total}
	m.generation++ // members that still run an older one are to leave it
	m.ledger.rollBack(e.Step)
	m.oversight.rolledBack(e.Step)
	m.saves.rollBack(e.Step, m.generation)
	m.roster.openRing()
	m.midStep = false
	m.becomeGathering()
	fence := uint64(0)
	if total {
		fence = m.generation
	}
	m.trust.rolledBack(fence)
	for _, w := range m.roster.list {
		w.Rank, w.Spare = -1, false
		w.State = w.State && !total
		lives := w.State && w.Status == Stepping && w.Seat != nil && w.Step >= e.Step // it came back, and is recalled
		holds := w.State && w.Status == AtRest && w.Step == e.Step
		loads := w.Status == Loading && !w.restoring
		if !lives && !holds && !loads {
			m.restore(w)
		}
	}
}

// restore has a member take the state on the disk, whatever it holds.
func (m *machine) restore(w *Member) {
	if w.State || m.trust.suspects[w.Worker] { // what it has said of that, and says once more, is of an older generation then
		m.generation++
	}
	delete(m.trust.suspects, w.Worker)
	w.Status, w.State, w.restoring, w.restored = Loading, false, true, m.generation
	m.tellRestore(w)
}

// tellRestore tells a member what to take; nag tells it again.
func (m *machine) tellRestore(w *Member) {
	w.nagged = m.at
	base := m.rollback.base
	m.act(send{w.Worker, &Restore{Generation: w.restored, Fence: m.trust.fence, StartStep: base.Step, State: base.State}})
}

// equip gives a member that loads for the beginning the state that the others
// begin with, where it has another one.
func (m *machine) equip(w *Member) {
	if m.phase == Gathering && w.Status == AtRest && !(w.State && w.Step == m.rollback.base.Step) {
		m.restore(w)
	}
}
