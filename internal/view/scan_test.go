package view

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/data"
)

// TestScanText guards what a long scan says.
func TestScanText(t *testing.T) {
	for want, p := range map[string]data.Progress{
		"d: 12,000 of 50,000 records, 30 s left": {Path: "d", Done: 12000, Total: 50000, Unit: "records"},
		"d: 1,234,567 lines":                     {Path: "d", Done: 1234567, Unit: "lines"},
		"d: 0 of 5 lines":                        {Path: "d", Total: 5, Unit: "lines"},
		"10 of 20 samples, 9 s left":             {Done: 10, Total: 20, Unit: "samples"},
	} {
		if got := scanText(p, 9474*time.Millisecond); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A short scan says nothing. A long one says where it is, every five seconds
// for a file, in place for a terminal, whose line is empty at the end.
func TestScan(t *testing.T) {
	play := func(inPlace bool) string {
		var out bytes.Buffer
		c := &clock{time.Unix(0, 0)}
		v := &Scan{out: &out, what: "scanning", terminal: inPlace, now: func() time.Time { return c.Time }, began: c.Time}
		for n := range int64(12) {
			v.Progress(data.Progress{Path: "d", Done: n * 10, Total: 120, Unit: "lines"})
			if n == 1 && out.Len() > 0 {
				t.Errorf("after half a second it said %q", out.String())
			}
			c.pass(500 * time.Millisecond)
		}
		v.End()
		v.End()
		return out.String()
	}
	if got, want := play(false), "scanning d: 20 of 120 lines, 5 s left\n"; got != want {
		t.Errorf("lines %q, want %q", got, want)
	}
	got := play(true)
	if strings.Count(got, "\r\x1b[K") != 11 || !strings.HasSuffix(got, "scanning d: 110 of 120 lines, 1 s left\r\x1b[K") || strings.Contains(got, "\n") {
		t.Errorf("in place %q", got)
	}
}
