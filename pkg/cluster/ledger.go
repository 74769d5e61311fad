package cluster

import (
	"maps"
	"slices"
	"time"
)

// ledger is what members have reported of the job's steps, and which of them were
// announced by StepDone: metrics are made of it. It does not know who the members
// are.
//
//	1 ────────── reported ────────── committed ──>
//	 compared, told  │  reports on their way
//
// Without faults told is reported. After a rollback steps are run again: then
// reported goes back with committed, so that their reports are compared again, and
// told stays, so that no step is announced twice. After a takeover reported
// may be ahead of committed, until the workers say how far they are.
type ledger struct {
	committed uint64 // the newest step that any worker has committed
	reported  uint64 // the newest step whose reports are here, and were compared
	told      uint64 // the newest step that was announced
	steps     map[uint64]*stepReports
}

// newLedger begins behind a step that is committed, with metrics up to reported.
// In a takeover the workers may have committed what the disk has not, and need
// not report again what the metrics have; else such steps are run again.
func newLedger(committed, reported uint64, takeover bool) ledger {
	l := ledger{committed: committed, reported: reported, told: reported, steps: map[uint64]*stepReports{}}
	if !takeover {
		l.reported = min(reported, committed)
	}
	return l
}

// stepReports are those of one step, in the order in which they came.
type stepReports struct {
	list  []*Report
	from  map[string]bool // the workers whose they are
	world int             // how many there are to be
	first time.Time       // when the first one came
}

// whole says whether all of them are here.
func (r *stepReports) whole() bool { return len(r.list) >= r.world }

// byRank are the reports by rank. Where two have one rank, because its members
// in two generations both committed the step, they stay in their order.
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

// commit records that a worker has committed a step.
func (l *ledger) commit(step uint64) { l.committed = max(l.committed, step) }

// enter records a report, and says whether it was news.
func (l *ledger) enter(e *Report, now time.Time, members int) bool {
	l.commit(e.Step)
	if e.Step <= l.reported {
		return false
	}
	r := l.steps[e.Step]
	if r == nil {
		if !l.roomFor(e.Step) {
			return false // it is sent again
		}
		r = &stepReports{world: e.World, first: now, from: make(map[string]bool, members)}
		l.steps[e.Step] = r
	}
	if r.from[e.Worker] {
		return false
	}
	r.from[e.Worker] = true
	r.list = append(r.list, e)
	return true
}

// roomFor bounds the steps that wait for reports. The nearest ones matter: the
// farthest goes for a nearer one.
func (l *ledger) roomFor(step uint64) bool {
	if len(l.steps) < maxReports {
		return true
	}
	last := slices.Max(slices.Collect(maps.Keys(l.steps)))
	if step > last {
		return false
	}
	delete(l.steps, last)
	return true
}

// next closes the step after reported, if there is enough of it. It returns the
// step's reports, nil where it stays open; news says whether the
// step is to be announced.
func (l *ledger) next(enough func(*stepReports) bool) (r *stepReports, news bool) {
	r = l.steps[l.reported+1]
	if r == nil || !enough(r) {
		return nil, false
	}
	l.reported++
	delete(l.steps, l.reported)
	news = l.reported > l.told
	l.told = max(l.told, l.reported)
	return r, news
}

// gap is the run of steps before the nearest report, if that came before since: no
// worker can report them any more, because another coordinator has their reports.
// ok is false where there is none.
func (l *ledger) gap(since time.Time) (first, last uint64, ok bool) {
	if len(l.steps) == 0 || l.steps[l.reported+1] != nil {
		return 0, 0, false
	}
	nearest := slices.Min(slices.Collect(maps.Keys(l.steps)))
	if !l.steps[nearest].first.Before(since) {
		return 0, 0, false
	}
	return l.reported + 1, nearest - 1, true
}

// skip passes over the steps up to one: no worker has their reports.
func (l *ledger) skip(step uint64) { l.reported = step }

// runAgain begins after committed: steps that are run again are compared again.
// The reports of steps that were announced and stay need not come again.
func (l *ledger) runAgain() { l.reported = min(max(l.reported, l.told), l.committed) }

// disown forgets what was reported and announced after a step: it is announced again
// once it is computed again, with other bits.
func (l *ledger) disown(step uint64) {
	l.reported, l.told = min(l.reported, step), min(l.told, step)
}

// rollBack begins after a step of the disk's: what came after it does not count.
func (l *ledger) rollBack(step uint64) {
	l.committed = step
	clear(l.steps)
}
