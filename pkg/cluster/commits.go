package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// stepReports are those of one step, as they came.
type stepReports struct {
	list  []*Report
	from  map[string]bool // whose they are
	world int
	first time.Time
}

// byRank are the reports by rank, and of one rank, which members of different
// generations may have had, as they came.
func (r *stepReports) byRank() []*Report {
	out := make([]*Report, len(r.list))
	for _, o := range r.list {
		if o.Rank >= len(out) || out[o.Rank] != nil {
			out = slices.Clone(r.list)
			slices.SortStableFunc(out, func(a, b *Report) int { return a.Rank - b.Rank })
			return out
		}
		out[o.Rank] = o
	}
	return out
}

// report takes note of a commit. Each member knows the whole step, so one
// report would do; the others add their times, and must agree.
func (m *machine) report(e *Report) {
	w := m.members[e.Worker]
	if e.Generation < m.fence {
		return
	}
	if e.Step > w.Step && e.Generation == m.generation && m.phase == Running {
		w.State, w.Digest = true, ""
		delete(m.suspects, w.Worker)
		clear(m.faults)
		clear(m.blamed)
		if e.Micro > 0 {
			w.pace.add((e.Times.Forward + e.Times.Backward) / float64(e.Micro))
		}
	}
	w.Step = max(w.Step, e.Step)
	m.committed = max(m.committed, e.Step)
	if e.Step <= m.reported {
		return
	}
	r := m.reports[e.Step]
	if r == nil && !m.roomFor(e.Step) {
		return // it is sent again
	}
	if r == nil {
		r = &stepReports{world: e.World, first: m.at, from: make(map[string]bool, len(m.places))}
		m.reports[e.Step] = r
	}
	if r.from[e.Worker] {
		return // again
	}
	r.from[e.Worker] = true
	r.list = append(r.list, e)
	m.emit(func(r *stepReports) bool { return len(r.list) >= r.world })
}

// roomFor bounds the steps that are not told of yet: the nearest ones matter.
func (m *machine) roomFor(step uint64) bool {
	if len(m.reports) < maxReports {
		return true
	}
	last := slices.Max(slices.Collect(maps.Keys(m.reports)))
	if step > last {
		return false
	}
	delete(m.reports, last)
	return true
}

// ballot is what of a report must be the same bits on every member.
type ballot struct {
	refused bool
	norm    uint64 // bits of the gradient's, unless it was refused
	state   string
}

func ballotOf(r *Report) ballot {
	b := ballot{refused: r.Refused != "", state: r.Digest[:min(len(r.Digest), 24)]}
	if !b.refused {
		b.norm = math.Float64bits(r.GradNorm)
	}
	return b
}

func (b ballot) String() string {
	s := fmt.Sprintf("gradient norm %v", math.Float64frombits(b.norm))
	if b.refused {
		s = "no update"
	}
	if b.state != "" {
		s += " and state " + b.state
	}
	return s
}

// compare looks whether all who are of this generation said the same of a step;
// the others have been asked since.
func (m *machine) compare(step uint64, list []*Report) (agreed bool) {
	var first *ballot
	alike := true
	for _, o := range list {
		if o.Generation == m.generation {
			if b := ballotOf(o); first == nil {
				first = &b
			} else if alike = b == *first; !alike {
				break
			}
		}
	}
	if alike {
		return first != nil
	}
	votes := map[string][]string{} // in words, for people
	for _, o := range list {
		if o.Generation == m.generation {
			b := ballotOf(o).String()
			votes[b] = append(votes[b], o.Worker)
		}
	}
	m.judge(step, votes)
	return false
}

// emit tells of committed steps in order, for as long as enough says so.
func (m *machine) emit(enough func(*stepReports) bool) {
	for {
		r := m.reports[m.reported+1]
		if r == nil || !enough(r) {
			return
		}
		m.reported++
		delete(m.reports, m.reported)
		list := r.byRank()
		if m.reported > m.told {
			m.told = m.reported
			m.act(stepDone{list})
		}
		agreed := m.compare(m.reported, list)
		if d := list[0].Digest; d != "" && agreed && len(list) == r.world {
			m.learn(m.reported, d)
		}
		m.watchPace(list)
		m.saveWhole()
	}
}

// flush tells of steps that not all have reported: all of them where the
// generation is over, else those that have waited for long. Steps that nobody
// can report any more, because another coordinator took note of them, are
// passed over in the end: checkpoints wait for them.
func (m *machine) flush(all bool) {
	m.emit(func(r *stepReports) bool { return all || m.at.Sub(r.first) > m.cfg.Deadline })
	if len(m.reports) == 0 && m.phase == Saving && m.reported < m.committed && m.at.Sub(m.began) > 4*m.cfg.Deadline { // nor will there be any more
		m.note("nobody has the reports of steps %d to %d: their metrics are missing", m.reported+1, m.committed)
		m.reported = m.committed
		m.saveWhole()
		return
	}
	if len(m.reports) == 0 || m.reports[m.reported+1] != nil || m.phase != Running && m.phase != Saving { // they may be run again
		return
	}
	next := slices.Min(slices.Collect(maps.Keys(m.reports)))
	if m.at.Sub(m.reports[next].first) > 4*m.cfg.Deadline {
		m.note("nobody has the reports of steps %d to %d: their metrics are missing", m.reported+1, next-1)
		m.reported = next - 1
		m.flush(all)
	}
}

// voidOffers drops the parts of checkpoints that will never be whole, because
// somebody who had one is gone: those of generations before void. It has a
// checkpoint taken as soon as the ring runs again.
func (m *machine) voidOffers(void uint64) {
	m.void = void
	for _, step := range slices.Sorted(maps.Keys(m.offers)) {
		if m.saving[step] { // whether it comes whole, saved hears
			m.doubted = step
			continue
		}
		m.dropOffers(step, "a worker was lost before its part was stored")
		m.retake = true
	}
}

func (m *machine) dropOffers(step uint64, why string) {
	delete(m.offers, step)
	m.gaveUp = max(m.gaveUp, step)
	m.broadcast(&Stored{Step: step, Error: why})
}

// offer collects the parts of a checkpoint, and has it fetched once all are there.
func (m *machine) offer(e *Offer) {
	switch {
	case m.hasStored && e.Step <= m.stored:
		m.act(send{e.Worker, &Stored{Step: e.Step}})
		return
	case m.saving[e.Step]:
		return
	case e.Step <= m.gaveUp && m.phase != Saving: // it did not hear that
		m.act(send{e.Worker, &Stored{Step: e.Step, Error: "it was given up"}})
		return
	case e.Generation < m.void:
		m.act(send{e.Worker, &Stored{Step: e.Step, Error: "it is of a generation that broke"}})
		m.retake = true
		return
	}
	parts := m.offers[e.Step]
	if len(parts) != e.Parts || parts[firstOf(parts)] != nil && parts[firstOf(parts)].Generation != e.Generation {
		parts = make([]*Offer, e.Parts) // divided anew
		m.offers[e.Step] = parts
		m.boundOffers()
	}
	parts[e.Part] = e
	m.saveWhole()
}

// saveWhole has checkpoints stored of which all parts are there. One waits for
// the reports up to its step: what the disk has, the metrics have.
func (m *machine) saveWhole() {
	for _, step := range slices.Sorted(maps.Keys(m.offers)) {
		parts := m.offers[step]
		if step > m.reported || m.saving[step] || slices.Contains(parts, nil) {
			continue
		}
		votes := map[string][]string{}
		for _, o := range parts {
			votes["state "+o.Digest] = append(votes["state "+o.Digest], o.Worker)
		}
		known, ok := m.known[step]
		if ok && len(votes) == 1 && parts[0].Digest != known {
			m.torn = fmt.Sprintf("after step %d %s, but all had agreed on %s", step, ballots(votes), known)
			m.diverged = m.torn
		}
		if len(votes) > 1 || m.torn != "" {
			m.judge(step, votes)
			m.dropOffers(step, "its parts are of different states")
			m.retake = true
			continue
		}
		m.saving[step] = true
		m.act(save{step, parts})
	}
}

// maxRefused is how often storing the last step is tried.
const maxRefused = 10

// boundOffers drops the oldest checkpoint of too many whose parts do not come.
func (m *machine) boundOffers() {
	if len(m.offers) <= maxOffered {
		return
	}
	for _, step := range slices.Sorted(maps.Keys(m.offers)) {
		if !m.saving[step] {
			m.dropOffers(step, "its other parts did not come")
			return
		}
	}
}

// maxOffered is how many checkpoints may wait for parts. Each member has one
// on offer at a time.
const maxOffered = 64

func firstOf(parts []*Offer) int {
	for i, p := range parts {
		if p != nil {
			return i
		}
	}
	return 0
}

func (m *machine) saved(e saved) {
	if m.abandoned[e.Step] {
		delete(m.abandoned, e.Step)
		if e.Err != nil {
			m.notStored(e)
			return
		}
	} else {
		delete(m.saving, e.Step)
	}
	if e.Err != nil {
		m.notStored(e)
		var bad *PartError
		if errors.As(e.Err, &bad) {
			m.accuse(bad)
		}
		m.dropOffers(e.Step, e.Err.Error())
		m.retake = m.retake || e.Step == m.doubted
		if m.phase == Saving && e.Step == m.committed {
			m.refused++ // tick asks again
			if m.waiting.IsZero() {
				m.waiting = m.at
				if m.cfg.StoreWait > 0 {
					m.warn("the state after step %d stays in the workers' memory for up to %v until it can be stored; Ctrl-C, SIGTERM or coordinator stop end the wait", e.Step, m.cfg.StoreWait)
				}
			}
			for _, w := range m.holders() {
				w.nagged = m.at
			}
		}
		return
	}
	if m.unsaved != "" {
		m.note("checkpoints are stored again, that of step %d as the first", e.Step)
		m.unsaved = ""
	}
	m.refused, m.waiting, m.giveUp = 0, time.Time{}, false
	if !m.hasStored || e.Step > m.stored {
		m.stored, m.hasStored = e.Step, true
		m.diverges = 0
	}
	for step := range m.offers {
		if step <= e.Step {
			delete(m.offers, step)
		}
	}
	m.broadcast(&Stored{Step: e.Step})
}

// notStored tells of a checkpoint that was not stored: of one state that lasts
// once, not at every checkpoint.
func (m *machine) notStored(e saved) {
	why := e.Err.Error()
	var lasting interface{ Lasting() string }
	if errors.As(e.Err, &lasting) && lasting.Lasting() != "" {
		why = lasting.Lasting()
	}
	m.why = e.Err.Error()
	if why == m.unsaved {
		return
	}
	m.unsaved = why
	m.warn("the checkpoint of step %d was not stored: %v", e.Step, e.Err)
}

// waits says whether the last state waits for the disk, and nobody has asked for
// the end of that yet.
func (m *machine) waits() bool { return m.phase == Saving && !m.waiting.IsZero() && !m.giveUp }

// patience says whether the last state may wait for the disk yet.
func (m *machine) patience() bool {
	return !m.giveUp && (m.refused < maxRefused || m.at.Sub(m.waiting) < m.cfg.StoreWait)
}

// storeEvery is the pace at which a disk is tried that has not taken the last
// state maxRefused times: each try copies and sends all of it.
const storeEvery = 5 * time.Second

func (m *machine) storedAll() bool { return m.hasStored && m.stored >= m.committed }

// conclude ends the job once the last step is told of and on the disk.
func (m *machine) conclude() {
	if m.torn != "" {
		m.mistrust(m.torn)
		return
	}
	outcome, reason := Done, ""
	switch {
	case m.failing != "":
		outcome, reason = Failed, m.failing
	case m.stopping != "" && m.committed < m.cfg.Steps:
		outcome, reason = Stopped, m.stopping
	}
	holders := m.holders()
	waited := m.at.Sub(m.began)
	switch {
	case m.committed == m.cfg.StartStep && !m.hasStored: // nothing to keep
		m.finish(outcome, reason)
	case m.storedAll() && (m.reported >= m.committed || waited > 2*m.cfg.Deadline || len(m.members) == 0):
		m.finish(outcome, reason)
	case m.storedAll() || len(m.saving) > 0:
	case len(holders) == 0 && outcome == Done: // back to the disk's state, with whoever comes
		m.note("nobody is left that holds the state after step %d, and it is not stored", m.committed)
		m.becomeSettling()
	case len(holders) == 0 && m.hasStored:
		reason = fmt.Sprintf("%s; no worker is left that holds the state after step %d, and the newest checkpoint is of step %d", reason, m.committed, m.stored)
		m.committed = m.stored
		m.finish(outcome, reason)
	case len(holders) == 0:
		m.finish(Failed, fmt.Sprintf("%s; and no worker is left that holds the state after step %d", reason, m.committed))
	case m.refused > 0 && !m.patience():
		if reason != "" {
			reason += "; "
		}
		m.ending.Keep = true
		m.finish(Failed, fmt.Sprintf("%sthe checkpoint of step %d could not be stored: %s", reason, m.committed, m.why))
	}
}

// holders are the members at rest that hold the state after the committed step.
func (m *machine) holders() (l []*Member) {
	for _, w := range m.roster {
		if w.Status == AtRest && m.upToDate(w) {
			l = append(l, w)
		}
	}
	return l
}

// requestParts has the holders of the last state offer it, each a part.
func (m *machine) requestParts() {
	if m.storedAll() || len(m.saving) > 0 {
		return
	}
	l := m.holders()
	for i, w := range l {
		w.nagged = m.at
		m.act(send{w.Worker, &Snapshot{Generation: m.generation, Step: m.committed, Part: i, Parts: len(l)}})
	}
}
