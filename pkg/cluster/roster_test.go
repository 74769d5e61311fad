package cluster

import (
	"slices"
	"strings"
	"testing"
)

func rosterOf(ids ...string) *roster {
	r := newRoster()
	for _, id := range ids {
		r.enlist(&Member{Join: Join{Worker: id}, Rank: -1})
	}
	return &r
}

func (r *roster) ids() string {
	var l []string
	for _, w := range r.list {
		l = append(l, w.Worker)
	}
	return strings.Join(l, " ")
}

// Members are listed by id, whatever order they come and go in, and whoever walks
// the list may lose some of them on the way.
func TestRosterIsWalkedWhileItShrinks(t *testing.T) {
	r := rosterOf("c", "a", "d", "b")
	if r.ids() != "a b c d" {
		t.Fatalf("listed are %s", r.ids())
	}
	var met []string
	for _, w := range r.list {
		met = append(met, w.Worker)
		r.strikeOff("c")
		r.strikeOff(w.Worker)
	}
	if got := strings.Join(met, " "); got != "a b c d" || r.ids() != "" || len(r.members) != 0 {
		t.Errorf("met on the way: %s; left: %q and %d", got, r.ids(), len(r.members))
	}
	before := r.changes
	if r.strikeOff("a"); r.changes != before {
		t.Error("a member that is none any more is struck off, and that counts as a change")
	}
}

func TestRosterByRank(t *testing.T) {
	r := rosterOf("a", "b", "c", "d")
	r.members["c"].Rank, r.members["b"].Rank = 0, 1
	var got []string
	l := r.byRank()
	for _, w := range l {
		got = append(got, w.Worker)
	}
	if s := strings.Join(got, " "); s != "c b a d" {
		t.Errorf("by rank: %s, want those without a rank last, by id", s)
	}
	l[0].Step = 9
	if r.members["c"].Step != 0 {
		t.Error("what is handed out is no copy")
	}
}

// Of a ring with lost members all are expected, and the lost ones are missing.
func TestRosterKnowsWhoIsMissing(t *testing.T) {
	r := rosterOf("a", "b")
	r.places = []place{{Worker: "a"}, {Worker: "b"}, {Worker: "x"}}
	r.closeRing()
	l := r.expected()
	slices.Sort(l)
	if got := strings.Join(l, " "); got != "a b x" || r.missing() != 1 {
		t.Errorf("expected are %s, %d are missing", got, r.missing())
	}
	if r.await([]string{"y"}); r.missing() != 2 {
		t.Errorf("%d are missing, with one more that is waited for", r.missing())
	}
	r.forget("x")
	if r.forget("y"); r.missing() != 0 {
		t.Errorf("%d are missing, and all are forgotten", r.missing())
	}
	if r.openRing(); len(r.expected()) != 2 || r.places != nil {
		t.Errorf("without a ring %v are expected", r.expected())
	}
}

// A rank is told of those that have one in this generation, living or lost, and
// of no other.
func TestRosterNames(t *testing.T) {
	r := rosterOf("a", "b", "new")
	r.places = []place{{Worker: "a"}, {Worker: "lost"}, {Worker: "b"}}
	r.closeRing()
	r.members["a"].Rank, r.members["b"].Rank = 0, 1 // b's is of the generation before
	for id, want := range map[string]string{
		"a": "worker a (rank 0)", "lost": "worker lost (rank 1)", "b": "worker b (rank 2)", "new": "worker new", "x": "worker x",
	} {
		if got := r.named(id); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
}

func TestRosterStands(t *testing.T) {
	r := rosterOf("a", "b", "c")
	set := func(a, b, c Status) {
		r.members["a"].Status, r.members["b"].Status, r.members["c"].Status = a, b, c
	}
	r.places = []place{{Worker: "a"}, {Worker: "b"}}
	for _, c := range []struct {
		a, b, c               Status
		all, ring, ringListen bool
	}{
		{Loading, Loading, Loading, false, false, false},
		{AtRest, AtRest, Loading, true, true, false},
		{AtRest, AtRest, Stepping, false, true, false},
		{AtRest, Assigned, AtRest, false, false, false},
		{Listening, Listening, AtRest, false, false, true},
		{Listening, Assigned, AtRest, false, false, false},
	} {
		set(c.a, c.b, c.c)
		if r.allStand() != c.all || r.ringStands() != c.ring || r.ringListens() != c.ringListen {
			t.Errorf("%v %v %v: all stand %v, the ring stands %v and listens %v",
				c.a, c.b, c.c, r.allStand(), r.ringStands(), r.ringListens())
		}
	}
	r.strikeOff("b")
	if r.ringStands() || r.ringListens() {
		t.Error("a ring with a lost member stands or listens")
	}
	if none := rosterOf(); none.allStand() || none.ringStands() {
		t.Error("nobody stands")
	}
}
