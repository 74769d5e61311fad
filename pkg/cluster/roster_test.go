package cluster

import (
	"fmt"
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
}

// Each change is counted up, whoever wants to know whether there was one, and
// what changes nothing is none.
func TestRosterCountsChanges(t *testing.T) {
	r := rosterOf("a")
	for _, c := range []struct {
		name string
		do   func()
		want uint64
	}{
		{"enlist", func() { r.enlist(&Member{Join: Join{Worker: "b"}}) }, 1},
		{"strike off", func() { r.strikeOff("b") }, 1},
		{"strike off who is no member", func() { r.strikeOff("b") }, 0},
		{"close the ring", r.closeRing, 1},
		{"open it", r.openRing, 1},
		{"await", func() { r.await([]string{"x", "y"}) }, 1},
		{"forget", func() { r.forget("x") }, 1},
	} {
		before := r.changes
		if c.do(); r.changes != before+c.want {
			t.Errorf("%s: %d changes, want %d", c.name, r.changes-before, c.want)
		}
	}
}

// Those that lived on and have yet to say where they stand are seated: with a seat,
// a state that counts, and no answer to the recall yet.
func TestRosterSeated(t *testing.T) {
	r := rosterOf("a", "b", "c", "d")
	for id, w := range r.members {
		w.Seat, w.State, w.Status = &Seat{}, true, Stepping
		switch id {
		case "b":
			w.Seat = nil
		case "c":
			w.State = false
		case "d":
			w.Status = AtRest
		}
	}
	if n := r.seated(); n != 1 {
		t.Errorf("%d are seated, want a alone", n)
	}
}

func TestListed(t *testing.T) {
	var names []string
	for i := range 17 {
		names = append(names, fmt.Sprint(i))
	}
	if got, want := listed(names[:16]), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15"; got != want {
		t.Errorf("16 are %s", got)
	}
	if got, want := listed(names), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 and 1 more"; got != want {
		t.Errorf("17 are %s", got)
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
	r.await([]string{"z"})
	if r.closeRing(); r.ring["z"] || !r.ring["x"] {
		t.Errorf("a new ring is %v, want that of the places", r.ring)
	}
	if r.openRing(); len(r.expected()) != 2 || r.places != nil || len(r.ring) > 0 {
		t.Errorf("without a ring %v are expected", r.expected())
	}
}

// A rank is told of those that have one in this generation, living or lost, and
// of no other.
func TestRosterNames(t *testing.T) {
	r := rosterOf("a", "b", "far", "new")
	r.places = []place{{Worker: "a"}, {Worker: "lost"}, {Worker: "b"}, {Worker: "far"}}
	r.closeRing()
	r.members["a"].Rank, r.members["b"].Rank, r.members["far"].Rank = 0, 1, 4 // the latter two's are of older generations
	for id, want := range map[string]string{
		"a": "worker a (rank 0)", "lost": "worker lost (rank 1)", "b": "worker b (rank 2)", "far": "worker far (rank 3)",
		"new": "worker new", "x": "worker x",
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
