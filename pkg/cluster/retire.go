package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// parting is the going of members whose own machines have told them to: each asks,
// and is let go when nothing is lost with it.
//
//	Retire ──> the step ends (FlagReform), or is broken off after partPatience ──> all stand
//	all stand ──> some that stay hold the newest state, or the disk has it ──> they go
//	          └─> all that hold it ask to go ──> Paused, it is stored ──> they go
//	                                                     └─ it cannot be ──> who is new takes it from them in
//	                                                          one step more; with nobody new they keep it
type parting struct {
	since  time.Time       // when the oldest that waits asked, or its generation began; zero: nobody waits
	saving bool            // all that hold the newest state ask to go, and it is being stored
	stored bool            // it was, and they are gone
	gone   map[string]*End // those that were let go, who may not have heard it
}

// waits says whether somebody waits to be let go.
func (p *parting) waits() bool { return !p.since.IsZero() }

// left says whether all that held the newest state are gone, and the disk has it.
func (p *parting) left() bool { return p.stored }

// partPatience is for how long the end of a step is waited for before somebody goes:
// what the others have of it is kept where it is broken off, but what they computed
// who go is computed again. Kubernetes kills half a minute after it has told to go.
const partPatience = 5 * time.Second

// retire hears that a member asks to be let go.
func (m *machine) retire(e *Retire) {
	w := m.roster.members[e.Worker]
	if w.leaving != "" {
		return
	}
	w.leaving = e.Reason
	if w.leaving == "" {
		w.leaving = "it asked to"
	}
	m.note("%s asks to leave: %s", m.roster.named(w.Worker), w.leaving)
	if !m.parting.waits() {
		m.parting.since = m.at
	}
	switch m.phase {
	case Forming: // no step has begun yet
		m.recall(fmt.Sprintf("worker %s is about to leave", w.Worker))
	case Running:
		if !slices.ContainsFunc(m.roster.list, func(o *Member) bool { return o.leaving == "" }) {
			m.flag(allreduce.FlagReform | allreduce.FlagCheckpoint)
		}
	}
}

// letIdleGo lets those go that nobody waits for: they have nothing that the disk or the
// others lack.
func (m *machine) letIdleGo() {
	if !m.parting.waits() || m.routine {
		return
	}
	waits := false
	for _, w := range m.roster.list {
		if w.leaving == "" {
			continue
		}
		holds := w.State && m.phase != Gathering || m.roster.ring[w.Worker]
		if m.phase != Saving && (w.Status == Loading || w.Status == AtRest && !holds) {
			m.letGo(w, false)
		} else {
			waits = true
		}
	}
	if !waits {
		m.parting.since = time.Time{}
	}
}

// letGo ends the membership of one that has asked to leave. keep: the disk lacks the
// newest state, and it is to keep its own.
func (m *machine) letGo(w *Member, keep bool) {
	m.note("%s is let go", m.roster.named(w.Worker))
	end := &End{Outcome: Released, Reason: w.leaving, Keep: keep}
	m.act(send{w.Worker, end})
	m.roster.strikeOff(w.Worker)
	m.blame.ends.left(w.Worker)
	delete(m.blame.own, w.Worker)
	if m.phase == Gathering { // it need not be waited for
		m.roster.forget(w.Worker)
	}
	if m.parting.gone == nil || len(m.parting.gone) >= limits.Workers {
		m.parting.gone = map[string]*End{}
	}
	m.parting.gone[w.Worker] = end
}

// farewell answers one that was let go, and says whether it did: what told it so may
// have been lost.
func (m *machine) farewell(msg fromWorker, id string) bool {
	end := m.parting.gone[id]
	if end == nil {
		return false
	}
	if _, leaves := msg.(*Leave); leaves {
		delete(m.parting.gone, id)
	} else {
		m.act(send{id, end})
	}
	return true
}

// partLate breaks off a step in whose time somebody waits to be let go.
func (m *machine) partLate() {
	if m.phase != Running || !m.parting.waits() || m.at.Sub(m.began) < partPatience || m.at.Sub(m.parting.since) < partPatience {
		return
	}
	m.recall(fmt.Sprintf("workers are to leave, and step %d takes longer than %v", m.ledger.committed+1, partPatience))
}

// part lets those of live go that have asked to, at rest as all are, and returns
// those that stay. It is false where the job cannot go on: they are all that hold the
// newest state, which is stored first; or they are gone with it, and whoever comes
// begins with the disk's.
func (m *machine) part(live []*Member) (stay []*Member, goesOn bool) {
	step := m.ledger.committed
	var leave []*Member
	held := false // by one that stays
	for _, w := range live {
		if w.leaving != "" {
			leave = append(leave, w)
			continue
		}
		stay = append(stay, w)
		held = held || m.upToDate(w)
	}
	m.parting.stored = false
	if len(leave) == 0 {
		m.parting.saving = false
		return live, true
	}
	onDisk := m.saves.has(step) || step == m.rollback.base.Step
	tried := m.parting.saving && m.saves.last.tries >= maxTries
	switch {
	case held || onDisk:
		if !held && m.parting.saving {
			m.note("step %d is stored, for all workers that hold it are leaving: they may go", step)
		}
		m.partAll(leave, false)
		m.parting.stored = !held
	case tried && len(stay) > 0 && len(live) >= m.cfg.MinWorkers:
		m.note("step %d cannot be stored: whoever is new takes it from those that leave, who stay for one step more", step)
		m.parting.saving, m.parting.since = false, m.at
		return live, true
	case tried && len(stay) == 0:
		m.warn("step %d cannot be stored, and all workers that hold it leave: each keeps it on its own disk: %s", step, m.saves.why)
		m.partAll(leave, true)
	default: // where those that are new are too few to go on, the disk is tried until they leave by themselves
		m.store(live)
		return nil, false
	}
	if held {
		return stay, true
	}
	m.becomePaused()
	if len(stay) > 0 {
		m.rollBack()
	}
	return nil, false
}

// partAll lets all of leave go, with the parts of checkpoints that they have.
func (m *machine) partAll(leave []*Member, keep bool) {
	for _, w := range leave {
		m.letGo(w, keep)
	}
	m.voidOffers(m.generation + 1)
	m.parting.saving = false
}

// store has the newest state stored, which only those hold who are about to leave.
func (m *machine) store(live []*Member) {
	m.becomePaused()
	if m.parting.saving {
		return // nag sees to it
	}
	m.parting.saving = true
	m.note("all workers that hold step %d are leaving: it is stored before they go", m.ledger.committed)
	for _, w := range live {
		w.nagged = m.at // a checkpoint that was due is offered by itself; else nag asks for it
	}
}

// storing says whether no step is begun until the newest state is stored.
func (m *machine) storing() bool {
	return m.phase == Saving || m.phase == Paused && m.parting.saving
}
