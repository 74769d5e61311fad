package plain

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A line that comes again and again is told once, and counted; others are told beside it.
func TestRepeats(t *testing.T) {
	var r Repeats
	now := time.Unix(1000, 0)
	var told []string
	for i := range 4 * 3600 { // one a second for four hours
		if s := r.Tell(now, "a", "a knocks"); s != "" {
			told = append(told, fmt.Sprintf("%d %s", i, s))
		}
		now = now.Add(time.Second)
	}
	want := []string{"0 a knocks", "60 a knocks (and 59 times more since this was said last)", "180 a knocks (and 119 times more since this was said last)"}
	if len(told) != 9 || strings.Join(told[:3], "\n") != strings.Join(want, "\n") {
		t.Errorf("told:\n%s", strings.Join(told, "\n"))
	}
	if s := r.Tell(now, "b", "b knocks"); s != "b knocks" {
		t.Errorf("another one: %q", s)
	}
}

// However many names there are, neither memory nor log grows with them.
func TestRepeatsAreBounded(t *testing.T) {
	var r Repeats
	now, told := time.Unix(1000, 0), 0
	for i := range 100_000 {
		if r.Tell(now, fmt.Sprint(i), "x") != "" {
			told++
		}
	}
	if told > repeatKinds+1 || len(r.kinds) > repeatKinds+1 {
		t.Errorf("of 100,000 kinds %d were told and %d are known", told, len(r.kinds))
	}
	if s := r.Tell(now.Add(3*time.Hour), "new", "x"); s != "x" || len(r.kinds) > 2 {
		t.Errorf("hours later %q is told, and %d kinds are known", s, len(r.kinds))
	}
}
