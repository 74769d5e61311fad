package run

import (
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// Which processes are started, for what there is: ids with = are members, with
// ! orphans, with + run, with . wait, with x have given up.
func TestMissingChildren(t *testing.T) {
	for _, c := range []struct {
		there string
		want  int
		all   bool
		start string
	}{
		{"", 3, false, "w0 w1 w2"},
		{"=w0 +w0 =w1 +w1", 2, false, ""},
		{"=w0 +w0 =w2 +w2", 3, false, "w1"},
		{"=w1 !w1", 1, false, ""}, // an id below that of the one alive is free
		{"=w1 !w1", 2, false, "w0"},
		{"!w5", 2, false, "w0"}, // lost for a while, but alive
		{".w0", 2, false, "w1"},
		{"=x7 =w0 +w0", 2, false, "w1"},
		{"=x7 =w0 +w0", 2, true, ""}, // once the job is scaled, those from elsewhere count
		{"xw0", 2, false, "w1"},
		{"xw0 xw1", 2, false, ""},
		{"xw4 =w0 +w0", 2, false, "w1"},
		{"=w0 =w1 =w2", 1, false, ""},
	} {
		k := newPlaces("here", c.want, time.Second)
		k.all = c.all
		place := func(id string) *slot {
			if k.slots[id] == nil {
				k.slots[id] = &slot{}
			}
			return k.slots[id]
		}
		for _, f := range strings.Fields(c.there) {
			switch id := f[1:]; f[0] {
			case '=':
				k.members[id] = true
			case '!':
				k.orphans[id] = 1
			case '+':
				place(id).proc = &fakeProcess{}
			case '.':
				place(id).waiting = true
			case 'x':
				place(id).gaveUp = true
			}
		}
		ids, _, _ := k.missing()
		if got := strings.Join(ids, " "); got != c.start {
			t.Errorf("%q with %d wanted (all: %v): started %q, want %q", c.there, c.want, c.all, got, c.start)
		}
	}
}

// One of this machine's workers that was let go as a straggler is not replaced;
// one from elsewhere is not this machine's to replace.
func TestDroppedChild(t *testing.T) {
	k := newPlaces("here", 3, time.Second)
	k.members, k.orphans = map[string]bool{"w0": true, "w1": true, "x7": true}, map[string]int{"w1": 1}
	for _, id := range []string{"w0", "w2"} {
		k.slots[id] = &slot{proc: &fakeProcess{}}
	}
	k.dropped("x7")
	k.dropped("w2")
	k.slots["w2"].proc = nil
	if ids, _, _ := k.missing(); len(ids) > 0 {
		t.Errorf("%v is to replace a straggler", ids)
	}
	k.dropped("w1")
	delete(k.orphans, "w1")
	delete(k.members, "w1")
	if ids, _, _ := k.missing(); len(ids) > 0 {
		t.Errorf("%v is to replace a straggler that another coordinator had started", ids)
	}
	k.want = 2
	if ids, _, _ := k.missing(); len(ids) != 1 {
		t.Errorf("once more are wanted %v are started", ids)
	}
}

// What becomes of a place, by how its processes end: after how long each, one
// after another, and whether it had taken part.
func TestFateOfAPlace(t *testing.T) {
	type end struct {
		after  time.Duration
		joined bool // with a rank
		left   bool
	}
	quick, late, part, told := end{after: time.Second}, end{after: soon}, end{after: time.Second, joined: true}, end{after: time.Second, left: true}
	for name, c := range map[string]struct {
		ends []end
		want string // pauses, and x where it is given up
	}{
		"soon, again and again":         {[]end{quick, quick, quick, quick}, "0s 500ms 1s x"},
		"late":                          {[]end{late, late, late, late, late}, "0s 0s 0s 0s 0s"},
		"a late one is another row":     {[]end{quick, quick, quick, late, quick, quick}, "0s 500ms 1s 0s 0s 500ms"},
		"one that took part is another": {[]end{quick, quick, quick, part, quick, quick}, "0s 500ms 1s 0s 500ms 1s"},
		"one that was told to leave":    {[]end{quick, quick, quick, told, quick}, "0s 500ms 1s 0s 0s"},
	} {
		k, now := newPlaces("here", 1, time.Second), time.Unix(0, 0)
		var got []string
		for i, e := range c.ends {
			k.starts(now, "w0").proc = &fakeProcess{pid: i}
			if e.joined {
				k.told(now, cluster.Running, []cluster.Member{{Join: cluster.Join{Worker: "w0", Host: "here", PID: i}, Rank: 0}})
			}
			now = now.Add(e.after)
			pause, next := k.ended(now, "w0", exit{Reason: "it ended", Left: e.left})
			if next == givenUp {
				got = append(got, "x")
			} else {
				got = append(got, pause.String())
			}
			now = now.Add(pause)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
		if k.last != "worker w0: it ended" {
			t.Errorf("%s: the reason is %q", name, k.last)
		}
	}
}

// Ids that coordinators give to their own processes.
func TestLocal(t *testing.T) {
	for id, want := range map[string]bool{"w0": true, "w17": true, "w": false, "w-1": false, "x0": false, "worker0": false, "w0x": false} {
		if Local(id) != want {
			t.Errorf("%s: %v", id, !want)
		}
	}
}
