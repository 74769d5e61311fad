package cluster

import (
	"fmt"
	"time"
)

// lose handles a member that is not there any more. Where it had a place, the
// generation breaks: no other member can go on without its part of the sum.
func (m *machine) lose(w *Member, reason string) {
	m.roster.strikeOff(w.Worker)
	if w.Rank >= 0 {
		m.blame.ends.lost(w.Worker, reason)
	}
	delete(m.blame.own, w.Worker)
	m.note("lost %s: %s", m.roster.named(w.Worker), reason)
	if !m.roster.ring[w.Worker] {
		return
	}
	switch m.phase {
	case Forming, Running:
		m.recall(fmt.Sprintf("worker %s was lost after step %d: %s", w.Worker, w.Step, reason))
	case Gathering: // it need not be waited for
		m.roster.forget(w.Worker)
	}
}

// recall breaks the current generation and asks every member where it stands.
// They leave their rings and keep the micro-gradients that they have.
func (m *machine) recall(reason string) {
	m.flush(true)
	m.generation++
	m.voidOffers(m.generation)
	m.orders.flags, m.trust.broken = 0, ""
	m.midStep = true // members keep the micro-gradients of the step in progress
	m.becomeSettling()
	m.note("generation %d is over: %s", m.generation-1, reason)
	for _, w := range m.roster.list {
		if w.Status == Loading {
			continue
		}
		w.Status = Stepping // until it says that it stands
		w.nagged = m.at
		m.tellRecall(w, reason)
	}
}

// tellRecall asks one member where it stands. Reported tells it which of its
// reports need not be sent again.
func (m *machine) tellRecall(w *Member, reason string) {
	m.act(send{w.Worker, &Recall{Generation: m.generation, Coordinator: m.cfg.Coordinator, Reported: m.ledger.reported, Reason: reason}})
}

// dismiss tells a member that is at fault to leave, and goes on without it.
func (m *machine) dismiss(w *Member, reason string) {
	m.act(send{w.Worker, &End{Outcome: Failed, Reason: reason, Alone: true}})
	m.lose(w, reason)
}

// expelRogue puts a worker out that does what no sound one does, and takes neither
// it nor its process back.
func (m *machine) expelRogue(e rogue) {
	w := m.roster.members[e.Worker]
	if w == nil {
		if text := m.repeats.Tell(m.at, "rogue "+e.Worker, fmt.Sprintf("dropped what worker %s says, which is no member: %s", e.Worker, e.Why)); text != "" {
			m.warn("%s", text)
		}
		m.act(expel{e.Worker})
		return
	}
	m.putOut(w, "it is put out, and not taken back: "+e.Why)
}

// putOut ends a member's part in the job for good.
func (m *machine) putOut(w *Member, why string) {
	m.trust.ban(w.Worker, why, w)
	m.act(unwanted{w.Worker})
	m.dismiss(w, why)
	m.act(expel{w.Worker})
}

// fault hears that a worker cannot go on. Whose fault it is decides what follows:
// the job's (it fails), a peer's (a new generation, and a peer that is blamed again
// and again is lost), its own (it is dismissed, unless others have one too).
func (m *machine) fault(e *Fault) {
	w := m.roster.members[e.Worker]
	begins := m.phase == Gathering && m.generation == 0 && !m.cfg.Takeover // then it is the job's: all would fail alike
	switch {
	case w.Status == Loading && !begins:
		m.dismiss(w, e.Error)
		return
	case m.phase == Gathering && w.Status != Loading: // it is recalled
		return
	case e.Generation < m.generation && !e.Fatal: // it is over
		return
	case m.phase != Running && m.phase != Forming && m.phase != Gathering:
		return
	}
	text := fmt.Sprintf("%s after step %d: %s", m.roster.named(w.Worker), e.Step, e.Error)
	switch {
	case m.phase == Gathering:
		m.finish(Failed, text)
	case e.Unshared:
		m.unshare(w, e)
	case e.Fatal:
		m.fail(text)
	case e.Lost:
		m.trust.forfeit = text
		m.recall(text)
	case e.Unlike:
		m.trust.torn = text
		m.recall(text)
	case e.Peer != "":
		m.blamePeer(e.Peer, text)
	default: // the data, the disk, a panic
		m.blame.own[w.Worker] = e.Error
		if len(m.blame.own) >= 2 || len(m.roster.members) == 1 {
			m.fail(text)
			return
		}
		m.dismiss(w, e.Error)
		m.blame.own[w.Worker] = e.Error // lose has forgotten it
	}
}

// fail ends the job once its members are at rest and its state is stored.
func (m *machine) fail(reason string) {
	m.failing = reason
	m.recall(reason)
}

// blamePeer breaks a generation because of a peer, which may be healthy: the one
// who waits cannot tell. One for which several generations in a row waited is lost.
func (m *machine) blamePeer(id, why string) {
	p := m.roster.members[id]
	if p != nil {
		if n := m.blame.waited(id); n > 0 {
			m.act(send{p.Worker, &Introduce{Coordinator: m.cfg.Coordinator}})
			m.lose(p, fmt.Sprintf("%d generations in a row failed waiting for it", n))
			return
		}
	}
	m.recall(why)
}

// stopPatience is for how long a step that stands still is waited for when the
// job is to stop. Kubernetes kills half a minute after it has asked to stop.
const stopPatience = 15 * time.Second

// stalled logs which peer a worker waits for. A job that is to stop does not wait
// for a step for ever: what is committed is stored.
func (m *machine) stalled(e *Stall) {
	if m.stalls.add(m.at, e) {
		m.note("stall: %s has waited %.1f s in step %d, bucket %d, %s chunk %d, for %s",
			m.roster.named(e.Worker), e.Seconds, e.Step, e.Bucket, e.Pass, e.Chunk, m.roster.named(e.Peer))
	}
	stops := m.orders.stop != "" && m.at.Sub(m.orders.asked) >= stopPatience
	if stops && m.phase == Running && e.Generation == m.generation && e.Seconds >= stopPatience.Seconds() {
		m.recall(fmt.Sprintf("%s, and step %d stands still", m.orders.stop, e.Step))
	}
}
