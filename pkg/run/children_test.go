package run

import (
	"os/exec"
	"strings"
	"testing"
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
		k := &children{want: c.want, all: c.all, slots: map[string]*slot{}, members: map[string]bool{}, orphans: map[string]int{}}
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
				place(id).cmd = &exec.Cmd{}
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
	k := &children{want: 3, slots: map[string]*slot{}, members: map[string]bool{"w0": true, "w1": true, "x7": true}, orphans: map[string]int{"w1": 1}}
	for _, id := range []string{"w0", "w2"} {
		k.slots[id] = &slot{cmd: &exec.Cmd{}}
	}
	k.dropped("x7")
	k.dropped("w2")
	k.slots["w2"].cmd = nil
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
