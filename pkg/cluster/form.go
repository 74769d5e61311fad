package cluster

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// form makes a new generation of all members at rest, or ends the job where
// there is nothing left to run.
func (m *machine) form() {
	m.flush(true) // whoever has committed a step has said so before it said that it stands
	var live []*Member
	for _, w := range m.roster {
		if w.Status == AtRest {
			live = append(live, w)
		}
	}
	if !m.agree(live) {
		return
	}
	m.diverged = ""
	// what is run again is compared again; what has been told, and is not, need not be
	m.reported = min(max(m.reported, m.told), m.committed)
	if m.failing != "" || m.stopping != "" || m.committed >= m.cfg.Steps {
		m.becomeSaving()
		for _, w := range live {
			w.nagged = m.at // the last step's offers come by themselves; else they are asked for
		}
		m.conclude()
		return
	}
	live = m.release(live)
	if len(live) < m.cfg.MinWorkers {
		if m.phase != Paused {
			m.note("paused: %d of at least %d workers; they keep their state", len(live), m.cfg.MinWorkers)
		}
		m.becomePaused()
		return
	}
	m.place(live)
	if m.phase == Gathering { // what was offered to a coordinator before this one may lack parts
		m.voidOffers(m.generation + 1)
	}
	m.generation++
	m.raise = 0
	m.start = beginning{step: m.committed, digest: m.digest, hosts: m.hosts()}
	m.becomeForming()
	clear(m.ring)
	m.people++
	clear(m.struck)
	var names, behind []string
	for r, p := range m.places {
		w := m.members[p.Worker]
		m.ring[p.Worker] = true
		w.Rank, w.Status, w.nagged = r, Assigned, m.at
		names = append(names, p.Worker)
		if w.behind = !m.upToDate(w); w.behind {
			behind = append(behind, p.Worker)
		} else {
			m.start.sources = append(m.start.sources, p.Worker)
		}
	}
	text := fmt.Sprintf("generation %d: %d workers from step %d (%s)", m.generation, len(names), m.committed, listed(names))
	if len(behind) > 0 {
		text += "; " + listed(behind) + " get the state from the others"
	}
	m.act(note{Text: text})
	m.roads()
	for _, p := range m.places {
		m.act(send{p.Worker, m.assignment(m.members[p.Worker])})
	}
}

// agree finds the newest state among those at rest: the step, and what most
// say that it is. It is false where there is none, or no majority.
func (m *machine) agree(live []*Member) bool {
	if m.torn != "" {
		m.mistrust(m.torn)
		return false
	}
	if m.distrust {
		return false
	}
	votes, best, found := map[string][]string{}, uint64(0), false
	for _, w := range live {
		if w.State && (!found || w.Step > best) {
			best, found = w.Step, true
		}
	}
	if !found || m.hasStored && best < m.stored {
		if !m.rewinds {
			m.rewinds = true
			m.note("nobody holds the job's newest state any more: going back to the disk's")
			if m.phase == Running { // they are at rest, and behind a checkpoint that was stored late
				m.becomeSettling()
			}
			m.act(rewind{})
		}
		return false
	}
	for _, w := range live {
		if w.State && w.Step == best && w.Digest != "" {
			votes[w.Digest] = append(votes[w.Digest], w.Worker)
		}
	}
	if len(votes) == 0 { // only such as came back, and have not said what they hold
		m.recall("those who hold the newest state have to say what it is")
		return false
	}
	begins := m.phase == Gathering && best == m.base.Step // nothing was computed with it yet
	if len(votes) > 1 {
		if m.strike(votes); len(m.outcasts) > 0 {
			if m.cfg.Divergence == RewindDivergence && !begins {
				m.torn = fmt.Sprintf("workers disagree about the state after step %d: %s", best, ballots(votes))
			}
			if m.phase == Running { // they are at rest
				m.becomeSettling()
			}
			m.expel()
			return false
		}
	}
	digest, tie := majority(votes)
	if tie || len(votes) > 1 && m.cfg.Divergence == RewindDivergence && !begins {
		m.mistrust(fmt.Sprintf("workers disagree about the state after step %d: %s", best, ballots(votes)))
		return false
	}
	if known, ok := m.known[best]; ok && known != digest {
		m.mistrust(fmt.Sprintf("after step %d %s, but all had agreed on %s", best, ballots(votes), known))
		return false
	}
	m.name(best, votes)
	m.committed, m.digest = best, digest
	m.learn(best, digest)
	return true
}

// upToDate says whether a member holds the state after the committed step.
func (m *machine) upToDate(w *Member) bool {
	return w.State && w.Step == m.committed && w.Digest == m.digest
}

// release lets go of members beyond the number that was asked for: first those
// that are behind, then the highest ranks.
func (m *machine) release(live []*Member) []*Member {
	for m.target > 0 && len(live) > m.target {
		worst := 0
		for i, w := range live {
			if m.behindBefore(w, live[worst]) {
				worst = i
			}
		}
		w := live[worst]
		m.note("worker %s%s is released: the job is to have %d workers", w.Worker, m.rankText(w.Worker), m.target)
		m.act(send{w.Worker, &End{Outcome: Released, Reason: fmt.Sprintf("the job is to have %d workers", m.target)}})
		m.strikeOff(w.Worker)
		live = slices.Delete(live, worst, worst+1)
		m.voidOffers(m.generation + 1) // of this generation it may have had parts
	}
	return live
}

func (m *machine) behindBefore(a, b *Member) bool {
	if u, v := m.upToDate(a), m.upToDate(b); u != v {
		return !u
	}
	return uint(a.Rank) > uint(b.Rank) || a.Rank == b.Rank && a.Worker > b.Worker
}

// place decides ranks, the micro-batches of the step in progress and those of
// later steps.
func (m *machine) place(live []*Member) {
	alive := map[string]bool{}
	for _, w := range live {
		alive[w.Worker] = true
	}
	if m.midStep && m.committed > m.start.step && len(m.bounds) == len(m.places)+1 { // in that step they compute what is theirs in all later ones
		for r := range m.places {
			m.places[r].Lo, m.places[r].Hi = m.bounds[r], m.bounds[r+1]
		}
	}
	var old []place
	var fresh []string
	had := map[string]bool{}
	for _, p := range m.places { // spares are the most welcome, in their order
		had[p.Worker] = true
		if w := m.members[p.Worker]; w != nil && w.Spare && alive[p.Worker] {
			fresh = append(fresh, p.Worker)
		} else if w == nil || !w.Spare {
			old = append(old, p)
		}
	}
	for _, w := range live {
		if !had[w.Worker] {
			fresh = append(fresh, w.Worker)
		}
	}
	places := arrange(old, func(id string) bool { return alive[id] }, fresh)
	if !m.midStep { // within a step they keep their micro-batches, which follow the ranks
		places = m.together(places)
	}
	active := len(places)
	if m.cfg.MaxWorkers > 0 {
		active = min(active, m.cfg.MaxWorkers)
	}
	paces := make([]*pace, active)
	for r := range paces {
		paces[r] = &m.members[places[r].Worker].pace
	}
	weights := append(speeds(paces), make([]float64, len(places)-active)...)
	m.bounds = weightedBounds(m.cfg.Micro, weights)
	if m.bounds[1] == 0 { // rank 0 begins the fold, so it has one
		m.bounds = append(evenBounds(m.cfg.Micro, active), slices.Repeat([]int{m.cfg.Micro}, len(places)-active)...)
	}
	first := m.bounds
	if m.upToDate(m.members[places[0].Worker]) { // who is behind has the first step to catch up in
		for r, p := range places {
			if !m.upToDate(m.members[p.Worker]) {
				weights[r] = 0
			}
		}
		if b := weightedBounds(m.cfg.Micro, weights); b[1] > 0 {
			first = b
		}
	}
	covered := places[0].Lo == 0 && places[0].Hi > 0 && places[len(places)-1].Hi == m.cfg.Micro
	for r := range places {
		m.members[places[r].Worker].Spare = r >= active
		if !m.midStep || !covered {
			places[r].Lo, places[r].Hi = first[r], first[r+1]
		}
	}
	m.places = places
}

// beginning is what a generation begins with.
type beginning struct {
	step    uint64
	digest  string
	sources []string // members that have it
	hosts   allreduce.Hosts
}

// assignment is a member's in the current generation.
func (m *machine) assignment(w *Member) *Assign {
	a := &Assign{Coordinator: m.cfg.Coordinator, Fence: m.fence, Step: m.start.step, Digest: m.start.digest,
		Group: allreduce.Group{Generation: m.generation, Rank: w.Rank, Micro: m.bounds}, Hosts: m.start.hosts, Memory: m.memories(w.Rank)}
	a.First = append(a.First, 0)
	for _, p := range m.places {
		a.Group.Members = append(a.Group.Members, p.Worker)
		a.First = append(a.First, p.Hi)
	}
	a.Streams, a.Secret = m.streams(w.Rank)
	if w.behind {
		a.Sources = someOf(m.start.sources, w.Rank)
	}
	return a
}

// someOf are as many of a list as one that takes the state needs to choose from,
// other ones for other ranks.
func someOf(l []string, rank int) []string {
	if len(l) <= limits.Sources {
		return l
	}
	at := rank * limits.Sources % len(l)
	return slices.Concat(l[at:], l[:at])[:limits.Sources]
}

// places are those of a worker that lived on without its coordinator.
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

// rewound goes back to the disk's state, or the job's beginning: those that
// wait for state get it from there.
func (m *machine) rewound(e restored) {
	m.rewinds = false
	if m.phase != Settling && m.phase != Paused && m.phase != Gathering {
		return // meanwhile somebody came back who had not lost it
	}
	if e.Err != nil {
		m.finish(Failed, fmt.Sprintf("the job has to go back to the state on the disk, which cannot be read: %v", e.Err))
		return
	}
	m.base, m.again = e, true
	m.committed = e.Step
	m.stored, m.hasStored = e.Step, e.Step > 0
	clear(m.reports)
	maps.Copy(m.abandoned, m.saving)
	clear(m.saving)
	m.doubted = 0
	clear(m.offers)
	m.places, m.midStep, m.gaveUp = nil, false, 0
	clear(m.ring)
	m.people++
	m.generation++ // whoever still runs an older one is to leave it
	m.void = m.generation
	m.wary = m.distrust
	if m.distrust {
		m.fence = m.generation
	}
	m.becomeGathering()
	for _, w := range m.roster {
		w.Rank, w.Spare = -1, false
		w.State = w.State && !m.distrust
		lives := w.State && w.Status == Stepping && w.Seat != nil && w.Step >= e.Step // it came back, and is recalled
		holds := w.State && w.Status == AtRest && w.Step == e.Step
		loads := w.Status == Loading && !w.restoring
		if !lives && !holds && !loads {
			m.restore(w)
		}
	}
	m.distrust, m.torn, m.diverged = false, "", ""
	clear(m.known)
}
