package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// trust is which members' states count. All members compute the same bits, so
// whoever says otherwise is wrong: its memory, its processor, or its program.
//
// What a suspect holds does not count until it has committed a step with the
// others again, with their state. A fence is a generation (a fencing token): what
// members of older ones hold does not count, because the job has rolled back
// since. It travels with every Assign, and with each worker to the next coordinator.
type trust struct {
	known    map[uint64]string // digests after the newest steps that all agreed on
	suspects map[string]bool   // workers whose state is not the others'
	fence    uint64            // 0: none

	strikes   map[string]int     // divergences from the majority, by worker
	struck    map[string]bool    // workers that have one in this generation
	outcasts  []string           // members to be put out
	names     map[string]string  // of workers that are not taken back, and why
	processes map[process]string // the same, whatever they call themselves

	tied   bool   // the newest divergence had no majority
	broken string // why the generation has to end: its members hold different states; empty: it need not
	torn   string // why no member's state counts, so that the job has to roll back; empty: it need not
	// forfeit is what of the state no member holds any more, so that the job has to
	// roll back without a divergence; empty: nothing.
	forfeit string
	// rollbacks are those since the last checkpoint was stored for which no worker
	// could be blamed.
	rollbacks int
}

// process names a worker's process.
type process struct {
	host string
	pid  int
}

func newTrust() trust {
	return trust{known: map[uint64]string{}, suspects: map[string]bool{}, strikes: map[string]int{}, struck: map[string]bool{},
		names: map[string]string{}, processes: map[process]string{}}
}

const (
	// maxKnown is for how many steps it is remembered what all agreed on.
	maxKnown = 64
	// maxRollbacks is how often the job rolls back to the same checkpoint because
	// its members did not come to the same state from there, and it cannot be told
	// which one is wrong.
	maxRollbacks = 3
)

// learn remembers what all agreed on after a step, for those who say otherwise later.
func (t *trust) learn(step uint64, digest string) {
	t.known[step] = digest
	for s := range t.known {
		if s+maxKnown < step {
			delete(t.known, s)
		}
	}
}

// contradicts says whether all had agreed on another state after a step, and on which.
func (t *trust) contradicts(step uint64, digest string) (known string, other bool) {
	known, ok := t.known[step]
	return known, ok && known != digest
}

// strike counts a divergence against those who differ from the majority. A worker
// that has most of them is put out: it would diverge for ever, and with
// RewindDivergence the job would never get beyond a checkpoint.
func (t *trust) strike(v votes, most int) {
	var majority string
	if majority, t.tied = v.majority(); t.tied {
		return
	}
	for _, vote := range v.sorted() {
		for _, id := range v[vote] {
			if vote != majority {
				t.count(id, most)
			}
		}
	}
}

// count adds a divergence of a worker's, one in a generation.
func (t *trust) count(id string, most int) {
	if t.struck[id] {
		return
	}
	t.struck[id] = true
	if t.strikes[id]++; t.strikes[id] == most {
		t.outcasts = append(t.outcasts, id)
	}
}

// nextOutcast takes a worker that is to be put out, if there is one.
func (t *trust) nextOutcast() (id string, ok bool) {
	if len(t.outcasts) == 0 {
		return "", false
	}
	id, t.outcasts = t.outcasts[0], t.outcasts[1:]
	return id, true
}

// ban keeps a worker's name from coming back, and its process too if it lives.
func (t *trust) ban(id, why string, w *Member) {
	t.names[id] = why
	if w != nil {
		t.processes[process{w.Host, w.PID}] = why
	}
}

// banned is why a worker is not taken back; empty: it may come.
func (t *trust) banned(j *Join) string {
	if why := t.names[j.Worker]; why != "" {
		return why
	}
	return t.processes[process{j.Host, j.PID}]
}

// mayRollBack says whether one more rollback can help. Where those who are wrong
// are named, they are put out in the end; else the members would do the same
// again from the same checkpoint, and after a few times that is the end. bounded:
// diverging members are put out.
func (t *trust) mayRollBack(bounded bool) bool {
	t.torn = ""
	if named := len(t.struck) > 0 && bounded; named {
		return true
	}
	if t.rollbacks == maxRollbacks {
		return false
	}
	t.rollbacks++
	return true
}

// rolledBack begins anew with the disk's state. fence is the generation of the
// rollback if no member's state counted, else 0.
func (t *trust) rolledBack(fence uint64) {
	t.torn, t.broken, t.forfeit = "", "", ""
	clear(t.known)
	if fence > 0 {
		t.fence = fence
	}
}

// votes are what workers say of one thing, and who says it.
type votes map[string][]string

// add has a worker say so.
func (v votes) add(vote, worker string) { v[vote] = append(v[vote], worker) }

// majority is what most say; tie: as many say something else.
func (v votes) majority() (vote string, tie bool) {
	for _, o := range v.sorted() {
		switch n, most := len(v[o]), len(v[vote]); {
		case n > most:
			vote, tie = o, false
		case n == most:
			tie = true
		}
	}
	return vote, tie
}

// sorted are what was said, in an order that depends on nothing else.
func (v votes) sorted() []string {
	var l []string
	for vote := range v {
		l = append(l, vote)
	}
	slices.Sort(l)
	return l
}

// String has them in words, for people.
func (v votes) String() string {
	var l []string
	for vote, who := range v {
		l = append(l, fmt.Sprintf("%s say %s", listed(who), vote))
	}
	slices.Sort(l)
	return strings.Join(l, "; ")
}
