package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
)

// stalls are those of about a second. Where one rank stands still all others
// wait, each for its neighbour, and say so: a few lines are for people, one from
// each of them is a flood. So the first ones get a line each as they come, and the
// rest one line together.
type stalls struct {
	began   time.Time // zero: none
	told    int
	longest float64         // seconds
	waiting map[string]bool // who waits
	peers   map[string]bool // for whom
}

const (
	stallsTold  = 3
	stallsEvery = time.Second
)

// add records a stall, and says whether it gets a line of its own.
func (s *stalls) add(now time.Time, e *Stall) bool {
	if s.began.IsZero() {
		*s = stalls{began: now, waiting: map[string]bool{}, peers: map[string]bool{}}
	}
	s.waiting[e.Worker], s.peers[e.Peer] = true, true
	s.longest = max(s.longest, e.Seconds)
	s.told++
	return s.told <= stallsTold
}

// over is the line for those that got none, once they have had the time to come;
// empty: there are none. Of a chain of ranks that wait, it names the root: the worker
// that others wait for and that does not wait.
func (s *stalls) over(now time.Time) string {
	if s.began.IsZero() || now.Sub(s.began) < stallsEvery {
		return ""
	}
	was := *s
	*s = stalls{}
	if was.told <= stallsTold {
		return ""
	}
	var roots []string
	for id := range was.peers {
		if !was.waiting[id] {
			roots = append(roots, "worker "+id)
		}
	}
	slices.Sort(roots)
	wait := "wait"
	if len(was.waiting) == 1 {
		wait = "waits"
	}
	text := fmt.Sprintf("stall: %s %s, the longest %.1f s", plain.Workers(len(was.waiting)), wait, was.longest)
	if len(roots) == 0 {
		return text + ", each for another one that waits"
	}
	return text + "; not waiting, and waited for: " + listed(roots)
}
