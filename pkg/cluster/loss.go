package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// lose handles a member that is not there any more.
func (m *machine) lose(w *Member, reason string) {
	m.strikeOff(w.Worker)
	if w.Rank >= 0 {
		m.ends.lost(w.Worker, reason)
	}
	delete(m.faults, w.Worker)
	m.note("lost worker %s%s: %s", w.Worker, m.rankText(w.Worker), reason)
	if !m.ring[w.Worker] {
		return
	}
	switch m.phase {
	case Forming, Running:
		m.recall(fmt.Sprintf("worker %s was lost after step %d: %s", w.Worker, w.Step, reason))
	case Gathering:
		delete(m.ring, w.Worker)
		m.people++
	}
}

// recall breaks the current generation and asks everyone where they stand.
func (m *machine) recall(reason string) {
	m.flush(true)
	m.generation++
	m.voidOffers(m.generation)
	m.raise, m.diverged = 0, ""
	m.midStep = true
	m.becomeSettling()
	m.note("generation %d is over: %s", m.generation-1, reason)
	for _, w := range m.roster {
		if w.Status == Loading {
			continue
		}
		w.Status = Stepping // until it says that it stands
		w.nagged = m.at
		m.act(send{w.Worker, &Recall{Generation: m.generation, Coordinator: m.cfg.Coordinator, Reported: m.reported, Reason: reason}})
	}
}

// ends counts the processes that end one after another while the job gets no
// further: where the only worker needs more memory than there is, say, it would
// be started again, and go back to the same checkpoint, for ever.
type ends struct {
	most     int               // 0: any number
	furthest uint64            // step that the job has come to
	how      map[string]string // how a worker ended that took part, and has yet to come back
	number   map[string]int    // of a worker's processes that ended so, since the job got to furthest
}

func newEnds(cfg Config) ends {
	return ends{most: cfg.MaxEnds, furthest: cfg.StartStep, how: map[string]string{}, number: map[string]int{}}
}

// lost takes note that a worker which has taken part is not there any more.
func (e *ends) lost(id, reason string) { e.how[id] = reason }

// left takes note that it went of its own accord.
func (e *ends) left(id string) { delete(e.how, id) }

// reached takes note of how far the job is. What is run again is not further.
func (e *ends) reached(step uint64) {
	if step > e.furthest {
		e.furthest = step
		clear(e.number)
	}
}

// began takes note of a worker's new process, which holds nothing: the one
// before has ended, whoever took it for lost and why. It returns why the job
// has to end for it; empty: it need not.
func (e *ends) began(id string) string {
	how := e.how[id]
	if how == "" {
		return ""
	}
	delete(e.how, id)
	if e.number[id]++; e.most == 0 || e.number[id] < e.most {
		return ""
	}
	return fmt.Sprintf("worker %s has ended %d times, and the job did not get beyond step %d in between; the last time %s", id, e.number[id], e.furthest, how)
}

// dismiss tells a member that is at fault to leave, and goes on without it.
func (m *machine) dismiss(w *Member, reason string) {
	m.act(send{w.Worker, &End{Outcome: Failed, Reason: reason}})
	m.lose(w, reason)
}

func (m *machine) fault(e *Fault) {
	w := m.members[e.Worker]
	why := e.Error
	begins := m.phase == Gathering && m.generation == 0 && !m.cfg.Takeover // the job: all would fail alike
	if w.Status == Loading && !begins {
		m.dismiss(w, why)
		return
	}
	if m.phase == Gathering && w.Status != Loading { // it is recalled
		return
	}
	if e.Generation < m.generation && !e.Fatal || m.phase != Running && m.phase != Forming && m.phase != Gathering {
		return
	}
	text := fmt.Sprintf("worker %s%s after step %d: %s", w.Worker, m.rankText(w.Worker), e.Step, why)
	switch {
	case m.phase == Gathering:
		m.finish(Failed, text)
	case e.Unshared:
		m.unshare(w, e)
	case e.Fatal:
		m.failing = text
		m.recall(text)
	case e.Peer != "":
		p := m.members[e.Peer]
		if p != nil {
			m.blamed[e.Peer]++
		}
		if p != nil && m.blamed[e.Peer] >= 3 {
			m.act(send{p.Worker, &Introduce{Coordinator: m.cfg.Coordinator}})
			m.lose(p, fmt.Sprintf("%d generations in a row failed waiting for it", m.blamed[e.Peer]))
			m.blamed[e.Peer] = 0
			return
		}
		m.recall(text)
	default: // its own: the data, the disk, a panic
		m.faults[w.Worker] = why
		if len(m.faults) >= 2 || len(m.members) == 1 {
			m.failing = text
			m.recall(text)
			return
		}
		m.dismiss(w, why)
		m.faults[w.Worker] = why
	}
}

// stopPatience is for how long a step that stands still is waited for when the
// job is to stop: who stops it waits half a minute, as Kubernetes does.
const stopPatience = 15 * time.Second

// stalled tells whom a worker waits for. A job that is to stop does not wait
// for a step for ever: what is committed is stored.
func (m *machine) stalled(e *Stall) {
	if s := &m.stalls; s.add(m.at, e) {
		m.note("stall: worker %s%s has waited %.1f s in step %d, bucket %d, %s chunk %d, for %s", e.Worker, m.rankText(e.Worker), e.Seconds, e.Step, e.Bucket, e.Pass, e.Chunk, m.named(e.Peer))
	}
	if m.stopping != "" && m.phase == Running && e.Generation == m.generation && m.at.Sub(m.asked) >= stopPatience && e.Seconds >= stopPatience.Seconds() {
		m.recall(fmt.Sprintf("%s, and step %d stands still", m.stopping, e.Step))
	}
}

// stalls are those of about a second: where one rank stands still, all others
// wait, each for its neighbour, and say so. A few are told of as they come.
type stalls struct {
	began   time.Time // zero: none
	told    int
	longest float64
	waiting map[string]bool
	peers   map[string]bool // for whom they wait
}

const (
	stallsTold  = 3
	stallsEvery = time.Second
)

// add takes note of a stall, and says whether it is to be told of by itself.
func (s *stalls) add(now time.Time, e *Stall) bool {
	if s.began.IsZero() {
		*s = stalls{began: now, waiting: map[string]bool{}, peers: map[string]bool{}}
	}
	s.waiting[e.Worker], s.peers[e.Peer] = true, true
	s.longest = max(s.longest, e.Seconds)
	s.told++
	return s.told <= stallsTold
}

// over is what there is to say of those that were not told of, once they have
// had the time to come; empty: nothing.
func (s *stalls) over(now time.Time) string {
	if s.began.IsZero() || now.Sub(s.began) < stallsEvery {
		return ""
	}
	was := *s
	*s = stalls{}
	if was.told <= stallsTold {
		return ""
	}
	var roots []string
	for id := range was.peers {
		if !was.waiting[id] {
			roots = append(roots, "worker "+id)
		}
	}
	slices.Sort(roots)
	text := fmt.Sprintf("stall: %d workers wait, the longest %.1f s", len(was.waiting), was.longest)
	if len(roots) == 0 {
		return text + ", each for another one that waits"
	}
	return text + "; not waiting, and waited for: " + listed(roots)
}

// named is a worker with its rank.
func (m *machine) named(id string) string { return "worker " + id + m.rankText(id) }

func (m *machine) rankText(id string) string {
	if w := m.members[id]; w != nil && m.ring[id] && w.Rank >= 0 && w.Rank < len(m.places) && m.places[w.Rank].Worker == id {
		return fmt.Sprintf(" (rank %d)", w.Rank)
	}
	if m.ring[id] { // it is not there any more, or has yet to come back
		for r, p := range m.places {
			if p.Worker == id {
				return fmt.Sprintf(" (rank %d)", r)
			}
		}
	}
	return ""
}

// listed are names for people, of many the first ones.
func listed(names []string) string {
	const most = 16
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func (m *machine) tick() {
	for _, w := range m.roster {
		limit := m.cfg.Deadline
		if silent := m.at.Sub(w.LastSeen); silent > limit && !m.at.Before(m.pardon) {
			m.lose(w, fmt.Sprintf("not heard from for %v", silent.Round(time.Millisecond)))
		}
	}
	m.awaited()
	if text := m.stalls.over(m.at); text != "" {
		m.note("%s", text)
	}
	m.flush(false)
	if m.raise != 0 && m.phase == Running && m.at.Sub(m.raised) > m.nagAfter() {
		m.flag(m.raise)
	}
	for _, w := range m.roster {
		if m.at.Sub(w.nagged) > m.nagAfter() {
			m.nag(w)
		}
	}
}

// A member that ends a pass over a micro-batch answers heartbeats meanwhile, so
// the others wait for it: lateAfter deadlines before that is worth a line, and
// hangsAfter before it is taken for one that hangs, in a read of a dead disk, say.
const (
	lateAfter  = 10
	hangsAfter = 30 * time.Minute
)

// awaited looks at members that all others wait for: who has yet to say where it
// stands, or to take its place.
func (m *machine) awaited() {
	waited := m.at.Sub(m.began)
	if m.phase != Settling && m.phase != Forming || waited < lateAfter*m.cfg.Deadline {
		m.late = false
		return
	}
	var late []*Member
	for _, w := range m.roster {
		if m.phase == Settling && w.Status == Stepping || m.phase == Forming && w.Status == Assigned {
			late = append(late, w)
		}
	}
	for _, w := range late {
		if !m.late {
			m.note("waiting for %s, which has been told to stop and is in: %s", m.named(w.Worker), w.Phase)
		}
		if waited > hangsAfter {
			m.dismiss(w, fmt.Sprintf("it answers, but has not come to rest for %v: it hangs in: %s", hangsAfter, w.Phase))
		}
	}
	m.late = m.late || len(late) > 0
}

// nagAfter is how long a message may take to have an effect before it is sent again.
func (m *machine) nagAfter() time.Duration { return min(m.cfg.Deadline/3, 500*time.Millisecond) }

// nag sends again what a member seems not to have heard.
func (m *machine) nag(w *Member) {
	switch {
	case w.Status == Loading && w.restoring:
		m.tellRestore(w)
	case m.phase == Settling && w.Status == Stepping:
		m.act(send{w.Worker, &Recall{Generation: m.generation, Coordinator: m.cfg.Coordinator, Reported: m.reported, Reason: "again"}})
	case m.phase == Forming && w.Status == Assigned:
		m.act(send{w.Worker, m.assignment(w)})
	case m.phase == Running && w.Status == Listening && w.at == nodeFormed:
		m.act(send{w.Worker, &Go{Generation: m.generation}})
	case m.phase == Saving && w.Status == AtRest:
		if m.refused >= maxRefused && m.at.Sub(w.nagged) < storeEvery {
			return
		}
		m.requestParts()
	default:
		return
	}
	w.nagged = m.at
}
