package cluster

import (
	"cmp"
	"fmt"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/plain"
)

// stranger hears from a worker that is no member: one that lived on while its
// coordinator died, or that was given up too early. It is asked to introduce
// itself, with its seat.
func (m *machine) stranger(msg fromWorker, id string) {
	if m.farewell(msg, id) {
		return
	}
	e, ok := msg.(*Heartbeat)
	if !ok || m.phase > Gathering && e.At == nodeHalting { // when it has come to rest: as a member all would wait for that
		return
	}
	m.act(send{id, &Introduce{Coordinator: m.cfg.Coordinator}})
}

// join takes a worker in, or refuses it by name.
func (m *machine) join(j *Join) {
	if why, log := m.refusal(j); why != "" {
		m.act(answer{Refused: why})
		if log != "" { // one that is put out may ask for ever
			if text := m.repeats.Tell(m.at, "refused "+j.Worker, fmt.Sprintf("refused worker %s on %s: %s", j.Worker, j.Host, log)); text != "" {
				m.note("%s", text)
			}
		}
		return
	}
	if why := m.occupied(j); why != "" {
		m.act(answer{Refused: why, Passes: true})
		return
	}
	w := m.roster.members[j.Worker]
	switch {
	case w == nil:
	case w.Status == Loading: // the reply to its first request was lost
	case j.Seat != nil && m.roster.ring[w.Worker] && j.Seat.Generation == m.generation: // the reply to its introduction was lost
	case j.Seat == nil: // its process has begun anew under the same pid, as containers do
		m.lose(w, "it began anew")
		w = nil
	}
	hopeless := ""
	if w == nil {
		w, hopeless = m.welcome(j)
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

// occupied is why a worker has to wait for a place, in words for it; empty: it need not.
func (m *machine) occupied(j *Join) string {
	w := m.roster.members[j.Worker]
	switch {
	case w == nil && len(m.roster.members) >= limits.Workers:
		return fmt.Sprintf("the job has %s, as many as there can be", plain.Workers(len(m.roster.members)))
	case w != nil && (w.Host != j.Host || w.PID != j.PID):
		return fmt.Sprintf("the worker id %q is taken by process %d on %s", j.Worker, w.PID, w.Host)
	}
	return ""
}

// refusal is why a worker can never join, in words for it; empty: it can. log is the
// same in words for the coordinator's log; empty: it is no news there, for a
// worker may ask again and again.
func (m *machine) refusal(j *Join) (why, log string) {
	both := func(f string, args ...any) (string, string) {
		s := fmt.Sprintf(f, args...)
		return s, s
	}
	switch {
	case j.Protocol != Protocol:
		return fmt.Sprintf("worker %s speaks protocol version %d, this coordinator speaks %d: run the same release on both sides",
			j.Version, j.Protocol, Protocol), fmt.Sprintf("protocol version %d, not %d", j.Protocol, Protocol)
	case j.Seat != nil && j.Seat.Job != m.cfg.Job:
		const why = "it computes this job as it was before it was changed"
		return why, fmt.Sprintf("%s; it keeps its state of step %d on its own disk", why, j.Seat.Step)
	case j.Seat != nil && j.Seat.check(&m.cfg, m.generation) != nil:
		return both("its seat makes no sense: %v", j.Seat.check(&m.cfg, m.generation))
	case len(j.Stream) > maxAddress:
		return fmt.Sprintf("its address for direct connections has %d bytes: at most %d", len(j.Stream), maxAddress), ""
	case j.Memory != nil && j.Memory.check() != nil:
		return fmt.Sprintf("what it says of its memory makes no sense: %v", j.Memory.check()), ""
	case m.mustShare(j) != "":
		return both("%s", m.mustShare(j))
	case m.trust.banned(j) != "":
		why := m.trust.banned(j)
		return fmt.Sprintf("worker %s: %s", j.Worker, why), why
	}
	return "", ""
}

// welcome makes a worker a member. hopeless is why the job has to end because its
// process began again; empty: it need not.
func (m *machine) welcome(j *Join) (w *Member, hopeless string) {
	w = &Member{Join: *j, Rank: -1}
	delete(m.parting.gone, j.Worker)
	m.roster.enlist(w)
	if j.Seat == nil {
		delete(m.trust.suspects, j.Worker) // another process, which holds nothing
		hopeless = m.blame.ends.began(j.Worker)
	}
	if n, of := len(m.roster.members), max(m.cfg.Workers, m.orders.members); n <= of {
		m.note("worker %s joined from %s (%d of %d)", j.Worker, j.Host, n, of)
	} else {
		m.note("worker %s joined from %s (%d, wanted %d)", j.Worker, j.Host, n, of)
	}
	if j.Seat != nil {
		m.seat(w, j.Seat)
	}
	return w, hopeless
}

// seat takes over a worker that lived on without this coordinator. In a takeover
// its seat says which generation the job was in, and who else is to be waited for.
func (m *machine) seat(w *Member, s *Seat) {
	m.raiseFence(s.Fence)
	w.Status, w.State, w.Step = AtRest, true, s.Step // or it will be at rest, as soon as it is assigned
	m.oversight.livedOn(w.Worker)
	if m.trust.suspects[w.Worker] || s.Generation < m.trust.fence {
		m.disown(w)
		return
	}
	if m.phase != Gathering {
		return
	}
	w.Status = Stepping
	m.ledger.commit(s.Step)
	m.generation = max(m.generation, s.Generation)
	m.roster.await(s.Members)
	if m.roster.places == nil {
		m.roster.places = s.places()
	}
}

// places are those of the generation that a worker lived on in.
func (s *Seat) places() (l []place) {
	for r, id := range s.Members {
		p := place{Worker: id}
		if len(s.Micro) == len(s.Members)+1 {
			p.Lo, p.Hi = s.Micro[r], s.Micro[r+1]
		}
		l = append(l, p)
	}
	return l
}

// ready hears that a worker has loaded the job, or the state that it was told to
// take.
func (m *machine) ready(e *Ready) {
	w := m.roster.members[e.Worker]
	if w.Status != Loading {
		return
	}
	w.Status, w.State, w.Step, w.Digest = AtRest, e.State, e.Step, e.Digest
	w.restoring = w.restoring && !e.State
	m.equip(w)
}

// standing hears that a worker is at rest. Whatever an older generation or a
// restore overtook does not count.
func (m *machine) standing(e *Standing) {
	w := m.roster.members[e.Worker]
	old := e.Generation < m.generation
	if w.Status != Loading && (old || m.phase == Forming) || w.restoring && e.Generation < w.restored {
		return
	}
	w.Status, w.State, w.Step, w.Digest = AtRest, e.State && !m.trust.suspects[w.Worker], e.Step, e.Digest
	w.restoring = w.restoring && !e.State
	if e.State {
		m.ledger.commit(e.Step)
	}
	if !e.State || e.Step < m.rollback.base.Step { // the disk has a newer one
		m.equip(w)
	}
	m.disputed(w, e.Verdict)
}

// formed hears that a worker listens on the ring. When all do, proceed starts it.
func (m *machine) formed(e *Formed) {
	w := m.roster.members[e.Worker]
	if m.phase == Forming && e.Generation == m.generation && w.Status == Assigned {
		w.Status = Listening
	}
}

// heartbeat answers a sign of life, and looks whether the worker is where it
// should be.
func (m *machine) heartbeat(e *Heartbeat) {
	w := m.roster.members[e.Worker]
	w.at, w.Phase = e.At, e.Phase
	// It tells of a commit whose report may have been lost. Its state is known
	// again when it says what it holds.
	if w.State && e.Step > w.Step && e.Generation >= m.trust.fence {
		w.Step, w.Digest = e.Step, ""
		m.ledger.commit(e.Step)
	}
	// Two coordinators have named the same generation, and this worker has heard
	// the other one first. A newer one is this coordinator's alone.
	current := m.phase > Gathering && m.phase < Saving && e.Generation == m.generation
	if current && e.Coordinator != "" && e.Coordinator != m.cfg.Coordinator {
		m.recall(fmt.Sprintf("worker %s follows another coordinator's generation of that number", w.Worker))
	}
	if w.Status == Loading && !w.restoring && e.Generation > 0 {
		m.stranded(w, e.Generation)
	}
	m.act(send{w.Worker, &Beat{Coordinator: m.cfg.Coordinator, Reported: m.ledger.reported}})
}

// stranded gets a member out of a generation in which it waits for what never
// comes. It had a place there and no state yet when it lost its coordinator, so
// that it has no seat to come back with.
func (m *machine) stranded(w *Member, generation uint64) {
	switch {
	case m.phase != Gathering && generation < m.generation:
		m.tellRecall(w, "its generation is over")
	case m.phase == Gathering && m.at.After(m.waits.quiet) && m.roster.seated() == 0: // no other member can give it the state
		m.generation = max(m.generation, generation+1)
		m.restore(w)
	}
}

// gathered starts the job once enough workers are ready, or takes over those that
// a dead coordinator left behind.
func (m *machine) gathered() {
	if m.rollback.underway {
		return
	}
	seated := m.roster.seated()
	if seated > 0 && (m.roster.missing() == 0 || m.at.After(m.waits.quiet)) {
		m.note("taking over %s at step %d", plain.Workers(seated), m.ledger.committed)
		m.recall("its coordinator died")
		return
	}
	if seated > 0 || m.cfg.Takeover && !m.at.After(m.waits.quiet) {
		m.sayQuiet(seated)
		return
	}
	if m.failing != "" {
		m.finish(Failed, m.failing)
		return
	}
	if m.orders.stop != "" {
		m.finish(Stopped, m.orders.stop)
		return
	}
	if m.enoughReady() {
		m.rollback.again, m.rollback.wary = false, false
		m.form()
	}
}

// sayQuiet says that workers are waited for that may live on. Those that do are
// here in a second, so before that it is not worth a line.
func (m *machine) sayQuiet(seated int) {
	left := m.waits.quiet.Sub(m.at)
	if seated > 0 || m.waits.saidQuiet || m.at.Sub(m.started) <= time.Second || left <= 2*time.Second {
		return
	}
	m.waits.saidQuiet = true
	m.note("the coordinator before this one did not end the run: its workers may live, and are waited for %v more",
		left.Round(time.Second))
}

// enoughReady says whether the job can begin. Where it cannot for too long, the
// job fails.
func (m *machine) enoughReady() bool {
	ready, loading, restoring := 0, false, false
	for _, w := range m.roster.members {
		loading = loading || w.Status == Loading
		restoring = restoring || w.restoring
		if w.Status == AtRest && w.State {
			ready++
		}
	}
	few := max(m.cfg.MinWorkers, 1)
	waited := m.at.Sub(m.began)
	late := m.cfg.JoinTimeout > 0 && waited > m.cfg.JoinTimeout
	switch {
	case ready >= m.cfg.Workers && !(m.rollback.wary && restoring && !late):
		return true
	case late && ready >= few:
		m.note("beginning with %d of %d workers: the others were not ready within %v", ready, m.cfg.Workers, m.cfg.JoinTimeout)
		return true
	case m.rollback.again && ready >= few && ready == len(m.roster.members):
		return true
	case !late || m.rollback.again:
	case loading && waited < hangsAfter: // they answer, and read the data: that takes as long as it takes
		if !m.waits.saidLoad {
			m.waits.saidLoad = true
			m.note("%d of %d workers were ready within %v; those that are still loading are waited for",
				ready, m.cfg.Workers, m.cfg.JoinTimeout)
		}
	default:
		m.finish(Failed, fmt.Sprintf("%d of %d workers were ready within %v", ready, m.cfg.Workers, m.cfg.JoinTimeout))
	}
	return false
}
