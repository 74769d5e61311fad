package view

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/vlaring/vlaring/pkg/data"
)

// Scan tells how far a long look at a data set is: in place on a terminal,
// a line now and then elsewhere, nothing while it takes less than a second.
type Scan struct {
	out      io.Writer
	terminal bool
	what     string // scanning | checking
	now      func() time.Time
	began    time.Time
	said     time.Time
	drawn    bool
}

// NewScan tells out; what is the word for it: scanning, checking.
func NewScan(out io.Writer, what string) *Scan {
	f, _ := out.(*os.File) // that of an Outlet is drawn on by others
	return &Scan{out: out, what: what, terminal: terminal(f), now: time.Now, began: time.Now()}
}

// Progress is a data.Watch's.
func (v *Scan) Progress(p data.Progress) {
	now := v.now()
	pause := 5 * time.Second
	if v.terminal {
		pause = 200 * time.Millisecond
	}
	if now.Sub(v.began) < time.Second || now.Sub(v.said) < pause {
		return
	}
	v.said = now
	line := v.what + " " + scanText(p, now.Sub(v.began))
	if !v.terminal {
		fmt.Fprintln(v.out, line)
		return
	}
	fmt.Fprintf(v.out, "\r\x1b[K%s", line)
	v.drawn = true
}

// End leaves the line empty for what comes.
func (v *Scan) End() {
	if v.drawn {
		fmt.Fprint(v.out, "\r\x1b[K")
		v.drawn = false
	}
}

// scanText is the state of a scan that has taken so long.
func scanText(p data.Progress, took time.Duration) string {
	s := Grouped(p.Done)
	if p.Path != "" { // data that is made has none
		s = p.Path + ": " + s
	}
	if p.Total > 0 {
		s += " of " + Grouped(p.Total)
	}
	s += " " + p.Unit
	if p.Total > 0 && p.Done > 0 && (p.Done >= p.Total/100 || took > 10*time.Second) { // the beginning says little
		left := time.Duration(float64(took) * float64(max(p.Total-p.Done, 0)) / float64(p.Done))
		s += fmt.Sprintf(", %s left", nearly(left))
	}
	return s
}

// nearly is a duration in words, as an estimate deserves.
func nearly(d time.Duration) string {
	switch {
	case d < 90*time.Second:
		return fmt.Sprintf("%d s", int(d.Seconds()+0.5))
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}

// Grouped writes a number with commas between thousands.
func Grouped(n int64) string {
	s := fmt.Sprint(n)
	var parts []string
	for len(s) > 3 {
		parts = append([]string{s[len(s)-3:]}, parts...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, parts...), ",")
}
