package cluster

import (
	"cmp"
	"fmt"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// stranger is a worker that this coordinator does not know, though it speaks.
func (m *machine) stranger(ev Event, id string) {
	if e, ok := ev.(*Heartbeat); ok {
		if m.phase > Gathering && e.At == nodeHalting {
			return // when it has come to rest: all would wait for that
		}
		m.act(send{id, &Introduce{Coordinator: m.cfg.Coordinator}})
	}
}

func (m *machine) join(j *Join) {
	w := m.members[j.Worker]
	switch {
	case j.Protocol != Protocol:
		m.act(answer{Refused: fmt.Sprintf("worker %s speaks protocol version %d, this coordinator speaks %d: run the same release on both sides", j.Version, j.Protocol, Protocol)})
		m.note("refused worker %s on %s: protocol version %d, not %d", j.Worker, j.Host, j.Protocol, Protocol)
		return
	case j.Seat != nil && j.Seat.Job != m.cfg.Job:
		m.act(answer{Refused: "it computes this job as it was before it was changed"})
		m.note("refused worker %s on %s: it computes this job as it was before it was changed; it keeps its state of step %d on its own disk", j.Worker, j.Host, j.Seat.Step)
		return
	case j.Seat != nil && j.Seat.check(&m.cfg, m.generation) != nil:
		why := fmt.Sprintf("its seat makes no sense: %v", j.Seat.check(&m.cfg, m.generation))
		m.act(answer{Refused: why})
		m.note("refused worker %s on %s: %s", j.Worker, j.Host, why)
		return
	case len(j.Stream) > maxAddress:
		m.act(answer{Refused: fmt.Sprintf("its address for direct connections has %d bytes", len(j.Stream))})
		return
	case j.Memory != nil && j.Memory.check() != nil:
		m.act(answer{Refused: fmt.Sprintf("what it says of its memory makes no sense: %v", j.Memory.check())})
		return
	case m.mustShare(j) != "":
		m.act(answer{Refused: m.mustShare(j)})
		m.note("refused worker %s on %s: %s", j.Worker, j.Host, m.mustShare(j))
		return
	case m.fenced[j.Worker] != "" || m.fenced[process(j)] != "":
		why := cmp.Or(m.fenced[j.Worker], m.fenced[process(j)])
		m.act(answer{Refused: fmt.Sprintf("worker %s: %s", j.Worker, why)})
		m.note("refused worker %s on %s: %s", j.Worker, j.Host, why)
		return
	case w == nil && len(m.members) >= limits.Workers:
		m.act(answer{Refused: fmt.Sprintf("the job has %d workers, as many as there can be", len(m.members))})
		return
	case w != nil && (w.Host != j.Host || w.PID != j.PID):
		m.act(answer{Refused: fmt.Sprintf("the worker id %q is taken by process %d on %s", j.Worker, w.PID, w.Host)})
		return
	case w != nil && w.Status == Loading: // the reply to its first request was lost
	case w != nil && j.Seat != nil && m.ring[w.Worker] && j.Seat.Generation == m.generation: // so was that to its second introduction
	case w != nil && j.Seat == nil: // its process has begun anew under the same pid, as containers do
		m.lose(w, "it began anew")
		w = nil
	}
	hopeless := ""
	if w == nil {
		w = &Member{Join: *j, Rank: -1}
		m.enlist(w)
		if j.Seat == nil {
			delete(m.suspects, j.Worker) // another process, which holds nothing
			hopeless = m.ends.began(j.Worker)
		}
		if n, of := len(m.members), max(m.cfg.Workers, m.target); n <= of {
			m.note("worker %s joined from %s (%d of %d)", j.Worker, j.Host, n, of)
		} else {
			m.note("worker %s joined from %s (%d, wanted %d)", j.Worker, j.Host, n, of)
		}
		if j.Seat != nil { // it lived on without us
			m.raiseFence(j.Seat.Fence)
			w.Status, w.State, w.Step = AtRest, true, j.Seat.Step // or will be, as soon as it is assigned
			if m.suspects[j.Worker] || j.Seat.Generation < m.fence {
				m.disown(w)
			} else if m.phase == Gathering {
				w.Status = Stepping
				m.committed = max(m.committed, j.Seat.Step)
				m.generation = max(m.generation, j.Seat.Generation)
				for _, id := range j.Seat.Members {
					m.ring[id] = true // those that are to be heard of before going on
				}
				m.people++
				if m.places == nil {
					m.places = j.Seat.places()
				}
			}
		}
	}
	w.LastSeen = m.at
	if hopeless != "" {
		m.failing = cmp.Or(m.failing, hopeless)
	}
	source := FromPeers
	switch {
	case j.Seat != nil:
		source = FromItself
	case m.phase == Gathering:
		source = FromCoordinator
	}
	m.act(answer{Source: source})
	if hopeless != "" && (m.phase == Running || m.phase == Forming) {
		m.recall(m.failing)
	}
}

func (m *machine) ready(e *Ready) {
	w := m.members[e.Worker]
	if w.Status != Loading {
		return
	}
	w.Status, w.State, w.Step, w.Digest = AtRest, e.State, e.Step, e.Digest
	w.restoring = w.restoring && !e.State
	m.equip(w)
}

// equip gives a member the state that the others begin with, if it is to begin.
func (m *machine) equip(w *Member) {
	if m.phase == Gathering && w.Status == AtRest && !(w.State && w.Step == m.base.Step) {
		m.restore(w)
	}
}

// restore has a member take the state on the disk, whatever it holds.
func (m *machine) restore(w *Member) {
	if w.State || m.suspects[w.Worker] { // what it has said of that, and says once more, is of an older generation
		m.generation++
	}
	delete(m.suspects, w.Worker)
	w.Status, w.State, w.restoring, w.restored = Loading, false, true, m.generation
	m.tellRestore(w)
}

func (m *machine) tellRestore(w *Member) {
	w.nagged = m.at
	m.act(send{w.Worker, &Restore{Generation: w.restored, Fence: m.fence, StartStep: m.base.Step, State: m.base.State}})
}

func (m *machine) standing(e *Standing) {
	w := m.members[e.Worker]
	old := e.Generation < m.generation
	if w.Status != Loading && (old || m.phase == Forming) || w.restoring && e.Generation < w.restored { // of before what it has not heard yet
		return
	}
	w.Status, w.State, w.Step, w.Digest = AtRest, e.State && !m.suspects[w.Worker], e.Step, e.Digest
	w.restoring = w.restoring && !e.State
	if e.State {
		m.committed = max(m.committed, e.Step)
	}
	if !e.State || e.Step < m.base.Step { // the disk has a newer one
		m.equip(w)
	}
}

func (m *machine) formed(e *Formed) {
	w := m.members[e.Worker]
	if m.phase != Forming || e.Generation != m.generation || w.Status != Assigned {
		return
	}
	w.Status = Listening
}

func (m *machine) heartbeat(e *Heartbeat) {
	w := m.members[e.Worker]
	w.at, w.Phase = e.At, e.Phase
	if w.State && e.Step > w.Step && e.Generation >= m.fence {
		w.Step, w.Digest = e.Step, "" // until it says what it holds
		m.committed = max(m.committed, e.Step)
	}
	if m.phase > Gathering && m.phase < Saving && e.Generation == m.generation && e.Coordinator != "" && e.Coordinator != m.cfg.Coordinator {
		m.recall(fmt.Sprintf("worker %s follows another coordinator's generation of that number", w.Worker))
	}
	if w.Status == Loading && !w.restoring && e.Generation > 0 { // it had a place, but no state to come back with, when it lost its coordinator
		m.stranded(w, e.Generation)
	}
	m.act(send{w.Worker, &Beat{Coordinator: m.cfg.Coordinator, Reported: m.reported}})
}

// stranded gets a member out of a generation that it has no state to come back
// from with the others: it waits there for what never comes.
func (m *machine) stranded(w *Member, generation uint64) {
	switch {
	case m.phase != Gathering && generation < m.generation:
		m.act(send{w.Worker, &Recall{Generation: m.generation, Coordinator: m.cfg.Coordinator, Reported: m.reported, Reason: "its generation is over"}})
	case m.phase == Gathering && m.at.After(m.quiet) && m.seated() == 0: // and nobody else to give it one
		m.generation = max(m.generation, generation+1)
		m.restore(w)
	}
}

// seated is the number of members that live on from a coordinator before this one.
func (m *machine) seated() (n int) {
	for _, w := range m.members {
		if w.Seat != nil && w.State && w.Status == Stepping {
			n++
		}
	}
	return n
}

// gathered starts the job once enough workers are ready, or goes on with those
// that a dead coordinator left behind.
func (m *machine) gathered() {
	if m.rewinds {
		return
	}
	ready, seated, missing, restoring, loading := 0, m.seated(), 0, false, false
	for _, w := range m.members {
		loading = loading || w.Status == Loading
		restoring = restoring || w.restoring
		if w.Status == AtRest && w.State {
			ready++
		}
	}
	for id := range m.ring {
		if m.members[id] == nil {
			missing++
		}
	}
	if seated > 0 && (missing == 0 || m.at.After(m.quiet)) {
		m.note("taking over %d workers at step %d", seated, m.committed)
		m.recall("its coordinator died")
		return
	}
	if seated > 0 || m.cfg.Takeover && !m.at.After(m.quiet) {
		if left := m.quiet.Sub(m.at); seated == 0 && !m.awaits && m.at.Sub(m.started) > time.Second && left > 2*time.Second { // those that live are here in a second
			m.awaits = true
			m.note("the coordinator before this one did not end the run: its workers may live, and are waited for %v more", left.Round(time.Second))
		}
		return
	}
	if m.failing != "" {
		m.finish(Failed, m.failing)
		return
	}
	if m.stopping != "" {
		m.finish(Stopped, m.stopping)
		return
	}
	late := m.cfg.JoinTimeout > 0 && m.at.Sub(m.began) > m.cfg.JoinTimeout
	switch {
	case ready >= m.cfg.Workers && !(m.wary && restoring && !late): // of all of them a majority can tell who is wrong
	case late && ready >= max(m.cfg.MinWorkers, 1):
		m.note("beginning with %d of %d workers: the others were not ready within %v", ready, m.cfg.Workers, m.cfg.JoinTimeout)
	case m.again && ready >= max(m.cfg.MinWorkers, 1) && ready == len(m.members):
	case late && !m.again && loading && m.at.Sub(m.began) < hangsAfter: // they answer, and read the data: that takes as long as it takes
		if !m.loads {
			m.loads = true
			m.note("%d of %d workers were ready within %v; those that are still loading are waited for", ready, m.cfg.Workers, m.cfg.JoinTimeout)
		}
		return
	case late && !m.again:
		m.finish(Failed, fmt.Sprintf("%d of %d workers were ready within %v", ready, m.cfg.Workers, m.cfg.JoinTimeout))
		return
	default:
		return
	}
	m.again, m.wary = false, false
	m.form()
}
