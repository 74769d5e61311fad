package cluster

import "slices"

// pace is how fast a member computes: its times a micro-batch in the newest
// steps. What is typical of them is their median, so that one step changes
// nothing: a process that froze for a second, or for twenty, is not a slow one.
type pace struct {
	times [slowSteps]float64 // seconds, of step i at i modulo their number
	usual float64            // their median; 0 before the first
	n     int                // steps
	slow  int                // steps in a row that it was much slower than the others
	quick int                // steps since then that it was not
	shed  bool               // its share of the micro-batches follows its pace
}

// A member is slow in a step from slowFrom times the others' median on, and as
// quick as they are below slowUntil times; what lies between is neither, so that
// no member goes to and fro. A difference below slowLeast is the noise of a busy
// machine. Something is done after slowSteps slow ones in a row, and undone after
// recoverSteps quick ones.
const (
	slowFrom     = 1.5
	slowUntil    = 1.2
	slowLeast    = 0.005 // seconds a micro-batch
	slowSteps    = 10
	recoverSteps = 30
	minPace      = 1e-9 // seconds: clocks are coarse, and speeds are quotients
)

// add records a step in which a micro-batch took so many seconds.
func (p *pace) add(seconds float64) {
	p.times[p.n%slowSteps] = max(seconds, minPace)
	p.n++
	sorted := p.times // a copy
	l := sorted[:min(p.n, slowSteps)]
	slices.Sort(l)
	p.usual = l[len(l)/2]
}

// newest is the time of the newest step.
func (p *pace) newest() float64 { return p.times[(p.n-1)%slowSteps] }

// typical is the median of the newest times; 0 before the first.
func (p *pace) typical() float64 { return p.usual }

// known says whether there are times enough to go by.
func (p *pace) known() bool { return p.n >= slowSteps }

// staysSlow compares the newest step with what is typical of the others, and
// says whether that makes it slow for slowSteps in a row, the first time it does.
func (p *pace) staysSlow(others float64) bool {
	switch t := p.newest(); {
	case t > slowFrom*others && t-others > slowLeast:
		p.slow, p.quick = p.slow+1, 0
	case t < slowUntil*others:
		p.slow, p.quick = 0, p.quick+1
	default:
		p.slow = 0
	}
	return p.slow == slowSteps
}

// speeds are relative ones, by which micro-batches are divided: all alike, or by
// pace where shares follow it. A member whose pace is not known yet counts as the
// mean of the others.
func speeds(l []*pace) []float64 {
	out := make([]float64, len(l))
	sum, n := 0.0, 0
	for i, p := range l {
		if p.shed && p.known() {
			out[i] = 1 / p.typical()
			sum, n = sum+out[i], n+1
		}
	}
	for i := range out {
		switch {
		case out[i] > 0:
		case n > 0:
			out[i] = sum / float64(n)
		default:
			out[i] = 1
		}
	}
	return out
}

// shares are when micro-batches are to be divided anew.
type shares struct {
	again bool // at the next step boundary

	// Whether the slow members have recovered is looked at when a step has passed
	// since the last look, or the roster has changed: to look costs as much as
	// there are members.
	passed bool
	looked uint64 // roster.changes at the last look

	paces []float64 // memory of watchPace, which runs after every step
}

// watchPace compares each member's pace with the others' after a step, and looks
// for those that stay slow.
func (m *machine) watchPace(reports []*Report) {
	if m.phase != Running {
		return
	}
	m.shares.passed = true
	all := m.shares.paces[:0]
	for _, o := range m.roster.list {
		if o.pace.known() && m.roster.ring[o.Worker] && !o.Spare {
			all = append(all, o.pace.typical())
		}
	}
	m.shares.paces = all
	slices.Sort(all)
	for _, r := range reports {
		w := m.roster.members[r.Worker]
		if w == nil || !w.pace.known() || !m.roster.ring[w.Worker] {
			continue
		}
		median, ok := medianBut(all, w.pace.typical(), !w.Spare)
		if !ok {
			continue
		}
		w.Slowdown = w.pace.typical() / median
		if w.pace.staysSlow(median) {
			if m.straggler(w); m.phase != Running { // it is gone, and the generation with it
				return
			}
		}
	}
}

// medianBut is the median of all, which are sorted, without x itself if x is one of
// them (in). ok is false where none are left.
func medianBut(all []float64, x float64, in bool) (median float64, ok bool) {
	if !in {
		if len(all) == 0 {
			return 0, false
		}
		return all[len(all)/2], true
	}
	if len(all) < 2 {
		return 0, false
	}
	k := (len(all) - 1) / 2
	if i, _ := slices.BinarySearch(all, x); i <= k {
		k++
	}
	return all[k], true
}

// straggler carries out cluster.straggler for a member that stays slow.
func (m *machine) straggler(w *Member) {
	m.note("straggler: %s takes %.1f times as long a micro-batch as the others; policy: %s",
		m.roster.named(w.Worker), w.Slowdown, m.cfg.Straggler)
	switch {
	case m.cfg.Straggler == DropStraggler && len(m.roster.members)-1 >= max(m.cfg.MinWorkers, 1):
		m.act(send{w.Worker, &End{Outcome: Released, Reason: "it is a straggler, and cluster.straggler is drop"}})
		m.act(unwanted{w.Worker})
		m.lose(w, "it is a straggler")
	case m.cfg.Straggler == ShedStraggler:
		for _, o := range m.roster.members {
			o.pace.shed = true // the shares of all follow their pace
		}
		w.pace.slow = 0
		m.shares.again = true
	}
}

// reshare says whether micro-batches are to be divided anew: because a member has
// been found slow, or because all of them are as quick as each other again, and
// get even shares.
func (m *machine) reshare() bool {
	s := &m.shares
	if s.again {
		s.again = false
		return true
	}
	if m.cfg.Straggler != ShedStraggler || !s.passed && s.looked == m.roster.changes {
		return false
	}
	s.passed, s.looked = false, m.roster.changes
	for _, w := range m.roster.members {
		if !w.pace.shed || w.pace.quick < recoverSteps {
			return false
		}
	}
	for _, w := range m.roster.members {
		w.pace.shed, w.pace.quick = false, 0
	}
	return len(m.roster.members) > 0
}
