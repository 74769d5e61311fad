package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// stepReports are those of one step, by rank.
type stepReports struct {
	list  []*Report
	world int
	first time.Time
}

// report takes note of a commit. Each member knows the whole step, so one
// report would do; the others add their times, and must agree.
func (m *Machine) report(e *Report) {
	w := m.members[e.Worker]
	if e.Step > w.Step && e.Generation == m.generation {
		w.State, w.Digest = true, ""
	}
	w.Step = max(w.Step, e.Step)
	m.committed = max(m.committed, e.Step)
	clear(m.faults)
	clear(m.blamed)
	if e.Micro > 0 && e.Generation == m.generation {
		w.pace.add((e.Times.Forward + e.Times.Backward) / float64(e.Micro))
	}
	if e.Step <= m.reported {
		return
	}
	r := m.reports[e.Step]
	if r == nil && !m.roomFor(e.Step) {
		return // it is sent again
	}
	if r == nil {
		r = &stepReports{world: e.World, first: m.at}
		m.reports[e.Step] = r
	}
	for _, o := range r.list {
		if o.Worker == e.Worker {
			return // again
		}
	}
	r.list = append(r.list, e)
	slices.SortFunc(r.list, func(a, b *Report) int { return a.Rank - b.Rank })
	if o := r.list[0]; m.phase == Running && disagree(o, e) {
		m.recall(fmt.Sprintf("workers disagree after step %d: %s has gradient norm %v and state %.12s, %s has %v and %.12s",
			e.Step, m.named(o.Worker), o.GradNorm, o.Digest, m.named(e.Worker), e.GradNorm, e.Digest))
		return
	}
	m.emit(func(r *stepReports) bool { return len(r.list) >= r.world })
}

// roomFor bounds the steps that are not told of yet: the nearest ones matter.
func (m *Machine) roomFor(step uint64) bool {
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

// disagree compares what must be the same bits on every member.
func disagree(a, b *Report) bool {
	return a.GradNorm != b.GradNorm || a.Refused != b.Refused || a.Digest != "" && b.Digest != "" && a.Digest != b.Digest
}

// emit tells of committed steps in order, for as long as enough says so.
func (m *Machine) emit(enough func(*stepReports) bool) {
	for {
		r := m.reports[m.reported+1]
		if r == nil || !enough(r) {
			return
		}
		m.reported++
		delete(m.reports, m.reported)
		m.act(StepDone{r.list})
		m.watchPace(r.list)
		m.saveWhole()
	}
}

// flush tells of steps that not all have reported: all of them where the
// generation is over, else those that have waited for long. Steps that nobody
// can report any more, because another coordinator took note of them, are
// passed over in the end: checkpoints wait for them.
func (m *Machine) flush(all bool) {
	m.emit(func(r *stepReports) bool { return all || m.at.Sub(r.first) > m.cfg.Deadline })
	if len(m.reports) == 0 || m.reports[m.reported+1] != nil {
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
func (m *Machine) voidOffers(void uint64) {
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

func (m *Machine) dropOffers(step uint64, why string) {
	delete(m.offers, step)
	m.gaveUp = max(m.gaveUp, step)
	m.broadcast(&Stored{Step: step, Error: why})
}

// offer collects the parts of a checkpoint, and has it fetched once all are there.
func (m *Machine) offer(e *Offer) {
	switch {
	case m.hasStored && e.Step <= m.stored:
		m.act(Send{e.Worker, &Stored{Step: e.Step}})
		return
	case m.saving[e.Step]:
		return
	case e.Step <= m.gaveUp && m.phase != Saving: // it did not hear that
		m.act(Send{e.Worker, &Stored{Step: e.Step, Error: "it was given up"}})
		return
	case e.Generation < m.void:
		m.act(Send{e.Worker, &Stored{Step: e.Step, Error: "it is of a generation that broke"}})
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
func (m *Machine) saveWhole() {
	for _, step := range slices.Sorted(maps.Keys(m.offers)) {
		parts := m.offers[step]
		if step > m.reported || m.saving[step] || slices.Contains(parts, nil) {
			continue
		}
		if odd := slices.IndexFunc(parts, func(o *Offer) bool { return o.Digest != parts[0].Digest }); odd > 0 {
			m.diverged = fmt.Sprintf("workers disagree after step %d: %s offers a part of state %.12s, %s one of %.12s",
				step, m.named(parts[0].Worker), parts[0].Digest, m.named(parts[odd].Worker), parts[odd].Digest)
			m.dropOffers(step, "its parts are of different states")
			m.retake = true
			continue
		}
		m.saving[step] = true
		m.act(Save{step, parts})
	}
}

// maxRefused is how often storing the last step is tried.
const maxRefused = 10

// boundOffers drops the oldest checkpoint of too many whose parts do not come.
func (m *Machine) boundOffers() {
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

func (m *Machine) saved(e Saved) {
	delete(m.saving, e.Step)
	if e.Err != nil {
		m.note("the checkpoint of step %d was not stored: %v", e.Step, e.Err)
		m.dropOffers(e.Step, e.Err.Error())
		m.retake = m.retake || e.Step == m.doubted
		if m.phase == Saving && e.Step == m.committed {
			m.refused++ // tick asks again
			for _, w := range m.holders() {
				w.nagged = m.at
			}
		}
		return
	}
	if !m.hasStored || e.Step > m.stored {
		m.stored, m.hasStored = e.Step, true
	}
	for step := range m.offers {
		if step <= e.Step {
			delete(m.offers, step)
		}
	}
	m.broadcast(&Stored{Step: e.Step})
}

func (m *Machine) storedAll() bool { return m.hasStored && m.stored >= m.committed }

// conclude ends the job once the last step is told of and on the disk.
func (m *Machine) conclude() {
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
		m.enter(Settling)
	case len(holders) == 0:
		m.finish(Failed, fmt.Sprintf("%s; and no worker is left that holds the state after step %d", reason, m.committed))
	case m.refused >= maxRefused:
		if reason != "" {
			reason += "; "
		}
		m.finish(Failed, fmt.Sprintf("%sthe checkpoint of step %d could not be stored", reason, m.committed))
	}
}

// holders are the members at rest that hold the state after the committed step.
func (m *Machine) holders() (l []*Member) {
	for _, w := range m.sorted() {
		if w.Status == AtRest && m.upToDate(w) {
			l = append(l, w)
		}
	}
	return l
}

// requestParts has the holders of the last state offer it, each a part.
func (m *Machine) requestParts() {
	if m.storedAll() || len(m.saving) > 0 {
		return
	}
	l := m.holders()
	for i, w := range l {
		w.nagged = m.at
		m.act(Send{w.Worker, &Snapshot{Generation: m.generation, Step: m.committed, Part: i, Parts: len(l)}})
	}
}
