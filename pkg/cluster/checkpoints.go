package cluster

import (
	"errors"
	"fmt"
)

// voidOffers gives up the checkpoints that can never become whole, because a
// worker that had a part is gone: those of generations before void.
func (m *machine) voidOffers(void uint64) {
	for _, c := range m.saves.breakUp(void) {
		m.giveUp(c.step, "a worker was lost before its part was stored")
	}
}

// giveUp ends the making of a checkpoint, and tells those who have parts of it.
func (m *machine) giveUp(step uint64, why string) {
	m.saves.giveUp(step)
	m.broadcast(&Stored{Step: step, Error: why})
}

// offer collects the parts of a checkpoint, and has it fetched once all are there.
func (m *machine) offer(e *Offer) {
	if no := m.saves.offer(e, m.storing()); no != nil {
		m.act(send{e.Worker, no})
		return
	}
	if c := m.saves.crowded(); c != nil {
		m.giveUp(c.step, "its other parts did not come")
	}
	m.saveWhole()
}

// saveWhole has checkpoints fetched that are whole. One whose parts are of
// different states never is one: whoever is wrong is found instead.
func (m *machine) saveWhole() {
	for _, c := range m.saves.whole(m.ledger.reported) {
		said := c.votes()
		known, other := m.trust.contradicts(c.step, c.parts[0].Digest)
		if other && len(said) == 1 {
			m.trust.torn = fmt.Sprintf("after step %d %v, but all had agreed on %s", c.step, said, known)
			m.trust.broken = m.trust.torn
		}
		if len(said) > 1 || m.trust.torn != "" {
			m.judge(c.step, said)
			m.giveUp(c.step, "its parts are of different states")
			m.saves.owed = true
			continue
		}
		c.state = fetching
		m.act(save{c.step, c.parts})
	}
}

// saved hears how the fetch of a checkpoint ended.
func (m *machine) saved(e saved) {
	trouble := m.saves.trouble
	was, had := m.saves.stored, m.saves.hasStored
	abandoned := m.saves.fetched(e)
	if e.Err != nil {
		m.notStored(e)
		if !abandoned {
			m.refused(e)
		}
		return
	}
	if trouble != "" {
		m.note("checkpoints are stored again, that of step %d as the first", e.Step)
	}
	if !had || e.Step > was {
		m.trust.rollbacks = 0
	}
	m.broadcast(&Stored{Step: e.Step})
}

// refused gives up a checkpoint that could not be stored, but for the last one of
// the job: that one is offered again, for as long as there is patience.
func (m *machine) refused(e saved) {
	var bad *PartError
	if errors.As(e.Err, &bad) {
		m.accuse(bad)
	}
	m.giveUp(e.Step, e.Err.Error())
	if !m.storing() || e.Step != m.ledger.committed {
		return
	}
	if m.saves.last.failed(m.at) && m.cfg.StoreWait > 0 && m.phase == Saving {
		const end = "Ctrl-C, SIGTERM or coordinator stop end the wait"
		m.warn("the state after step %d stays in the workers' memory for up to %v until it can be stored; %s", e.Step, m.cfg.StoreWait, end)
	}
	for _, w := range m.holders() {
		w.nagged = m.at // nag asks for the parts again
	}
}

// notStored warns that a checkpoint was not stored. A lasting state of the disk, a
// full one say, is worth one warning and not one at every checkpoint.
func (m *machine) notStored(e saved) {
	why := e.Err.Error()
	var lasting interface{ Lasting() string }
	if errors.As(e.Err, &lasting) && lasting.Lasting() != "" {
		why = lasting.Lasting()
	}
	m.saves.why = e.Err.Error()
	if why == m.saves.trouble {
		return
	}
	m.saves.trouble = why
	m.warn("the checkpoint of step %d was not stored: %v", e.Step, e.Err)
}

// waitsForDisk says whether the last state waits for the disk, and the end of that
// wait has not been asked for yet.
func (m *machine) waitsForDisk() bool { return m.phase == Saving && m.saves.last.goesOn() }

// conclude ends the job once the last step is recorded and on the disk, or cannot
// come there any more.
func (m *machine) conclude() {
	if m.trust.torn != "" {
		m.mistrust(m.trust.torn)
		return
	}
	outcome, reason := Done, ""
	switch {
	case m.failing != "":
		outcome, reason = Failed, m.failing
	case m.orders.stop != "" && m.ledger.committed < m.cfg.Steps:
		outcome, reason = Stopped, m.orders.stop
	}
	step := m.ledger.committed
	stored := m.saves.has(step)
	told := m.ledger.reported >= step || m.at.Sub(m.began) > 2*m.cfg.Deadline || len(m.roster.members) == 0
	lost := len(m.holders()) == 0
	switch {
	case step == m.cfg.StartStep && !m.saves.hasStored: // nothing to keep
		m.finish(outcome, reason)
	case stored && told:
		m.finish(outcome, reason)
	case stored || m.saves.fetches(): // wait
	case lost && outcome == Done: // back to the disk's state, with whoever comes
		m.note("nobody is left that holds the state after step %d, and it is not stored", step)
		m.becomeSettling()
	case lost && m.saves.hasStored:
		reason = fmt.Sprintf("%s; no worker is left that holds the state after step %d, and the newest checkpoint is of step %d",
			reason, step, m.saves.stored)
		m.ledger.committed = m.saves.stored
		m.finish(outcome, reason)
	case lost:
		m.finish(Failed, fmt.Sprintf("%s; and no worker is left that holds the state after step %d", reason, step))
	case m.saves.last.tries > 0 && !m.saves.last.patient(m.at, m.cfg.StoreWait):
		if reason != "" {
			reason += "; "
		}
		m.ending.Keep = true
		m.finish(Failed, fmt.Sprintf("%sthe checkpoint of step %d could not be stored: %s", reason, step, m.saves.why))
	}
}

// holders are the members at rest that hold the state after the committed step.
func (m *machine) holders() (l []*Member) {
	for _, w := range m.roster.list {
		if w.Status == AtRest && m.upToDate(w) {
			l = append(l, w)
		}
	}
	return l
}

// requestParts has the holders of the last state offer it, each a part.
func (m *machine) requestParts() {
	if m.saves.has(m.ledger.committed) || m.saves.fetches() {
		return
	}
	l := m.holders()
	generation := max(m.generation, m.saves.void) // that divides the state
	for i, w := range l {
		w.nagged = m.at
		m.act(send{w.Worker, &Snapshot{Generation: generation, Step: m.ledger.committed, Part: i, Parts: len(l)}})
	}
}
