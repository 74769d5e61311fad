package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Record is what has to outlive a coordinator where gradients are verified. Its owner
// keeps it on the disk, and gives it to the next one in Config.
type Record struct {
	// Since has the step, committed before it, after which each worker first took
	// part: what was computed until then has nothing of it.
	Since map[string]uint64 `json:"since"`
	// Out are the workers that were put out for wrong gradients, and why.
	Out map[string]string `json:"out,omitempty"`
	// Fence is the generation before which no worker's state counts.
	Fence uint64 `json:"fence,omitempty"`
	// Edition grows with each record: of two the greater one counts, whichever was
	// written last.
	Edition uint64 `json:"edition,omitempty"`
}

// oversight is what is known of the workers' gradients.
type oversight struct {
	share float64
	Record
	again   bool      // a dispute was not settled: all of the next first step is checked
	dispute time.Time // when the first verdict of this generation came; zero: none has
}

func newOversight(cfg Config) oversight {
	o := oversight{share: cfg.Verify, Record: Record{Since: map[string]uint64{}, Out: map[string]string{}, Fence: cfg.Record.Fence, Edition: cfg.Record.Edition}}
	maps.Copy(o.Since, cfg.Record.Since)
	maps.Copy(o.Out, cfg.Record.Out)
	return o
}

// kept is a copy of the record, for its owner.
func (o *oversight) kept() Record {
	o.Edition++
	return Record{Since: maps.Clone(o.Since), Out: maps.Clone(o.Out), Fence: o.Fence, Edition: o.Edition}
}

// takesPart notes that workers take part after a step, and says whether that is news.
func (o *oversight) takesPart(places []place, step uint64) (news bool) {
	for _, p := range places {
		if at, ok := o.Since[p.Worker]; !ok || at > step {
			o.Since[p.Worker], news = step, true
		}
	}
	return news
}

// livedOn notes a worker that takes part since before this coordinator, and may not be
// in the record of the one before it.
func (o *oversight) livedOn(worker string) {
	if _, ok := o.Since[worker]; !ok && o.share > 0 {
		o.Since[worker] = 0
	}
}

// rolledBack forgets who took part after a step that the job has gone back to.
func (o *oversight) rolledBack(step uint64) {
	maps.DeleteFunc(o.Since, func(_ string, at uint64) bool { return at > step })
}

// verifies gives a rank the key of its coins; nil: nothing is verified.
func (m *machine) verifies(worker string) *Verify {
	o := &m.oversight
	if o.share <= 0 {
		return nil
	}
	return &Verify{Key: verifyKey(m.cfg.Secret, m.generation, worker), Share: o.share, First: o.again}
}

// keepRecord has the record kept, where there is something new in it.
func (m *machine) keepRecord() {
	if m.oversight.share > 0 && m.oversight.takesPart(m.roster.places, m.start.step) {
		m.act(keep{m.oversight.kept()})
	}
}

// disputed hears a member's verdict. All have stopped before the step in dispute, for
// they have the same sum: once all have said what they find, the machine goes on.
func (m *machine) disputed(w *Member, v *Verdict) {
	if w.verdict = v; v != nil && m.phase == Running && m.oversight.dispute.IsZero() {
		m.oversight.dispute = m.at
		m.note("in step %d %s and %s disagree about the gradient of micro-batch %d: all compute it again",
			v.Step, m.roster.named(v.Owner), m.roster.named(v.Checker), v.Micro)
	}
}

// hastenVerdicts ends a generation in dispute whose members do not all come to rest:
// one has not seen the sum, or says what is not so.
func (m *machine) hastenVerdicts() {
	if at := m.oversight.dispute; m.phase == Running && !at.IsZero() && m.at.Sub(at) > verdictPatience*m.cfg.Deadline {
		m.recall("a gradient is in dispute, and not all have said what they find")
	}
}

// verdictPatience is for how many deadlines: a micro-batch may take long.
const verdictPatience = 10

// ruling is what is found in a dispute.
type ruling struct {
	Verdict          // Own is the checksum that is right, where there is one
	wrong   []string // workers, sorted
	by      []string // workers that found Own, sorted
	open    bool     // too few have said what they find
	tie     bool     // as many say one as the other
}

// rule decides a dispute by what workers found, by worker. Whoever has said something
// else than the most of them find is wrong, whether in the sum or now. Two at least
// have to agree.
func rule(found map[string]*Verdict) ruling {
	said, at := votes{}, map[string]*Verdict{}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		v := *found[id]
		v.Own = ""
		key := fmt.Sprint(v)
		said.add(key, id)
		at[key] = found[id]
	}
	about, _ := said.majority() // a statement that another one has seen otherwise counts for nothing
	own := votes{}
	for _, id := range said[about] {
		own.add(found[id].Own, id)
	}
	r := ruling{Verdict: *at[about]}
	right, tie := own.majority()
	if r.Own = right; tie || len(own[right]) < 2 {
		r.tie, r.open = len(found) > 1, len(found) < 2
		return r
	}
	r.by = own[right]
	wrong := map[string]bool{}
	wrong[r.Owner] = r.Claim != right
	wrong[r.Checker] = r.Check != right
	for _, id := range said[about] {
		if found[id].Own != right {
			wrong[id] = true
		}
	}
	maps.DeleteFunc(wrong, func(_ string, is bool) bool { return !is })
	r.wrong = slices.Sorted(maps.Keys(wrong))
	slices.Sort(r.by)
	return r
}

// settle decides a dispute once all stand, and says whether there was one that ends
// the job, or has it go back.
func (m *machine) settle(live []*Member) bool {
	m.oversight.dispute = time.Time{}
	found, best := map[string]*Verdict{}, uint64(0)
	for _, w := range live {
		if w.State {
			best = max(best, w.Step)
		}
	}
	for _, w := range live {
		switch v := w.verdict; {
		case v == nil:
		case v.Step <= best: // whoever has committed it has seen no difference in the same sum
			m.note("%s says that step %d was in dispute, which others have committed", m.roster.named(w.Worker), v.Step)
			m.trust.count(w.Worker, m.cfg.MaxDivergences)
		default:
			found[w.Worker] = v
		}
		w.verdict = nil
	}
	if len(found) == 0 || m.rollback.total { // all go back in any case
		return false
	}
	r := rule(found)
	what := fmt.Sprintf("micro-batch %d of step %d", r.Micro, r.Step)
	lacks := len(found) < len(m.roster.places) // somebody was lost before it could say
	switch {
	case r.open && m.roster.missing() == 0 && len(m.roster.places) > 2: // all have the same sum, and the most of them are honest
		m.oversight.again = true
		m.note("only %s says that %s was in dispute: all of the step is checked", m.roster.named(slices.Collect(maps.Keys(found))[0]), what)
		for id := range found {
			m.trust.count(id, m.cfg.MaxDivergences)
		}
		return false
	case r.open || r.tie && lacks:
		m.oversight.again = true
		m.note("who is wrong about %s is not known yet, for a worker was lost before it could say: all of the step is checked", what)
		return false
	case r.tie:
		sure := min(m.oversight.Since[r.Owner], m.oversight.Since[r.Checker])
		m.finish(Failed, fmt.Sprintf("%s and %s disagree about the gradient of %s, which is %s by the first and %s by the second, "+
			"and without a third nobody can tell who is wrong: run with three workers or more, or with one of the two machines less, in turns; "+
			"what is stored of steps after %d may have wrong gradients in it",
			m.roster.named(r.Owner), m.roster.named(r.Checker), what, r.Claim, r.Check, sure))
		return true
	}
	m.convict(r, what)
	return true
}

// convict puts out who has computed or sent wrong gradients. All that it took part in is
// dropped: of which steps it has lied in, nobody knows but of this one.
func (m *machine) convict(r ruling, what string) {
	m.becomeSettling() // nobody is lost in the middle of a step
	clean := r.Step - 1
	for _, id := range r.wrong {
		clean = min(clean, m.oversight.Since[id])
	}
	for _, id := range r.wrong {
		is := "it computes gradients wrongly"
		switch {
		case id == r.Owner && r.Claim != r.Own:
			is = fmt.Sprintf("the gradient that it has sent of %s is %s, and %s find %s", what, r.Claim, listed(r.by), r.Own)
		case id == r.Checker && r.Check != r.Own:
			is = fmt.Sprintf("it says that the gradient of %s, which %s has sent, is %s, and %s find %s", what, r.Owner, r.Check, listed(r.by), r.Own)
		}
		why := fmt.Sprintf("wrong gradients (cluster.verify): %s; it is put out, and not taken back: look at its machine, and who has its key", is)
		m.warn("%s: %s", m.roster.named(id), why)
		m.oversight.Out[id] = why
		if w := m.roster.members[id]; w != nil {
			m.putOut(w, why)
		} else {
			m.trust.ban(id, why, nil)
		}
		delete(m.oversight.Since, id)
	}
	m.oversight.again = false
	m.ledger.disown(clean)
	m.blame.ends.furthest = min(m.blame.ends.furthest, clean)
	m.oversight.Fence = m.generation + 1
	m.note("all that %s took part in is dropped, from step %d on: all go back to the newest state before that", strings.Join(r.wrong, " and "), clean+1)
	m.rollback.total, m.rollback.underway, m.rollback.disowns = true, true, true
	m.trust.torn, m.trust.forfeit = "", ""
	clear(m.trust.known)
	m.act(disown{clean, m.oversight.kept()})
}
