package run

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// What a store is to get and to lose is decided over what is here and there together:
// it keeps what retention keeps, whoever has it; nothing goes to and fro.
func TestWanted(t *testing.T) {
	at := func(spec string) (l []checkpoint.Entry) { // 5 10! (damaged) 12' (stored anew)
		for _, f := range strings.Fields(spec) {
			var e checkpoint.Entry
			fmt.Sscan(strings.TrimRight(f, "!'"), &e.Step)
			e.Created = time.Unix(int64(e.Step), 0)
			if strings.Contains(f, "!") {
				e.State = checkpoint.Damaged
			}
			if strings.Contains(f, "'") {
				e.Created = e.Created.Add(time.Hour)
			}
			l = append(l, e)
		}
		return l
	}
	for _, c := range []struct{ local, has, put, remove string }{
		{"", "", "", ""},
		{"5 10", "", "10 5", ""},
		{"5 10", "5", "10", ""},
		{"5 10", "5 10", "", ""},
		{"10 15", "5 10", "15", "5"},
		{"15", "4 5 10", "15", "5"},        // a machine that began with an empty disk; every fourth step stays
		{"4 8 15 20", "", "20 15 8 4", ""}, // of the disk all are kept
		{"1 2 3", "", "3 2", ""},           // the oldest is about to go here
		{"5! 10", "5", "10", ""},           // damaged here, whole there
		{"5 10", "5 10!", "10", ""},        // the other way round
		{"5 10'", "5 10", "10", ""},        // the same step, computed anew
		{"", "1 2 3", "", "1"},             // nothing here any more
	} {
		has := map[uint64]checkpoint.Entry{}
		for _, e := range at(c.has) {
			has[e.Step] = e
		}
		put, remove := wanted(at(c.local), has, checkpoint.Policy{Keep: 2, KeepEvery: 4}, func([]checkpoint.Entry) map[uint64]float64 { return nil })
		var p, r []string
		for _, e := range put {
			p = append(p, fmt.Sprint(e.Step))
		}
		for _, d := range remove {
			r = append(r, fmt.Sprint(d.Step))
		}
		if got, gone := strings.Join(p, " "), strings.Join(r, " "); got != c.put || gone != c.remove {
			t.Errorf("here %q, there %q: put %q, remove %q; want %q and %q", c.local, c.has, got, gone, c.put, c.remove)
		}
		for _, e := range put { // once that is done, there is nothing more to do
			has[e.Step] = e
		}
		for _, d := range remove {
			delete(has, d.Step)
		}
		if put, remove := wanted(at(c.local), has, checkpoint.Policy{Keep: 2, KeepEvery: 4}, func([]checkpoint.Entry) map[uint64]float64 { return nil }); len(put)+len(remove) > 0 {
			t.Errorf("here %q, there %q: after all is done put %v and remove %v", c.local, c.has, put, remove)
		}
	}
}
