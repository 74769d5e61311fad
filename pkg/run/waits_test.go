package run

import (
	"fmt"
	"testing"
	"time"
)

// Each second of a run is in one line and no other, the lines of its first hour are few
// seconds apart, and those of a year are few.
func TestWaits(t *testing.T) {
	var w waits
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lines, sum, early := 0, [2]float64{}, 0
	take := func(line map[string]any) {
		if line == nil {
			return
		}
		lines++
		r := line["ring"].(map[string][2]float64)
		sum[0], sum[1] = sum[0]+r["w0"][0], sum[1]+r["w0"][1]
		if r["w1"] != ([2]float64{}) && r["w1"][0] != 0 {
			t.Errorf("w1 has waited: %v", line)
		}
	}
	const year = 365 * 24 * 3600
	for k := range year / 60 { // a step a minute, after two hours of one a second
		for n := 0; n < 60; n++ {
			if k >= 120 && n > 0 {
				at = at.Add(time.Second)
				continue
			}
			at = at.Add(time.Second)
			take(w.add(at, []RingWait{{"w0", 0.25, 1}, {"w1", 0, 1}}))
		}
		if k == 40 {
			early = lines
		}
	}
	take(w.take(at))
	if early < 400 || lines > 6000 {
		t.Errorf("%d lines in 40 minutes, %d in a year", early, lines)
	}
	want := float64(120*60 + year/60 - 120)
	if fmt.Sprintf("%.0f %.0f", sum[0], sum[1]) != fmt.Sprintf("%.0f %.0f", want/4, want) {
		t.Errorf("%v s are in the lines, want %v of %v", sum, want/4, want)
	}
	if w.take(at) != nil {
		t.Error("a line of nothing")
	}
}
