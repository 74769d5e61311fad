package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// maxDiverges is how often the job goes back to the same checkpoint because its
// members did not come to the same state from there, and nobody can tell who is wrong.
const maxDiverges = 3

// judge looks at what members say of one step, which must be the same. Where it
// is not, the generation ends, and the odd ones get the state of the majority;
// where there is none, or by policy, nobody's state counts. It goes by what
// they said of this one step: when they come to rest they may stand at another,
// alone with what they hold.
func (m *machine) judge(step uint64, votes map[string][]string) {
	if len(votes) < 2 {
		return
	}
	m.diverged = fmt.Sprintf("workers disagree after step %d: %s", step, ballots(votes))
	m.strike(votes)
	if m.tied || m.cfg.Divergence == RewindDivergence {
		m.torn = m.diverged
		return
	}
	m.name(step, votes)
}

// learn remembers what all agreed on after a step, for those who say otherwise later.
func (m *machine) learn(step uint64, digest string) {
	m.known[step] = digest
	for s := range m.known {
		if s+maxKnown < step {
			delete(m.known, s)
		}
	}
}

const maxKnown = 64 // steps

// name takes note of those who differ from the majority: what they hold does
// not count until they have committed a step with the others again.
func (m *machine) name(step uint64, votes map[string][]string) {
	most, _ := majority(votes)
	for _, vote := range sortedKeys(votes) {
		if vote == most {
			continue
		}
		for _, id := range votes[vote] {
			m.note("%s has diverged: after step %d it has %s, %d others have %s; it gets their state", m.named(id), step, vote, len(votes[most]), most)
			m.suspects[id] = true
			if w := m.members[id]; w != nil {
				w.State = false
			}
		}
	}
}

// strike counts a divergence against those who differ from the majority, once a
// generation. Who has too many is put out: it would go on for ever, and with
// RewindDivergence the job would never get beyond a checkpoint.
func (m *machine) strike(votes map[string][]string) {
	var most string
	if most, m.tied = majority(votes); m.tied {
		return
	}
	for _, vote := range sortedKeys(votes) {
		for _, id := range votes[vote] {
			if vote != most {
				m.count(id)
			}
		}
	}
}

// count adds a divergence of a member's, once a generation.
func (m *machine) count(id string) {
	if m.struck[id] {
		return
	}
	m.struck[id] = true
	if m.strikes[id]++; m.strikes[id] == m.cfg.MaxDivergences {
		m.outcasts = append(m.outcasts, id)
	}
}

// expel puts members out that have diverged too often.
func (m *machine) expel() {
	for len(m.outcasts) > 0 {
		id := m.outcasts[0]
		m.outcasts = m.outcasts[1:]
		why := fmt.Sprintf("it has diverged %d times in this run (cluster.max_divergences), and is not taken back: look for bad memory or a bad processor in its machine", m.strikes[id])
		m.fenced[id] = why
		if w := m.members[id]; w != nil {
			m.fenced[process(&w.Join)] = why
			m.act(unwanted{id})
			m.dismiss(w, why)
		}
	}
}

// process names a worker's process; no worker has such an id.
func process(j *Join) string { return fmt.Sprintf("process %d on %s", j.PID, j.Host) }

// PartError says that the parts of a checkpoint did not make the state that all
// of their workers hold: what those of Workers handed out is not what they and
// others say that it is. Nobody is named where that cannot be told.
type PartError struct {
	Workers []string
	Reason  string
}

func (e *PartError) Error() string { return e.Reason }

// accuse takes note of workers that did not hand out what they hold: they have
// diverged. Their part of the next checkpoint comes from others, whose state
// they get first.
func (m *machine) accuse(e *PartError) {
	m.retake = true
	known := slices.DeleteFunc(slices.Clone(e.Workers), func(id string) bool { return m.members[id] == nil })
	if len(known) == 0 || len(known) >= len(m.members) { // there is nobody to have it from instead
		return
	}
	for _, id := range known {
		m.count(id)
		m.suspects[id] = true
		m.members[id].State = false
		m.diverged = e.Reason
	}
}

// disown takes note that nobody trusts what a member holds.
func (m *machine) disown(w *Member) {
	w.Status, w.State = AtRest, false
	m.suspects[w.Worker] = true
	m.equip(w)
}

// raiseFence takes note of a way back that a coordinator before this one went:
// members of older generations hold what does not count.
func (m *machine) raiseFence(fence uint64) {
	if fence <= m.fence {
		return
	}
	m.fence = fence
	if m.phase != Gathering {
		return
	}
	m.committed = m.base.Step
	for _, w := range m.roster {
		switch {
		case w.Seat == nil || !w.State:
		case w.Seat.Generation < fence:
			m.disown(w)
		default:
			m.committed = max(m.committed, w.Seat.Step)
		}
	}
}

// mistrust goes back to the disk's state: that of the members is not what it
// should be, and who is right cannot be told, or does not help.
func (m *machine) mistrust(why string) {
	m.torn = ""
	named := len(m.struck) > 0 && m.cfg.MaxDivergences > 0 // who is wrong will be put out, so this comes to an end
	if !named && m.diverges == maxDiverges {               // they would do so again
		why = fmt.Sprintf("%s, after going back to the same checkpoint %d times", why, m.diverges)
		if m.tied {
			why += "; without a majority nobody can tell who is wrong: run with one worker more, or with one machine less, in turns"
		}
		m.finish(Failed, why)
		return
	}
	if !named {
		m.diverges++
	}
	m.note("%s: all go back to the disk's", why)
	m.distrust, m.rewinds = true, true
	clear(m.known)
	m.becomeSettling()
	m.act(rewind{})
}

// majority is what most say; tie, where as many say something else.
func majority(votes map[string][]string) (vote string, tie bool) {
	for _, v := range sortedKeys(votes) {
		switch n, most := len(votes[v]), len(votes[vote]); {
		case n > most:
			vote, tie = v, false
		case n == most:
			tie = true
		}
	}
	return vote, tie
}

// ballots are votes in words.
func ballots(votes map[string][]string) string {
	var l []string
	for v, who := range votes {
		l = append(l, fmt.Sprintf("%s say %s", listed(who), v))
	}
	slices.Sort(l)
	return strings.Join(l, "; ")
}

func sortedKeys(votes map[string][]string) []string {
	var l []string
	for v := range votes {
		l = append(l, v)
	}
	slices.Sort(l)
	return l
}
