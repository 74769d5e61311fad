package cluster

import (
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// form makes a new generation of all members at rest, or ends the job where
// there is nothing left to run.
func (m *machine) form() {
	// A member reports its commits before it reports that it is at rest, so all
	// reports that there will be are here.
	m.flush(true)
	var live []*Member
	for _, w := range m.roster.list {
		if w.Status == AtRest {
			live = append(live, w)
		}
	}
	if m.settle(live) || !m.agree(live) {
		return
	}
	m.trust.broken = ""
	m.ledger.runAgain()
	if m.failing != "" || m.orders.stop != "" || m.ledger.committed >= m.cfg.Steps {
		m.becomeSaving()
		for _, w := range live {
			w.nagged = m.at // the last step's offers come by themselves; else nag asks for them
		}
		m.conclude()
		return
	}
	live = m.release(live)
	live, goesOn := m.part(live)
	if !goesOn {
		return
	}
	if len(live) < m.cfg.MinWorkers {
		if m.phase != Paused {
			m.note("paused: %d of at least %s; they keep their state", len(live), plain.Workers(m.cfg.MinWorkers))
		}
		m.becomePaused()
		return
	}
	m.place(live)
	m.assignAll()
}

// agree finds the state to go on from: the newest step among those at rest, in the
// version that most of them hold. Older states are never gone back to, for others
// may have seen the newer one. It is false where there is none, or no majority; it
// has done what follows from that then (a rollback, a recall, an end).
func (m *machine) agree(live []*Member) bool {
	if m.trust.torn != "" {
		m.mistrust(m.trust.torn)
		return false
	}
	if m.trust.forfeit != "" {
		m.rollAllBack(m.trust.forfeit)
		return false
	}
	if m.rollback.total {
		return false
	}
	best, found := uint64(0), false
	for _, w := range live {
		if w.State && (!found || w.Step > best) {
			best, found = w.Step, true
		}
	}
	// The disk may have a newer state than any member: that of a lost one.
	if !found || m.saves.hasStored && best < m.saves.stored {
		m.rollBack()
		return false
	}
	said := votes{}
	for _, w := range live {
		if w.State && w.Step == best && w.Digest != "" {
			said.add(w.Digest, w.Worker)
		}
	}
	if len(said) == 0 { // those that hold it came back, and have not said what they hold
		m.recall("those who hold the newest state have to say what it is")
		return false
	}
	// Before the first step nothing was computed with a wrong state yet, so that
	// its owner can simply get the right one, whatever the policy.
	begins := m.phase == Gathering && best == m.rollback.base.Step
	rewinds := len(said) > 1 && m.cfg.Divergence == RewindDivergence && !begins
	disagree := fmt.Sprintf("workers disagree about the state after step %d: %v", best, said)
	if len(said) > 1 {
		if m.trust.strike(said, m.cfg.MaxDivergences); len(m.trust.outcasts) > 0 {
			if rewinds {
				m.trust.torn = disagree
			}
			if m.phase == Running { // they are at rest
				m.becomeSettling()
			}
			m.expel()
			return false
		}
	}
	digest, tie := said.majority()
	if tie || rewinds {
		m.mistrust(disagree)
		return false
	}
	if known, other := m.trust.contradicts(best, digest); other {
		m.mistrust(fmt.Sprintf("after step %d %v, but all had agreed on %s", best, said, known))
		return false
	}
	m.suspect(best, said)
	m.ledger.committed, m.digest = best, digest
	m.trust.learn(best, digest)
	return true
}

// upToDate says whether a member holds the state after the committed step.
func (m *machine) upToDate(w *Member) bool {
	return w.State && w.Step == m.ledger.committed && w.Digest == m.digest
}

// release lets go of members beyond the number that was asked for: first those
// that are behind, then the highest ranks. Who leaves anyway is not counted.
func (m *machine) release(live []*Member) []*Member {
	for most := m.orders.members; most > 0; {
		stay, worst := 0, -1
		for i, w := range live {
			if w.leaving != "" {
				continue
			}
			if stay++; worst < 0 || m.behindBefore(w, live[worst]) {
				worst = i
			}
		}
		if stay <= most {
			break
		}
		w := live[worst]
		m.note("%s is released: the job is to have %s", m.roster.named(w.Worker), plain.Workers(most))
		m.act(send{w.Worker, &End{Outcome: Released, Reason: "the job is to have " + plain.Workers(most)}})
		m.roster.strikeOff(w.Worker)
		live = slices.Delete(live, worst, worst+1)
		m.voidOffers(m.generation + 1) // it may have had parts of this generation
	}
	return live
}

// behindBefore says whether a is to be let go before b.
func (m *machine) behindBefore(a, b *Member) bool {
	if u, v := m.upToDate(a), m.upToDate(b); u != v {
		return !u
	}
	return uint(a.Rank) > uint(b.Rank) || a.Rank == b.Rank && a.Worker > b.Worker
}

// place decides ranks, the micro-batches of the step in progress and those of
// later steps.
//
//	places   ranks, and the micro-batches of the first step: survivors go on with what they have
//	bounds   the micro-batches of all later steps: by speed, standbys with none
func (m *machine) place(live []*Member) {
	places := m.ranks(live)
	active := len(places)
	if m.cfg.MaxWorkers > 0 {
		active = min(active, m.cfg.MaxWorkers)
	}
	paces := make([]*pace, active)
	for r := range paces {
		paces[r] = &m.roster.members[places[r].Worker].pace
	}
	weights := append(speeds(paces), make([]float64, len(places)-active)...)
	later := weightedBounds(m.cfg.Micro, weights)
	if later[1] == 0 { // rank 0 begins the fold, so it needs one
		later = append(evenBounds(m.cfg.Micro, active), slices.Repeat([]int{m.cfg.Micro}, len(places)-active)...)
	}
	first := later
	if m.upToDate(m.roster.members[places[0].Worker]) { // a member that is behind has the first step to catch up in
		for r, p := range places {
			if !m.upToDate(m.roster.members[p.Worker]) {
				weights[r] = 0
			}
		}
		if b := weightedBounds(m.cfg.Micro, weights); b[1] > 0 {
			first = b
		}
	}
	// Within a step survivors keep what they have, where the places make up the whole
	// step, and rank 0, which begins the fold, has some of it.
	covered := places[0].Lo == 0 && places[0].Hi > 0 && places[len(places)-1].Hi == m.cfg.Micro
	for r := range places {
		m.roster.members[places[r].Worker].Spare = r >= active
		if !m.midStep || !covered {
			places[r].Lo, places[r].Hi = first[r], first[r+1]
		}
	}
	if m.cfg.Verify > 0 { // also of what survivors have: where one was alone nobody has seen what it computed
		own := []int{places[0].Lo}
		for _, p := range places {
			own = append(own, p.Hi)
		}
		own, later = twoOwn(own, active), twoOwn(later, active)
		for r := range places {
			places[r].Lo, places[r].Hi = own[r], own[r+1]
		}
	}
	m.roster.places, m.roster.bounds = places, later
}

// ranks are the places of a new generation: arrange says who keeps which.
func (m *machine) ranks(live []*Member) []place {
	alive := map[string]bool{}
	for _, w := range live {
		alive[w.Worker] = true
	}
	was, bounds := m.roster.places, m.roster.bounds
	if m.midStep && m.ledger.committed > m.start.step && len(bounds) == len(was)+1 { // the step in progress is a later one
		for r := range was {
			was[r].Lo, was[r].Hi = bounds[r], bounds[r+1]
		}
	}
	var old []place
	var fresh []string
	had := map[string]bool{}
	for _, p := range was { // standbys are the most welcome, in their order: they hold the state
		had[p.Worker] = true
		if w := m.roster.members[p.Worker]; w != nil && w.Spare && alive[p.Worker] {
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
	return places
}

// beginning is what a generation begins with.
type beginning struct {
	step    uint64          // committed
	digest  string          // of the state after it
	sources []string        // members that have it
	hosts   allreduce.Hosts // runs of ranks that share memory; nil: none do
}

// assignAll begins a generation: it tells each member its place.
func (m *machine) assignAll() {
	if m.phase == Gathering { // what was offered to a coordinator before this one may lack parts
		m.voidOffers(m.generation + 1)
	}
	m.generation++
	m.orders.flags = 0
	m.start = beginning{step: m.ledger.committed, digest: m.digest, hosts: m.hosts()}
	m.becomeForming()
	m.roster.closeRing()
	clear(m.trust.struck)
	var names, behind []string
	for r, p := range m.roster.places {
		w := m.roster.members[p.Worker]
		w.Rank, w.Status, w.nagged = r, Assigned, m.at
		names = append(names, p.Worker)
		if w.behind = !m.upToDate(w); w.behind {
			behind = append(behind, p.Worker)
		} else {
			m.start.sources = append(m.start.sources, p.Worker)
		}
	}
	text := fmt.Sprintf("generation %d: %s from step %d (%s)", m.generation, plain.Workers(len(names)), m.ledger.committed, listed(names))
	if len(behind) > 0 {
		get := "get"
		if len(behind) == 1 {
			get = "gets"
		}
		text += "; " + listed(behind) + " " + get + " the state from the others"
	}
	m.note("%s", text)
	m.roads()
	m.keepRecord()
	for _, p := range m.roster.places {
		m.act(send{p.Worker, m.assignment(m.roster.members[p.Worker])})
	}
}

// assignment is a member's in the current generation.
func (m *machine) assignment(w *Member) *Assign {
	a := &Assign{Coordinator: m.cfg.Coordinator, Fence: m.trust.fence, Step: m.start.step, Digest: m.start.digest,
		Group: allreduce.Group{Generation: m.generation, Rank: w.Rank, Micro: m.roster.bounds},
		Hosts: m.start.hosts, Memory: m.memories(w.Rank), Verify: m.verifies(w.Worker)}
	a.First = append(a.First, 0)
	for _, p := range m.roster.places {
		a.Group.Members = append(a.Group.Members, p.Worker)
		a.First = append(a.First, p.Hi)
	}
	a.Streams, a.Secrets = m.streams(w.Rank)
	if w.behind {
		a.Sources = someOf(m.start.sources, w.Rank)
	}
	return a
}

// someOf are as many sources of a list as a member that takes the state needs to
// choose from. Other ranks get others, so that the load is spread.
func someOf(l []string, rank int) []string {
	if len(l) <= limits.Sources {
		return l
	}
	at := rank * limits.Sources % len(l)
	return slices.Concat(l[at:], l[:at])[:limits.Sources]
}

// run starts the step loops: all members listen on the ring.
func (m *machine) run() {
	m.becomeRunning()
	for _, p := range m.roster.places {
		m.act(send{p.Worker, &Go{Generation: m.generation}})
	}
	if m.orders.stop != "" { // somebody asked before there was a ring to carry it
		m.flag(allreduce.FlagStop)
	}
	if m.saves.owed {
		m.saves.owed = false
		// Once: if it is lost, the next checkpoint that is due will do.
		m.broadcast(&Control{Generation: m.generation, Flags: allreduce.FlagCheckpoint})
	}
}
