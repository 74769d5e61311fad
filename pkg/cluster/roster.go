package cluster

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Status is what is known of a member's place in the newest generation.
type Status int

const (
	Loading   Status = iota // it reads the job and builds the model, or takes the state from the disk
	AtRest                  // it has said where it stands, and waits for an Assign
	Assigned                // it has been told its place, and has not formed yet
	Listening               // it listens on the ring, and has been told to start, or will be
	Stepping                // it has been recalled, and has yet to say where it stands
)

func (s Status) String() string {
	return [...]string{"loading", "at rest", "assigned", "listening", "stepping"}[s]
}

// Member is what is known of one living worker.
type Member struct {
	Join
	Rank   int // in the newest generation that it had a place in; -1: none yet
	Status Status

	State  bool   // it has weights and moments that count
	Step   uint64 // the newest that it has committed
	Digest string // of its state after Step; empty while it has not said

	Phase    string    // what it is doing, in its own words
	LastSeen time.Time // when it last said something, by the machine's clock
	Spare    bool      // a hot standby: it follows every step and computes none
	Slowdown float64   // its time a micro-batch, as a multiple of the others' median; 0: unknown

	at     nodePhase // where it says that it stands, as of its last heartbeat
	behind bool      // it began its generation without the state, and takes it from a peer
	pace   pace      // how fast it computes

	verdict *Verdict  // on a step in dispute, before which it stands; nil: none
	nagged  time.Time // when a message that had no effect was last sent again

	// restoring: it has been told to take the state from the disk. restored is
	// the generation in which it was told so: what it says of an older one, it
	// said before it heard.
	restoring bool
	restored  uint64

	leaving     string // why it asks to be let go; empty: it does not
	unreached   int    // times that it could not reach a peer's memory
	unshared    string // why its memory is not to be used; empty: it may be
	unreachable bool   // somebody speaks in its name of a generation that cannot be, and that has been noted
}

// roster is who takes part: the living members, and their places in the ring.
// It knows nothing of steps, states or time.
type roster struct {
	members map[string]*Member // the living ones, by id

	// list has the members by id. It is replaced and never changed, so that a
	// loop over it may lose some of them on its way.
	list []*Member

	// ring has the members of the current generation, the lost ones included
	// until the next. While the job is Gathering it has those that a takeover
	// waits for.
	ring map[string]bool

	// places are those of the current generation, by rank, with the micro-batches
	// of its first step. bounds divide those of its later steps: rank r computes
	// bounds[r] up to bounds[r+1].
	places []place
	bounds []int

	// changes counts the changes of members and ring, for those who want to know
	// whether there was one.
	changes uint64
}

func newRoster() roster { return roster{members: map[string]*Member{}, ring: map[string]bool{}} }

// enlist makes w a member.
func (r *roster) enlist(w *Member) {
	i, _ := slices.BinarySearchFunc(r.list, w.Worker, byID)
	r.list = slices.Concat(r.list[:i], []*Member{w}, r.list[i:])
	r.members[w.Worker] = w
	r.changes++
}

// strikeOff ends the membership of a worker, if it is a member.
func (r *roster) strikeOff(id string) {
	if i, ok := slices.BinarySearchFunc(r.list, id, byID); ok {
		r.list = slices.Concat(r.list[:i], r.list[i+1:])
		delete(r.members, id)
		r.changes++
	}
}

func byID(w *Member, id string) int { return strings.Compare(w.Worker, id) }

// byRank are copies of the members by rank, those without a rank last, by id.
func (r *roster) byRank() []Member {
	var l []Member
	for _, w := range r.list {
		l = append(l, *w)
	}
	sort.SliceStable(l, func(i, j int) bool { return uint(l[i].Rank) < uint(l[j].Rank) })
	return l
}

// expected are the ids of the members, and of those of the ring that are none
// (any more, or yet).
func (r *roster) expected() []string {
	var l []string
	for id := range r.members {
		l = append(l, id)
	}
	for id := range r.ring {
		if r.members[id] == nil {
			l = append(l, id)
		}
	}
	return l
}

// missing is the number of the ring's that are not members.
func (r *roster) missing() (n int) {
	for id := range r.ring {
		if r.members[id] == nil {
			n++
		}
	}
	return n
}

// closeRing makes those of places the ring.
func (r *roster) closeRing() {
	clear(r.ring)
	for _, p := range r.places {
		r.ring[p.Worker] = true
	}
	r.changes++
}

// openRing empties the ring, and takes all places away.
func (r *roster) openRing() {
	clear(r.ring)
	r.places = nil
	r.changes++
}

// await adds workers to the ring, who may not be members yet.
func (r *roster) await(ids []string) {
	for _, id := range ids {
		r.ring[id] = true
	}
	r.changes++
}

// forget takes a worker out of the ring.
func (r *roster) forget(id string) {
	delete(r.ring, id)
	r.changes++
}

// allStand says whether there are members that have loaded the job, and all of
// them are at rest.
func (r *roster) allStand() bool {
	n := 0
	for _, w := range r.members {
		if w.Status == Loading {
			continue
		}
		if w.Status != AtRest {
			return false
		}
		n++
	}
	return n > 0
}

// ringStands says whether every rank has left its step loop, as a flag or the
// last step told it to.
func (r *roster) ringStands() bool {
	for _, p := range r.places {
		if w := r.members[p.Worker]; w == nil || w.Status != AtRest {
			return false
		}
	}
	return len(r.places) > 0
}

// ringListens says whether every rank listens on the ring.
func (r *roster) ringListens() bool {
	for _, p := range r.places {
		if w := r.members[p.Worker]; w == nil || w.Status < Listening {
			return false
		}
	}
	return true
}

// seated is the number of members that live on from a coordinator before this
// one, and have yet to say where they stand.
func (r *roster) seated() (n int) {
	for _, w := range r.members {
		if w.Seat != nil && w.State && w.Status == Stepping {
			n++
		}
	}
	return n
}

// named is a worker with its rank, for people.
func (r *roster) named(id string) string { return "worker " + id + r.rankText(id) }

// rankText is " (rank 3)" for a worker that has a place in the current generation,
// living or not, and empty for others.
func (r *roster) rankText(id string) string {
	if !r.ring[id] {
		return ""
	}
	if w := r.members[id]; w != nil && w.Rank >= 0 && w.Rank < len(r.places) && r.places[w.Rank].Worker == id {
		return fmt.Sprintf(" (rank %d)", w.Rank)
	}
	for rank, p := range r.places { // it is lost, or has yet to come back
		if p.Worker == id {
			return fmt.Sprintf(" (rank %d)", rank)
		}
	}
	return ""
}

// listed are names for people, of many of them the first ones.
func listed(names []string) string {
	const most = 16
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
